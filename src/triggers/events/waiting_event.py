"""An event that is not committed yet, and the future with the answer that its caller waits for."""

from __future__ import annotations

import asyncio
import math
import time
from typing import Final, TypeAlias
from uuid import UUID

from triggers import errors
from triggers.domain import Accepted, NewEvent
from triggers.events.matching import Judged
from triggers.fairness.room import Room

FINDING_BYTES: Final = 200
"""Bytes that each finding counts for: a thousand findings can take more memory than their event."""

AcceptOutcome: TypeAlias = Accepted | errors.TriggersError


class WaitingEvent:
    """An event that waits in a queue, goes into a batch, and is answered. A second answer changes nothing.

        waiting ⇄ in a batch, or following one → answered

    It holds memory of `room` until it is answered. In a batch, later events with the same dedup_id are its
    followers: they are answered together with it, and are not stored. If a batch leaves the event over, it
    waits again.
    """

    __slots__ = (
        "_held",
        "_room",
        "answered",
        "event",
        "followers",
        "future",
        "judged",
        "rounds",
        "since",
        "size",
    )

    def __init__(
        self, event: NewEvent, judged: Judged, future: asyncio.Future[AcceptOutcome], room: Room
    ) -> None:
        self.event = event
        self.future = future
        self.since = time.monotonic()
        self.answered = False
        self.rounds = 0  # how often it was judged again
        self.followers: list[WaitingEvent] = []
        self._room = room
        self._held = 0  # bytes
        self.judge(judged)

    def judge(self, judged: Judged) -> None:
        """Note the rules with which this event was matched, and the result."""
        self.judged = judged
        event = self.event
        self.size = len(event.payload) + len(event.attributes or b"") + FINDING_BYTES * len(judged.findings)

    def take_memory(self, least_bytes: int) -> bool:
        """Take the memory that it needs now, instead of what it holds. False: there is not enough."""
        org_id = self.event.org_id
        if self._held:
            self._room.give_back(org_id, self._held)
        needed = max(self.size, least_bytes)
        self._held = needed if self._room.take(org_id, needed) else 0
        return self._held > 0

    def wait_for_the_database(self) -> None:
        """Never treat the event as late. It may be stored already, and only the database knows."""
        self.since = math.inf

    def decide(self, winner: UUID, fingerprint: bytes | None = None) -> int:
        """Answer the event and its followers; return how many were answered as duplicates. `winner` is the
        event that has their dedup_id; `fingerprint` is that event's fingerprint, and is not needed if it is
        this event."""
        repeated = 0
        for each in (self, *self.followers):
            if each.event.id == winner:
                each.answer(Accepted(winner, False))
            elif each.event.fingerprint == (fingerprint or self.event.fingerprint):
                repeated += not each.answered
                each.answer(Accepted(winner, True))
            else:
                each.answer(errors.DedupConflict(original_id=str(winner)))
        return repeated

    def answer_all(self, outcome: AcceptOutcome) -> None:
        """Give it and its followers the same answer."""
        for each in (self, *self.followers):
            each.answer(outcome)

    def answer(self, outcome: AcceptOutcome) -> None:
        """Answer its caller, and give its memory back."""
        if self.answered:  # it was committed, and what came after that failed
            return
        self.answered = True
        self._room.give_back(self.event.org_id, self._held)
        if not self.future.done():  # its caller may have gone
            self.future.set_result(outcome)
