"""Adds deliveries that the API of the same `serve` has just stored to lanes, without a database read."""

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
"""A handover that arrives later than this after its flush began is not used; its deliveries are read."""


class Handovers:
    """Takes deliveries into lanes that have read all that was due before."""

    def __init__(
        self, lanes: Lanes, memory: PayloadMemory, owns: Callable[[int], bool], filled: Callable[[Lane], None]
    ) -> None:
        """`owns`: whether this worker owns a group. `filled` is called with each lane that got deliveries."""
        self._lanes = lanes
        self._memory = memory
        self._owns = owns
        self._filled = filled
        # Pairs of a subscription and an event: those settled since `_settled_since`, and those settled in the
        # period of HANDOVER_SECONDS before that.
        self._settled: tuple[set[tuple[UUID, UUID]], ...] = (set(), set())
        self._settled_since = 0.0

    def take(self, handover: Handover) -> None:
        """Add the deliveries that fit to their lanes. The others will be read from the database."""
        for lane_id, dues in deliveries_of(handover).items():
            lane = self._lanes.get(lane_id)
            if lane is None or not self.take_over(lane, dues, handover.asked_at):
                self._lanes.hint(lane_id)

    def settled(self, lane: Lane, key: Key) -> None:
        """Note that a delivery was settled, because a later handover may still contain it."""
        moment = time.monotonic()
        if moment >= self._settled_since + HANDOVER_SECONDS:
            self._settled, self._settled_since = (set(), self._settled[0]), moment
        self._settled[0].add((lane.id[1], key[0]))

    def take_over(self, lane: Lane, dues: list[Due], asked_at: float) -> bool:
        """Add deliveries of a flush that began at `asked_at`. False: not all were added, so read the lane.

        A lane takes them only if it has read everything that was due before, and no read of it is under way.
        Deliveries that the last read may have returned are left out if the lane knows them or they were
        settled recently.
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
    """The deliveries of a handover by lane, as a read would return them."""
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
                    payload_size=len(event.payload) + len(event.attributes or b""),
                    type=event.type,
                    payload=event.payload,
                    source=event.source,
                    subject=event.subject,
                    occurred_at=event.occurred_at,
                    attributes=event.attributes,
                )
            )
    return {(dues[0].org_id, dues[0].subscription_id): dues for dues in found.values()}
