"""Looks for what is new while a stream shows it, and gives it to the streams."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

import structlog

from triggers.domain import OrgId
from triggers.errors import DatabaseUnavailable
from triggers.fairness.pace import breathe
from triggers.fairness.room import Places, acting_for
from triggers.streams.frames import Frame
from triggers.streams.looks import Look
from triggers.wakeups.wakeup import Wakeup

log = structlog.get_logger()

GATHER_SECONDS: Final = 0.2
"""Minimum time between two looks, so that one frame or look covers what comes in a burst."""
IDLE_SECONDS: Final = 1.0
"""Time between two looks if no hint comes."""
LIVELY_SECONDS: Final = 0.4
"""The same while something happens. There are no hints of attempts, but most of them follow a new event."""
LIVELY_FOR_SECONDS: Final = 5.0
"""Time for which it looks more often after a hint, or after a look that found something."""
SHARE: Final = 9
"""A reader rests so many times as long as its last look took, so it uses a tenth of a connection."""
LONGEST_REST_SECONDS: Final = 5.0


class Listener(Protocol):
    """A stream that is given frames."""

    def offer(self, frame: Frame) -> None:
        """Show a frame, if the stream wants it."""

    def end(self) -> None:
        """End the stream."""


class LogReader:
    """The task that looks for one part of the log of one organisation.

    starting ──the first look, which shows nothing──▶ reading ──`stop`, or nothing can come──▶ over
    """

    def __init__(
        self,
        look: Look,
        org_id: OrgId,
        wakeup: Wakeup,
        places: Places,
        trusted: Callable[[], Awaitable[None]],
    ) -> None:
        """`trusted` returns when the keys of all streams were checked a moment ago."""
        self.look = look
        self.listeners: set[Listener] = set()
        self.begun = asyncio.Event()
        """Set after the first look. Whatever becomes visible after it is shown."""
        self._org_id = org_id
        self._wakeup = wakeup
        self._places = places
        self._trusted = trusted
        self._lively_until = 0.0  # by the clock of the event loop
        self._task = asyncio.get_running_loop().create_task(self._run(), name="stream reader")

    def stop(self) -> None:
        """Look no more."""
        self._task.cancel()

    @property
    def is_over(self) -> bool:
        """Whether it looks no more."""
        return self._task.done()

    async def _run(self) -> None:
        acting_for.set(self._org_id)  # its looks use the organisation's share of the connections
        try:
            with self._wakeup.waiting(self._org_id) as hint:
                while not self.look.over:
                    if hint.is_set():
                        self._stay_lively()
                        hint.clear()
                    seconds = await self._look_once()
                    await asyncio.sleep(min(max(GATHER_SECONDS, SHARE * seconds), LONGEST_REST_SECONDS))
                    is_lively = asyncio.get_running_loop().time() < self._lively_until
                    await _either(hint, (LIVELY_SECONDS if is_lively else IDLE_SECONDS) - GATHER_SECONDS)
        except Exception as bug:
            log.exception("stream_reader_ended", exc_info=bug)
        finally:
            for listener in list(self.listeners):
                listener.end()

    def _stay_lively(self) -> None:
        self._lively_until = asyncio.get_running_loop().time() + LIVELY_FOR_SECONDS

    async def _look_once(self) -> float:
        """Look, and give the streams what is new. Return how long the look took, in seconds."""
        loop = asyncio.get_running_loop()
        try:
            async with self._places.hold(self._org_id):
                began = loop.time()
                frames = await self.look.new()
                seconds = loop.time() - began
        except DatabaseUnavailable:
            return IDLE_SECONDS / SHARE  # the next look finds what this one would have found
        if self.begun.is_set():
            if frames:
                self._stay_lively()
                await self._trusted()
            for frame in frames:
                for listener in list(self.listeners):
                    listener.offer(frame)
                await breathe(self._org_id)
        self.begun.set()
        return seconds


async def _either(hint: asyncio.Event, seconds: float) -> None:
    """Wait for a hint, or for so long."""
    try:
        async with asyncio.timeout(seconds):
            await hint.wait()
    except TimeoutError:
        pass
