"""One open stream: which frames it shows, and how many of them in a second."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple
from uuid import UUID

from triggers.domain import KeyId, OrgId
from triggers.streams.frames import Frame, Missing, StreamKind, sampled


class Wanted(NamedTuple):
    """The choice of a stream: kinds of frames of an organisation, or the messages of one inbox."""

    kinds: frozenset[StreamKind] = frozenset()
    event_type: str | None = None
    """An exact type, or a pattern such as `order.*`. None: all types."""
    inbox_id: UUID | None = None
    event_id: UUID | None = None
    """Only frames about this event. None: about all events."""

    def fits(self, frame: Frame) -> bool:
        """Whether a frame is about the wanted event and type. A frame about no event fits always."""
        wanted = self.event_type
        if isinstance(frame.about, Missing):
            return True
        if self.event_id is not None and frame.event_id != self.event_id:
            return False
        if wanted is None:
            return True
        found = frame.event_type or ""
        return found.startswith(wanted[:-1]) if wanted == "*" or wanted.endswith(".*") else found == wanted


class Output(NamedTuple):
    """Where a stream puts its frames, and what it calls when it is ended from this side."""

    put: Callable[[Frame], None]
    end: Callable[[], None]


class Holder(NamedTuple):
    """The owner of a stream. The stream ends with the key, a session if it has one, and the organisation."""

    org_id: OrgId
    """The organisation of the key. The stream counts against its share."""
    key_id: KeyId
    shown_org_id: OrgId
    """The organisation that the stream is about. It is another one if an operator acts for it."""
    session_id: UUID | None = None
    """The session of the console."""


class Stream:
    """Passes the wanted frames on, and at the end of a second says how many were too many for that second."""

    def __init__(self, holder: Holder, wanted: Wanted, output: Output, most: int) -> None:
        """`most`: frames in a second."""
        self.holder = holder
        self._wanted = wanted
        self._output = output
        self._most = most
        self._loop = asyncio.get_running_loop()
        self._second_ends = 0.0
        self._shown = 0  # in this second
        self._left_out = 0
        self._timer: asyncio.TimerHandle | None = None

    def offer(self, frame: Frame) -> None:
        """Show a frame, if it is wanted and there is room for it in this second."""
        if not self._wanted.fits(frame):
            return
        now = self._loop.time()
        if now >= self._second_ends:
            self._tell_left_out()
            self._second_ends, self._shown = now + 1.0, 0
        if self._shown < self._most:
            self._shown += 1
            self._output.put(frame)
            return
        self._left_out += 1
        if self._timer is None:
            self._timer = self._loop.call_at(self._second_ends, self._tell_left_out)

    def end(self) -> None:
        """End the stream."""
        self._output.end()

    def close(self) -> None:
        """Forget what was left out."""
        if self._timer is not None:
            self._timer.cancel()

    def _tell_left_out(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._left_out:
            self._output.put(sampled(self._left_out))
            self._left_out = 0
