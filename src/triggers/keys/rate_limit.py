"""Limits the requests per minute by plan (GCRA). Nodes share the limits if there is a Redis.

An organisation may spend the quota of a minute at once, and the quota refills evenly. The state of an
organisation is one number, its theoretical arrival time: the time when its quota will be full again.
"""

from __future__ import annotations

import math
import time
from typing import NamedTuple
from uuid import UUID

from triggers.domain import Caller

WINDOW_SECONDS = 60.0


class Grant(NamedTuple):
    """The number of requests that are allowed, and the values of the headers."""

    granted: int
    quota: int
    remaining: int
    reset_seconds: int
    retry_after: int

    def headers(self) -> list[tuple[bytes, bytes]]:
        """`RateLimit` and `RateLimit-Policy`."""
        # With nothing left, when there is one more: Retry-After should not be earlier than `t`.
        seconds = self.reset_seconds if self.remaining else self.retry_after
        return [
            (b"ratelimit-policy", b'"plan";q=%d;w=%d' % (self.quota, WINDOW_SECONDS)),
            (b"ratelimit", b'"plan";r=%d;t=%d' % (self.remaining, seconds)),
        ]


class RateLimiter:
    """Limits of this process. `spent` holds what other nodes have not been told of yet."""

    def __init__(self) -> None:
        self._reach: dict[UUID, float] = {}
        self._interval: dict[UUID, float] = {}  # seconds until one request is refilled
        self.spent: dict[UUID, float] = {}

    def take(self, caller: Caller, cost: int = 1) -> Grant | None:
        """Spend up to `cost` requests; None for a plan without a limit."""
        quota = caller.requests_per_minute
        if quota is None:
            self._interval.pop(caller.org_id, None)
            return None
        now = time.monotonic()
        interval = self._interval[caller.org_id] = WINDOW_SECONDS / quota
        reach = max(self._reach.get(caller.org_id, 0.0), now)
        free = int((now + WINDOW_SECONDS - reach) / interval + 1e-9)
        granted = min(cost, max(free, 0))
        reach += granted * interval
        if granted:
            self._reach[caller.org_id] = reach
            self.spent[caller.org_id] = self.spent.get(caller.org_id, 0.0) + granted * interval
        wanted = 0 if granted < free else 1
        return Grant(
            granted=granted,
            quota=quota,
            remaining=max(free - granted, 0),
            reset_seconds=math.ceil(reach - now),
            retry_after=max(1, math.ceil(reach + wanted * interval - now - WINDOW_SECONDS)),
        )

    def charge(self, org_id: UUID, cost: int) -> None:
        """Spend `cost` more requests for something that was granted, even beyond the quota.

        Nothing more is granted until the excess is refilled too.
        """
        interval = self._interval.get(org_id)
        if interval is not None:  # else its plan has no limit
            reach = max(self._reach.get(org_id, 0.0), time.monotonic())
            self._reach[org_id] = reach + cost * interval
            self.spent[org_id] = self.spent.get(org_id, 0.0) + cost * interval

    def take_spent(self) -> dict[UUID, float]:
        """The quota spent since the last call, in seconds of refill time, for other nodes."""
        spent, self.spent = self.spent, {}
        return spent

    def learn(self, org_id: UUID, reach_seconds: float) -> None:
        """Note the time until which all nodes together have spent the quota."""
        shared = time.monotonic() + reach_seconds + self.spent.get(org_id, 0.0)
        self._reach[org_id] = max(self._reach.get(org_id, 0.0), shared)

    def forget(self) -> None:
        """Drop organisations whose quota is full again."""
        now = time.monotonic()
        for org_id in [org_id for org_id, reach in self._reach.items() if reach < now]:
            del self._reach[org_id]
