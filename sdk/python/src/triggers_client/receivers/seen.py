"""Deduplication of webhooks. A delivery arrives at least once, and so perhaps twice."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Awaitable
from typing import Protocol

from triggers_client.errors import TriggersError


class StillHandled(TriggersError):
    """Another attempt of the same delivery is being handled. Nobody knows yet whether its handler returns."""


class Seen(Protocol):
    """The received webhooks, by keys such as `<webhook-id>.<subscription>.<generation>`.

    new ──`claim`──▶ being handled ──`finish`──▶ handled
     ◀─────────────`forget`─┘
    """

    def claim(self, key: str) -> bool:
        """Return True if the handler is to be called, and False if it has returned for this key before.

        At most one of several callers may get True. A claim must end by itself if its process dies.

        Raises:
            StillHandled: another caller has the claim.
        """

    def finish(self, key: str) -> None:
        """Note that the handler has returned."""

    def forget(self, key: str) -> None:
        """Forget a key, because its handler raised. The next attempt is handled."""


class AsyncSeen(Protocol):
    """`Seen`, with coroutines."""

    def claim(self, key: str) -> Awaitable[bool]:
        """As `Seen.claim`."""

    def finish(self, key: str) -> Awaitable[None]:
        """As `Seen.finish`."""

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
        self._claimed: set[str] = set()

    def claim(self, key: str) -> bool:
        """Return whether the handler is to be called. Raises StillHandled as `Seen.claim` says."""
        now = time.monotonic()
        with self._lock:
            while self._ends and next(iter(self._ends.values())) <= now:
                self._ends.popitem(last=False)
            if key in self._ends:
                return False
            if key in self._claimed:
                raise StillHandled("Another attempt of this delivery is being handled.")
            self._claimed.add(key)
            return True

    def finish(self, key: str) -> None:
        """Note that the handler has returned."""
        with self._lock:
            self._claimed.discard(key)
            self._ends[key] = time.monotonic() + self._seconds
            while len(self._ends) > self._most:
                self._ends.popitem(last=False)

    def forget(self, key: str) -> None:
        """Forget a key."""
        with self._lock:
            self._claimed.discard(key)
