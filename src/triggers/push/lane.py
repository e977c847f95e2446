"""A lane in the memory of its owner: its waiting deliveries, and whether it may send."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import Final

import msgspec

from triggers.push.breaker import Breaker
from triggers.push.read_ahead import ReadAhead
from triggers.push.store import Due
from triggers.push.target import Target

READ_AHEAD: Final = 1_000
"""Maximum number of deliveries of one lane that wait in memory."""
BURST_SECONDS: Final = 0.1
"""The requests that a rate limit allows in this time may be sent at once, because timers are imprecise."""


class Lane:
    """The queue of due deliveries of one push subscription. `ahead` holds those that are in memory.

    Its settings:  current ── close() ──▶ stale: nothing is sent ── renew() ──▶ current

    The lane may send if a delivery waits, the settings are current, the subscription is active, fewer than
    `concurrency` deliveries are in flight, and nothing holds it back: the rate limit, an open breaker, or
    the probation of its group, during which the whole group sends one delivery at a time.
    """

    __slots__ = (
        "_next_send_at",
        "ahead",
        "breaker",
        "group",
        "id",
        "in_flight",
        "in_line",
        "on_probation",
        "org_id",
        "renewed_at",
        "stale",
        "target",
        "used_at",
    )

    def __init__(self, target: Target) -> None:
        endpoint = target.endpoint
        self.id = (endpoint.org_id, endpoint.id)
        self.org_id = endpoint.org_id
        self.group = endpoint.lane_group
        self.target = target
        self.breaker = Breaker(endpoint.failing_since, endpoint.probe_at, endpoint.probe_delay)
        self.ahead = ReadAhead()
        self.in_flight = 0
        self.in_line = False  # for slots
        self.on_probation = False  # waits until another delivery of its group is settled
        self.stale = False
        self.renewed_at = self.used_at = time.monotonic()
        self._next_send_at = 0.0  # monotonic: when the rate limit allows the next one

    # ---- what may go -----------------------------------------------------------------------------

    @property
    def ordered(self) -> bool:
        """Whether only the first unsettled delivery of each key may be sent."""
        return self.target.endpoint.ordering == "key"

    @property
    def paced(self) -> bool:
        """Whether a rate limit or an open breaker may hold it."""
        return self.target.endpoint.rate_limit is not None or self.breaker.probe_at is not None

    def may_send(self, now: Callable[[], datetime]) -> bool:
        """Whether the next delivery may be sent now. Called three times for each, so it must be cheap."""
        endpoint = self.target.endpoint
        return (
            bool(self.ahead.waiting)
            and self.in_flight < self.target.concurrency
            and endpoint.status == "active"
            and not self.stale
            and not self.on_probation
            and (endpoint.rate_limit is None or self._next_send_at <= time.monotonic())
            and (self.breaker.probe_at is None or self.breaker.may_send(now(), self.in_flight))
            and (endpoint.expires_at is None or endpoint.expires_at > now())
        )

    def wait_seconds(self, now: datetime) -> float | None:
        """Seconds until the rate limit or the breaker may allow the next delivery; None if neither holds the
        lane back."""
        if not self.ahead.waiting:
            return None
        waits = []
        if (rate := self._next_send_at - time.monotonic()) > 0:
            waits.append(rate)
        if self.breaker.probe_at is not None and self.in_flight == 0:
            waits.append((self.breaker.probe_at - now).total_seconds())
        return max(0.0, *waits) if waits else None

    # ---- sending ---------------------------------------------------------------------------------

    def stand_in_line(self) -> None:
        """It waits for a slot from now on."""
        self.in_line = True

    def leave_line(self) -> None:
        """It has its slot, or may not send any more."""
        self.in_line = False

    def wait_for_group(self) -> None:
        """Send nothing until `go_on`: another delivery of its group on probation is under way."""
        self.on_probation = True

    def go_on(self) -> None:
        """The other delivery of its group has ended, so the lane may send again."""
        self.on_probation = False

    def take(self) -> Due:
        """Take the next delivery. It is in flight from now on."""
        self.in_flight += 1
        self.used_at = moment = time.monotonic()
        if (rate_limit := self.target.endpoint.rate_limit) is not None:
            self._next_send_at = max(self._next_send_at, moment - BURST_SECONDS) + 1 / rate_limit
        return self.ahead.waiting.popleft()

    def take_companions(self) -> list[Due]:
        """Take the other messages that the same notice covers, which are all that wait. Only for notices."""
        return [] if self.target.endpoint.notifies_inbox is None else self.ahead.take_all()

    def put_back(self, due: Due) -> None:
        """Undo a take: nothing was sent."""
        self.in_flight -= 1
        self.ahead.waiting.appendleft(due)

    def ended(self) -> None:
        """A delivery that was taken is no longer in flight."""
        self.in_flight -= 1

    # ---- reading ahead ---------------------------------------------------------------------------

    def use(self) -> None:
        """Mark the lane as used now, so that it does not count as idle."""
        self.used_at = time.monotonic()

    @property
    def wants_nothing(self) -> bool:
        """Whether the subscription is paused or disabled by the lane's current settings."""
        return self.target.endpoint.status != "active" and not self.stale

    def wants(self) -> int:
        """The number of further deliveries that it can use."""
        waiting = len(self.ahead.waiting)
        if self.target.endpoint.status != "active":
            return 0
        if self.stale or self.breaker.open:
            return max(0, 1 - waiting)
        return READ_AHEAD - waiting

    @property
    def half_empty(self) -> bool:
        """Whether to read more now. A read of a few rows costs nearly as much as one of hundreds."""
        return not self.ahead.drained and self.wants() > len(self.ahead.waiting)

    # ---- settings --------------------------------------------------------------------------------

    def renew(self, target: Target) -> None:
        """Use new settings. After another URL or a set status, the endpoint's failures are forgotten.

        A failing endpoint is probed at once if the change asks for that. A cancelled delivery counts as a
        change too, but does not ask, because a probe costs another delivery an attempt.
        """
        before, after = self.target.endpoint, target.endpoint
        if (before.status, before.status_at, before.target_url) != (
            after.status,
            after.status_at,
            after.target_url,
        ):
            self.breaker = Breaker(None, None, None)
        elif before.changed_at != after.changed_at and after.asks_for_probe:
            self.breaker.try_at(after.changed_at)
        self.target = target
        self.renewed_at = time.monotonic()
        self.stale = False

    def close(self) -> list[Due]:
        """Send nothing more until `renew`. Drop and return the waiting deliveries; those in flight stay
        known."""
        self.stale = True
        return self.ahead.empty()

    def disable(self) -> None:
        """Send nothing more, even before the database has the subscription as disabled."""
        endpoint = msgspec.structs.replace(self.target.endpoint, status="disabled")
        self.target = msgspec.structs.replace(self.target, endpoint=endpoint)
