"""What is owed to subscriptions and what was tried: lists, retry, cancel, and what ends them.

Imports wakeups and what lies below.
Keeps: a delivery is settled once, and says why it is in its state.
"""
