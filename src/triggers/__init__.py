"""Triggers: accept an event once, keep it safe, hand it to everyone who asked."""

__version__ = "0.1.0"
