"""Work that callers can cause without end: a little of it in each turn of the event loop.

Whatever a connection has waiting here, the requests of all others have their turn in between.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import lru_cache
from typing import Final

AT_ONCE: Final = 4
"""Connections that go on in one turn of the event loop, of those that wait for their turn."""
LEFTOVERS_SECONDS: Final = 0.005
"""How long nothing is read of what callers send after their last answer, before so many of them are read
again: at most 50 MB in a second of all together, which is thrown away."""


class Turns:
    """Calls that wait for their turn, in the order in which they came. Belongs to one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, at_once: int, every_seconds: float = 0.0) -> None:
        """`at_once` calls are made in a turn of the loop, and then none for `every_seconds`."""
        self._loop = loop
        self._at_once = at_once
        self._every_seconds = every_seconds
        self._waiting: deque[Callable[[], None]] = deque()

    def wait(self, call: Callable[[], None]) -> None:
        """Make a call when its turn has come."""
        if not self._waiting:
            self._later()
        self._waiting.append(call)

    def _later(self) -> None:
        if self._every_seconds:
            self._loop.call_later(self._every_seconds, self._take_turn)
        else:
            self._loop.call_soon(self._take_turn)

    def _take_turn(self) -> None:
        calls = [self._waiting.popleft() for _ in range(min(self._at_once, len(self._waiting)))]
        if self._waiting:
            self._later()
        for call in calls:  # by the loop, so one that raises takes nothing from the others
            self._loop.call_soon(call)


@lru_cache(maxsize=1)
def for_work(loop: asyncio.AbstractEventLoop) -> Turns:
    """Of connections that have more to be parsed or answered than one request."""
    return Turns(loop, at_once=AT_ONCE)


@lru_cache(maxsize=1)
def for_leftovers(loop: asyncio.AbstractEventLoop) -> Turns:
    """Of connections that are read so that their last answer is not lost to a reset."""
    return Turns(loop, at_once=AT_ONCE, every_seconds=LEFTOVERS_SECONDS)
