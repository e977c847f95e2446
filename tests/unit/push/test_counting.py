"""Which numbers of the statistics an attempt adds to."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest

from triggers.domain import AttemptOutcome
from triggers.push.counting import count
from triggers.push.store import Settlement
from triggers.statistics.tally import Tally

ORG, SUBSCRIPTION = UUID(int=1), UUID(int=2)
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def settlement(
    outcome: AttemptOutcome, *, sent: bool = True, attempts: int = 1, lag: float | None = 0.0
) -> Settlement:
    return Settlement(
        org_id=ORG,
        subscription_id=SUBSCRIPTION,
        event_id=UUID(int=3),
        generation=0,
        lane_group=0,
        read_attempts=attempts - 1,
        attempts=attempts,
        outcome=outcome,
        due_at=None,
        reason="",
        began_at=NOW,
        lag_seconds=lag,
        attempt_id=UUID(int=4) if sent else None,
    )


@pytest.mark.parametrize(
    ("outcome", "sent", "expected"),
    [
        (AttemptOutcome.DELIVERED, True, (1, 0, 0)),
        (AttemptOutcome.RETRY, True, (0, 1, 0)),
        (AttemptOutcome.RETRY, False, (0, 0, 0)),  # only takes back a count
        (AttemptOutcome.DEAD, True, (0, 1, 1)),
        (AttemptOutcome.DEAD, False, (0, 0, 1)),  # ended without a further attempt
    ],
)
def test_what_an_attempt_adds_to(outcome: AttemptOutcome, sent: bool, expected: tuple[int, int, int]) -> None:
    tally = Tally(lambda: 60_000.0)
    count(tally, [settlement(outcome, sent=sent)])
    counts = tally.counted()[ORG, SUBSCRIPTION]
    assert (counts.delivered, counts.failed, counts.dead) == expected
    assert sum(counts.lag) == sent


def test_only_a_first_attempt_has_a_lag() -> None:
    """A settlement has it, as `test_attempt.py` shows."""
    tally = Tally(lambda: 60_000.0)
    count(
        tally,
        [
            settlement(AttemptOutcome.RETRY, lag=0.001),
            settlement(AttemptOutcome.DELIVERED, lag=100.0),
            settlement(AttemptOutcome.DELIVERED, lag=None, attempts=2),
        ],
    )
    lag = tally.counted()[ORG, SUBSCRIPTION].lag
    assert (sum(lag), lag[0], lag[15]) == (2, 1, 1)
