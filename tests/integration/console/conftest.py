"""A browser for the pages of the console."""

from looking import looking

__all__ = ["looking"]
