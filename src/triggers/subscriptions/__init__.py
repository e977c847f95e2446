"""Push subscriptions: their settings, the rules for settings, payload filters, and stored values.

Imports keys and secrets, and what lies below them.
Keeps: only validated settings are stored.
"""
