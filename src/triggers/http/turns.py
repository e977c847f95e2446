"""Does work that callers can cause without end, a little of it in each turn of the event loop.

However much work of a connection waits here, requests of other connections are handled in between.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import lru_cache
from typing import Final

AT_ONCE: Final = 4
"""Number of waiting connections that continue in one turn of the event loop."""
LEFTOVERS_SECONDS: Final = 0.005
"""Time between two turns in which AT_ONCE connections are read after their last answer. So at most about
50 MB per second of such bytes, over all connections, are read and thrown away."""


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
    """Turns of connections that have more than one request to parse or to answer."""
    return Turns(loop, at_once=AT_ONCE)


@lru_cache(maxsize=1)
def for_leftovers(loop: asyncio.AbstractEventLoop) -> Turns:
    """Turns of connections that are still read, so that a reset does not lose their last answer."""
    return Turns(loop, at_once=AT_ONCE, every_seconds=LEFTOVERS_SECONDS)
