"""A lane in the memory of its owner: what may go now, and what holds it."""

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
"""Deliveries of one lane that wait in memory at most."""
BURST_SECONDS: Final = 0.1
"""So much of a rate limit may be sent at once: timers are not finer than that."""


class Lane:
    """One push subscription's line of due deliveries, `ahead` of which are in memory.

    Its settings:  current ── close() ──▶ stale: nothing is sent ── renew() ──▶ current

    The next delivery may go if something waits, the settings are current and active, a slot of its
    concurrency is free, and none of these holds it: the rate limit, an open breaker, or the probation of
    its group, on which one delivery of the whole group is sent at a time.
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
        """Whether only the first of each key may go."""
        return self.target.endpoint.ordering == "key"

    @property
    def paced(self) -> bool:
        """Whether a rate limit or an open breaker may hold it."""
        return self.target.endpoint.rate_limit is not None or self.breaker.open

    def may_send(self, now: Callable[[], datetime]) -> bool:
        """Whether the next delivery may go now. Asked three times for each, so the clock is read seldom."""
        endpoint = self.target.endpoint
        return (
            bool(self.ahead.waiting)
            and self.in_flight < self.target.concurrency
            and endpoint.status == "active"
            and not self.stale
            and not self.on_probation
            and (endpoint.rate_limit is None or self._next_send_at <= time.monotonic())
            and (not self.breaker.open or self.breaker.may_send(now(), self.in_flight))
            and (endpoint.expires_at is None or endpoint.expires_at > now())
        )

    def wait_seconds(self, now: datetime) -> float | None:
        """In how many seconds the rate limit or the breaker may let the next one go; None if neither holds
        it."""
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
        """What it waited for in its group is over."""
        self.on_probation = False

    def take(self) -> Due:
        """The next delivery, from now on in flight."""
        self.in_flight += 1
        self.used_at = moment = time.monotonic()
        if (rate_limit := self.target.endpoint.rate_limit) is not None:
            self._next_send_at = max(self._next_send_at, moment - BURST_SECONDS) + 1 / rate_limit
        return self.ahead.waiting.popleft()

    def take_companions(self) -> list[Due]:
        """What one notice tells of beside the delivery that was taken: all that waits here."""
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
        """It is of use now, so it is not idle."""
        self.used_at = time.monotonic()

    @property
    def wants_nothing(self) -> bool:
        """Whether it is paused or disabled, until its settings are read again."""
        return self.target.endpoint.status != "active" and not self.stale

    def wants(self) -> int:
        """How many more deliveries it can use."""
        waiting = len(self.ahead.waiting)
        if self.target.endpoint.status != "active":
            return 0
        if self.stale or self.breaker.open:
            return max(0, 1 - waiting)
        return READ_AHEAD - waiting

    @property
    def half_empty(self) -> bool:
        """Whether it is time to read on: a read of a few rows costs nearly as much as one of hundreds."""
        return not self.ahead.drained and self.wants() > len(self.ahead.waiting)

    # ---- settings --------------------------------------------------------------------------------

    def renew(self, target: Target) -> None:
        """Go on with the settings as they are now; what was held against the endpoint is forgotten."""
        before, after = self.target.endpoint, target.endpoint
        if (before.status, before.target_url) != (after.status, after.target_url):
            self.breaker = Breaker(None, None, None)
        self.target = target
        self.renewed_at = time.monotonic()
        self.stale = False

    def close(self) -> list[Due]:
        """Send nothing more until `renew`, and drop what waits; remember what is in flight. Returns what was
        dropped."""
        self.stale = True
        return self.ahead.empty()

    def disable(self) -> None:
        """Send nothing more, before the database says so too."""
        endpoint = msgspec.structs.replace(self.target.endpoint, status="disabled")
        self.target = self.target._replace(endpoint=endpoint)
