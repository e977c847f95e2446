"""From bytes to a 201: validate an event, match it, store it with its deliveries in one commit; and read it.

Imports subscriptions and what lies below.
Keeps: 201 means committed, and payload bytes come back as they were sent.
"""
