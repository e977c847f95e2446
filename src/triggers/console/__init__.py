"""The console: pages on which a person finds an event, follows its deliveries, and repairs them.

It may import every room below it but no store: a page calls the same handlers as the API, with the caller of
its session, so scopes, tenancy and bounds are checked in one place (`api.py`). It has no SQL. Promise: each
page, form and link works without JavaScript, and text that a stranger sent is never used as markup.
"""
