"""Hints that a message or a delivery may be due: in the process, over a socket, through Redis.

Imports events and what lies below. It is the only room that imports the Redis driver.
Keeps: a lost hint only delays work.
"""
