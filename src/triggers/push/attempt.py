"""The life of one attempt: prepare → send → judge → the settlement that records it."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import NamedTuple, assert_never
from uuid import UUID

import structlog

from triggers import __version__
from triggers.events import body_format
from triggers.outbound.client import Outbound
from triggers.outbound.result import (
    Answered,
    Failed,
    Reason,
    Result,
)
from triggers.push.lane import Target
from triggers.push.retry import (
    Delivered,
    Disable,
    GivenUp,
    Outcome,
    RetryAt,
    end_unheard,
    judge,
)
from triggers.push.store import Due, Settlement

log = structlog.get_logger()

WORKER_LOST = "worker_lost"
"""The reason of an attempt that was counted before it was sent, as long as nothing is heard of it."""

_AGENT = ("user-agent", f"Triggers/{__version__}")


class Prepared(NamedTuple):
    """What goes out."""

    headers: list[tuple[str, str]]
    body: bytes


class Attempted(NamedTuple):
    """What came of an attempt, for the settlement and for what the lane learns."""

    settlement: Settlement
    reason: Reason
    disable: Disable | None
    result: Result
    at: datetime


async def attempt(
    target: Target,
    due: Due,
    outbound: Outbound,
    now: Callable[[], datetime],
    attempt_id: UUID,
    *,
    counted: bool,
    messages: int = 1,
) -> Attempted:
    """Send a delivery once. Returns for everything that can happen; a bug of ours is a failed attempt too.

    `counted`: the database counts this attempt already, from before it was sent. `messages`: for how
    many messages a notice of an inbox speaks.
    """
    began = now()
    number = due.attempts if counted else due.attempts + 1
    result: Result
    try:
        prepared = prepare(target, due, began, number, messages)
        result = await outbound.send(
            target.endpoint.target_url, prepared.headers, prepared.body, org=due.org_id
        )
    except Exception as error:
        # Counted like any other, or it would be tried again at once and for ever.
        log.error("attempt_broke", subscription_id=str(due.subscription_id), exc_info=error)
        result = Failed(Reason.INTERNAL, "An error of ours; the worker's log names it.", 0.0)
    return conclude(target, due, result, number, attempt_id, began, now())


def told(target: Target, companion: Due, of: Attempted, attempt_id: UUID, *, counted: bool) -> Settlement:
    """The settlement of a message that a notice told of beside the one it was sent for: the same answer,
    judged by attempts of its own."""
    began, number = of.settlement.began_at, companion.attempts + (0 if counted else 1)
    return conclude(target, companion, of.result, number, attempt_id, began, of.at).settlement


def prepare(target: Target, due: Due, moment: datetime, number: int = 1, messages: int = 1) -> Prepared:
    """The body in the subscription's format, and its headers, signed for this moment.

    `number` says which attempt it is, `messages` for how many messages a notice of an inbox speaks.
    """
    inbox_id = target.endpoint.notifies_inbox
    if inbox_id is None:
        content_type, body = body_format.render(target.endpoint.format, due)
    else:
        content_type, body = body_format.notice(inbox_id, messages, redelivery=number > 1)
    return Prepared(
        [
            ("content-type", content_type),
            _AGENT,
            *target.signer.headers(str(due.event_id), int(moment.timestamp()), body),
            *target.headers,
        ],
        body,
    )


def conclude(
    target: Target,
    due: Due,
    result: Result,
    number: int,
    attempt_id: UUID,
    began: datetime,
    ended: datetime,
) -> Attempted:
    """What follows from the attempt `number`, as the absolute values that settle it."""
    outcome: Outcome = judge(
        number,
        result,
        target.schedule,
        ended,
        random.uniform(-1, 1),  # noqa: S311 - spreads retries
        first_attempt_at=due.first_attempt_at or began,
    )
    due_at: datetime | None = None
    disable: Disable | None = None
    match outcome:
        case Delivered(reason=reason, disable=disable):
            settled = "delivered"
            words = str(reason)
        case RetryAt(at=due_at, reason=reason):
            settled = "retry"
            words = str(reason)
        case GivenUp(reason=reason, end=end, disable=disable):
            settled = "dead"
            words = str(reason) if str(end) == str(reason) else f"{reason} ({end})"
        case _:
            assert_never(outcome)
    status, text = _shown(result)
    return Attempted(
        Settlement(
            org_id=due.org_id,
            subscription_id=due.subscription_id,
            event_id=due.event_id,
            generation=due.generation,
            lane_group=target.endpoint.lane_group,
            read_attempts=due.attempts,
            attempts=number,
            outcome=settled,
            due_at=due_at,
            reason=words,
            status_code=status,
            response=text,
            duration_ms=int(result.duration_seconds * 1000),
            attempt_id=attempt_id,
            began_at=began,
        ),
        reason,
        disable,
        result,
        ended,
    )


def end_unsent(target: Target, due: Due) -> str | None:
    """Why a delivery ends without a further attempt, if it does: what to send is no longer kept, or its last
    attempt took a worker down with it and was the last of its schedule.

    What has had more attempts because the schedule was shortened, or somebody asked for one more, has that
    one."""
    if not due.type:
        return "event_gone"
    if due.lost:
        end = end_unheard(due.attempts, target.schedule, due.due_at, due.first_attempt_at)
        return f"{WORKER_LOST} ({end})" if end else None
    return None


def never_sent(target: Target, due: Due, reason: str, moment: datetime) -> Settlement:
    """A dead letter without a further attempt: its attempts are used up, or there is nothing to send."""
    return Settlement(
        org_id=due.org_id,
        subscription_id=due.subscription_id,
        event_id=due.event_id,
        generation=due.generation,
        lane_group=target.endpoint.lane_group,
        read_attempts=due.attempts,
        attempts=due.attempts,
        outcome="dead",
        due_at=None,
        reason=reason,
        status_code=None,
        response=None,
        duration_ms=0,
        attempt_id=None,
        began_at=moment,
    )


def unsent(target: Target, due: Due, moment: datetime) -> Settlement:
    """Undoes the count of an attempt that was not made. The delivery stays a suspect."""
    return Settlement(
        org_id=due.org_id,
        subscription_id=due.subscription_id,
        event_id=due.event_id,
        generation=due.generation,
        lane_group=target.endpoint.lane_group,
        read_attempts=due.attempts,
        attempts=due.attempts - 1,
        outcome="retry",
        due_at=moment,
        reason=WORKER_LOST,
        status_code=None,
        response=None,
        duration_ms=0,
        attempt_id=None,
        began_at=moment,
    )


def after_a_lost_worker(target: Target, due: Due, moment: datetime) -> datetime:
    """When a delivery is due again if the worker does not survive this attempt."""
    delays = target.schedule.delays
    return moment + timedelta(seconds=delays[min(due.attempts, len(delays) - 1)] if delays else 5.0)


def _shown(result: Result) -> tuple[int | None, str | None]:
    match result:
        case Answered(status=status, text=text, cut=cut):
            return status, f"{text} [{cut}]" if cut else text or None
        case Failed(detail=detail):
            return None, detail or None
        case _:
            assert_never(result)
