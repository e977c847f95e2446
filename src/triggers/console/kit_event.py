"""Samples for the kit: events whose deliveries are in every state."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec

from triggers.console.event_view import EventShown, FoundDelivery, Unshown, arrange
from triggers.deliveries.body import AttemptView
from triggers.deliveries.overview_routes import EventDelivery
from triggers.domain import AttemptOutcome, rfc3339
from triggers.events.routes import DeliveryView, EventDetail

_ACCEPTED_BEFORE: Final = timedelta(seconds=400)
_DELAYS: Final = (5.0, 30.0, 120.0, 900.0)
_NONE_UNSHOWN: Final = Unshown(0, 14)
_ANSWER: Final = '{"error": {"code": "upstream_unavailable", "message": "The ledger is being migrated."}}'


class SampleAttempt(NamedTuple):
    """An attempt of a sample delivery. `seconds_ago`: when it began."""

    seconds_ago: float
    outcome: AttemptOutcome
    status_code: int | None
    answer: str | None = None


class EventSamples:
    """Makes events that were accepted 400 seconds before `now`. Each delivery has an id of its own."""

    def __init__(self, now: datetime, long: str) -> None:
        """`long` is a name that has no room."""
        self._now = now
        self._long = long
        self._made = 0

    def all(self) -> dict[str, EventShown]:
        """Return an event for each state of the kit."""
        return {
            "empty": self._shown([]),
            "one": self._shown([self._arrived("audit log")]),
            "many": self._shown(
                [
                    self._failing("billing"),
                    self._paused("warehouse"),
                    self._arrived("audit log"),
                    self._leased(),
                ]
            ),
            "too long": self._shown([self._failing(self._long, self._long)], Unshown(1_204, 0)),
            "failed": self._shown([self._dead("billing"), self._rejected()]),
            "forbidden": self._shown([self._without_attempts()], Unshown(0, None)),
        }

    def _shown(self, found: Sequence[FoundDelivery], unshown: Unshown = _NONE_UNSHOWN) -> EventShown:
        event = EventDetail(
            id=self._id(),
            type="invoice.payment_failed",
            dedup_id=None,
            source="/billing/ledger",
            subject="cus_Q4yT28",
            ordering_key=None,
            occurred_at=None,
            created_at=rfc3339(self._now - _ACCEPTED_BEFORE),
            payload_size=312,
            attributes=None,
            deliveries=[],
        )
        return arrange(event, found, self._now, unshown)

    def _arrived(self, name: str) -> FoundDelivery:
        tries = [SampleAttempt(399.9, AttemptOutcome.DELIVERED, 200)]
        return self._found(name, tries, status="delivered", settled_at=self._at(399.8))

    def _failing(self, name: str, answer: str = _ANSWER) -> FoundDelivery:
        tries = [
            SampleAttempt(399.0, AttemptOutcome.RETRY, 503, answer),
            SampleAttempt(394.0, AttemptOutcome.RETRY, None, "no answer within 20 s"),
            SampleAttempt(362.0, AttemptOutcome.RETRY, 503, answer),
        ]
        return self._found(name, tries, status="pending", waiting_for="retry_time", next_at=self._at(-240))

    def _dead(self, name: str) -> FoundDelivery:
        tries = [
            SampleAttempt(399.0, AttemptOutcome.RETRY, None, "connection refused"),
            SampleAttempt(394.0, AttemptOutcome.RETRY, None, "connection refused"),
            SampleAttempt(362.0, AttemptOutcome.DEAD, 410, '{"error": "endpoint removed"}'),
        ]
        return self._found(name, tries, status="dead", reason="gone", settled_at=self._at(361))

    def _rejected(self) -> FoundDelivery:
        ended = {"status": "dead", "reason": "no address", "lease_count": 3, "settled_at": self._at(200)}
        return self._found("fulfilment", [], kind="inbox", **ended)

    def _paused(self, name: str) -> FoundDelivery:
        return self._found(name, [], status="pending", waiting_for="subscription_paused")

    def _leased(self) -> FoundDelivery:
        return self._found("fulfilment", [], kind="inbox", status="leased", waiting_for="consumer")

    def _without_attempts(self) -> FoundDelivery:
        return FoundDelivery(
            DeliveryView(
                subscription_id=self._id(),
                kind="push",
                key="billing",
                generation=0,
                status="pending",
                reason=None,
                lease_count=0,
                attempts=3,
                due_at=self._at(-240),
                settled_at=None,
                note=None,
            ),
            [],
        )

    def _found(self, name: str, tries: Sequence[SampleAttempt], **values: Any) -> FoundDelivery:
        subscription_id, event_id = self._id(), self._id()
        facts: dict[str, Any] = {
            "id": f"{event_id}.{subscription_id}",
            "event_id": event_id,
            "event_type": "invoice.payment_failed",
            "subscription_id": subscription_id,
            "kind": "push",
            "name": name,
            "target_url": f"https://{name.replace(' ', '-')}.example.com/hook",
            "retry_delays": _DELAYS,
            "generation": 0,
            "reason": None,
            "attempts": len(tries),
            "lease_count": 0,
            "accepted_at": self._at(400),
            "first_attempt_at": None,
            "due_at": None,
            "settled_at": None,
            "waiting_for": None,
            "next_at": None,
            "note": None,
        }
        delivery = msgspec.convert(facts | values, EventDelivery)
        attempts = [self._attempt(delivery, number, each) for number, each in enumerate(tries, start=1)]
        return FoundDelivery(delivery, attempts)

    def _attempt(self, delivery: EventDelivery, number: int, tried: SampleAttempt) -> AttemptView:
        ago, outcome, status_code, answer = tried
        waits = outcome == AttemptOutcome.RETRY
        reason = "delivered" if outcome == AttemptOutcome.DELIVERED else "unavailable"
        return AttemptView(
            id=self._id(),
            event_id=delivery.event_id,
            subscription_id=delivery.subscription_id,
            generation=0,
            attempt=number,
            began_at=self._at(ago),
            duration_ms=84,
            outcome=outcome,
            reason=reason if status_code else "timeout",
            status_code=status_code,
            response=answer,
            retry_at=self._at(ago - _DELAYS[number - 1]) if waits else None,
        )

    def _at(self, seconds_ago: float) -> str:
        return rfc3339(self._now - timedelta(seconds=seconds_ago))

    def _id(self) -> UUID:
        self._made += 1
        return UUID(int=(0xC3D8481A << 96) + self._made)
