"""Who has fallen silent: by the observer's own good beats, whatever the age of a heartbeat."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from triggers.push.silence import Silence

OTHER, THIRD = UUID(int=1), UUID(int=2)
LONG_AGO = datetime(2026, 3, 1, tzinfo=UTC)
STANDS = {OTHER: LONG_AGO}


def watched(*beats: float | None) -> tuple[bool, bool]:
    """Whether the other, whose heartbeat stands still, is silent after beats at these seconds, of which None
    is one that failed; and whether the beats are unbroken."""
    silence = Silence(4.0, longest_gap_seconds=0.5)
    silent = unbroken = False
    for at in beats:
        if at is None:
            silence.beat_failed()
        else:
            found = silence.beat_succeeded(at, STANDS)
            silent, unbroken = OTHER in found.silent, found.unbroken
    return silent, unbroken


def steady(first: float, last: float, every: float = 0.25) -> list[float | None]:
    return [first + number * every for number in range(round((last - first) / every) + 1)]


@pytest.mark.parametrize(
    ("beats", "expected"),
    [
        ([0.0], (False, False)),
        (steady(0, 3.75), (False, False)),
        (steady(0, 4), (True, True)),
        # An outage: what passes between a failed beat and the next good one counts for nothing.
        ([*steady(0, 0.5), None, 8.5], (False, False)),
        ([*steady(0, 3), None, None, *steady(11, 11.75)], (False, False)),
        # Stood still for four observed seconds, three of them before: dead, but not for a probation.
        ([*steady(0, 3), None, *steady(11, 12)], (True, False)),
        ([*steady(0, 3), None, *steady(11, 15)], (True, True)),
        # The observer, or the database, stood still without a failure: a long gap counts for half a second.
        ([0.0, 60.0], (False, False)),
        ([0.0, 60.0, *steady(60.25, 63.25)], (False, False)),
        ([0.0, 60.0, *steady(60.25, 63.5)], (True, True)),
        # A slow database: each beat takes longer than it should.
        (steady(0, 4, every=0.5), (True, True)),
        (steady(0, 7, every=1.0), (False, False)),
        (steady(0, 8, every=1.0), (True, True)),
    ],
)
def test_a_heartbeat_that_stands_still(beats: list[float | None], expected: tuple[bool, bool]) -> None:
    assert watched(*beats) == expected


def test_one_that_moves_is_never_silent() -> None:
    silence = Silence(4.0, longest_gap_seconds=0.5)
    for number in range(100):
        beat = LONG_AGO + timedelta(seconds=number // 15)  # moves every 3.75 s, and is long ago at that
        found = silence.beat_succeeded(number / 4, {OTHER: beat, THIRD: LONG_AGO})
        assert OTHER not in found.silent
    assert found.silent == {THIRD: LONG_AGO}


def test_one_that_goes_back_has_moved() -> None:
    """A database that was restored: what it says is another thing than was seen, so somebody wrote it."""
    silence = Silence(4.0, longest_gap_seconds=0.5)
    for number in range(17):
        found = silence.beat_succeeded(number / 4, {OTHER: LONG_AGO - timedelta(seconds=number)})
    assert found.silent == {}


def test_one_that_is_gone_and_comes_again_begins_anew() -> None:
    silence = Silence(4.0, longest_gap_seconds=0.5)
    assert watched(*steady(0, 4)) == (True, True)
    for number in range(15):
        silence.beat_succeeded(number / 4, STANDS)
    silence.beat_succeeded(3.75, {})
    assert silence.beat_succeeded(4.0, STANDS).silent == {}
