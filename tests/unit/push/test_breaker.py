"""When an endpoint is only probed, and when it is well again."""

from datetime import UTC, datetime, timedelta

import pytest

from triggers.outbound.result import NOT_THE_ENDPOINT, Reason
from triggers.push.breaker import (
    FIRST_PROBE_SECONDS,
    LONGEST_PROBE_SECONDS,
    OPENS_AFTER,
    Breaker,
)

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def failing(times: int) -> Breaker:
    breaker = Breaker(None, None, None)
    for n in range(times):
        breaker.failed(later(n / 1000), Reason.UNAVAILABLE)
    return breaker


def test_closed_while_failures_are_few() -> None:
    breaker = failing(OPENS_AFTER - 1)
    assert not breaker.open
    assert breaker.may_send(NOW, in_flight=50)
    assert breaker.failing_since == NOW


def test_open_after_many_in_a_row() -> None:
    breaker = failing(OPENS_AFTER)
    assert breaker.open
    assert breaker.probe_at is not None
    assert not breaker.may_send(breaker.probe_at - timedelta(milliseconds=1), in_flight=0)
    assert breaker.may_send(breaker.probe_at, in_flight=0)
    assert not breaker.may_send(breaker.probe_at, in_flight=1), "one probe at a time"


def test_a_success_between_starts_the_count_anew() -> None:
    breaker = failing(OPENS_AFTER - 1)
    breaker.succeeded(later(1))
    assert breaker.failing_since is None
    breaker.failed(later(2), Reason.TIMEOUT)
    assert not breaker.open
    assert breaker.failing_since == later(2)


def test_a_probe_can_be_asked_for() -> None:
    breaker = failing(OPENS_AFTER)
    breaker.try_at(later(-1))
    assert breaker.may_send(NOW, in_flight=0)
    breaker.failed(NOW, Reason.TIMEOUT)
    assert breaker.probe_at == NOW + timedelta(seconds=2 * FIRST_PROBE_SECONDS), "it counts as the probe"
    breaker.try_at(later(3_600))
    assert breaker.probe_at == NOW + timedelta(seconds=2 * FIRST_PROBE_SECONDS), "it never goes later"
    well = Breaker(None, None, None)
    well.try_at(NOW)
    assert not well.open


def test_probes_grow_rarer_up_to_a_bound_and_a_success_closes() -> None:
    breaker = failing(OPENS_AFTER)
    waits = []
    for _ in range(10):
        moment = breaker.probe_at
        assert moment is not None
        breaker.failed(moment, Reason.CONNECT)
        assert breaker.probe_at is not None
        waits.append((breaker.probe_at - moment).total_seconds())
    assert waits[0] == 2 * FIRST_PROBE_SECONDS
    assert waits == sorted(waits)
    assert waits[-1] == LONGEST_PROBE_SECONDS
    breaker.succeeded(later(1000))
    assert not breaker.open
    assert breaker.probe_delay == FIRST_PROBE_SECONDS
    assert breaker.may_send(later(1000), in_flight=50)


def test_stragglers_do_not_put_off_the_probe() -> None:
    """Those in flight when it opened fail after it: they were sent before, and say nothing new."""
    breaker = failing(OPENS_AFTER)
    probe_at = breaker.probe_at
    for _ in range(50):
        breaker.failed(later(0.5), Reason.TIMEOUT)
    assert breaker.probe_at == probe_at
    assert breaker.probe_delay == FIRST_PROBE_SECONDS


@pytest.mark.parametrize("reason", sorted(NOT_THE_ENDPOINT))
def test_faults_that_are_not_the_endpoints_count_for_nothing(reason: Reason) -> None:
    breaker = Breaker(None, None, None)
    for _ in range(3 * OPENS_AFTER):
        breaker.failed(NOW, reason)
    assert not breaker.open
    assert breaker.failing_since is None
    assert not breaker.changed


def test_what_was_stored_goes_on() -> None:
    breaker = Breaker(later(-3600), later(30), 32.0)
    assert breaker.open
    assert breaker.failing_since == later(-3600)
    assert not breaker.may_send(later(29), in_flight=0)
    breaker.failed(later(30), Reason.UNAVAILABLE)
    assert breaker.probe_at == later(30 + LONGEST_PROBE_SECONDS)


def test_what_is_worth_storing() -> None:
    breaker = Breaker(None, None, None)
    breaker.succeeded(NOW)
    assert breaker.changed
    breaker.changed = False
    breaker.succeeded(later(1))
    assert not breaker.changed, "a last success is noted every ten seconds"
    breaker.failed(later(2), Reason.TIMEOUT)
    assert breaker.changed


def test_the_last_success_is_written_down_now_and_then() -> None:
    breaker = Breaker(None, None, None)
    noted = []
    for n in range(40):
        breaker.succeeded(later(n))
        if breaker.changed:
            noted.append(breaker.last_success_at)
            breaker.changed = False
    assert noted == [later(0), later(10), later(20), later(30)]
