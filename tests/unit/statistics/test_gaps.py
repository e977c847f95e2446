"""Times without numbers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from triggers.statistics.gaps import gaps

MINUTE = timedelta(minutes=1)
SINCE = datetime(2026, 3, 9, 13, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ("", []),
        ("#", []),
        ("##########", []),
        ("##..######", []),  # a restart
        ("##...#####", [(2, 5)]),
        ("...#######", [(0, 3)]),
        ("##...#....##", [(2, 5), (6, 10)]),
        ("#####.....", [(5, 9)]),  # its last step ended just now
        ("########..", []),
        ("..........", [(0, 9)]),
    ],
)
def test_minutes(steps: str, expected: list[tuple[int, int]]) -> None:
    """`#` is a step with numbers."""
    moments = [SINCE + MINUTE * place for place in range(len(steps))]
    known = {moment for moment, step in zip(moments, steps, strict=True) if step == "#"}
    found = gaps(SINCE, MINUTE, known, SINCE + MINUTE * len(steps))
    assert found == [(SINCE + MINUTE * since, SINCE + MINUTE * until) for since, until in expected]


def test_longer_steps() -> None:
    hour = timedelta(hours=1)
    known = {SINCE, SINCE + 2 * hour}
    assert gaps(SINCE, hour, known, SINCE + 3 * hour + MINUTE) == [(SINCE + hour, SINCE + 2 * hour)]
