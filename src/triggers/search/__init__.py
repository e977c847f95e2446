"""Finds events, deliveries, subscriptions and inboxes by what a person types into one box.

Imports events and what lies below.
Keeps: every look-up uses an index or looks at a bounded number of rows.
"""
