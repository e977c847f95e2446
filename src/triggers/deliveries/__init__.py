"""Deliveries and their attempts: lists, retry, cancel, expiry, and owing past events again.

Imports wakeups and what lies below.
Keeps: a delivery is settled once, and says why it is in its state.
"""
