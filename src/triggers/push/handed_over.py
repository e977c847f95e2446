"""What the API on this machine has just stored, taken into lanes without a read."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final
from uuid import UUID

from triggers.domain import LaneId
from triggers.events.handover import Handover
from triggers.postgres.database import DriverUUID
from triggers.push.lane import Lane
from triggers.push.lanes import Lanes
from triggers.push.memory import PayloadMemory
from triggers.push.read_ahead import Key
from triggers.push.store import Due

HANDOVER_SECONDS: Final = 1.0
"""What was handed over later than this after its flush began is read instead."""


class Handovers:
    """Takes deliveries into lanes that have read all that was due before."""

    def __init__(
        self, lanes: Lanes, memory: PayloadMemory, owns: Callable[[int], bool], filled: Callable[[Lane], None]
    ) -> None:
        """`owns`: whether a group of lanes is this worker's. `filled` is told of lanes that have more now."""
        self._lanes = lanes
        self._memory = memory
        self._owns = owns
        self._filled = filled
        # Subscriptions and events: settled in the last HANDOVER_SECONDS, or in less, and before that.
        self._settled: tuple[set[tuple[UUID, UUID]], ...] = (set(), set())
        self._settled_since = 0.0

    def take(self, handover: Handover) -> None:
        """Take what fits; what is not taken is read."""
        for lane_id, dues in deliveries_of(handover).items():
            lane = self._lanes.get(lane_id)
            if lane is None or not self.take_over(lane, dues, handover.asked_at):
                self._lanes.hint(lane_id)

    def settled(self, lane: Lane, key: Key) -> None:
        """A delivery was settled. A handover may come after that which still has it."""
        moment = time.monotonic()
        if moment >= self._settled_since + HANDOVER_SECONDS:
            self._settled, self._settled_since = (set(), self._settled[0]), moment
        self._settled[0].add((lane.id[1], key[0]))

    def take_over(self, lane: Lane, dues: list[Due], asked_at: float) -> bool:
        """Take what was stored by a flush that began at `asked_at`. False: it is to be read, or some of it.

        Only a lane takes it that has all that was due before, and nothing that a read may have returned by
        now, be it under way still or sent and settled since.
        """
        ahead = lane.ahead
        read_before = ahead.was_read_before(asked_at)
        if (
            not ahead.drained
            or read_before is None
            or lane.stale
            or lane.ordered
            or lane.breaker.open
            or lane.wants() < len(dues)
            or asked_at < max(lane.renewed_at, time.monotonic() - HANDOVER_SECONDS)
            or not self._owns(lane.group)
        ):
            return False
        if not read_before:
            dues = [
                due
                for due in dues
                if due.key not in ahead.known
                and not any((due.subscription_id, due.event_id) in some for some in self._settled)
            ]
        fitting = self._memory.take(lane, dues)
        if fitting:
            ahead.add(fitting, handed_over=True)
            lane.use()
            self._filled(lane)
        return len(fitting) == len(dues)


def deliveries_of(handover: Handover) -> dict[LaneId, list[Due]]:
    """By lane, what a read would find there."""
    found: dict[tuple[bytes, bytes], list[Due]] = {}
    for event in handover.events:
        org_id, event_id = DriverUUID(event.org_id), DriverUUID(event.id)
        for lane_id in event.subscriptions:
            lane = found.setdefault((event.org_id, lane_id), [])
            lane.append(
                Due(
                    org_id=org_id,
                    subscription_id=lane[0].subscription_id if lane else DriverUUID(lane_id),
                    event_id=event_id,
                    generation=0,
                    attempts=0,
                    first_attempt_at=None,
                    due_at=handover.accepted_at,
                    accepted_at=handover.accepted_at,
                    payload_size=len(event.payload),
                    type=event.type,
                    payload=event.payload,
                    source=event.source,
                    subject=event.subject,
                    occurred_at=event.occurred_at,
                )
            )
    return {(dues[0].org_id, dues[0].subscription_id): dues for dues in found.values()}
