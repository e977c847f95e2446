"""The health of a subscription in words. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from urllib.parse import urlsplit

from triggers.console.story import Piece, State
from triggers.console.words import clock, relative, rough
from triggers.domain import parse_time
from triggers.subscriptions.body import SubscriptionView
from triggers.subscriptions.shown_name import shown_name


class HealthInWords(NamedTuple):
    """A subscription at a glance. `note` is the second line of its row, empty if there is nothing to say."""

    state: State
    word: str
    note: str


def name_of(subscription: SubscriptionView) -> str:
    """Return the name that people see: the name, or else the key, or else the host of the URL."""
    url = subscription.target_url_unicode or subscription.target_url
    return shown_name(subscription.name, subscription.key, url)


def host_of(subscription: SubscriptionView) -> str:
    """Return the host of its URL, in Unicode if it is an internationalised name."""
    return urlsplit(subscription.target_url_unicode or subscription.target_url).hostname or ""


def health_of(subscription: SubscriptionView, now: datetime) -> HealthInWords:
    """Return the health of a subscription."""
    if subscription.status == "disabled":
        return HealthInWords(State.FAILED, "Disabled", subscription.status_reason or "")
    if subscription.status == "paused":
        return HealthInWords(State.STOPPED, "Paused", f"for {_length(subscription.status_at, now)}")
    if subscription.failing_since is not None:
        return HealthInWords(State.FAILED, "Failing", f"for {_length(subscription.failing_since, now)}")
    if subscription.oldest_pending is not None:
        return HealthInWords(
            State.WAITING,
            "Delivering",
            f"the oldest event has waited for {_length(subscription.oldest_pending, now)}",
        )
    if subscription.last_success_at is None:
        return HealthInWords(State.WAITING, "New", "nothing delivered yet")
    return HealthInWords(State.ARRIVED, "Healthy", f"last delivery {_ago(subscription.last_success_at, now)}")


def tell_health(subscription: SubscriptionView, now: datetime) -> list[Piece]:
    """Describe the health of a subscription in sentences."""
    name = Piece(name_of(subscription), "name")
    told: list[Piece]
    match subscription.status:
        case "disabled":
            why = f": {subscription.status_reason}" if subscription.status_reason else ""
            told = [name, Piece(f" is disabled{why}. It matches no events until it is enabled.")]
        case "paused":
            told = [name, Piece(" is paused. Matching events are stored and sent when it is resumed.")]
        case _ if subscription.failing_since is not None:
            told = [name, Piece(f" has been failing for {_length(subscription.failing_since, now)}.")]
        case _ if subscription.last_success_at is None:
            told = [name, Piece(" is active. Nothing has been delivered to it yet.")]
        case _:
            last = parse_time(subscription.last_success_at)
            told = [name, Piece(f" is healthy: the last delivery arrived {relative(last, now)}.")]
    if subscription.oldest_pending is not None:
        told.append(
            Piece(f" Its oldest undelivered event is {_length(subscription.oldest_pending, now)} old.")
        )
    if subscription.next_attempt is not None:
        at = parse_time(subscription.next_attempt)
        if at > now:
            told += [
                Piece(f" The next attempt is {relative(at, now)} ("),
                Piece(clock(at, now), "time", at),
                Piece(")."),
            ]
    if subscription.filter_error is not None:
        told.append(Piece(f" Its filter failed: {subscription.filter_error}"))
    return told


def tell_due(subscription: SubscriptionView) -> str:
    """Say why deliveries that were asked for are not all sent at once. Empty if they are.

    The service tries a failing endpoint with the oldest delivery, which need not be one of these.
    """
    if subscription.status == "paused":
        return "The subscription is paused, so nothing is sent until it is resumed."
    if subscription.status != "active" or subscription.failing_since is None:
        return ""
    return (
        "The endpoint is failing, so one delivery is sent now as a test, and the others follow when it"
        " arrives."
    )


def sickest_first(subscriptions: Sequence[SubscriptionView], now: datetime) -> list[SubscriptionView]:
    """Sort subscriptions: those that need attention come first."""
    order = [State.FAILED, State.STOPPED, State.WAITING, State.ARRIVED]
    return sorted(subscriptions, key=lambda each: order.index(health_of(each, now).state))


def _length(since: str, now: datetime) -> str:
    return rough(max(0.0, (now - parse_time(since)).total_seconds()))


def _ago(at: str, now: datetime) -> str:
    return relative(parse_time(at), now)
