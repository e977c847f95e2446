"""What needs attention, as a table."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from triggers.console.attention import Facts, growth, matters, tell_overview
from triggers.domain import rfc3339

NOW = datetime(2026, 3, 9, 14, 28, 10, tzinfo=UTC)


def ago(minutes: float) -> str:
    return rfc3339(NOW - timedelta(minutes=minutes))


def subscription(name: str = "billing", **values: Any) -> Any:
    facts = {
        "id": UUID(int=7),
        "name": name,
        "key": None,
        "target_url": "https://example.com/",
        "target_url_unicode": None,
        "status": "active",
        "status_reason": None,
        "status_at": ago(60),
        "failing_since": None,
        "oldest_pending": None,
        "next_attempt": None,
    }
    return SimpleNamespace(**{**facts, **values})


def hour(backlogs: tuple[int | None, ...] = (), **totals: Any) -> Any:
    numbers = {"accepted": 5, "delivered": 5, "failed": 0, "dead": 0, "lag_p95_seconds": 0.1}
    points = [SimpleNamespace(backlog=backlog) for backlog in backlogs]
    return SimpleNamespace(range="1h", points=points, totals=SimpleNamespace(**{**numbers, **totals}))


def told(**facts: Any) -> list[str]:
    given = {"failing": [], "disabled": [], "paused": [], "some": [], "hour": hour(), **facts}
    found = matters(Facts(**given), NOW)
    return [f"{each.state}: {''.join(piece.text for piece in each.pieces)}" for each in found]


FAILING = subscription(failing_since=ago(6), oldest_pending=ago(7))
DISABLED = subscription("ERP", status="disabled", status_at=ago(120), status_reason="no success for 5 days")


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({}, []),
        (
            {"failing": [FAILING]},
            ["failed: billing has been failing for 6 min. Its oldest undelivered event is 7 min old."],
        ),
        ({"failing": [subscription(failing_since=ago(1))]}, ["failed: billing has been failing for 1 min."]),
        ({"disabled": [DISABLED]}, ["stopped: ERP was disabled 2 h ago: no success for 5 days."]),
        ({"disabled": [subscription(status="disabled", status_at=ago(15 * 1440))]}, []),
        (
            {"paused": [subscription(status="paused", oldest_pending=ago(8)), subscription(status="paused")]},
            ["stopped: billing is paused, and events wait for it. The oldest is 8 min old."],
        ),
        (
            {"disabled": [DISABLED], "hour": hour((10,) * 20 + (200,) * 20), "failing": [FAILING]},
            [
                "failed: billing has been failing for 6 min. Its oldest undelivered event is 7 min old.",
                "waiting: The backlog grew from 10 to 200 deliveries in the last hour"
                " (medians of its first and its last third).",
                "stopped: ERP was disabled 2 h ago: no success for 5 days.",
            ],
        ),
        (
            {"hour": hour((10,) * 20 + (100_000,) * 20)},
            [
                "waiting: The backlog grew from 10 to at least 100,000 deliveries in the last hour"
                " (medians of its first and its last third)."
            ],
        ),
        (
            {"hour": hour(delivered=0, failed=1)},
            ["failed: Nothing was delivered in the last hour: the only attempt failed."],
        ),
        (
            {"hour": hour(delivered=0, failed=1_200, dead=2)},
            [
                "failed: Nothing was delivered in the last hour: all 1,200 attempts failed.",
                "failed: 2 deliveries became dead letters in the last hour."
                " Undelivered lists those not sent again.",
            ],
        ),
        ({"hour": hour(delivered=0)}, []),  # nothing was due
        (
            {"hour": hour(delivered=0), "some": [subscription(next_attempt=ago(5))]},
            [
                "failed: No attempt was made in the last hour, although deliveries are due. Check that a"
                " worker runs."
            ],
        ),
        ({"hour": hour(), "some": [subscription(next_attempt=ago(5))]}, []),  # it is only slow
        (
            {"hour": hour(lag_p95_seconds=12.0)},
            [
                "waiting: First attempts begin late: 1 of 20 began 12 s or longer after its event was"
                " accepted."
            ],
        ),
    ],
)
def test_matters(facts: dict[str, Any], expected: list[str]) -> None:
    assert told(**facts) == expected


def test_many_are_counted_and_the_longest_failure_comes_first() -> None:
    failing = [subscription(f"s{number}", failing_since=ago(number)) for number in range(1, 9)]
    found = told(failing=failing, disabled=[DISABLED] * 6)
    assert found[0] == "failed: s8 has been failing for 8 min."
    assert found[5] == "failed: 3 others are failing too."
    assert found[-1] == "stopped: 1 other is disabled too."
    assert len(found) == 12


@pytest.mark.parametrize(
    ("backlogs", "expected"),
    [
        ([], None),
        ([0] * 10 + [500], None),  # too few samples
        ([10] * 20, None),
        ([0] * 10 + [90] * 10, None),  # few
        ([0] * 10 + [200] * 10, (0, 200)),
        ([1_000] * 10 + [1_400] * 10, None),
        ([500] * 10 + [10] * 10, None),  # it shrank
    ],
)
def test_growth(backlogs: list[int], expected: tuple[int, int] | None) -> None:
    assert growth(backlogs) == expected


def test_the_first_sentences() -> None:
    found = matters(Facts(failing=[FAILING], disabled=[], paused=[], some=[], hour=hour()), NOW)
    text = "".join(piece.text for piece in tell_overview(found, hour(accepted=1, delivered=2_000)))
    assert text == (
        "1 thing needs attention. In the last hour, 1 event was accepted and 2,000 push deliveries arrived."
    )
    text = "".join(piece.text for piece in tell_overview([], hour()))
    assert text.startswith("Nothing needs attention.")
