"""Deduplication of webhooks. A delivery arrives at least once, and so perhaps twice."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Awaitable
from typing import Protocol


class Seen(Protocol):
    """What has been received, by keys such as `<webhook-id>.<subscription>.<generation>`."""

    def claim(self, key: str) -> bool:
        """Note a key, and return whether it is new. At most one of several callers may get True."""

    def forget(self, key: str) -> None:
        """Forget a key, because its handler raised. The next attempt is handled."""


class AsyncSeen(Protocol):
    """`Seen`, with coroutines."""

    def claim(self, key: str) -> Awaitable[bool]:
        """As `Seen.claim`."""

    def forget(self, key: str) -> Awaitable[None]:
        """As `Seen.forget`."""


class SeenInMemory:
    """Remembers the last keys of this process. A restart forgets them, and other processes have their own."""

    def __init__(self, *, seconds: float = 86_400, most: int = 100_000) -> None:
        """Keys are kept for `seconds`, and at most `most` of them."""
        self._seconds = seconds
        self._most = most
        self._lock = threading.Lock()
        self._ends: OrderedDict[str, float] = OrderedDict()

    def claim(self, key: str) -> bool:
        """Note a key, and return whether it is new."""
        now = time.monotonic()
        with self._lock:
            while self._ends and (next(iter(self._ends.values())) <= now or len(self._ends) >= self._most):
                self._ends.popitem(last=False)
            if key in self._ends:
                return False
            self._ends[key] = now + self._seconds
            return True

    def forget(self, key: str) -> None:
        """Forget a key."""
        with self._lock:
            self._ends.pop(key, None)
