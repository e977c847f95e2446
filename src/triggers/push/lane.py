"""A lane in the memory of its owner: what was read ahead, what is in flight, what may go now."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

import msgspec

from triggers.postgres.read_position import Position, ReadPosition, horizon
from triggers.push.breaker import Breaker
from triggers.push.retry import DEFAULT_SCHEDULE, Schedule
from triggers.push.signature import Signer
from triggers.push.store import Due, Endpoint
from triggers.subscriptions.rules import DEFAULT_CONCURRENCY

READ_AHEAD: Final = 1_000
"""Rows of one lane that wait in memory at most."""
Key = tuple[UUID, int]


class Target(NamedTuple):
    """An endpoint as attempts use it: secrets and headers in the clear, never logged."""

    endpoint: Endpoint
    signer: Signer
    headers: Sequence[tuple[str, str]]
    schedule: Schedule
    concurrency: int
    """How many attempts may be in flight at once; of notices one, which tells of all that wait."""
    ends_at: datetime | None
    """When one of its secrets may sign no more."""

    @classmethod
    def of(
        cls,
        endpoint: Endpoint,
        signer: Signer,
        headers: Sequence[tuple[str, str]],
        ends_at: datetime | None = None,
    ) -> Target:
        """With the subscription's own schedule, or the default one."""
        delays = DEFAULT_SCHEDULE.delays if endpoint.retry_delays is None else tuple(endpoint.retry_delays)
        schedule = Schedule(delays, endpoint.retry_deadline)
        concurrency = endpoint.max_concurrency or DEFAULT_CONCURRENCY
        if endpoint.notifies_inbox is not None:
            concurrency = 1
        return cls(endpoint, signer, headers, schedule, concurrency, ends_at)


class Lane:
    """One push subscription's line of due deliveries.

    `known` holds every delivery from its read until no read can return it any more: those that wait
    here, those in flight, and those whose settlement may be younger than a read under way.
    """

    __slots__ = (
        "after_key",
        "breaker",
        "drained",
        "group",
        "handed_over",
        "held",
        "id",
        "in_flight",
        "known",
        "next_send_at",
        "offered",
        "org_id",
        "position",
        "queue",
        "read_until",
        "renewed_at",
        "stale",
        "target",
        "timer",
        "used_at",
    )

    def __init__(self, target: Target) -> None:
        endpoint = target.endpoint
        self.id = (endpoint.org_id, endpoint.id)
        self.org_id = endpoint.org_id  # for shares
        self.group = endpoint.lane_group  # which owns it; a hash of its id
        self.target = target
        self.breaker = Breaker(endpoint.failing_since, endpoint.probe_at, endpoint.probe_delay)
        self.queue: deque[Due] = deque()
        self.known: dict[Key, datetime] = {}  # and when it was due
        self.in_flight = 0
        self.position = ReadPosition()
        self.after_key: str | None = None
        self.read_until = math.inf  # monotonic: when the last read of it ended, if none is under way
        self.renewed_at = time.monotonic()
        self.drained = False
        self.handed_over = False  # something that no read has returned yet
        self.next_send_at = 0.0  # monotonic: what the rate limit allows
        self.held = False  # its group is on probation, and another delivery of it is under way
        self.offered = False  # stands in the line for slots
        self.stale = False  # the subscription changed: its settings are to be read again
        self.timer: asyncio.TimerHandle | None = None  # while something holds it: when it is offered again
        self.used_at = time.monotonic()

    @property
    def ordered(self) -> bool:
        """Whether only the first of each key may go."""
        return self.target.endpoint.ordering == "key"

    def may_send(self, now: Callable[[], datetime]) -> bool:
        """Whether the next delivery may go now. Asked three times for each: seldom by the clock."""
        endpoint = self.target.endpoint
        return (
            bool(self.queue)
            and self.in_flight < self.target.concurrency
            and endpoint.status == "active"
            and not self.stale
            and not self.held
            and (endpoint.rate_limit is None or self.next_send_at <= time.monotonic())
            and (not self.breaker.open or self.breaker.may_send(now(), self.in_flight))
            and (endpoint.expires_at is None or endpoint.expires_at > now())
        )

    @property
    def paced(self) -> bool:
        """Whether a rate limit or an open breaker may hold it."""
        return self.target.endpoint.rate_limit is not None or self.breaker.open

    def wait_seconds(self, now: datetime) -> float | None:
        """In how many seconds a rate limit or a breaker may let the next one go; None if neither holds it."""
        if not self.queue:
            return None
        waits = []
        if (rate := self.next_send_at - time.monotonic()) > 0:
            waits.append(rate)
        if self.breaker.probe_at is not None and self.in_flight == 0:
            waits.append((self.breaker.probe_at - now).total_seconds())
        return max(0.0, *waits) if waits else None

    def take(self) -> Due:
        """The next delivery, from now on in flight."""
        self.in_flight += 1
        self.used_at = time.monotonic()
        if self.target.endpoint.rate_limit is not None:
            # Evenly spaced, with a tenth of a second's worth at once: timers are not finer than that.
            interval = 1 / self.target.endpoint.rate_limit
            self.next_send_at = max(self.next_send_at, time.monotonic() - 0.1) + interval
        return self.queue.popleft()

    def take_companions(self) -> list[Due]:
        """What one notice tells of beside the delivery that was taken: all that waits here."""
        if self.target.endpoint.notifies_inbox is None:
            return []
        companions = list(self.queue)
        self.queue.clear()
        return companions

    def counted(self, due: Due, due_again_at: datetime, now: datetime) -> None:
        """Note that the row counts an attempt of this one already, and when it is due again."""
        due.attempts += 1
        due.first_attempt_at = due.first_attempt_at or now
        self.known[due.key] = due_again_at

    def put_back(self, due: Due) -> None:
        """Undo a take: nothing was sent."""
        self.in_flight -= 1
        self.queue.appendleft(due)

    def renew(self, target: Target) -> None:
        """Go on with the settings as they are now; what was held against the endpoint is forgotten."""
        before, after = self.target.endpoint, target.endpoint
        if (before.status, before.target_url) != (after.status, after.target_url):
            self.breaker = Breaker(None, None, None)
        self.target = target
        self.renewed_at = time.monotonic()
        self.stale = False

    def disable(self) -> None:
        """Send nothing more, before the database says so too."""
        self.target = self.target._replace(
            endpoint=msgspec.structs.replace(self.target.endpoint, status="disabled")
        )

    @property
    def wants_nothing(self) -> bool:
        """Whether it is paused or disabled, until its settings are read again."""
        return self.target.endpoint.status != "active" and not self.stale

    def wants(self) -> int:
        """How many more rows it can use."""
        if self.target.endpoint.status != "active":
            return 0
        if self.stale or self.breaker.open:
            return max(0, 1 - len(self.queue))
        return READ_AHEAD - len(self.queue)

    @property
    def half_empty(self) -> bool:
        """Whether it is time to read on: a read of a few rows costs nearly as much as one of hundreds."""
        return not self.drained and self.wants() > len(self.queue)

    def add(self, dues: Sequence[Due]) -> None:
        """Take in what a read found."""
        for due in dues:
            self.known[due.key] = due.due_at
            self.queue.append(due)
        self.used_at = time.monotonic()

    def moved(self, last: Position, now: datetime, *, drained: bool) -> None:
        """Note how far a read has come: never nearer to now than an accept may take."""
        self.drained = drained
        self.position.note(horizon(now) if drained else last, now)

    def forget(self, key: Key) -> None:
        """No read can return this one as it was any more."""
        self.known.pop(key, None)

    def known_from(self, start: Position) -> int:
        """How many of those known a read from there may return once more."""
        return sum((due_at, event_id) >= start for (event_id, _), due_at in self.known.items())

    def empty(self) -> None:
        """Drop what waits here; it is read again. What is in flight stays known."""
        for due in self.queue:
            self.known.pop(due.key, None)
        self.queue.clear()
        self.position.start_over()
        self.after_key = None
