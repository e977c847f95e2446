"""A lane in memory: what may go now, what is wanted, and where reading begins."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from triggers.outbound.result import Reason
from triggers.postgres.read_position import BEGINNING
from triggers.push.lane import (
    READ_AHEAD,
    Lane,
)

from .test_dispatcher import make_due, make_lane

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def lane_of(waiting: int = 3, **settings: object) -> Lane:
    return make_lane(uuid4(), waiting, **settings)


@pytest.mark.parametrize(
    ("settings", "may"),
    [
        ({}, True),
        ({"status": "paused"}, False),
        ({"status": "disabled"}, False),
        ({"status": "deleting"}, False),
        ({"expires_at": NOW + SECOND}, True),
        ({"expires_at": NOW}, False),
        ({"probe_at": NOW + SECOND, "probe_delay": 1.0}, False),
        ({"probe_at": NOW, "probe_delay": 1.0}, True),
    ],
)
def test_may_send(settings: dict[str, object], may: bool) -> None:
    assert lane_of(**settings).may_send(lambda: NOW) is may


def test_nothing_waits_nothing_goes() -> None:
    assert not lane_of(0).may_send(lambda: NOW)


def test_a_stale_or_disabled_lane_sends_nothing() -> None:
    lane = lane_of()
    lane.stale = True
    assert not lane.may_send(lambda: NOW)
    lane.renew(lane.target)
    assert lane.may_send(lambda: NOW)
    lane.disable()
    assert not lane.may_send(lambda: NOW)
    assert lane.wants() == 0


def test_concurrency() -> None:
    lane = lane_of(5, max_concurrency=2)
    lane.take()
    assert lane.may_send(lambda: NOW)
    due = lane.take()
    assert not lane.may_send(lambda: NOW)
    lane.put_back(due)
    assert lane.may_send(lambda: NOW)
    assert lane.take() is due


def test_a_rate_limit_spaces_evenly() -> None:
    lane = lane_of(5, rate_limit=0.5)
    assert lane.wait_seconds(NOW) is None
    lane.take()
    assert not lane.may_send(lambda: NOW)
    wait = lane.wait_seconds(NOW)
    assert wait is not None
    assert 1.8 < wait <= 2


def test_what_is_known_until_forgotten() -> None:
    lane = lane_of(3)
    first = lane.take()
    assert first.key in lane.ahead.known
    lane.ahead.empty()
    assert set(lane.ahead.known) == {first.key}, "what is in flight stays known"
    assert lane.ahead.waiting.maxlen is None
    lane.ahead.forget(first.key)
    lane.ahead.forget(first.key)
    assert not lane.ahead.known


def test_what_a_read_may_return_once_more() -> None:
    lane = lane_of(0)
    dues = sorted([make_due(*lane.id) for _ in range(3)], key=lambda due: due.event_id)
    for due, seconds in zip(dues, (0, 1, 1), strict=True):
        due.due_at = NOW + seconds * SECOND
    lane.ahead.add(dues)
    assert lane.ahead.known_from(BEGINNING) == 3
    assert [lane.ahead.known_from(due.position) for due in dues] == [3, 2, 1]
    assert lane.ahead.known_from((NOW + 2 * SECOND, UUID(int=0))) == 0


def test_wants() -> None:
    lane = lane_of(10)
    assert lane.wants() == READ_AHEAD - 10
    for _ in range(20):
        lane.breaker.failed(NOW, Reason.TIMEOUT)
    assert lane.wants() == 0, "while only probes go, one that waits is enough"
    lane.ahead.waiting.clear()
    assert lane.wants() == 1
    assert lane_of(status="paused").wants() == 0


@pytest.mark.parametrize(
    ("waiting", "drained", "half_empty"),
    [(0, False, True), (499, False, True), (500, False, False), (936, False, False), (0, True, False)],
)
def test_a_lane_is_read_on_when_it_is_half_empty(waiting: int, drained: bool, half_empty: bool) -> None:
    """Not whenever something was sent: a read of a few rows costs nearly as much as one of hundreds."""
    lane = make_lane(uuid4(), waiting)
    lane.ahead.drained = drained
    assert lane.half_empty is half_empty
