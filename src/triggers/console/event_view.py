"""Collects the content of an event's page from the API: its deliveries with their attempts, worst first."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple
from urllib.parse import urlsplit
from uuid import UUID

from triggers.console.api import Api
from triggers.console.story import Piece, Standing, State, tell, worst_first
from triggers.console.timeline import Chart, Course, Mark, Pause, Try, chart, reason_of_gap, reason_of_wait
from triggers.console.words import duration, failure
from triggers.deliveries.body import AttemptView, DeliveryDetail
from triggers.deliveries.routes import DeliveryRoutes
from triggers.domain import Caller, parse_time
from triggers.errors import NotFound
from triggers.events.routes import DeliveryView, EventDetail, EventRoutes
from triggers.push.retry import DEFAULT_SCHEDULE
from triggers.subscriptions.body import SubscriptionView
from triggers.subscriptions.routes import SubscriptionRoutes

MAX_DETAILED: Final = 20
"""Maximum number of deliveries whose details are looked up, worst first. Each takes a few queries."""
MAX_ROWS: Final = 100
MAX_ATTEMPTS: Final = 500
_POLL_SECONDS: Final = (2, 5, 30)


class Story(NamedTuple):
    """One attempt in words: its result, and the reasons for the waits before and after it."""

    attempt: AttemptView
    met: str
    state: State
    before: str
    after: str


class ShownRow(NamedTuple):
    """One delivery on the page. `action` is the action that the page offers for it, or None."""

    subscription_id: UUID
    standing: Standing
    stories: list[Story]
    marks: list[Mark]
    gaps: list[Pause]
    action: str | None
    may_cancel: bool


class EventShown(NamedTuple):
    """Everything except the payload. `poll_seconds` is None once nothing can change by itself."""

    event: EventDetail
    sentences: list[Piece]
    rows: list[ShownRow]
    others: int
    chart: Chart
    sees_attempts: bool
    poll_seconds: int | None


class _Found(NamedTuple):
    delivery: DeliveryView
    detail: DeliveryDetail | None
    subscription: SubscriptionView | None
    attempts: list[AttemptView]


async def gather(api: Api, caller: Caller, event_id: str, now: datetime) -> EventShown:
    """Ask the API for the event and its deliveries.

    Raises:
        NotFound, Forbidden: the same errors that the API answers with.
    """
    event = await api.ask(caller, EventRoutes.get_event, event_id=event_id)
    sees_attempts = api.may(caller, DeliveryRoutes.list_event_attempts)
    attempts: dict[UUID, list[AttemptView]] = {}
    if sees_attempts:
        listed = await api.ask(
            caller, DeliveryRoutes.list_event_attempts, event_id=event_id, limit=str(MAX_ATTEMPTS)
        )
        for each in reversed(listed.data):
            attempts.setdefault(each.subscription_id, []).append(each)
    found: list[_Found] = []
    for delivery in sorted(event.deliveries, key=_urgency)[:MAX_ROWS]:
        detail = subscription = None
        if sees_attempts and len(found) < MAX_DETAILED:
            detail, subscription = await _look_up(api, caller, event, delivery)
        found.append(_Found(delivery, detail, subscription, attempts.get(delivery.subscription_id, [])))
    return arrange(event, found, now, sees_attempts=sees_attempts)


def arrange(event: EventDetail, found: Sequence[_Found], now: datetime, *, sees_attempts: bool) -> EventShown:
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
        others=len(event.deliveries) - len(rows),
        chart=drawn,
        sees_attempts=sees_attempts,
        poll_seconds=_poll_seconds(told, now),
    )


async def _look_up(
    api: Api, caller: Caller, event: EventDetail, delivery: DeliveryView
) -> tuple[DeliveryDetail | None, SubscriptionView | None]:
    try:
        detail = await api.ask(
            caller, DeliveryRoutes.get_delivery, delivery_id=f"{event.id}.{delivery.subscription_id}"
        )
        if delivery.kind != "push":
            return detail, None
        return detail, await api.ask(
            caller, SubscriptionRoutes.get_subscription, subscription_id=str(delivery.subscription_id)
        )
    except NotFound:  # deleted since the first call
        return None, None


def _urgency(delivery: DeliveryView) -> int:
    """Return the rank of a delivery whose details are not known yet. Low ranks are looked up first."""
    order = ("dead", "expired", "pending", "leased", "cancelled")
    return order.index(delivery.status) if delivery.status in order else len(order)


def _standing(found: _Found, accepted_at: datetime) -> Standing:
    delivery, detail, subscription, attempts = found
    last = attempts[-1] if attempts else None
    met = None
    if last is not None and last.outcome != "delivered":
        met = failure(last.reason, last.status_code)
    shown = detail or delivery
    target = None if detail is None else detail.target_url
    host = urlsplit(target).hostname if target else None
    name = delivery.key or (subscription.name if subscription is not None else None) or host
    return Standing(
        name=name or str(delivery.subscription_id)[-8:],
        kind="inbox" if delivery.kind == "inbox" else "push",
        status=shown.status,
        reason=shown.reason,
        attempts=shown.attempts,
        most_attempts=None if subscription is None else len(_delays(subscription)) + 1,
        host=host,
        failed_with=met,
        waiting_for=None if detail is None else detail.waiting_for,
        next_at=_time(detail.next_at if detail is not None else delivery.due_at),
        accepted_at=accepted_at if detail is None else (_time(detail.accepted_at) or accepted_at),
        settled_at=_time(shown.settled_at),
    )


def _delays(subscription: SubscriptionView) -> tuple[float, ...]:
    """Return the seconds before the second attempt, before the third, and so on."""
    chosen = subscription.retry.delays
    return DEFAULT_SCHEDULE.delays if chosen is None else tuple(chosen)


def _course(found: _Found, standing: Standing) -> Course:
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
        delays=() if found.subscription is None else _delays(found.subscription),
        waiting_for=standing.waiting_for,
        next_at=standing.next_at,
        is_open=standing.is_open,
    )


def _row(found: _Found, standing: Standing, course: Course, marks: list[Mark], gaps: list[Pause]) -> ShownRow:
    return ShownRow(
        subscription_id=found.delivery.subscription_id,
        standing=standing,
        stories=_stories(found.attempts, course, standing),
        marks=marks,
        gaps=gaps,
        action=None if found.detail is None else _action(standing),
        may_cancel=found.detail is not None and standing.is_open and standing.kind == "push",
    )


def _action(standing: Standing) -> str | None:
    """Return the action to offer: `retry` before the due time, `again` as a new generation, or `resume`."""
    match standing.status:
        case "dead" | "cancelled" | "expired":
            return "again"
        case "pending" if standing.waiting_for == "subscription_paused" and standing.kind == "push":
            return "resume"
        case "pending" if standing.waiting_for in ("retry_time", "delay"):
            return "retry"
        case _:
            return None


def _stories(attempts: Sequence[AttemptView], course: Course, standing: Standing) -> list[Story]:
    stories = []
    for place, (attempt, each) in enumerate(zip(attempts, course.tries, strict=True)):
        before = course.tries[place - 1] if place else None
        later = course.tries[place + 1] if place + 1 < len(attempts) else None
        gap = reason_of_gap(before, each, course.delays)
        if later is not None:
            waited = duration((later.began_at - each.began_at).total_seconds())
            after = f"next {waited} later: {reason_of_gap(each, later, course.delays)}"
        elif standing.is_open:
            after = f"now waits: {reason_of_wait(each, course)}"
        else:
            after = "" if standing.state is State.ARRIVED else "no attempt follows"
        stories.append(
            Story(
                attempt=attempt,
                met=failure(attempt.reason, attempt.status_code),
                state=State.ARRIVED if attempt.outcome == "delivered" else State.FAILED,
                before=gap if gap in ("sent again", "worker lost", "retried by hand") else "",
                after=after,
            )
        )
    return stories[::-1]


def _poll_seconds(standings: Sequence[Standing], now: datetime) -> int | None:
    """Return the seconds until an open page asks again: fewer if the next attempt is sooner."""
    waiting = [each for each in standings if each.is_open]
    if not waiting:
        return None
    soon, near, far = _POLL_SECONDS
    if all(each.kind == "inbox" or each.state is State.STOPPED for each in waiting):
        return near
    times = [each.next_at for each in waiting if each.kind == "push"]
    left = min(((at - now).total_seconds() if at is not None else 0.0 for at in times), default=0.0)
    return soon if left < 30 else near if left < 600 else far


def _time(text: str | None) -> datetime | None:
    return None if text is None else parse_time(text)
