"""Types and their patterns, ids and times."""

from __future__ import annotations

import time
import uuid
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from triggers import domain
from triggers.errors import Forbidden, Invalid
from triggers.postgres.clock import DatabaseClock


@pytest.mark.parametrize(
    ("event_type", "patterns", "matches"),
    [
        ("order.paid", None, True),
        ("order.paid", ["*"], True),
        ("order.paid", ["order.paid"], True),
        ("order.paid", ["order.*"], True),
        ("order.paid.late", ["order.*"], True),
        ("order.", ["order.*"], True),
        ("order", ["order.*"], False),
        ("orders.paid", ["order.*"], False),
        ("Order.paid", ["order.*"], False),
        ("order.paid", ["order.pai"], False),
        ("order.paid", ["a", "b.*", "order.*"], True),
        ("triggers.test", None, False),
        ("triggers.test", ["*"], False),
        ("triggers.test", ["triggers.*"], True),
        ("triggers.test", ["*", "triggers.test"], True),
    ],
)
def test_matching(event_type: str, patterns: list[str] | None, matches: bool) -> None:
    assert domain.type_matches(event_type, patterns) is matches


def test_patterns_that_can_match() -> None:
    for good in (["*"], ["a"], ["a.*"], ["a.b.*"], ["a", "b.*"], ["x" * 255], [f"{n}" for n in range(100)]):
        assert domain.check_type_patterns(good) == good
    assert domain.check_type_patterns(["a", "b", "a"]) == ["a", "b"]
    assert domain.check_type_patterns(None) is None
    for bad in (
        [],
        ["x"] * 101,
        [""],
        ["**"],
        ["a*"],
        ["*.a"],
        ["a.*.b"],
        [".**"],
        [".*.*"],
        ["x" * 256],
        ["a\n"],
    ):
        with pytest.raises(Invalid):
            domain.check_type_patterns(bad)


def test_ids_that_are_none() -> None:
    one = uuid.uuid4()
    assert domain.parse_id(str(one)) == one
    assert domain.parse_id(str(one).upper()) == one
    for text in (
        "",
        "x",
        str(one)[:-1],
        str(one) + "0",
        one.hex,
        "z" * 36,
        f"{{{one}}}",
        "\x00" * 36,
        "é" * 36,
    ):
        assert domain.parse_id(text) is None


@given(
    st.datetimes(
        datetime.fromisoformat("1971-01-01"), datetime.fromisoformat("2200-01-01"), timezones=st.just(UTC)
    )
)
def test_ids_of_a_moment_come_after_those_of_the_moment_before(moment: datetime) -> None:
    first = domain.first_id_at(moment)
    assert first.version == 7
    assert first.variant == uuid.RFC_4122
    assert timedelta(0) <= moment - domain.created_at(first) < timedelta(milliseconds=1.001)
    assert domain.first_id_at(moment + timedelta(milliseconds=1)) > first


def test_no_id_is_older_than_the_epoch() -> None:
    first = domain.first_id_at(datetime(1970, 1, 1, tzinfo=UTC))
    for before in (datetime(1960, 1, 1, tzinfo=UTC), datetime.min.replace(tzinfo=UTC)):
        assert domain.first_id_at(before) == first


def test_times_are_written_in_one_way() -> None:
    cases = {
        datetime(2024, 2, 29, 23, 59, 59, 999_999, UTC): "2024-02-29T23:59:59.999Z",
        datetime(2024, 1, 1, tzinfo=UTC): "2024-01-01T00:00:00.000Z",
        datetime(2024, 1, 1, 1, tzinfo=timezone(timedelta(hours=2))): "2023-12-31T23:00:00.000Z",
        datetime(987, 1, 1, tzinfo=UTC): "0987-01-01T00:00:00.000Z",
    }
    for moment, text in cases.items():
        assert domain.rfc3339(moment) == text


@given(st.integers(0, 2**48 // 16))
@example(12_009_799_854_439)  # as a fraction of seconds it would be a microsecond less
def test_the_time_of_an_id_is_written_alike(milliseconds: int) -> None:
    found = uuid.UUID(int=milliseconds << 80)
    assert domain.minted_at(found) == domain.rfc3339(domain.created_at(found))


def learn(clock: DatabaseClock, *, waited: float = 0.0, offset: float = 0.0) -> None:
    """Ask a database whose time is this machine's and `offset`, and whose answer took `waited` seconds."""
    asked_at = time.monotonic() - waited
    clock.learn(datetime.now(UTC) + timedelta(seconds=offset), asked_at)


def test_nothing_is_minted_before_the_time_is_known() -> None:
    """Ids rise, so one that is an hour ahead would put every later one an hour ahead."""
    clock = DatabaseClock()
    with pytest.raises(ValueError, match="NaN"):
        clock.mint()
    with pytest.raises(ValueError, match="NaN"):
        clock.moment()


def test_minted_ids_rise_whatever_the_clock_does() -> None:
    clock = DatabaseClock()
    ids = []
    for offset in (0, 3600, -3600, 0):
        learn(clock, offset=offset)
        assert clock.now() - time.time() == pytest.approx(offset, abs=0.1)
        ids += [clock.mint() for _ in range(2000)]
    assert [int(each) for each in ids] == sorted({int(each) for each in ids})
    assert {each.version for each in ids} == {7}
    assert {each.variant for each in ids} == {uuid.RFC_4122}


def test_a_slow_answer_does_not_move_the_clock() -> None:
    """Otherwise the ids of a node would run ahead by the delay, and then stand still until time caught up."""
    clock = DatabaseClock()
    learn(clock)
    learn(clock, waited=30)
    assert clock.now() - time.time() == pytest.approx(0, abs=0.1)


def test_a_quick_answer_puts_right_what_a_slow_one_said() -> None:
    clock = DatabaseClock()
    learn(clock, waited=30)
    assert clock.now() - time.time() == pytest.approx(30, abs=0.1)
    learn(clock)
    assert clock.now() - time.time() == pytest.approx(0, abs=0.1)


def test_a_caller_may_what_its_scopes_say() -> None:
    caller = domain.Caller(
        org_id=domain.OrgId(uuid.uuid4()),
        org_name="o",
        plan=domain.Plan.FREE,
        requests_per_minute=1,
        key_id=domain.KeyId(uuid.uuid4()),
        key_prefix="zap_test_abc",
        scopes=frozenset({domain.Scope.INBOX}),
        expires_at=0.0,
    )
    caller.require()
    caller.require(domain.Scope.INBOX)
    caller.require(domain.Scope.KEYS, domain.Scope.INBOX)
    with pytest.raises(Forbidden) as raised:
        caller.require(domain.Scope.ADMIN)
    assert raised.value.facts == {"scope": "admin"}
    with pytest.raises(Forbidden, match="the scope `keys` or `read`") as raised:
        caller.require(domain.Scope.KEYS, domain.Scope.READ)
    assert raised.value.facts == {"scope": "keys"}


def test_who_may_see_everything_may_read_and_this_is_not_stored() -> None:
    """A node of the version before fails on a scope that it does not know."""
    old = domain.TENANT_SCOPES - {domain.Scope.READ}
    assert domain.with_read(old) == domain.TENANT_SCOPES
    assert domain.without_implied_read(domain.TENANT_SCOPES) == old
    for scope in old - {domain.Scope.EVENTS_WRITE}:
        assert domain.with_read(old - {scope}) == old - {scope}
        assert domain.without_implied_read({domain.Scope.READ, scope}) == {domain.Scope.READ, scope}


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2016-12-31T23:59:60Z", datetime(2016, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)),
        ("2017-01-01t01:59:60.5+02:00", datetime(2016, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)),
        ("2016-12-31T23:59:59.123456789012Z", datetime(2016, 12, 31, 23, 59, 59, 123_457, tzinfo=UTC)),
        ("2016-12-31T23:59:59Z", datetime(2016, 12, 31, 23, 59, 59, tzinfo=UTC)),
    ],
)
def test_a_time_may_be_a_leap_second(text: str, moment: datetime) -> None:
    assert domain.parse_time(text) == moment


@pytest.mark.parametrize("text", ["", "now", "2016-12-31T23:59:61Z", "2016-12-31T23:60:60Z", "23:59:60Z"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(ValueError):
        domain.parse_time(text)
