"""The new push deliveries of one flush, which the API hands to the worker of the same `serve`.

The worker then does not have to read the deliveries and their payloads from the database. The table of
deliveries stays authoritative: the worker finds there what was not handed over, got lost or was not taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec

from triggers.domain import LaneId, NewEvent
from triggers.postgres.database import DriverUUID


class Fresh(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """An event and the subscriptions that it must be delivered to. Each id is given as 16 bytes."""

    org_id: bytes
    id: bytes
    type: str
    payload: bytes
    source: str | None
    subject: str | None
    occurred_at: datetime | None
    subscriptions: list[bytes]
    attributes: bytes | None = None


class Handover(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The events of one flush that must be delivered to push subscriptions."""

    asked_at: float
    """When the statement was sent, by the monotonic clock, which the processes of a machine share."""
    accepted_at: datetime
    """When the statement ran, by the database's clock."""
    events: list[Fresh]

    @classmethod
    def of(
        cls,
        asked_at: float,
        accepted_at: datetime,
        batch: Sequence[NewEvent],
        owed: Mapping[bytes, list[bytes]],
    ) -> Handover:
        """`owed` maps the id of an event to the subscriptions that it must be delivered to."""
        return cls(
            asked_at,
            accepted_at,
            [
                Fresh(
                    event.org_id.bytes,
                    event.id.bytes,
                    event.type,
                    event.payload,
                    event.source,
                    event.subject,
                    event.occurred_at,
                    subscriptions,
                    event.attributes,
                )
                for event in (batch if owed else ())
                if (subscriptions := owed.get(event.id.bytes)) is not None
            ],
        )

    @property
    def payload_bytes(self) -> int:
        """The total size of the payloads and attributes, the largest part of a handover."""
        return sum(len(event.payload) + len(event.attributes or b"") for event in self.events)

    def lanes(self) -> list[LaneId]:
        """The lanes that get a delivery."""
        found = {(event.org_id, lane_id) for event in self.events for lane_id in event.subscriptions}
        orgs = {org_id: DriverUUID(org_id) for org_id, _ in found}
        return [(orgs[org_id], DriverUUID(lane_id)) for org_id, lane_id in found]
