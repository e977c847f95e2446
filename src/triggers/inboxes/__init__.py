"""Inboxes: leases, acknowledgements and long polls of pulled messages.

Imports deliveries and what lies below.
Keeps: a message is in one lease at a time, and an acknowledged message is never delivered again.
"""
