"""From where the next read of a queue begins."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

from triggers.postgres.read_position import BEGINNING, ReadPosition
from triggers.postgres.time_bounds import REREAD_SECONDS, VISIBLE_SECONDS

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
EVENT = UUID(int=1)
HORIZON = (NOW - timedelta(seconds=VISIBLE_SECONDS), UUID(int=0))
LONG_AGO = (NOW - timedelta(hours=1), EVENT)


def test_a_position_never_comes_nearer_to_now_than_a_commit_may_lag_behind() -> None:
    position = ReadPosition()
    assert position.start(100.0) == BEGINNING, "a new queue"
    position.note((NOW, EVENT), NOW)
    assert position.start(100.0) == HORIZON
    position.note(LONG_AGO, NOW)
    assert position.start(100.0) == LONG_AGO


def test_a_queue_is_read_from_its_beginning_now_and_then() -> None:
    position = ReadPosition()
    assert position.start(100.0) == BEGINNING
    position.note(LONG_AGO, NOW)
    assert position.start(100.0 + REREAD_SECONDS - 0.1) == LONG_AGO
    assert position.start(100.0 + REREAD_SECONDS, spare=False) == LONG_AGO, "not if time is short"
    assert position.start(100.0 + REREAD_SECONDS) == BEGINNING
    assert position.start(100.0 + REREAD_SECONDS) == LONG_AGO, "a position is not lost by that"


def test_starting_over_outlives_a_read_that_is_under_way() -> None:
    position = ReadPosition()
    position.start(100.0)
    position.start_over()
    position.note(LONG_AGO, NOW)  # of the read that had begun before
    assert position.start(100.0, spare=False) == BEGINNING
    assert position.start(100.0) == BEGINNING
    position.note(LONG_AGO, NOW)
    assert position.start(100.0) == LONG_AGO
