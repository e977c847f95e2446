"""What a push subscription is: its settings and their rules, its payload filter, its stored values.

Imports keys and secrets, and what lies below them.
Keeps: settings that are stored have been validated, whichever way they came.
"""
