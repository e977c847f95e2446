"""A browser for the pages of the guides."""

from looking import looking

__all__ = ["looking"]
