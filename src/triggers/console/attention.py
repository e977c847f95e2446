"""Says in sentences what of an organisation needs attention. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from statistics import median
from typing import Final, NamedTuple

import msgspec

from triggers.console.health import name_of
from triggers.console.story import Piece, State
from triggers.console.words import counted, duration, relative, rough
from triggers.domain import parse_time
from triggers.statistics.body import Statistics
from triggers.subscriptions.body import SubscriptionView

MOST_NAMED: Final = 5
"""Maximum number of subscriptions that are named for one reason. The others are only counted."""
DISABLED_FOR: Final = timedelta(days=14)
"""A subscription that was disabled longer ago needs no attention any more."""
LATE_SECONDS: Final = 10.0
"""Lag (P95) from which on first attempts begin late."""
OVERDUE: Final = timedelta(minutes=1)
BACKLOG_CAP: Final = 100_000
_GROWN: Final = 1.5
_LEAST_BACKLOG: Final = 100
_LEAST_SAMPLES: Final = 15


class Matter(NamedTuple):
    """Something that needs attention, and the page that shows more about it."""

    state: State
    pieces: list[Piece]
    path: str


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """The present state of an organisation, as far as it can need attention. `hour`: the last hour."""

    failing: Sequence[SubscriptionView]
    disabled: Sequence[SubscriptionView]
    paused: Sequence[SubscriptionView]
    some: Sequence[SubscriptionView]
    """Any subscriptions, to find those whose attempts are overdue."""
    hour: Statistics


def matters(facts: Facts, now: datetime) -> list[Matter]:
    """Return what needs attention, the most urgent first."""
    recent = [each for each in facts.disabled if now - parse_time(each.status_at) <= DISABLED_FOR]
    recent.sort(key=lambda each: each.status_at, reverse=True)
    holding = [each for each in facts.paused if each.oldest_pending is not None]
    holding.sort(key=lambda each: each.oldest_pending or "")
    failing = sorted(facts.failing, key=lambda each: each.failing_since or "")
    found = [
        *_whole(facts, now),
        *[_failing(each, now) for each in failing[:MOST_NAMED]],
        *_others(len(failing) - MOST_NAMED, "failing"),
        *[_disabled(each, now) for each in recent[:MOST_NAMED]],
        *_others(len(recent) - MOST_NAMED, "disabled"),
        *[_paused(each, now) for each in holding[:MOST_NAMED]],
        *_others(len(holding) - MOST_NAMED, "paused"),
    ]
    order = [State.FAILED, State.WAITING, State.STOPPED]
    return sorted(found, key=lambda each: order.index(each.state))


def tell_overview(found: Sequence[Matter], shown: Statistics) -> list[Piece]:
    """Return the first sentences of the page: what needs attention, and how much arrived."""
    lead = "1 thing needs attention." if len(found) == 1 else f"{len(found)} things need attention."
    length = {"1h": "hour", "24h": "24 hours", "14d": "14 days"}[shown.range]
    accepted = shown.totals.accepted or 0
    return [
        Piece(lead if found else "Nothing needs attention.", "name"),
        Piece(
            f" In the last {length}, {counted(accepted, 'event')} {'was' if accepted == 1 else 'were'}"
            f" accepted and {counted(shown.totals.delivered, 'push delivery', 'push deliveries')} arrived."
        ),
    ]


def growth(backlogs: Sequence[int]) -> tuple[int, int] | None:
    """Return from which number to which a backlog grew. None if it did not grow by much."""
    if len(backlogs) < _LEAST_SAMPLES:
        return None
    third = len(backlogs) // 3
    before, after = round(median(backlogs[:third])), round(median(backlogs[-third:]))
    return (before, after) if after >= max(_LEAST_BACKLOG, _GROWN * before) else None


def _whole(facts: Facts, now: datetime) -> list[Matter]:
    """The matters of the whole organisation."""
    totals, found = facts.hour.totals, []
    if totals.delivered == 0 and totals.failed > 0:
        attempts = "the only attempt" if totals.failed == 1 else f"all {totals.failed:,} attempts"
        found.append((State.FAILED, f"Nothing was delivered in the last hour: {attempts} failed."))
    elif totals.delivered == totals.failed == 0 and any(_is_overdue(each, now) for each in facts.some):
        text = "No attempt was made in the last hour, although deliveries are due. Check that a worker runs."
        found.append((State.FAILED, text))
    if totals.dead:
        number = counted(totals.dead, "delivery", "deliveries")
        text = f"{number} became dead letters in the last hour. Undelivered lists those not sent again."
        found.append((State.FAILED, text))
    grown = growth([point.backlog for point in facts.hour.points if point.backlog is not None])
    if grown is not None:
        most = "at least " if grown[1] >= BACKLOG_CAP else ""
        text = (
            f"The backlog grew from {grown[0]:,} to {most}{grown[1]:,} deliveries in the last hour"
            " (medians of its first and its last third)."
        )
        found.append((State.WAITING, text))
    if totals.lag_p95_seconds is not None and totals.lag_p95_seconds >= LATE_SECONDS:
        late = duration(totals.lag_p95_seconds)
        text = f"First attempts begin late: 1 of 20 began {late} or longer after its event was accepted."
        found.append((State.WAITING, text))
    return [Matter(state, [Piece(text)], "/undelivered") for state, text in found]


def _is_overdue(subscription: SubscriptionView, now: datetime) -> bool:
    at = subscription.next_attempt
    return at is not None and now - parse_time(at) > OVERDUE


def _failing(subscription: SubscriptionView, now: datetime) -> Matter:
    told = f" has been failing for {_length(subscription.failing_since, now)}."
    if subscription.oldest_pending is not None:
        told += f" Its oldest undelivered event is {_length(subscription.oldest_pending, now)} old."
    return Matter(State.FAILED, [_name(subscription), Piece(told)], f"/subscriptions/{subscription.id}")


def _disabled(subscription: SubscriptionView, now: datetime) -> Matter:
    why = f": {subscription.status_reason}" if subscription.status_reason else ""
    told = f" was disabled {relative(parse_time(subscription.status_at), now)}{why}."
    return Matter(State.STOPPED, [_name(subscription), Piece(told)], f"/subscriptions/{subscription.id}")


def _paused(subscription: SubscriptionView, now: datetime) -> Matter:
    age = _length(subscription.oldest_pending, now)
    told = f" is paused, and events wait for it. The oldest is {age} old."
    return Matter(State.STOPPED, [_name(subscription), Piece(told)], f"/undelivered/{subscription.id}")


def _others(number: int, word: str) -> list[Matter]:
    if number <= 0:
        return []
    state = State.FAILED if word == "failing" else State.STOPPED
    text = f"{counted(number, 'other')} {'is' if number == 1 else 'are'} {word} too."
    return [Matter(state, [Piece(text)], "/subscriptions")]


def _name(subscription: SubscriptionView) -> Piece:
    return Piece(name_of(subscription), "name")


def _length(since: str | None, now: datetime) -> str:
    return rough(max(0.0, (now - parse_time(since)).total_seconds())) if since else "a while"
