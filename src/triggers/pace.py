"""Splits long work into steps, so that other tasks can use the event loop between two steps.

All long work on a loop shares TURN_SECONDS of each turn of the loop. When these are used up, long work waits.
Organisations get the next turns one after the other, however much work each of them has.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Generator
from typing import Final, TypeAlias, TypeVar
from uuid import UUID
from weakref import WeakKeyDictionary

T = TypeVar("T")

Steps: TypeAlias = Generator[None, None, T]
"""Work that yields between its steps and returns its result. A step takes a few milliseconds at most."""

TURN_SECONDS: Final = 0.003
"""Maximum time that long work takes in one turn of the event loop, apart from the end of its last step. A
step takes 2 ms as a rule, so that both take some 5 ms."""


def at_once(steps: Steps[T]) -> T:
    """Do all steps without a break, and return the result."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result


async def do(steps: Steps[T], org_id: UUID | None) -> T:
    """Do all steps in the organisation's turns, and return the result. `org_id` is None for the service."""
    turns = _turns()
    while True:
        if not turns.has_time():
            await turns.wait(org_id)
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result


async def breathe(org_id: UUID | None) -> None:
    """Between two steps of long work: wait for the organisation's next turn, if this one is over."""
    turns = _turns()
    if not turns.has_time():
        await turns.wait(org_id)


async def do_first(steps: Steps[T]) -> T:
    """Do all steps of work that all callers wait for. It waits for no turn, but lets other tasks run."""
    until = time.monotonic() + TURN_SECONDS
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result
        if time.monotonic() > until:
            await asyncio.sleep(0)
            until = time.monotonic() + TURN_SECONDS


class _Turns:
    """The turns of organisations with long work on one event loop.

    The states: idle → working until `_ends` → the next one in line was called, so newcomers must wait →
    working … → idle, if nobody is in line.
    """

    __slots__ = ("_ends", "_in_line", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._ends: float | None = None  # monotonic; None: nobody works
        self._in_line: OrderedDict[UUID | None, deque[asyncio.Future[None]]] = OrderedDict()

    def has_time(self) -> bool:
        """Whether long work may go on in this turn of the loop."""
        if self._ends is None:
            self._begin()
            return True
        return time.monotonic() < self._ends

    async def wait(self, org_id: UUID | None) -> None:
        """Wait for a turn. Call it only if there is no time."""
        called = self._loop.create_future()
        self._in_line.setdefault(org_id, deque()).append(called)
        try:
            await called
        except asyncio.CancelledError:
            if not called.cancelled():  # the turn came, but nobody is there to use it
                self._call_next()
            raise
        self._begin()

    def _begin(self) -> None:
        self._ends = time.monotonic() + TURN_SECONDS
        # It runs in the next turn of the loop.
        self._loop.call_soon(self._call_next)

    def _call_next(self) -> None:
        self._ends = None
        while self._in_line:
            org_id, waiting = self._in_line.popitem(last=False)
            called = waiting.popleft()
            if waiting:
                self._in_line[org_id] = waiting  # behind all others
            if not called.done():
                called.set_result(None)
                self._ends = 0.0
                return


_turns_of: WeakKeyDictionary[asyncio.AbstractEventLoop, _Turns] = WeakKeyDictionary()


def _turns() -> _Turns:
    loop = asyncio.get_running_loop()
    if (found := _turns_of.get(loop)) is None:
        found = _turns_of[loop] = _Turns(loop)
    return found
