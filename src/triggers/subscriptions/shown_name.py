"""The name of a subscription or an inbox that people see."""

from __future__ import annotations

from urllib.parse import urlsplit


def shown_name(name: str | None, key: str | None, target_url: str | None) -> str:
    """Return the name, or else the key, or else the host of the URL. Every inbox has a key."""
    return name or key or urlsplit(target_url or "").hostname or ""
