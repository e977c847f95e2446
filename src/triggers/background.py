"""Work in the background: periodic duties, loops and tasks. All are watched, shown and stopped in one way."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, NamedTuple

import structlog

from triggers.errors import DatabaseUnavailable

log = structlog.get_logger()

AT_ONCE_SECONDS: Final = 0.01
"""The pause of a duty that has more to do."""
PAUSE_SECONDS: Final = 0.5
"""The pause of a loop after the database failed it."""


class Duty(NamedTuple):
    """A bounded piece of work that is done again and again. It must be safe on many nodes at once."""

    name: str
    every_seconds: float
    work: Callable[[], Awaitable[bool | None]]
    """Returns True if there is more to do at once."""


class Background:
    """The background work of one part of a process.

    waiting ──▶ working ──▶ well: shown nowhere
       ▲           ├──────▶ failed: named in `trouble`, and tried again ──┐
       └───────────┼──────────────────────────────────────────────────────┘
                   └──────▶ ended: named in `trouble` for good, and `ended` returns
    """

    def __init__(self) -> None:
        self.trouble: dict[str, str] = {}
        """The reason for each part that failed the last time, or has ended, by the name of the part."""
        self._tasks: list[asyncio.Task[None]] = []
        self._some_ended = asyncio.Event()

    def start(self, duty: Duty) -> None:
        """Do a duty from now on. Whatever it raises is logged, and it is done again when its time comes."""
        self.run(duty.name, self._repeat(duty))

    def loop(self, name: str, work: Callable[[], Awaitable[object]], close: Callable[[], object]) -> None:
        """Do a piece of work again and again without a pause: it waits by itself for something to do.

        When the database fails it, it is tried again after a pause. Any other error is a bug and ends it.
        `close` is called at the end.
        """
        self.run(name, self._loop(name, work, close))

    def run(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Run a task that must not end before `stop`."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        task.add_done_callback(self._note_end)
        self._tasks.append(task)

    async def ended(self) -> None:
        """Return when something has ended before `stop`, which only a bug can cause."""
        await self._some_ended.wait()

    async def unless_ended(self, waiting: Coroutine[Any, Any, object]) -> None:
        """Wait for something that this work causes. Return early if a part of the work has ended."""
        tasks = [asyncio.ensure_future(waiting), asyncio.ensure_future(self.ended())]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def stop(self) -> None:
        """Cancel everything, and wait until it has ended."""
        for task in self._tasks:
            task.remove_done_callback(self._note_end)
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _repeat(self, duty: Duty) -> None:
        while True:
            more = False
            try:
                more = bool(await duty.work())
            except Exception as error:  # noqa: BLE001 - a duty must survive whatever it meets
                log.warning("duty_failed", duty=duty.name, error=repr(error))
                self.trouble[duty.name] = f"failed: {type(error).__name__}"
            else:
                self.trouble.pop(duty.name, None)
            # Nodes that started together should not work together.
            spread = random.uniform(0.8, 1.2)  # noqa: S311
            await asyncio.sleep(AT_ONCE_SECONDS if more else duty.every_seconds * spread)

    async def _loop(
        self, name: str, work: Callable[[], Awaitable[object]], close: Callable[[], object]
    ) -> None:
        try:
            while True:
                try:
                    await work()
                except DatabaseUnavailable as error:
                    log.warning("loop_failed", loop=name, error=repr(error.__cause__))
                    self.trouble[name] = "the database failed it"
                    await asyncio.sleep(PAUSE_SECONDS)
                else:
                    self.trouble.pop(name, None)
        finally:
            close()

    def _note_end(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        log.critical("background_ended", task=task.get_name(), exc_info=error)
        self.trouble[task.get_name()] = "ended" if error is None else f"ended: {type(error).__name__}"
        self._some_ended.set()
