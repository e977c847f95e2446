"""The last attempts of a subscription in words."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from triggers.console.last_attempts import last_success, met_with, tell_times, tell_waiting
from triggers.console.story import plain
from triggers.deliveries.body import AttemptView
from triggers.deliveries.overview_routes import UndeliveredView
from triggers.domain import AttemptOutcome, rfc3339

AT = rfc3339(datetime(2026, 7, 1, 9, tzinfo=UTC))
EARLIER = rfc3339(datetime(2026, 7, 1, 8, tzinfo=UTC))


def attempt(**changed: Any) -> AttemptView:
    members = {
        "id": UUID(int=1),
        "event_id": UUID(int=2),
        "subscription_id": UUID(int=3),
        "generation": 0,
        "attempt": 1,
        "began_at": AT,
        "duration_ms": 50,
        "outcome": AttemptOutcome.RETRY,
        "reason": "unavailable",
        "status_code": 503,
        "response": None,
        "retry_at": None,
    }
    return AttemptView(**members | changed)


def group(**changed: Any) -> UndeliveredView:
    members = dict.fromkeys(UndeliveredView.__struct_fields__)
    return UndeliveredView(**members | {"pending": 159, "pending_exact": True} | changed)


@pytest.mark.parametrize(
    ("response", "met"),
    [
        (None, "503"),
        (" \n", "503"),
        ("ledger is being migrated.\nsecond line", "503: ledger is being migrated"),
        ("x" * 500, "503: " + "x" * 120 + "…"),
    ],
)
def test_a_failure_with_the_first_line_of_its_answer(response: str | None, met: str) -> None:
    assert met_with(attempt(response=response)) == met


def test_an_attempt_without_an_answer_is_told_in_words_only() -> None:
    failed = attempt(status_code=None, reason="connect", response="[Errno 111]")
    assert met_with(failed) == "connection refused"
    assert tell_times([failed]) == ""


def test_what_waits_and_why() -> None:
    failed = attempt(response="ledger is being migrated")
    told = " 159 deliveries wait. The last attempt failed with 503: ledger is being migrated."
    assert plain(tell_waiting(group(), [failed])) == told
    arrived = attempt(outcome=AttemptOutcome.DELIVERED)
    assert plain(tell_waiting(group(pending=1), [arrived, failed])) == " 1 delivery waits."
    assert plain(tell_waiting(group(pending=1_000, pending_exact=False), [])) == " 1,000+ deliveries wait."
    assert tell_waiting(None, []) == []


def test_times_of_answers() -> None:
    tried = [attempt(duration_ms=each) for each in (40, 50, 1_200)]
    no_answer = attempt(status_code=None, duration_ms=20_000)
    assert tell_times([*tried, no_answer]) == (
        "The endpoint answers in 50 ms (median of the last 3 answers). The slowest answer took 1.2 s."
    )
    assert tell_times(tried[:1]) == "The last answer took 40 ms."


def test_an_attempt_that_arrived_is_known_before_the_subscription_says_so() -> None:
    arrived = attempt(outcome=AttemptOutcome.DELIVERED)
    assert last_success(EARLIER, [attempt(), arrived]) == AT
    assert last_success(None, [arrived]) == AT
    assert last_success(AT, [attempt()]) == AT
    assert last_success(None, []) is None
