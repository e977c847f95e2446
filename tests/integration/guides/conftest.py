"""A browser for the pages of the guides."""

from looking import chromium, looking

__all__ = ["chromium", "looking"]
