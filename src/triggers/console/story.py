"""What became of an event, in sentences: a pure function of its deliveries."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Final, Literal, NamedTuple

import msgspec

from triggers.console.words import clock, counted, duration, relative

_MOST_NAMED: Final = 3
"""Deliveries that the sentences name; the others are counted."""


class State(StrEnum):
    """What a person needs to know of a delivery at a glance. Each has a colour, a shape and a word."""

    ARRIVED = "arrived"
    WAITING = "waiting"
    FAILED = "failed"
    STOPPED = "stopped"


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How one delivery stands. `most_attempts` and `host` are None where they are not known."""

    name: str
    kind: Literal["push", "inbox"] = "push"
    status: str
    reason: str | None = None
    attempts: int = 0
    most_attempts: int | None = None
    host: str | None = None
    failed_with: str | None = None
    """What the last attempt met, such as `503`. None if there was none, or it arrived."""
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
        """The state in a word."""
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
    """A part of a sentence. A `name` is of a subscription or an inbox; `at` is the moment of a time."""

    text: str
    kind: Literal["text", "name", "time"] = "text"
    at: datetime | None = None


def worst_first(standings: Sequence[Standing]) -> list[Standing]:
    """In the order of what needs attention. Those alike keep their order."""
    return sorted(standings, key=_rank)


def tell(standings: Sequence[Standing], now: datetime) -> list[Piece]:
    """What became of an event with these deliveries. `now` is the moment that times are told from."""
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
        told.append(Piece(f" It is in {counted(len(inboxes) - _MOST_NAMED, 'other inbox')}es too."))
    return told if told[0].text != " " else told[1:]


def plain(pieces: Sequence[Piece]) -> str:
    """The sentences without their markup."""
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
        case total if arrived == total:
            return [Piece(f"Delivered to all {total:,}.")]
        case total:
            return [Piece(f"Delivered to {arrived:,} of {total:,}.")]


def _of_push(standing: Standing, now: datetime) -> list[Piece]:
    name = Piece(standing.name, "name")
    met = f"{standing.failed_with or 'no answer'} from {standing.host or 'its endpoint'}"
    of = f" of {standing.most_attempts}" if standing.most_attempts else ""
    match standing.status, standing.waiting_for:
        case "dead", _:
            return [name, Piece(f" gave up after {counted(standing.attempts, 'attempt')}: {met}.")]
        case "cancelled", _:
            why = f": {standing.reason}" if standing.reason else ""
            return [Piece("The delivery to "), name, Piece(f" was cancelled{why}.")]
        case "expired", _:
            return [Piece("The delivery to "), name, Piece(" expired.")]
        case _, ("subscription_paused" | "subscription_disabled" | "subscription_deleting") as why:
            state = why.removeprefix("subscription_").replace("deleting", "being deleted")
            return [name, Piece(f" is {state}, so nothing is sent to it."), *_last_met(standing, met)]
        case _, waiting_for if standing.attempts:
            said = f" is failing: {met}, attempt {standing.attempts}{of};"
            return [name, Piece(said), *_next(waiting_for, standing.next_at, now)]
        case _, "failing_endpoint":
            said = " is failing, so this event waits;"
            return [name, Piece(said), *_next("failing_endpoint", standing.next_at, now)]
        case _, "earlier_of_its_key":
            return [name, Piece(" sends an earlier event of the same key first.")]
        case _, "retry_time" if standing.next_at is not None and standing.next_at > now:
            return [name, Piece(" is due"), *_when(standing.next_at, now), Piece(".")]
        case _:
            return [name, Piece(" has it in line; the first attempt follows.")]


def _last_met(standing: Standing, met: str) -> list[Piece]:
    return [Piece(f" Its last attempt met {met}.")] if standing.attempts else []


def _next(waiting_for: str | None, next_at: datetime | None, now: datetime) -> list[Piece]:
    if waiting_for == "earlier_of_its_key":
        return [Piece(" an earlier event of the same key goes first.")]
    probe = waiting_for == "failing_endpoint"
    if next_at is None or next_at <= now:
        return [Piece(" the next probe follows at once." if probe else " the next follows at once.")]
    return [Piece(" next probe" if probe else " next"), *_when(next_at, now), Piece(".")]


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
            return [name, Piece(f" made it a dead letter: {standing.reason or 'rejected'}.")]
        case "expired", _:
            return [Piece("It expired in "), name, Piece(" before a consumer took it.")]
        case "cancelled", _:
            return [name, Piece(" dropped it: it was cancelled.")]
        case _, "delay" if standing.next_at is not None:
            return [name, Piece(" gives it out"), *_when(standing.next_at, now), Piece(".")]
        case _, "subscription_paused":
            return [name, Piece(" keeps it and is paused.")]
        case _:
            return [name, Piece(" keeps it for a consumer.")]
