"""Pages for people who use the API: guides, the reference, errors, and the start page.

Imports http and the console's style, and what lies below.
Keeps: a page is made once, loads nothing from other servers, and works without JavaScript.
"""
