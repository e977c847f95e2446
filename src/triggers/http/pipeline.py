"""The requests of one connection, which are answered one after the other, as they came."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from uvicorn.protocols.http.flow_control import FlowControl

from triggers.http.request_cycle import RequestCycle

MAX_AHEAD: Final = 16
"""Maximum number of requests of a connection that wait, already parsed, for an earlier one's answer."""


class Pipeline:
    """The request that is being answered, and those that wait behind it.

    A request: `add` ──▶ running, if none is ──answered──▶ done
               `add` ──▶ waiting, if one is ──`run_next`, once that one is answered──▶ running
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, flow: FlowControl, tasks: set[asyncio.Task[None]]
    ) -> None:
        """`tasks` gets the task of each running request. The server waits for these tasks when it stops."""
        self._loop = loop
        self._flow = flow
        self._tasks = tasks
        self._waiting: deque[RequestCycle] = deque()
        self._running: RequestCycle | None = None  # or was last
        self.newest: RequestCycle | None = None
        """The request whose body is arriving, or the last that came."""

    def __len__(self) -> int:
        """The number of requests that wait."""
        return len(self._waiting)

    @property
    def is_full(self) -> bool:
        """Whether no more requests may be parsed for now."""
        return len(self._waiting) >= MAX_AHEAD

    @property
    def has_much_unread(self) -> bool:
        """Whether so much of a body waits for the app that no more of it should be read."""
        return self.newest is not None and self.newest.has_much_unread

    def add(self, cycle: RequestCycle) -> None:
        """Answer a request in its turn. While a request waits for its turn, reading is paused."""
        before, self.newest = self.newest, cycle
        if before is None or before.is_answered:
            self._run(cycle)
        else:
            self._flow.pause_reading()
            self._waiting.append(cycle)

    def run_next(self) -> None:
        """The request before it is answered: answer the next one, if any waits."""
        if self._waiting:
            self._run(self._waiting.popleft())

    def caller_finished(self) -> None:
        """The caller sends nothing more: tell the running request, which may be waiting to hear of that."""
        if self._running is not None:
            self._running.caller_finished()

    def end(self) -> None:
        """Answer nothing more: tell the running request that the caller has left, and drop all others."""
        if self._running is not None:
            self._running.caller_left()
        # Requests that never ran and the connection refer to each other. Only the collector could free them.
        self._waiting.clear()
        self._running = self.newest = None

    def _run(self, cycle: RequestCycle) -> None:
        self._running = cycle
        task = self._loop.create_task(cycle.run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
