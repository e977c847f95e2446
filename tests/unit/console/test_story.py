"""What became of an event, in sentences."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from triggers.console.story import Standing, State, plain, tell, worst_first

NOW = datetime(2026, 3, 9, 14, 28, 10, tzinfo=UTC)
SOON = NOW + timedelta(minutes=4)


def push(name: str = "billing", **facts: Any) -> Standing:
    known: dict[str, Any] = {"host": "api.example.com", "accepted_at": NOW - timedelta(minutes=6)}
    return Standing(name=name, **{"status": "delivered", **known, **facts})


def inbox(**facts: Any) -> Standing:
    return push("orders", kind="inbox", **{"host": None, **facts})


ARRIVED = push("audit", settled_at=NOW - timedelta(minutes=6) + timedelta(milliseconds=84))
FAILING = push(
    status="pending",
    attempts=4,
    most_attempts=9,
    failed_with="503",
    waiting_for="retry_time",
    next_at=SOON,
)

CASES = {
    "nothing": ([], "Nothing is delivered: no subscription and no inbox matched this event."),
    "one arrived": ([ARRIVED], "Delivered to audit in 84 ms."),
    "all arrived": ([ARRIVED, push("crm"), push("erp")], "Delivered to all 3."),
    "one failing": (
        [ARRIVED, push("crm"), FAILING],
        "Delivered to 2 of 3. billing is failing: 503 from api.example.com, attempt 4 of 9. The next"
        " attempt is in 4 min (14:32:10).",
    ),
    "only one, failing": (
        [FAILING],
        "billing is failing: 503 from api.example.com, attempt 4 of 9. The next"
        " attempt is in 4 min (14:32:10).",
    ),
    "failing, with the answer": (
        [push(status="pending", attempts=1, failed_with="503", answer="in maintenance", next_at=SOON)],
        "billing is failing: 503 from api.example.com (“in maintenance”), attempt 1. The next attempt is in"
        " 4 min (14:32:10).",
    ),
    "a failure that the key may not see": (
        [push(status="pending", attempts=3, waiting_for="retry_time", next_at=SOON)],
        "billing is failing: attempt 3. The next attempt is in 4 min (14:32:10).",
    ),
    "both arrived": ([ARRIVED, push("crm")], "Delivered to both."),
    "another day": (
        [push(status="pending", attempts=1, failed_with="503", next_at=NOW + timedelta(hours=12))],
        "billing is failing: 503 from api.example.com, attempt 1. The next attempt is in 12 h"
        " (2026-03-10 02:28:10).",
    ),
    "due": (
        [push(status="pending", attempts=1, failed_with="503", waiting_for="its_turn", next_at=NOW)],
        "billing is failing: 503 from api.example.com, attempt 1. The next attempt follows at once.",
    ),
    "probe": (
        [push(status="pending", waiting_for="failing_endpoint", next_at=SOON)],
        "billing is failing, so this event waits. The next probe is in 4 min (14:32:10).",
    ),
    "behind its key": (
        [push(status="pending", waiting_for="earlier_of_its_key")],
        "billing waits until an earlier event of the same key is settled.",
    ),
    "failed, then behind its key": (
        [push(status="pending", attempts=2, failed_with="500", waiting_for="earlier_of_its_key")],
        "billing is failing: 500 from api.example.com, attempt 2. An earlier event of the same key is"
        " sent first.",
    ),
    "first attempt": (
        [push(status="pending", waiting_for="its_turn", next_at=NOW)],
        "The first attempt for billing has not begun yet.",
    ),
    "paused": (
        [push(status="pending", waiting_for="subscription_paused")],
        "billing is paused, so nothing is sent to it.",
    ),
    "paused after a failure": (
        [push(status="pending", attempts=1, failed_with="503", waiting_for="subscription_paused")],
        "billing is paused, so nothing is sent to it. The last attempt failed: 503 from api.example.com.",
    ),
    "given up": (
        [push(status="dead", attempts=9, failed_with="no answer in time")],
        "The delivery to billing failed after 9 attempts: no answer in time (api.example.com).",
    ),
    "given up at once": (
        [push(status="dead", attempts=1, failed_with="410", host=None)],
        "The delivery to billing failed after 1 attempt: 410 from its endpoint.",
    ),
    "cancelled": (
        [push(status="cancelled", reason="cancelled by request")],
        "The delivery to billing was cancelled: cancelled by request.",
    ),
    "more than are named": (
        [push(str(number), status="dead", attempts=1, failed_with="500") for number in range(5)],
        "Delivered to 0 of 5."
        " The delivery to 0 failed after 1 attempt: 500 from api.example.com."
        " The delivery to 1 failed after 1 attempt: 500 from api.example.com."
        " The delivery to 2 failed after 1 attempt: 500 from api.example.com."
        " 2 others have not arrived either.",
    ),
    "inbox": ([inbox(status="pending", waiting_for="consumer")], "orders keeps it for a consumer."),
    "inbox, leased": ([inbox(status="leased")], "A consumer of orders holds it now."),
    "inbox, done": ([inbox(status="acknowledged")], "A consumer of orders acknowledged it."),
    "inbox, expired": ([inbox(status="expired")], "It expired in orders before a consumer acknowledged it."),
    "inbox, delayed": (
        [inbox(status="pending", waiting_for="delay", next_at=SOON)],
        "Consumers of orders can lease it in 4 min (14:32:10).",
    ),
    "both": (
        [ARRIVED, inbox(status="pending", waiting_for="consumer")],
        "Delivered to audit in 84 ms. orders keeps it for a consumer.",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_sentences(case: str) -> None:
    standings, said = CASES[case]
    assert plain(tell(standings, NOW)) == said


def test_the_worst_comes_first() -> None:
    dead = push("dead", status="dead")
    paused = push("paused", status="pending", waiting_for="subscription_paused")
    waiting = push("waiting", status="pending", waiting_for="its_turn")
    stopped = push("stopped", status="cancelled")
    found = worst_first([ARRIVED, stopped, waiting, paused, FAILING, dead])
    assert [each.name for each in found] == ["dead", "billing", "paused", "waiting", "stopped", "audit"]


@pytest.mark.parametrize(
    ("status", "waiting_for", "state", "word"),
    [
        ("delivered", None, State.ARRIVED, "Delivered"),
        ("pending", "retry_time", State.WAITING, "Waiting"),
        ("pending", "subscription_paused", State.STOPPED, "Paused"),
        ("dead", None, State.FAILED, "Failed"),
        ("expired", None, State.FAILED, "Expired"),
        ("cancelled", None, State.STOPPED, "Cancelled"),
    ],
)
def test_every_status_has_a_state_and_a_word(
    status: str, waiting_for: str | None, state: State, word: str
) -> None:
    standing = push(status=status, waiting_for=waiting_for)
    assert (standing.state, standing.word) == (state, word)
