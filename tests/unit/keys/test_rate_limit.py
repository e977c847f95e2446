"""The smooth limit as a table: what is asked for at what second, and what is granted."""

from __future__ import annotations

import math
import time
import uuid
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triggers.domain import Caller, KeyId, OrgId, Plan
from triggers.keys import rate_limit
from triggers.keys.rate_limit import RateLimiter


def caller(quota: int | None, org_id: uuid.UUID | None = None) -> Caller:
    return Caller(
        org_id=OrgId(org_id or uuid.uuid4()),
        org_name="o",
        plan=Plan.ENTERPRISE,
        requests_per_minute=quota,
        key_id=KeyId(uuid.uuid4()),
        key_prefix="zap_test_abc",
        scopes=frozenset(),
        expires_at=0.0,
    )


class Clock:
    """In the place of the module `time`."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.wall_is_off = 0.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return 1_700_000_000.0 + self.now + self.wall_is_off


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    stopped = Clock()
    monkeypatch.setattr(rate_limit, "time", stopped)
    return stopped


# seconds since the start, cost -> granted, remaining, seconds until whole again, retry after
STEPS = [
    (0, 1, 1, 59, 1, 1),
    (0, 59, 59, 0, 60, 1),
    (0, 1, 0, 0, 60, 1),
    (0.5, 1, 0, 0, 60, 1),
    (1.0, 1, 1, 0, 60, 1),
    (1.5, 1, 0, 0, 60, 1),
    (11, 100, 10, 0, 60, 1),
    (11, 30, 0, 0, 60, 1),
    (31, 5, 5, 15, 45, 1),
    (100, 60, 60, 0, 60, 1),
    (1000, 61, 60, 0, 60, 1),
]


def test_a_minutes_quota_at_once_and_then_evenly(clock: Clock) -> None:
    limiter = RateLimiter()
    who = caller(60)
    began = clock.now
    for at, cost, granted, remaining, whole, retry in STEPS:
        clock.now = began + at
        grant = limiter.take(who, cost)
        assert grant is not None
        assert (grant.granted, grant.remaining, grant.reset_seconds, grant.retry_after) == (
            granted,
            remaining,
            whole,
            retry,
        ), (at, cost)
        assert grant.quota == 60
    assert grant.headers() == [
        (b"ratelimit-policy", b'"plan";q=60;w=60'),
        (b"ratelimit", b'"plan";r=0;t=1'),
    ]


def test_with_nothing_left_both_headers_say_when_there_is_one_more(clock: Clock) -> None:
    for quota in (1, 7, 60, 1_000):
        limiter, who = RateLimiter(), caller(quota)
        for cost in (quota, 1, 5):  # the last that was granted, and two that were not
            grant = limiter.take(who, cost)
            assert grant is not None
            assert grant.retry_after == math.ceil(60 / quota)
            assert grant.headers()[1] == (b"ratelimit", b'"plan";r=0;t=%d' % grant.retry_after)


def test_retry_after_is_when_one_more_is_granted(clock: Clock) -> None:
    for quota in (1, 2, 7, 100):
        limiter, who = RateLimiter(), caller(quota)
        assert limiter.take(who, quota).granted == quota  # type: ignore[union-attr]
        refused = limiter.take(who)
        assert refused is not None
        assert refused.granted == 0
        clock.now += refused.retry_after - 1
        if refused.retry_after > 1:
            assert limiter.take(who).granted == 0  # type: ignore[union-attr]
        clock.now += 1
        assert limiter.take(who).granted == 1  # type: ignore[union-attr]


@pytest.mark.parametrize("hours", [-1, 1])
def test_setting_the_clock_neither_takes_nor_gives(clock: Clock, hours: int) -> None:
    limiter, who = RateLimiter(), caller(60)
    assert limiter.take(who, 60).granted == 60  # type: ignore[union-attr]
    clock.wall_is_off = hours * 3600
    assert limiter.take(who).granted == 0  # type: ignore[union-attr]
    clock.now += 10
    assert limiter.take(who, 60).granted == 10  # type: ignore[union-attr]


def test_no_limit_is_no_bookkeeping() -> None:
    limiter = RateLimiter()
    assert limiter.take(caller(None), 1_000_000) is None
    assert limiter.take_spent() == {}


def test_organisations_are_apart(clock: Clock) -> None:
    limiter = RateLimiter()
    first, second = caller(5), caller(5)
    assert limiter.take(first, 9).granted == 5  # type: ignore[union-attr]
    assert limiter.take(second, 9).granted == 5  # type: ignore[union-attr]


@settings(max_examples=100)
@given(st.integers(1, 300), st.lists(st.tuples(st.floats(0, 5), st.integers(1, 40)), max_size=40))
def test_never_more_than_the_burst_and_what_came_back(quota: int, asked: list[tuple[float, int]]) -> None:
    clock = Clock()
    limiter, who = RateLimiter(), caller(quota)
    began, granted = clock.now, 0
    original, rate_limit.time = rate_limit.time, clock  # type: ignore[assignment]
    try:
        for pause, cost in asked:
            clock.now += pause
            grant = limiter.take(who, cost)
            assert grant is not None
            assert 0 <= grant.granted <= cost
            granted += grant.granted
            assert granted <= quota + (clock.now - began) * quota / 60 + 1e-6
            assert 0 <= grant.remaining <= quota
            assert 0 <= grant.reset_seconds <= 61
    finally:
        rate_limit.time = original


def test_what_is_charged_afterwards_may_exceed_the_quota(clock: Clock) -> None:
    """Nothing is granted until the excess is refilled too. One request is refilled each second."""
    limiter, who = RateLimiter(), caller(60)
    assert limiter.take(who, 10).granted == 10  # type: ignore[union-attr]
    limiter.charge(who.org_id, 80)
    grant = limiter.take(who)
    assert grant is not None
    assert (grant.granted, grant.remaining, grant.retry_after) == (0, 0, 31)
    clock.now += 30
    assert limiter.take(who).granted == 0  # type: ignore[union-attr]
    clock.now += 1
    assert limiter.take(who, 5).granted == 1  # type: ignore[union-attr]
    assert limiter.take_spent() == {who.org_id: pytest.approx(91)}


def test_an_organisation_without_a_limit_is_charged_nothing() -> None:
    limiter, who = RateLimiter(), caller(None)
    limiter.take(who)
    limiter.charge(who.org_id, 1_000)
    assert limiter.take_spent() == {}


def test_what_was_limited_before_is_charged_nothing_once_it_has_no_limit() -> None:
    limiter, limited = RateLimiter(), caller(60)
    limiter.take(limited)
    limiter.take_spent()
    assert limiter.take(caller(None, limited.org_id)) is None
    limiter.charge(limited.org_id, 1_000)
    assert limiter.take_spent() == {}


def test_two_nodes_that_tell_each_other_share_one_quota(clock: Clock) -> None:
    org_id = uuid.uuid4()
    nodes = [RateLimiter(), RateLimiter()]
    reach = 0.0  # what a Redis would keep
    granted = 0

    def share() -> Any:
        nonlocal reach
        for node in nodes:
            for each, seconds in node.take_spent().items():
                reach = max(reach, clock.now) + seconds
                node.learn(each, reach - clock.now)

    for number in range(300):
        granted += nodes[number % 2].take(caller(100, org_id)).granted  # type: ignore[union-attr]
        share()
    assert 100 <= granted <= 102


def test_what_is_whole_again_is_forgotten(clock: Clock) -> None:
    limiter = RateLimiter()
    limiter.take(caller(60), 30)
    limiter.forget()
    assert len(limiter._reach) == 1
    clock.now += 31
    limiter.forget()
    assert limiter._reach == {}


def test_the_real_clock_works_too() -> None:
    assert RateLimiter().take(caller(3), 5).granted == 3  # type: ignore[union-attr]
    assert time.time() > 0
