"""Long work in steps, so that nobody waits for all of it: others have the event loop between two steps."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator
from typing import TypeAlias, TypeVar
from weakref import WeakKeyDictionary

T = TypeVar("T")

Steps: TypeAlias = Generator[None, None, T]
"""Work that yields between its steps and returns its result. A step takes a few milliseconds at most."""

_BREATHE_SECONDS = 0.001

# One of each event loop. Whoever holds it has the next turn: long pieces of work take their turns one
# after the other, or a hundred requests with long work would each have a step in every turn of the loop.
_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()


def at_once(steps: Steps[T]) -> T:
    """Do all steps without a break, and return the result."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result


async def paced(steps: Steps[T]) -> T:
    """Do all steps of what is known to be long, in turns of the event loop that others have too."""
    pace = Pace()
    await pace.wait_for_turn()
    return await do(steps, pace)


async def do(steps: Steps[T], pace: Pace) -> T:
    """Do all steps, letting others have the event loop between them once it takes long."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result
        await pace.breathe()


class Pace:
    """Lets others have the event loop every few milliseconds of a long piece of work.

    Work of one request stands in line with that of other requests; `in_line` is false for work that
    everybody waits for.
    """

    __slots__ = ("_in_line", "_next")

    def __init__(self, *, in_line: bool = True) -> None:
        self._in_line = in_line
        self._next = time.monotonic() + _BREATHE_SECONDS

    async def breathe(self) -> None:
        """Let others run, if it is time."""
        if time.monotonic() < self._next:
            return
        if self._in_line:
            await self.wait_for_turn()
        else:
            await asyncio.sleep(0)
            self._next = time.monotonic() + _BREATHE_SECONDS

    async def wait_for_turn(self) -> None:
        """Let others run now. Returns in a turn of the loop in which no other long work goes on."""
        loop = asyncio.get_running_loop()
        if (turn := _turns.get(loop)) is None:
            turn = _turns[loop] = asyncio.Lock()
        async with turn:
            await asyncio.sleep(0)
        self._next = time.monotonic() + _BREATHE_SECONDS
