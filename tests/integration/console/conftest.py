"""A browser for the pages of the console."""

from looking import chromium, looking

__all__ = ["chromium", "looking"]
