"""The name under which people know a subscription or an inbox."""

from __future__ import annotations

from urllib.parse import urlsplit


def shown_name(name: str | None, key: str | None, target_url: str | None) -> str:
    """The name of a subscription; without one its key, which every inbox has, or the host of its URL."""
    return name or key or urlsplit(target_url or "").hostname or ""
