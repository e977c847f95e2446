"""Describes in sentences how the deliveries of an event stand. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Final, Literal, NamedTuple

import msgspec

from triggers.console.words import clock, counted, duration, relative

_MOST_NAMED: Final = 3
"""Maximum number of deliveries that the sentences name. The others are only counted."""


class State(StrEnum):
    """The state of a delivery, as the console shows it. Each state has a colour and a shape."""

    ARRIVED = "arrived"
    WAITING = "waiting"
    FAILED = "failed"
    STOPPED = "stopped"


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """The present state of one delivery. `most_attempts` and `host` are None if they are not known."""

    name: str
    kind: Literal["push", "inbox"] = "push"
    status: str
    reason: str | None = None
    attempts: int = 0
    most_attempts: int | None = None
    host: str | None = None
    failed_with: str | None = None
    """The failure of the last attempt, such as `503`. None if there is none."""
    answer: str = ""
    """The first line of the answer to the last attempt. Empty if there is none, or the attempt arrived."""
    waiting_for: str | None = None
    next_at: datetime | None = None
    accepted_at: datetime
    settled_at: datetime | None = None

    @property
    def is_open(self) -> bool:
        """Whether something may still happen by itself."""
        return self.status in ("pending", "leased")

    @property
    def state(self) -> State:
        """The state to show."""
        match self.status:
            case "delivered" | "acknowledged":
                return State.ARRIVED
            case "dead" | "expired":
                return State.FAILED
            case "cancelled":
                return State.STOPPED
            case _ if (self.waiting_for or "").startswith("subscription_"):
                return State.STOPPED
            case _:
                return State.WAITING

    @property
    def word(self) -> str:
        """The state as one word."""
        match self.status:
            case "pending" if self.state is State.STOPPED:
                return (self.waiting_for or "").removeprefix("subscription_").capitalize()
            case "pending" if self.kind == "inbox":
                return "Available" if self.waiting_for != "delay" else "Delayed"
            case "pending":
                return "Retrying" if self.attempts else "Waiting"
            case "dead":
                return "Failed"
            case other:
                return other.capitalize()


class Piece(NamedTuple):
    """A part of a sentence. A `name` is the name of a subscription or an inbox. A `time` has `at`."""

    text: str
    kind: Literal["text", "name", "time"] = "text"
    at: datetime | None = None


def worst_first(standings: Sequence[Standing]) -> list[Standing]:
    """Sort deliveries by how much attention they need. Equal ones keep their order."""
    return sorted(standings, key=_rank)


def tell(standings: Sequence[Standing], now: datetime) -> list[Piece]:
    """Describe the deliveries of an event. Relative times count from `now`."""
    if not standings:
        return [Piece("Nothing is delivered: no subscription and no inbox matched this event.")]
    pushes = [each for each in worst_first(standings) if each.kind == "push"]
    missing = [each for each in pushes if each.state is not State.ARRIVED]
    told = _lead(pushes, len(pushes) - len(missing))
    for each in missing[:_MOST_NAMED]:
        told += [Piece(" "), *_of_push(each, now)]
    if len(missing) > _MOST_NAMED:
        others = len(missing) - _MOST_NAMED
        told.append(
            Piece(f" {counted(others, 'other')} {'has' if others == 1 else 'have'} not arrived either.")
        )
    inboxes = [each for each in worst_first(standings) if each.kind == "inbox"]
    for each in inboxes[:_MOST_NAMED]:
        told += [Piece(" "), *_of_inbox(each, now)]
    if len(inboxes) > _MOST_NAMED:
        others = len(inboxes) - _MOST_NAMED
        told.append(Piece(f" It is also in {others:,} other {'inbox' if others == 1 else 'inboxes'}."))
    return told if told[0].text != " " else told[1:]


def plain(pieces: Sequence[Piece]) -> str:
    """Return the sentences without markup."""
    return "".join(piece.text for piece in pieces)


def _rank(standing: Standing) -> int:
    match standing.status:
        case "dead" | "expired":
            return 0
        case "pending" if standing.attempts:
            return 1
        case "pending" if standing.state is State.STOPPED:
            return 2
        case "pending" if standing.kind == "push":
            return 3
        case "cancelled":
            return 4
        case "pending" | "leased":
            return 5
        case _:
            return 6


def _lead(pushes: Sequence[Standing], arrived: int) -> list[Piece]:
    match len(pushes):
        case 0:
            return []
        case 1 if not arrived:
            return []
        case 1:
            (only,) = pushes
            took = ""
            if only.settled_at is not None:
                took = f" in {duration((only.settled_at - only.accepted_at).total_seconds())}"
            return [Piece("Delivered to "), Piece(only.name, "name"), Piece(f"{took}.")]
        case 2 if arrived == 2:
            return [Piece("Delivered to both.")]
        case total if arrived == total:
            return [Piece(f"Delivered to all {total:,}.")]
        case total:
            return [Piece(f"Delivered to {arrived:,} of {total:,}.")]


def _failure_of(standing: Standing) -> str:
    """The last failure with its endpoint, empty if it is not known. Only a status comes from somebody."""
    if standing.failed_with is None:
        return ""
    met, host = standing.failed_with, standing.host or "its endpoint"
    if not met.isdecimal():
        return f"{met} ({host})"
    return f"{met} from {host}" + (f" (“{standing.answer}”)" if standing.answer else "")


def _of_push(standing: Standing, now: datetime) -> list[Piece]:
    name = Piece(standing.name, "name")
    met = _failure_of(standing)
    of = f" of {standing.most_attempts}" if standing.most_attempts else ""
    match standing.status, standing.waiting_for:
        case "dead", _:
            tried = counted(standing.attempts, "attempt")
            why = f": {met}" if met else ""
            return [Piece("The delivery to "), name, Piece(f" failed after {tried}{why}.")]
        case "cancelled", _:
            why = f": {standing.reason}" if standing.reason else ""
            return [Piece("The delivery to "), name, Piece(f" was cancelled{why}.")]
        case "expired", _:
            return [Piece("The delivery to "), name, Piece(" expired.")]
        case _, ("subscription_paused" | "subscription_disabled" | "subscription_deleting") as why:
            state = why.removeprefix("subscription_").replace("deleting", "being deleted")
            return [name, Piece(f" is {state}, so nothing is sent to it."), *_last_met(standing, met)]
        case _, waiting_for if standing.attempts:
            tried = f"attempt {standing.attempts}{of}"
            said = f" is failing: {met}, {tried}." if met else f" is failing: {tried}."
            return [name, Piece(said), *_next(waiting_for, standing.next_at, now)]
        case _, "failing_endpoint":
            said = " is failing, so this event waits."
            return [name, Piece(said), *_next("failing_endpoint", standing.next_at, now)]
        case _, "earlier_of_its_key":
            return [name, Piece(" waits until an earlier event of the same key is settled.")]
        case _, "retry_time" if standing.next_at is not None and standing.next_at > now:
            return [
                Piece("The delivery to "),
                name,
                Piece(" is due"),
                *_when(standing.next_at, now),
                Piece("."),
            ]
        case _:
            return [Piece("The first attempt for "), name, Piece(" has not begun yet.")]


def _last_met(standing: Standing, met: str) -> list[Piece]:
    return [Piece(f" The last attempt failed: {met}.")] if met else []


def _next(waiting_for: str | None, next_at: datetime | None, now: datetime) -> list[Piece]:
    if waiting_for == "earlier_of_its_key":
        return [Piece(" An earlier event of the same key is sent first.")]
    probe = waiting_for == "failing_endpoint"
    if next_at is None or next_at <= now:
        return [Piece(" The next probe follows at once." if probe else " The next attempt follows at once.")]
    return [
        Piece(" The next probe is" if probe else " The next attempt is"),
        *_when(next_at, now),
        Piece("."),
    ]


def _when(moment: datetime, now: datetime) -> list[Piece]:
    return [Piece(f" {relative(moment, now)} ("), Piece(clock(moment, now), "time", moment), Piece(")")]


def _of_inbox(standing: Standing, now: datetime) -> list[Piece]:
    name = Piece(standing.name, "name")
    match standing.status, standing.waiting_for:
        case "acknowledged", _:
            return [Piece("A consumer of "), name, Piece(" acknowledged it.")]
        case "leased", _:
            return [Piece("A consumer of "), name, Piece(" holds it now.")]
        case "dead", _:
            return [Piece("It is quarantined in "), name, Piece(f": {standing.reason or 'rejected'}.")]
        case "expired", _:
            return [Piece("It expired in "), name, Piece(" before a consumer acknowledged it.")]
        case "cancelled", _:
            return [Piece("It was cancelled in "), name, Piece(".")]
        case _, "delay" if standing.next_at is not None:
            return [
                Piece("Consumers of "),
                name,
                Piece(" can lease it"),
                *_when(standing.next_at, now),
                Piece("."),
            ]
        case _, "subscription_paused":
            return [name, Piece(" keeps it until the inbox is resumed.")]
        case _:
            return [name, Piece(" keeps it for a consumer.")]
