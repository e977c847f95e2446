"""The life of one attempt: prepare → send → judge → the settlement that records it."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import assert_never
from uuid import UUID

import msgspec
import structlog

from triggers.domain import AttemptOutcome
from triggers.events import body_format
from triggers.outbound.client import Outbound
from triggers.outbound.result import (
    Answered,
    Failed,
    Reason,
    Result,
)
from triggers.push.prepared import Prepared, sign_request
from triggers.push.retry import (
    Delivered,
    Disable,
    GivenUp,
    Judgement,
    Progress,
    RetryAt,
    end_unheard,
    judge,
)
from triggers.push.store import Due, Settlement
from triggers.push.target import Target

log = structlog.get_logger()

WORKER_LOST = "worker_lost"
"""The reason of a delivery whose last attempt was counted before it was sent and has no recorded result."""
PUT_OFF_SECONDS = 300.0
MOST_PUT_OFF_SECONDS = 86_400.0
"""The minimum and the maximum delay after an attempt that could not be recorded."""

_jitter = functools.partial(random.uniform, -1, 1)  # spreads retries


class Outgoing(msgspec.Struct, frozen=True, gc=False):
    """An attempt that is to be made."""

    id: UUID
    target: Target
    due: Due
    counted: bool
    """Whether the attempt was counted in the database before it is sent."""
    messages: int = 1
    """Number of messages that a notice of an inbox covers."""
    fresh: bool = False
    """Whether the request needs a new connection."""

    @property
    def number(self) -> int:
        """The number of the attempt of its delivery, counted from 1."""
        return self.due.attempts if self.counted else self.due.attempts + 1


class Attempted(msgspec.Struct, frozen=True, gc=False):
    """The result of an attempt, used to settle it and to update the health of its endpoint."""

    settlement: Settlement
    reason: Reason
    disable: Disable | None
    result: Result
    at: datetime


async def attempt(outgoing: Outgoing, outbound: Outbound, now: Callable[[], datetime]) -> Attempted:
    """Send a delivery once. An unexpected exception is not raised, but counts as a failed attempt."""
    due, began = outgoing.due, now()
    result: Result
    try:
        prepared = prepare(outgoing, began)
        url = outgoing.target.endpoint.target_url
        result = await outbound.send(
            url, prepared.headers, prepared.body, org=due.org_id, fresh=outgoing.fresh
        )
    except Exception as error:
        # Counted like any other, or it would be tried again at once and for ever.
        log.error("attempt_broke", subscription_id=str(due.subscription_id), exc_info=error)
        result = Failed(
            Reason.INTERNAL, "Internal error of the service. The log of the worker has details.", 0.0
        )
    return conclude(outgoing, result, began, now())


def told(companion: Outgoing, of: Attempted) -> Settlement:
    """The settlement of another message that the notice covered. The answer is the same, but it is judged by
    this message's own number of attempts."""
    return conclude(companion, of.result, of.settlement.began_at, of.at).settlement


def prepare(outgoing: Outgoing, moment: datetime) -> Prepared:
    """The body in the subscription's format, and its headers, signed for this moment."""
    target, due = outgoing.target, outgoing.due
    inbox_id = target.endpoint.notifies_inbox
    if inbox_id is None:
        content = body_format.render(target.endpoint.format, due)
    else:
        content = body_format.notice(inbox_id, outgoing.messages, redelivery=outgoing.number > 1)
    return sign_request(due, content, target.signer, target.headers, moment)


def conclude(outgoing: Outgoing, result: Result, began: datetime, ended: datetime) -> Attempted:
    """Judge the result of an attempt, and build its settlement, which has only absolute values."""
    target, due = outgoing.target, outgoing.due
    number = outgoing.number
    progress = Progress(target.schedule, number, due.first_attempt_at or began)
    judgement = judge(progress, result, ended, _jitter())
    settlement = _settlement(target, due, _state_after(judgement, progress), began)
    settlement.attempt_id, settlement.progress = outgoing.id, progress
    if number == 1:
        settlement.lag_seconds = max(0.0, (began - due.accepted_at).total_seconds())
    settlement.status_code, settlement.response = _shown(result)
    settlement.duration_ms = int(result.duration_seconds * 1000)
    return Attempted(settlement, judgement.reason, judgement.disable, result, ended)


def without_answer(settlement: Settlement, moment: datetime) -> Settlement | None:
    """The same attempt with the reason `internal` and without the endpoint's answer, to be stored if the
    database refuses the answer. It is judged again, at `moment`. None if no request was made, because then
    the settlement contains no answer.
    """
    progress = settlement.progress
    if progress is None:
        return None
    judgement = judge(progress, Failed(Reason.INTERNAL, "", 0.0), moment, _jitter())
    state = _state_after(judgement, progress)
    return msgspec.structs.replace(
        settlement, **msgspec.structs.asdict(state), status_code=None, response=None, duration_ms=0
    )


def put_off(settlement: Settlement, moment: datetime) -> Settlement | None:
    """Return a settlement that counts the attempt but does not record it, or None if no request was made.

    It is stored if the database has refused all others. The delivery is due again after `seconds_put_off`.
    """
    progress = settlement.progress
    if progress is None:
        return None
    age = moment - (progress.first_attempt_at or settlement.began_at)
    return msgspec.structs.replace(
        settlement,
        outcome=AttemptOutcome.RETRY,
        attempts=progress.attempts,
        reason=str(Reason.INTERNAL),
        due_at=moment + timedelta(seconds=seconds_put_off(age)),
        attempt_id=None,
        status_code=None,
        response=None,
        duration_ms=0,
    )


def seconds_put_off(age: timedelta) -> float:
    """Return the delay of a delivery whose attempts cannot be recorded.

    `age` is the time since its first attempt or its acceptance. The delay about doubles each time, because
    each wait increases the age.
    """
    return min(max(age.total_seconds(), PUT_OFF_SECONDS), MOST_PUT_OFF_SECONDS)


def end_unsent(target: Target, due: Due) -> str | None:
    """Why a delivery ends without a further attempt, or None. Either its event is no longer stored, or its
    last attempt was counted, has no recorded result, and was the last of its schedule.

    A delivery may have more attempts than its schedule, because the schedule was shortened or somebody
    requested a retry. If its last attempt has a result, it gets one more."""
    if not due.type:
        return "event_gone"
    if due.lost:
        end = end_unheard(Progress(target.schedule, due.attempts, due.first_attempt_at), due.due_at)
        return f"{WORKER_LOST} ({end})" if end else None
    return None


def never_sent(target: Target, due: Due, reason: str, moment: datetime) -> Settlement:
    """A dead letter without a further attempt: its attempts are used up, or there is nothing to send."""
    return _settlement(target, due, _State(AttemptOutcome.DEAD, due.attempts, reason), moment)


def unsent(target: Target, due: Due, moment: datetime) -> Settlement:
    """The settlement that takes back the count of an unmade attempt. The delivery stays a suspect."""
    state = _State(AttemptOutcome.RETRY, due.attempts - 1, WORKER_LOST, due_at=moment)
    return _settlement(target, due, state, moment)


def after_a_lost_worker(target: Target, due: Due, moment: datetime) -> datetime:
    """The time when a delivery is due again if the worker does not survive this attempt."""
    delays = target.schedule.delays
    return moment + timedelta(seconds=delays[min(due.attempts, len(delays) - 1)] if delays else 5.0)


class _State(msgspec.Struct, frozen=True, gc=False):
    """The new state of a delivery."""

    outcome: AttemptOutcome
    attempts: int
    reason: str
    due_at: datetime | None = None


def _settlement(target: Target, due: Due, state: _State, began: datetime) -> Settlement:
    """The one place that makes a settlement. It records no request."""
    return Settlement(
        org_id=due.org_id,
        subscription_id=due.subscription_id,
        event_id=due.event_id,
        generation=due.generation,
        lane_group=target.endpoint.lane_group,
        read_attempts=due.attempts,
        attempts=state.attempts,
        outcome=state.outcome,
        due_at=state.due_at,
        reason=state.reason,
        began_at=began,
        target_url=target.endpoint.target_url,
    )


def _state_after(judgement: Judgement, progress: Progress) -> _State:
    attempts = progress.attempts
    match judgement:
        case Delivered(reason=reason):
            return _State(AttemptOutcome.DELIVERED, attempts, str(reason))
        case RetryAt(at=due_at, reason=reason):
            return _State(AttemptOutcome.RETRY, attempts, str(reason), due_at)
        case GivenUp(reason=reason, end=end):
            words = str(reason) if str(end) == str(reason) else f"{reason} ({end})"
            return _State(AttemptOutcome.DEAD, attempts, words)
        case _:
            assert_never(judgement)


def _shown(result: Result) -> tuple[int | None, str | None]:
    match result:
        case Answered(status=status, text=text, cut=None):
            return status, text or None
        case Answered(status=status, text=text, cut=cut):
            return status, f"{text} [{cut}]" if text else f"[{cut}]"
        case Failed(status=status, detail=detail):
            return status, detail or None
        case _:
            assert_never(result)
