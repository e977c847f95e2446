"""Hints that an organisation or a lane may have new work. A lost hint only delays the work.

Within a process a hint is a call. Between nodes it is sent through Redis, if there is one. Waiters also look
for work from time to time without a hint.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeAlias
from uuid import UUID

from triggers.domain import LaneId
from triggers.events.handover import Handover

Listener: TypeAlias = Callable[[set[UUID], Sequence[LaneId]], None]
LaneListener: TypeAlias = Callable[[Sequence[LaneId]], None]
Taker: TypeAlias = Callable[[Handover], bool]


class Wakeup:
    """The waiters of this process by organisation, and the listeners that carry hints elsewhere."""

    def __init__(self) -> None:
        self._waiters: defaultdict[UUID, set[asyncio.Event]] = defaultdict(set)
        self._listeners: list[Listener] = []
        self._lane_listeners: list[tuple[LaneListener, Taker | None]] = []

    def listen(self, listener: Listener) -> None:
        """Call `listener`, which carries hints to other processes, with every hint of this process."""
        self._listeners.append(listener)

    def listen_for_lanes(self, listener: LaneListener, taker: Taker | None = None) -> None:
        """Call `listener` with the lanes of every hint, given here or by another node. Call `taker`, if there
        is one, with the deliveries that were stored here; if it returns False, `listener` gets a hint."""
        self._lane_listeners.append((listener, taker))

    def give(self, org_ids: set[UUID], lanes: Sequence[LaneId] = ()) -> None:
        """Send a hint, here and to other nodes, that these organisations or lanes may have new work."""
        self.receive(org_ids, lanes)
        for listener in self._listeners:
            listener(org_ids, lanes)

    def receive(self, org_ids: set[UUID], lanes: Sequence[LaneId] = ()) -> None:
        """Handle a hint from another node."""
        if lanes:
            for listener, _ in self._lane_listeners:
                listener(lanes)
        self._wake(org_ids)

    def hand_over(self, org_ids: set[UUID], handover: Handover) -> None:
        """Give a hint of deliveries that this process has stored, and hand them over to a listener."""
        hinted = [
            listener
            for listener, taker in (self._lane_listeners if handover.events else ())
            if taker is None or not taker(handover)
        ]
        lanes = handover.lanes() if hinted or self._listeners else []
        for listener in hinted:
            listener(lanes)
        self._wake(org_ids)
        for carry in self._listeners:
            carry(org_ids, lanes)

    def _wake(self, org_ids: set[UUID]) -> None:
        if not self._waiters:
            return
        for org_id in org_ids:
            for event in self._waiters.get(org_id, ()):
                event.set()

    @contextmanager
    def waiting(self, org_id: UUID) -> Iterator[asyncio.Event]:
        """An event that is set by every hint for the organisation while the block runs.

        To lose no hint: look, enter, look again, wait, clear, look again.
        """
        event = asyncio.Event()
        waiters = self._waiters[org_id]
        waiters.add(event)
        try:
            yield event
        finally:
            waiters.discard(event)
            if not waiters and self._waiters.get(org_id) is waiters:
                del self._waiters[org_id]
