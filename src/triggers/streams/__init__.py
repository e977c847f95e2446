"""Streams: tells callers over HTTP that events were accepted, attempts were made, and messages are available.

Imports inboxes, wakeups, and what lies below.
Keeps: a stream shows only its own organisation, and ends within a second of its key. Nothing is read for an
organisation without an open stream.
"""
