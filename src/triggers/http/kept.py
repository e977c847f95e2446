"""Answers that are made once for all who ask, so that a caller without a key cannot make work for others."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Hashable
from typing import Final, Generic, TypeVar

MOST_KEPT: Final = 100
"""Values that are kept at once. If there are more, all are made again when they are asked for."""

T = TypeVar("T")


class Kept(Generic[T]):
    """Values by name, of which each is kept for some seconds. Belongs to one event loop. One value:

    unknown ──`get`──▶ being made: all who ask wait for it ──▶ kept ──its seconds have passed──▶ unknown
                                 └──making it failed: so all who asked are told──────────────▶ unknown
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
