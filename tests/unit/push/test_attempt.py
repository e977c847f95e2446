"""One attempt over values: what is sent, and the settlement that follows from each outcome."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest

from triggers.outbound.result import (
    Answered,
    Failed,
    Reason,
    Result,
)
from triggers.push.attempt import (
    Outgoing,
    after_a_lost_worker,
    attempt,
    never_sent,
    prepare,
    unsent,
    without_answer,
)
from triggers.push.lane import Target
from triggers.push.retry import Disable, Schedule
from triggers.push.store import Due

from .test_dispatcher import make_due, make_lane

NOW = datetime(2026, 3, 1, 12, 0, 0, 500_000, tzinfo=UTC)
ATTEMPT = UUID(int=7)


class Outbound:
    """Says what it is told to, and keeps what it was given."""

    def __init__(self, result: Result | Exception) -> None:
        self._result = result
        self.sent: list[tuple[str, list[tuple[str, str]], bytes, UUID]] = []

    async def send(
        self, url: str, headers: list[tuple[str, str]], body: bytes, *, org: UUID, fresh: bool
    ) -> Result:
        self.sent.append((url, headers, body, org))
        if isinstance(self._result, Exception):
            raise self._result
        return self._result


def target_of(*delays: float, **settings: object) -> Target:
    target = make_lane(uuid4(), 0, **settings).target
    return msgspec.structs.replace(target, schedule=Schedule(delays), headers=[("X-Mine", "1")])


def due_of(target: Target, attempts: int = 0) -> Due:
    due = make_due(target.endpoint.org_id, target.endpoint.id)
    due.attempts, due.type, due.payload = attempts, "a.b", b'{ "x": 1.0e2 }'
    return due


async def attempted(target: Target, due: Due, result: Result | Exception, *, counted: bool = False) -> Any:
    outbound: Any = Outbound(result)
    return await attempt(Outgoing(ATTEMPT, target, due, counted), outbound, lambda: NOW)


def answered(status: int, **more: Any) -> Answered:
    return Answered(status, "text", 0.25, **more)


async def test_what_is_sent() -> None:
    target = target_of(5)
    due = due_of(target)
    outbound: Any = Outbound(answered(200))
    await attempt(Outgoing(ATTEMPT, target, due, counted=False), outbound, lambda: NOW)
    ((url, headers, body, org),) = outbound.sent
    assert (url, body, org) == (target.endpoint.target_url, due.payload, due.org_id)
    named = dict(headers)
    assert named["webhook-id"] == str(due.event_id)
    assert named["webhook-timestamp"] == str(int(NOW.timestamp()))
    assert named["webhook-signature"].startswith("v1,")
    assert named["X-Mine"] == "1"
    assert named["user-agent"].startswith("Triggers/")
    assert named["triggers-generation"] == "0"


def test_a_replay_can_be_told_from_a_repetition() -> None:
    """Each of the two headers is there once, whatever a subscription of an earlier version asks for."""
    endpoint = make_lane(uuid4(), 0).target.endpoint
    signer = make_lane(uuid4(), 0).target.signer
    target = Target.of(endpoint, signer, [("Triggers-Generation", "9"), ("X-Mine", "1")])
    due = due_of(target)
    due.generation = 2
    for attempts in (0, 1):
        due.attempts = attempts
        headers = prepare(Outgoing(ATTEMPT, target, due, counted=False), NOW).headers
        ours = sorted(each for each in headers if each[0].lower().startswith(("triggers-", "x-")))
        assert ours == [
            ("X-Mine", "1"),
            ("triggers-generation", "2"),
            ("triggers-subscription", str(endpoint.id)),
        ]


@pytest.mark.parametrize(
    ("attempts", "counted", "lag"),
    [(0, False, 3.0), (1, True, 3.0), (1, False, None), (2, True, None)],
)
async def test_only_a_first_attempt_has_a_lag(attempts: int, counted: bool, lag: float | None) -> None:
    """An attempt that was counted before it was sent is in the number of attempts already."""
    target = target_of(5)
    due = due_of(target, attempts)
    due.accepted_at = NOW - timedelta(seconds=3)
    found = await attempted(target, due, answered(200), counted=counted)
    assert found.settlement.lag_seconds == lag


async def test_a_lag_is_never_negative() -> None:
    """The clock of the process that accepted the event may be ahead of this one."""
    target = target_of(5)
    due = due_of(target)
    due.accepted_at = NOW + timedelta(seconds=1)
    assert (await attempted(target, due, answered(200))).settlement.lag_seconds == 0.0


def test_each_attempt_is_signed_for_its_own_moment() -> None:
    target = target_of(5)
    outgoing = Outgoing(ATTEMPT, target, due_of(target), counted=False)
    first, second = (dict(prepare(outgoing, NOW + timedelta(seconds=n)).headers) for n in (0, 5))
    assert first["webhook-id"] == second["webhook-id"]
    assert first["webhook-signature"] != second["webhook-signature"]


@pytest.mark.parametrize(
    ("result", "attempts", "outcome", "reason", "disable"),
    [
        (answered(204), 0, "delivered", "delivered", None),
        (answered(200, delivery_control="disable"), 0, "delivered", "delivered", Disable.DECLINED),
        (answered(500), 0, "retry", "unavailable", None),
        (answered(500), 2, "dead", "unavailable (exhausted)", None),
        (answered(410), 0, "dead", "gone", Disable.GONE),
        (answered(500, delivery_control="disable"), 0, "dead", "unavailable (declined)", Disable.DECLINED),
        (answered(500, delivery_control="abort-message"), 0, "dead", "unavailable (aborted)", None),
        (Failed(Reason.DNS, "no such host", 0.0), 1, "retry", "dns", None),
    ],
)
async def test_settlements(
    result: Result, attempts: int, outcome: str, reason: str, disable: Disable | None
) -> None:
    target = target_of(5, 30)
    due = due_of(target, attempts)
    found = await attempted(target, due, result)
    settlement = found.settlement
    assert (settlement.outcome, settlement.reason, found.disable) == (outcome, reason, disable)
    assert (settlement.read_attempts, settlement.attempts) == (attempts, attempts + 1)
    assert settlement.attempt_id == ATTEMPT
    assert settlement.began_at == NOW
    assert settlement.delivery == (due.org_id, due.subscription_id, due.event_id, 0)
    assert (settlement.due_at is not None) == (outcome == "retry")
    if settlement.due_at is not None:
        delay = (5, 30)[attempts]
        assert 0.8 * delay <= (settlement.due_at - NOW).total_seconds() <= 1.2 * delay


async def test_what_is_shown_of_an_answer() -> None:
    target = target_of(5)
    due = due_of(target)
    whole = (await attempted(target, due, answered(500))).settlement
    assert (whole.status_code, whole.response, whole.duration_ms) == (500, "text", 250)
    cut = (await attempted(target, due, answered(200, cut=Reason.SLOW_BODY))).settlement
    assert cut.response == "text [slow_body]"
    malformed = (await attempted(target, due, Answered(200, "", 0.0, cut=Reason.MALFORMED))).settlement
    assert (malformed.outcome, malformed.response) == ("delivered", "[malformed]")
    begun = (await attempted(target, due, Failed(Reason.CLOSED, "closed", 0.0, 503))).settlement
    assert (begun.status_code, begun.response) == (503, "closed")
    none = (await attempted(target, due, Answered(204, "", 0.0))).settlement
    assert none.response is None
    failed = (await attempted(target, due, Failed(Reason.TLS, "no trust", 0.0))).settlement
    assert (failed.status_code, failed.response) == (None, "no trust")


async def test_a_bug_of_ours_is_an_attempt_that_failed() -> None:
    """Or it would be tried again at once and for ever; and what it says stays in the log."""
    target = target_of(5)
    found = await attempted(target, due_of(target), RuntimeError("secret"))
    assert (found.settlement.outcome, found.settlement.reason) == ("retry", "internal")
    assert "secret" not in found.settlement.response


async def test_on_probation_the_attempt_was_counted_before() -> None:
    target = target_of(5)
    counted = (await attempted(target, due_of(target, attempts=1), answered(500), counted=True)).settlement
    assert (counted.read_attempts, counted.attempts, counted.outcome) == (1, 1, "retry")
    last = (await attempted(target, due_of(target, attempts=2), answered(500), counted=True)).settlement
    assert (last.read_attempts, last.attempts, last.outcome) == (2, 2, "dead")


def test_never_sent_is_dead_without_an_attempt() -> None:
    target = target_of(5)
    settlement = never_sent(target, due_of(target, attempts=2), "event_gone", NOW)
    assert (settlement.outcome, settlement.attempts, settlement.attempt_id) == ("dead", 2, None)


async def test_without_its_answer_an_attempt_is_a_fault_of_ours_and_judged_by_the_schedule() -> None:
    target = target_of(5, 30)
    later = NOW + timedelta(seconds=7)
    arrived = (await attempted(target, due_of(target, attempts=1), answered(410))).settlement
    plain = without_answer(arrived, later)
    assert plain is not None
    assert (plain.outcome, plain.reason, plain.attempts, plain.attempt_id) == (
        "retry",
        "internal",
        2,
        ATTEMPT,
    )
    assert (plain.status_code, plain.response, plain.duration_ms) == (None, None, 0)
    assert plain.due_at is not None
    assert 24 <= (plain.due_at - later).total_seconds() <= 36
    last = without_answer(
        (await attempted(target, due_of(target, attempts=2), answered(200))).settlement, later
    )
    assert last is not None
    assert (last.outcome, last.reason, last.due_at) == ("dead", "internal (exhausted)", None)


def test_where_no_request_was_made_there_is_no_answer_to_leave_out() -> None:
    target = target_of(5)
    due = due_of(target, attempts=1)
    assert without_answer(never_sent(target, due, "event_gone", NOW), NOW) is None
    assert without_answer(unsent(target, due, NOW), NOW) is None


@pytest.mark.parametrize(
    ("attempts", "delays", "seconds"), [(0, (5, 30), 5), (1, (5, 30), 30), (9, (5, 30), 30), (0, (), 5)]
)
def test_after_a_lost_worker(attempts: int, delays: tuple[float, ...], seconds: float) -> None:
    target = target_of(*delays)
    assert after_a_lost_worker(target, due_of(target, attempts), NOW) == NOW + timedelta(seconds=seconds)
