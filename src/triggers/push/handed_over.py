"""What a handover from the API holds, as the reader of the deliveries table would find it."""

from __future__ import annotations

from triggers.domain import LaneId
from triggers.events.handover import Handover
from triggers.postgres.database import DriverUUID
from triggers.push.store import Due


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
