"""What follows from an attempt, as a table."""

from datetime import UTC, datetime, timedelta

import pytest

from triggers.outbound.result import Answered, Failed, Reason
from triggers.push.retry import (
    DEFAULT_SCHEDULE,
    Delivered,
    Disable,
    End,
    GivenUp,
    Progress,
    RetryAt,
    Schedule,
    judge,
    retry_after_seconds,
)

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
DAY = 86_400.0


def answered(status: int, retry_after: str | None = None, control: str | None = None) -> Answered:
    return Answered(status, "", 0.1, retry_after, control)


def failed(reason: Reason) -> Failed:
    return Failed(reason, "", 0.1)


def again(seconds: float, reason: Reason) -> RetryAt:
    return RetryAt(NOW + timedelta(seconds=seconds), seconds, reason)


@pytest.mark.parametrize(
    ("result", "judgement"),
    [
        (answered(200), Delivered()),
        (answered(204), Delivered()),
        (answered(299), Delivered()),
        (Answered(200, "", 0.1, cut=Reason.TOO_LARGE), Delivered()),
        (Answered(200, "", 0.1, cut=Reason.SLOW_BODY), Delivered()),
        (answered(200, "9"), Delivered()),
        (answered(200, None, "disable"), Delivered(disable=Disable.DECLINED)),
        (answered(200, None, "abort-message"), Delivered()),
        (answered(301), again(5, Reason.REDIRECT)),
        (answered(304), again(5, Reason.REDIRECT)),
        (answered(307, "60"), again(5, Reason.REDIRECT)),
        (answered(400), again(5, Reason.REFUSED)),
        (answered(401), again(5, Reason.REFUSED)),
        (answered(404), again(5, Reason.REFUSED)),
        (answered(404, "60"), again(5, Reason.REFUSED)),
        (answered(410), GivenUp(Reason.GONE, End.GONE, Disable.GONE)),
        (answered(410, "60", "abort-message"), GivenUp(Reason.GONE, End.GONE, Disable.GONE)),
        (answered(429), again(5, Reason.THROTTLED)),
        (answered(429, "60"), again(60, Reason.THROTTLED)),
        (answered(500), again(5, Reason.UNAVAILABLE)),
        (answered(503, "0.5"), again(0.5, Reason.UNAVAILABLE)),
        (answered(599, "1"), again(1, Reason.UNAVAILABLE)),
        (answered(503, "0"), again(5, Reason.UNAVAILABLE)),
        (answered(503, "999999999"), again(DAY, Reason.UNAVAILABLE)),
        (answered(400, None, "disable"), GivenUp(Reason.REFUSED, End.DECLINED, Disable.DECLINED)),
        (answered(400, None, "Abort-Message"), GivenUp(Reason.REFUSED, End.ABORTED)),
        (answered(503, "60", "abort-message"), GivenUp(Reason.UNAVAILABLE, End.ABORTED)),
        (
            answered(503, None, "abort-message, disable"),
            GivenUp(Reason.UNAVAILABLE, End.DECLINED, Disable.DECLINED),
        ),
        (answered(503, None, "whatever"), again(5, Reason.UNAVAILABLE)),
        *[
            (failed(reason), again(5, reason))
            for reason in (
                Reason.INVALID,
                Reason.DNS,
                Reason.FORBIDDEN_ADDRESS,
                Reason.CONNECT,
                Reason.CONNECT_TIMEOUT,
                Reason.TLS,
                Reason.TLS_TIMEOUT,
                Reason.TIMEOUT,
                Reason.SLOW_HEADERS,
                Reason.TOO_LARGE,
                Reason.CLOSED,
                Reason.MALFORMED,
                Reason.PROXY,
                Reason.BUSY,
            )
        ],
        (Failed(Reason.CLOSED, "", 0.1, stale_connection=True), again(0, Reason.CLOSED)),
        (Failed(Reason.SLOW_HEADERS, "", 0.1, status=200), again(5, Reason.SLOW_HEADERS)),
        (Answered(200, "", 0.1, cut=Reason.MALFORMED), Delivered()),
        (Answered(410, "", 0.1, cut=Reason.MALFORMED), GivenUp(Reason.GONE, End.GONE, Disable.GONE)),
    ],
    ids=lambda value: f"{getattr(value, 'status', getattr(value, 'reason', ''))}" or None,
)
def test_first_attempt(result: Answered | Failed, judgement: object) -> None:
    assert judge(Progress(DEFAULT_SCHEDULE, 1), result, NOW, 0.0) == judgement


def test_the_default_schedule() -> None:
    delays = [
        judge(Progress(DEFAULT_SCHEDULE, number), failed(Reason.CONNECT), NOW, 0.0) for number in range(1, 10)
    ]
    assert [judgement.delay_seconds for judgement in delays if isinstance(judgement, RetryAt)] == [
        5, 30, 120, 900, 3_600, 4 * 3_600, 12 * 3_600, DAY,
    ]  # fmt: skip
    assert delays[-1] == GivenUp(Reason.CONNECT, End.EXHAUSTED)


@pytest.mark.parametrize(("jitter", "seconds"), [(-1.0, 24.0), (-0.5, 27.0), (0.0, 30.0), (1.0, 36.0)])
def test_jitter_is_a_fifth_either_way(jitter: float, seconds: float) -> None:
    judgement = judge(Progress(DEFAULT_SCHEDULE, 2), answered(500), NOW, jitter)
    assert isinstance(judgement, RetryAt)
    assert judgement.delay_seconds == pytest.approx(seconds)


@pytest.mark.parametrize("jitter", [-1.0, 1.0])
def test_retry_after_is_taken_at_its_word(jitter: float) -> None:
    assert judge(Progress(DEFAULT_SCHEDULE, 2), answered(503, "7"), NOW, jitter) == again(
        7, Reason.UNAVAILABLE
    )


def test_retry_after_gives_no_further_attempt() -> None:
    judgement = judge(Progress(DEFAULT_SCHEDULE, 9), answered(503, "7"), NOW, 0.0)
    assert judgement == GivenUp(Reason.UNAVAILABLE, End.EXHAUSTED)


@pytest.mark.parametrize(
    ("attempt_number", "schedule", "judgement"),
    [
        (1, Schedule(delays=()), GivenUp(Reason.REFUSED, End.EXHAUSTED)),
        (1, Schedule(delays=(0.25,)), again(0.25, Reason.REFUSED)),
        (2, Schedule(delays=(0.25,)), GivenUp(Reason.REFUSED, End.EXHAUSTED)),
        (7, Schedule(delays=(1.0, 2.0)), GivenUp(Reason.REFUSED, End.EXHAUSTED)),
        (1, Schedule(delays=(0.0,)), again(0, Reason.REFUSED)),
    ],
)
def test_a_subscriptions_own_schedule(attempt_number: int, schedule: Schedule, judgement: object) -> None:
    assert judge(Progress(schedule, attempt_number), answered(404), NOW, 0.0) == judgement


@pytest.mark.parametrize(
    ("schedule", "has_retry"),
    [
        (DEFAULT_SCHEDULE, True),
        (Schedule(delays=()), False),
        (Schedule(delays=(), deadline=60.0), False),
        (Schedule(delays=(60.0,), deadline=71.0), False),
        (Schedule(delays=(60.0,), deadline=72.0), True),
        (Schedule(delays=(0.0,), deadline=0.1), True),
    ],
)
def test_whether_a_second_attempt_follows(schedule: Schedule, has_retry: bool) -> None:
    """The answer holds even for the longest delay that the jitter allows."""
    assert schedule.has_retry is has_retry


@pytest.mark.parametrize(
    ("ran_seconds", "result", "end"),
    [
        (0, answered(500), None),
        (55, answered(500), None),
        (56, answered(500), End.DEADLINE),
        (0, answered(500, "60"), None),
        (0, answered(500, "61"), End.DEADLINE),
        (3_600, failed(Reason.DNS), End.DEADLINE),
    ],
)
def test_a_deadline_counts_from_the_first_attempt(
    ran_seconds: float, result: Answered | Failed, end: End | None
) -> None:
    schedule = Schedule(delays=(5.0, 5.0, 5.0), deadline=60.0)
    began = NOW - timedelta(seconds=ran_seconds)
    judgement = judge(Progress(schedule, 2, began), result, NOW, 0.0)
    assert (judgement.end if isinstance(judgement, GivenUp) else None) is end


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("", None),
        ("120", 120.0),
        (" 120 ", 120.0),
        ("0.25", 0.25),
        ("0", None),
        ("0.0", None),
        ("-5", None),
        ("+5", None),
        ("1e9", None),
        ("nan", None),
        ("inf", None),
        ("١٢", None),
        ("soon", None),
        ("86400", DAY),
        ("86401", DAY),
        ("9" * 18, DAY),
        ("9" * 400, None),
        ("Sun, 01 Mar 2026 12:00:30 GMT", 30.0),
        ("Sunday, 01-Mar-26 12:00:30 GMT", 30.0),
        ("Sun Mar  1 12:00:30 2026", 30.0),
        ("Sun, 01 Mar 2026 12:00:00 GMT", None),
        ("Sun, 01 Mar 2020 12:00:00 GMT", None),
        ("Sun, 01 Mar 2099 12:00:00 GMT", DAY),
        ("Sun, 01 Mar 2026 99:99:99 GMT", None),
        ("Sun, 99 Xyz 99999999999 12:00:30 GMT", None),
        ("Fri, 31 Dec 9999 23:59:59 -2359", DAY),
        ("\x00\x01", None),
        ("1" + ";" * 100, None),
    ],
)
def test_retry_after(value: str | None, seconds: float | None) -> None:
    assert retry_after_seconds(value, NOW) == seconds


def test_every_reason_is_one_word() -> None:
    assert all(reason.value.replace("_", "").isalpha() and reason.value.islower() for reason in Reason)
