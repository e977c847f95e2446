"""Deliveries and their attempts: lists, retry, cancel, expiry, and new deliveries of past events.

Imports wakeups and what lies below.
Keeps: a delivery is settled once, and has a reason for its state.
"""
