"""Splits long work into steps, so that other tasks can use the event loop between two steps.

All long work on a loop shares TURN_SECONDS of each turn of the loop. When these are used up, long work waits.
Organisations get the next turns one after the other, however much work each of them has.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Generator
from typing import Any, Final, TypeAlias, TypeVar, cast
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
    while turns.has_time():
        began = time.monotonic()
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result
        finally:
            turns.spent += time.monotonic() - began
    return cast("T", await turns.stand_in_line(org_id, steps))


async def breathe(org_id: UUID | None) -> None:
    """Between two steps of long work: wait for the organisation's next turn, if this one is over."""
    turns = _turns()
    if not turns.has_time() or turns.is_over():
        await turns.stand_in_line(org_id, None)


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
    """The long work of one event loop. In each turn of the loop it takes TURN_SECONDS at most:

    idle ── has_time() ──▶ in a turn ── next turn of the loop ──▶ idle, if nobody is in line
                             ▲                     │
                             └─ somebody is in line┘

    Work in line comes before new work. Its steps are done here, so that many short pieces of work end in one
    turn. A caller of `breathe` does its next step itself, so the time of that step is not known. Its turn
    ends TURN_SECONDS after its beginning. If the caller stood in line, it has a turn of its own.
    """

    __slots__ = ("_began", "_called", "_in_line", "_loop", "spent")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._began: float | None = None  # monotonic; None: no turn has begun
        self.spent = 0.0
        """Seconds that steps have taken in this turn."""
        self._in_line: OrderedDict[UUID | None, deque[tuple[Steps[Any] | None, asyncio.Future[Any]]]] = (
            OrderedDict()
        )
        self._called = False  # a caller of `breathe` was resumed, and has the next turn

    def has_time(self) -> bool:
        """Whether work that is not in line may continue in this turn of the loop."""
        if self._began is None:
            self._begin()
            return True
        return not self._in_line and self.spent < TURN_SECONDS

    def is_over(self) -> bool:
        """Whether this turn began too long ago for a caller of `breathe`."""
        return self._began is not None and time.monotonic() > self._began + TURN_SECONDS

    def stand_in_line(self, org_id: UUID | None, steps: Steps[Any] | None) -> asyncio.Future[Any]:
        """Return a future: the result of the steps, or None when it is the organisation's turn."""
        result = self._loop.create_future()
        self._in_line.setdefault(org_id, deque()).append((steps, result))
        return result

    def _begin(self) -> None:
        self._began = time.monotonic()
        self.spent = 0.0
        self._loop.call_soon(self._next_turn)  # in the next turn of the loop

    def _next_turn(self) -> None:
        taken, self._called, self._began = self._called, False, None
        if self._in_line:
            self._begin()
            if not taken:
                self._work()

    def _work(self) -> None:
        began = time.monotonic()
        while self._in_line and not self._called:
            org_id, waiting = self._in_line.popitem(last=False)
            steps, result = waiting[0]
            if steps is None and not result.cancelled():
                self._called = True
            if _step(steps, result):
                waiting.popleft()
            if waiting:
                self._in_line[org_id] = waiting  # behind all others
            self.spent = time.monotonic() - began
            if self.spent >= TURN_SECONDS:
                return


def _step(steps: Steps[Any] | None, result: asyncio.Future[Any]) -> bool:
    """Do one step, and set the result after the last one. Return whether the work is finished."""
    if result.cancelled():
        return True
    try:
        next(steps or iter(()))
    except StopIteration as end:
        result.set_result(end.value)
    except Exception as error:  # noqa: BLE001 - it belongs to the caller that waits for the result
        # The traceback gets no frame that has the result in a variable. Otherwise error and result would keep
        # each other alive, with all that the steps held, such as a body, until a garbage collection.
        result.set_exception(error.with_traceback(error.__traceback__ and error.__traceback__.tb_next))
    else:
        return False
    return True


_turns_of: WeakKeyDictionary[asyncio.AbstractEventLoop, _Turns] = WeakKeyDictionary()


def _turns() -> _Turns:
    loop = asyncio.get_running_loop()
    if (found := _turns_of.get(loop)) is None:
        found = _turns_of[loop] = _Turns(loop)
    return found
