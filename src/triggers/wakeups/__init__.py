"""Hints that something may be there to do: within the process, over a socket, through Redis.

Imports events and what lies below; alone imports the Redis driver.
Keeps: a lost hint costs time and nothing else.
"""
