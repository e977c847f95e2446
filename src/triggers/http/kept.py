"""Caches answers that all callers get, so that a caller without a key cannot slow down the others."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Hashable
from typing import Final, Generic, TypeVar

MOST_KEPT: Final = 100
"""Maximum number of values that are kept. If there are more, all are forgotten and made again on demand."""

T = TypeVar("T")


class Kept(Generic[T]):
    """Values by name, of which each is kept for some seconds. Belongs to one event loop. One value:

    unknown ──`get`──▶ being made: all callers wait ──▶ kept ──its seconds have passed──▶ unknown
                                 └──making it failed: all callers get the error──────▶ unknown
    """

    def __init__(self, seconds: float = math.inf) -> None:
        self._seconds = seconds
        self._making: dict[Hashable, asyncio.Future[T]] = {}
        self._until: dict[Hashable, float] = {}

    async def get(self, name: Hashable, make: Callable[[], Awaitable[T]]) -> T:
        """The value of a name, made if it is unknown. Raises whatever `make` raises."""
        making = self._making.get(name)
        if making is None or (making.done() and self._is_over(name, making)):
            if len(self._making) >= MOST_KEPT:
                self._making.clear()
                self._until.clear()
            making = self._making[name] = asyncio.ensure_future(make())
            self._until[name] = asyncio.get_running_loop().time() + self._seconds
        return await asyncio.shield(making)

    def _is_over(self, name: Hashable, made: asyncio.Future[T]) -> bool:
        failed = made.cancelled() or made.exception() is not None
        return failed or asyncio.get_running_loop().time() >= self._until[name]
