"""The pull side: inboxes, leases, acknowledgements, and long polls.

Imports deliveries and what lies below.
Keeps: a message is held by one lease at a time, and an acknowledged one does not come back.
"""
