"""Counts attempts that were written, for the statistics."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from typing import assert_never
from uuid import UUID

from triggers.domain import AttemptOutcome
from triggers.push.store import Settlement
from triggers.statistics.lag import BOUNDS
from triggers.statistics.tally import Tally


def count(tally: Tally, written: Iterable[Settlement]) -> None:
    """Count the settlements of a batch, except those that only correct the number of attempts."""
    # This loop runs once for each delivery, so it avoids function calls.
    counted = tally.counted()
    last: UUID | None = None
    for each in written:
        if each.subscription_id is not last:  # those of one lane often follow each other
            last = each.subscription_id
            counts = counted[each.org_id, last]
        outcome, sent = each.outcome, each.attempt_id is not None
        if outcome is AttemptOutcome.DELIVERED:
            counts.delivered += 1
        elif outcome is AttemptOutcome.RETRY:
            counts.failed += sent
        elif outcome is AttemptOutcome.DEAD:
            counts.failed += sent
            counts.dead += 1
        else:
            assert_never(outcome)
        if sent and each.lag_seconds is not None:
            counts.lag[bisect_right(BOUNDS, each.lag_seconds)] += 1
