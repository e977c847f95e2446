"""An endpoint with everything that an attempt needs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from triggers.push.prepared import GENERATION_HEADER, SUBSCRIPTION_HEADER
from triggers.push.retry import DEFAULT_SCHEDULE, Schedule
from triggers.push.signature import Signer
from triggers.push.store import Endpoint
from triggers.subscriptions.rules import DEFAULT_CONCURRENCY


class Target(msgspec.Struct, frozen=True, gc=False):
    """An endpoint with its secrets and headers in the clear: never logged."""

    endpoint: Endpoint
    signer: Signer
    headers: Sequence[tuple[str, str]]
    """The headers that are the same in every request: those that the subscription asks for, and its id."""
    schedule: Schedule
    concurrency: int
    """Maximum number of attempts in flight. For notices it is 1, because a notice covers all that wait."""
    reuses_connections: bool
    """Whether the first attempt of a delivery may use a connection of an earlier request. Every other attempt
    gets a new one, so a stale connection costs a delivery at most one attempt, and never its last one."""
    ends_at: datetime | None
    """The time when the first of its secrets must stop signing, if any."""

    @classmethod
    def of(
        cls,
        endpoint: Endpoint,
        signer: Signer,
        headers: Sequence[tuple[str, str]],
        ends_at: datetime | None = None,
    ) -> Target:
        """Make a target, with the subscription's own schedule or the default one."""
        delays = DEFAULT_SCHEDULE.delays if endpoint.retry_delays is None else tuple(endpoint.retry_delays)
        schedule = Schedule(delays, endpoint.retry_deadline)
        concurrency = endpoint.max_concurrency or DEFAULT_CONCURRENCY
        if endpoint.notifies_inbox is not None:
            concurrency = 1
        # Subscriptions of earlier versions may have their own headers with these names.
        sent = [each for each in headers if each[0].lower() not in (SUBSCRIPTION_HEADER, GENERATION_HEADER)]
        sent.append((SUBSCRIPTION_HEADER, str(endpoint.id)))
        return cls(endpoint, signer, sent, schedule, concurrency, schedule.has_retry, ends_at)
