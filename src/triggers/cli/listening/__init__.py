"""The parts of `triggers listen`, which brings events to a receiver on this machine.

Imports what the worker builds its requests with, but no room that needs a database driver.
Keeps: a message is acknowledged only after the receiver answered 2xx, and the inbox is deleted at the end.
"""
