"""Collects the content of an event's page from the API: its deliveries with their attempts, worst first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple
from urllib.parse import urlsplit
from uuid import UUID

from triggers.console.api import Api
from triggers.console.story import Piece, Standing, State, tell, worst_first
from triggers.console.timeline import Chart, Course, Mark, Pause, Try, chart, reason_of_gap, reason_of_wait
from triggers.console.words import duration, failure, first_line
from triggers.deliveries.body import AttemptView
from triggers.deliveries.overview_routes import EventDelivery, OverviewRoutes
from triggers.deliveries.routes import DeliveryRoutes
from triggers.domain import Caller, parse_time
from triggers.events.consumer_note import ConsumerNote
from triggers.events.routes import DeliveryView, EventDetail, EventRoutes
from triggers.push.retry import DEFAULT_SCHEDULE

MAX_ROWS: Final = 100
MAX_ATTEMPTS: Final = 500
_AGAIN_SECONDS: Final = (5, 30)
"""Frames tell of attempts at once, but of no pause, lease and acknowledgement. Also, the time axis moves."""


class Story(NamedTuple):
    """One attempt in words: its result, and the reasons for the waits before and after it.

    `same_as` is the number of a later attempt that got exactly the same answer, or None.
    """

    attempt: AttemptView
    met: str
    state: State
    before: str
    after: str
    same_as: int | None


class ShownRow(NamedTuple):
    """One delivery on the page. `action` is the action that the page offers for it, or None.

    `note` is what the consumer of an inbox reported. It is not an attempt.
    """

    subscription_id: UUID
    standing: Standing
    stories: list[Story]
    marks: list[Mark]
    gaps: list[Pause]
    action: str | None
    may_cancel: bool
    note: ConsumerNote | None


class EventShown(NamedTuple):
    """Everything except the payload.

    `others`: deliveries without a row. `unsent`: subscriptions without a delivery, None if the caller may not
    see it. `again_seconds`: time after which an open page is drawn again in any case. It is None once nothing
    can change by itself.
    """

    event: EventDetail
    sentences: list[Piece]
    rows: list[ShownRow]
    others: int
    unsent: int | None
    chart: Chart
    again_seconds: int | None

    @property
    def leading(self) -> Standing | None:
        """The worst delivery, whose state stands for the event. Messages of inboxes count less."""
        standings = [row.standing for row in self.rows]
        pushes = [each for each in standings if each.kind == "push"]
        return next(iter(pushes or standings), None)


class Unshown(NamedTuple):
    """The number of further deliveries, and of subscriptions without one. None: the caller may not see it."""

    deliveries: int
    unsent: int | None


class FoundDelivery(NamedTuple):
    """A delivery. Only a caller who may list deliveries sees its subscription and its attempts."""

    delivery: DeliveryView | EventDelivery
    attempts: list[AttemptView]

    @property
    def detail(self) -> EventDelivery | None:
        return self.delivery if isinstance(self.delivery, EventDelivery) else None


async def gather(api: Api, caller: Caller, event_id: str, now: datetime) -> EventShown:
    """Ask the API for the event and its deliveries.

    Raises:
        NotFound, Forbidden: the same errors that the API answers with.
    """
    event = await api.ask(caller, EventRoutes.get_event, event_id=event_id)
    if not api.may(caller, OverviewRoutes.list_event_deliveries):
        latest = {each.subscription_id: each for each in event.deliveries}  # their generations are in order
        rows = sorted(latest.values(), key=_urgency)[:MAX_ROWS]
        return arrange(
            event, [FoundDelivery(each, []) for each in rows], now, Unshown(len(latest) - len(rows), None)
        )
    listed = await api.ask(
        caller, OverviewRoutes.list_event_deliveries, event_id=event_id, limit=str(MAX_ROWS)
    )
    made = await api.ask(
        caller, DeliveryRoutes.list_event_attempts, event_id=event_id, limit=str(MAX_ATTEMPTS)
    )
    attempts: dict[UUID, list[AttemptView]] = {}
    for each in reversed(made.data):
        attempts.setdefault(each.subscription_id, []).append(each)
    found = [FoundDelivery(each, attempts.get(each.subscription_id, [])) for each in listed.data]
    return arrange(event, found, now, Unshown(listed.total - len(found), listed.unsent))


def arrange(
    event: EventDetail, found: Sequence[FoundDelivery], now: datetime, unshown: Unshown
) -> EventShown:
    """Sort and describe the deliveries that were found, as the page shows them. Pure."""
    accepted_at = parse_time(event.created_at)
    standings = {each.delivery.subscription_id: _standing(each, accepted_at) for each in found}
    order = {id(standing): place for place, standing in enumerate(worst_first([*standings.values()]))}
    found = sorted(found, key=lambda each: order[id(standings[each.delivery.subscription_id])])
    courses = [_course(each, standings[each.delivery.subscription_id]) for each in found]
    drawn = chart(courses, accepted_at, now)
    rows = [
        _row(each, standings[each.delivery.subscription_id], course, *track)
        for each, course, track in zip(found, courses, drawn.tracks, strict=True)
    ]
    told = [row.standing for row in rows]
    return EventShown(
        event=event,
        sentences=tell(told, now),
        rows=rows,
        others=unshown.deliveries,
        unsent=unshown.unsent,
        chart=drawn,
        again_seconds=_again_seconds(told, now),
    )


def _urgency(delivery: DeliveryView) -> int:
    """Return the rank of a delivery. Low ranks are shown first."""
    order = ("dead", "expired", "pending", "leased", "cancelled")
    return order.index(delivery.status) if delivery.status in order else len(order)


def _standing(found: FoundDelivery, accepted_at: datetime) -> Standing:
    delivery, detail = found.delivery, found.detail
    last = found.attempts[-1] if found.attempts else None
    met, answer = None, ""
    if last is not None and last.outcome != "delivered":
        met, answer = failure(last.reason, last.status_code), first_line(last.response)
    target = None if detail is None else detail.target_url
    name = delivery.key if isinstance(delivery, DeliveryView) else delivery.name
    return Standing(
        name=name or str(delivery.subscription_id)[-8:],
        kind="inbox" if delivery.kind == "inbox" else "push",
        status=delivery.status,
        reason=delivery.reason,
        attempts=delivery.attempts,
        most_attempts=None if detail is None or detail.kind == "inbox" else len(_delays(detail)) + 1,
        host=urlsplit(target).hostname if target else None,
        failed_with=met,
        answer=answer,
        waiting_for=None if detail is None else detail.waiting_for,
        next_at=_time(delivery.due_at if detail is None else detail.next_at),
        accepted_at=accepted_at if detail is None else parse_time(detail.accepted_at),
        settled_at=_time(delivery.settled_at),
    )


def _delays(delivery: EventDelivery) -> tuple[float, ...]:
    """Return the seconds before the second attempt, before the third, and so on."""
    chosen = delivery.retry_delays
    return DEFAULT_SCHEDULE.delays if chosen is None else tuple(chosen)


def _course(found: FoundDelivery, standing: Standing) -> Course:
    tries = [
        Try(
            began_at=parse_time(each.began_at),
            duration=timedelta(milliseconds=each.duration_ms),
            generation=each.generation,
            number=each.attempt,
            outcome=each.outcome,
            reason=each.reason,
            retry_at=_time(each.retry_at),
        )
        for each in found.attempts
    ]
    return Course(
        tries=tries,
        delays=() if found.detail is None or found.detail.kind == "inbox" else _delays(found.detail),
        waiting_for=standing.waiting_for,
        next_at=standing.next_at,
        is_open=standing.is_open,
    )


def _row(
    found: FoundDelivery, standing: Standing, course: Course, marks: list[Mark], gaps: list[Pause]
) -> ShownRow:
    return ShownRow(
        subscription_id=found.delivery.subscription_id,
        standing=standing,
        stories=_stories(found.attempts, course, standing),
        marks=marks,
        gaps=gaps,
        action=None if found.detail is None else _action(standing),
        may_cancel=found.detail is not None and standing.is_open and standing.kind == "push",
        note=found.delivery.note,
    )


def _action(standing: Standing) -> str | None:
    """Return the action to offer: `retry` before the due time, `again` as a new generation, or `resume`."""
    match standing.status:
        case "dead" | "cancelled" | "expired":
            return "again"
        case "pending" if standing.waiting_for == "subscription_paused" and standing.kind == "push":
            return "resume"
        case "pending" if standing.waiting_for in ("retry_time", "failing_endpoint", "delay"):
            return "retry"
        case _:
            return None


def _stories(attempts: Sequence[AttemptView], course: Course, standing: Standing) -> list[Story]:
    stories: list[Story] = []
    newest = {_answer_of(each): each.attempt for each in attempts}
    for place, (attempt, each) in enumerate(zip(attempts, course.tries, strict=True)):
        before = course.tries[place - 1] if place else None
        later = course.tries[place + 1] if place + 1 < len(attempts) else None
        gap = reason_of_gap(before, each, course.delays)
        if later is not None:
            waited = duration((later.began_at - each.began_at).total_seconds())
            after = f"next attempt {waited} later: {reason_of_gap(each, later, course.delays)}"
        elif standing.is_open:
            after = f"waiting: {reason_of_wait(each, course)}"
        else:
            after = "" if standing.state is State.ARRIVED else "no attempt follows"
        stories.append(
            Story(
                attempt=attempt,
                met=failure(attempt.reason, attempt.status_code),
                state=State.ARRIVED if attempt.outcome == "delivered" else State.FAILED,
                before=gap if gap in ("sent again", "worker lost", "retried by hand") else "",
                after=after,
                same_as=_same_as(attempt, newest),
            )
        )
    return stories[::-1]


def _answer_of(attempt: AttemptView) -> tuple[int, int | None, str | None]:
    return attempt.generation, attempt.status_code, attempt.response


def _same_as(attempt: AttemptView, newest: Mapping[tuple[int, int | None, str | None], int]) -> int | None:
    """Return the number of the newest attempt with the same answer. Each generation has its own numbers."""
    number = newest[_answer_of(attempt)]
    return number if attempt.response and number != attempt.attempt else None


def _again_seconds(standings: Sequence[Standing], now: datetime) -> int | None:
    """Return the seconds until an open page is drawn again: fewer if the next attempt is soon."""
    waiting = [each for each in standings if each.is_open]
    if not waiting:
        return None
    near, far = _AGAIN_SECONDS
    if all(each.kind == "inbox" or each.state is State.STOPPED for each in waiting):
        return near
    times = [each.next_at for each in waiting if each.kind == "push"]
    left = min(((at - now).total_seconds() if at is not None else 0.0 for at in times), default=0.0)
    return near if left < 600 else far


def _time(text: str | None) -> datetime | None:
    return None if text is None else parse_time(text)
