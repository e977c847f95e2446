"""Numbered SQL, applied in order, each in its own transaction."""
