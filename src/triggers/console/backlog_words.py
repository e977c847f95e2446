"""Describes undelivered events, jobs and inboxes in words. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple

from triggers.console.story import Piece, State
from triggers.console.words import REASONS, capped, clock, duration, failure, relative, rough
from triggers.deliveries.overview_routes import UndeliveredView
from triggers.domain import parse_time
from triggers.inboxes.backlog import InboxBacklog
from triggers.inboxes.body import InboxView
from triggers.outbound.result import Reason
from triggers.replays.routes import ReplayView

TABS: Final = {"dead": "Dead", "pending": "Pending", "cancelled": "Cancelled", "expired": "Expired"}
"""The statuses of deliveries that did not arrive, with their names."""

MESSAGE_TABS: Final = {"available": "Available", "leased": "Leased", "quarantined": "Quarantined"}

VERBS: Final = {"replay": "Send again", "retry": "Retry now", "cancel": "Cancel"}
"""The actions of a job."""

_KINDS: Final = {
    "replay": "dead, cancelled and expired",
    "retry": "pending",
    "cancel": "pending",
}
_DONE: Final = {"replay": "sent again", "retry": "made due", "cancel": "cancelled"}
_JOB_STATES: Final = {
    "planned": (State.WAITING, "Planned"),
    "running": (State.WAITING, "Running"),
    "acting": (State.WAITING, "Running"),
    "done": (State.ARRIVED, "Done"),
    "cancelled": (State.STOPPED, "Cancelled"),
    "failed": (State.FAILED, "Failed"),
}


class InWords(NamedTuple):
    """A state with its word."""

    state: State
    word: str


def reason_in_words(reason: str | None) -> str:
    """Return the reason of a delivery in words. The service adds the reason of the end in brackets."""
    if reason is None:
        return ""
    met, _, end = reason.removesuffix(")").partition(" (")
    words = REASONS.get(Reason(met), met) if met in list(Reason) else met
    return f"{words}, no attempts left" if end == "exhausted" else words


def last_failure(each: UndeliveredView) -> str:
    """Return the last failure of a subscription, as the end of a sentence. Empty if none is known."""
    if each.last_status_code is not None:
        return failure(each.last_reason, each.last_status_code)
    return reason_in_words(each.last_reason)


def state_of(each: UndeliveredView) -> InWords:
    """Return the state of a subscription with undelivered events."""
    match each.status:
        case "disabled":
            return InWords(State.FAILED, "Disabled")
        case "paused":
            return InWords(State.STOPPED, "Paused")
        case _ if each.failing_since is not None:
            return InWords(State.FAILED, "Failing")
        case _ if each.dead:
            return InWords(State.FAILED, "Dead letters")
        case _:
            return InWords(State.WAITING, "Delivering")


def tell_undelivered(found: Sequence[UndeliveredView], *, more: bool) -> list[Piece]:
    """Describe the subscriptions of a page, worst first."""
    if not found:
        return [Piece("Nothing is undelivered.")]
    first = found[0]
    if len(found) == 1 and not more:
        return [
            Piece("Only "),
            Piece(first.name, "name"),
            Piece(f" has undelivered events: {_counts(first)}."),
        ]
    number = capped(len(found), exact=not more)
    return [
        Piece(f"{number} subscriptions have undelivered events. The worst is "),
        Piece(first.name, "name"),
        Piece(f": {_counts(first)}{_met(first)}."),
    ]


def tell_group(name: str, found: UndeliveredView | None, now: datetime) -> list[Piece]:
    """Describe the undelivered events of one subscription."""
    if found is None:
        return [Piece(name, "name"), Piece(" has no pending and no dead deliveries.")]
    told = [Piece(name, "name"), Piece(f" has {_counts(found)} {_deliveries(found)}.")]
    if met := last_failure(found):
        told.append(Piece(f" Last failure: {met}."))
    if found.oldest_pending is not None:
        told.append(Piece(f" The oldest pending one has waited for {_since(found.oldest_pending, now)}."))
    return told


def tell_plan(plan: ReplayView) -> list[Piece]:
    """Say exactly what a job would do."""
    name = Piece(plan.subscription_name, "name")
    if not plan.planned:
        return [name, Piece(f" has no {_KINDS[plan.action]} {_noun(plan, 0)} that match.")]
    number = _planned(plan)
    verb, rest = {
        "replay": ("sends", " again"),
        "retry": ("retries", " now"),
        "cancel": ("cancels", ""),
    }[plan.action]
    took = duration(max(1, math.ceil(plan.planned_seconds or 0)))
    return [
        Piece(f"This {verb} {number} {_noun(plan, plan.planned)} of "),
        name,
        Piece(f"{rest}: {_which(plan)}. At {plan.rate:,} a second it takes at least {took}."),
    ]


def state_of_job(job: ReplayView) -> InWords:
    """Return the state of a job."""
    return InWords(*_JOB_STATES[job.status])


def tell_job(job: ReplayView) -> list[Piece]:
    """Describe the progress of a job."""
    whole = job.status != "done" and bool(job.planned)
    of = f" of {_planned(job)}" if whole else ""
    one = job.made == 1 and not whole
    told = [
        Piece(f"{job.made:,}{of} {_noun(job, 1 if one else 2)} of "),
        Piece(job.subscription_name, "name"),
        Piece(
            f" {'was' if one else 'were'} {_DONE[job.action]}{' so far' if job.status == 'running' else ''}."
        ),
    ]
    if job.status == "cancelled":
        told.append(Piece(" Then the job was cancelled. The others are unchanged."))
    elif job.status == "done" and job.action != "replay" and job.made < (job.planned or 0):
        told.append(Piece(" The others had been sent or had ended before the job came to them."))
    elif job.reason:
        told.append(Piece(f" {job.reason}"))
    return told


def name_of_job(job: ReplayView) -> str:
    """Return the kind of a job in words."""
    return "Backfill" if job.kind == "backfill" else VERBS[job.action]


def state_of_inbox(inbox: InboxView) -> InWords:
    """Return the state of an inbox whose messages were counted."""
    backlog = backlog_of(inbox)
    match inbox.status:
        case "paused":
            return InWords(State.STOPPED, "Paused")
        case "deleting":
            return InWords(State.STOPPED, "Being deleted")
        case _ if backlog.quarantined:
            return InWords(State.FAILED, "Quarantine")
        case _ if backlog.messages:
            return InWords(State.WAITING, "Has messages")
        case _:
            return InWords(State.ARRIVED, "Empty")


def backlog_of(inbox: InboxView) -> InboxBacklog:
    """Return the numbers of an inbox that was asked for with them."""
    assert isinstance(inbox.backlog, InboxBacklog)
    return inbox.backlog


def tell_inboxes(inboxes: Sequence[InboxView]) -> list[Piece]:
    """Describe the inboxes of a page."""
    full = [each for each in inboxes if backlog_of(each).messages]
    if not inboxes:
        return []
    if not full:
        return [Piece("No message waits in an inbox.")]
    oldest = min(full, key=lambda each: backlog_of(each).oldest_message or "")
    held = backlog_of(oldest)
    number = f"{len(full):,} {'inbox has' if len(full) == 1 else 'inboxes have'} messages."
    return [
        Piece(f"{number} The oldest waits in "),
        Piece(oldest.key, "name"),
        Piece(f", which holds {capped(held.messages, exact=held.messages_exact)}."),
    ]


def tell_inbox(inbox: InboxView, now: datetime) -> list[Piece]:
    """Describe the messages of one inbox."""
    held = backlog_of(inbox)
    name = Piece(inbox.key, "name")
    if not held.messages:
        told = [name, Piece(" is empty.")]
    else:
        number = capped(held.messages, exact=held.messages_exact)
        noun = "message" if number == "1" else "messages"
        leased = capped(held.leased, exact=held.leased_exact or not held.leased)
        told = [name, Piece(f" holds {number} {noun}, of which {leased} ")]
        told.append(Piece("is leased." if held.leased == 1 else "are leased."))
        if held.oldest_message is not None:
            told.append(Piece(f" The oldest has waited for {_since(held.oldest_message, now)}."))
    if held.quarantined:
        number = capped(held.quarantined, exact=held.quarantined_exact)
        of_these = "message is" if number == "1" else "messages are"
        told.append(Piece(f" {number} {of_these} quarantined."))
    if inbox.status == "paused":
        told.append(Piece(" It is paused: consumers get only messages from before the pause."))
    if inbox.expires_at is not None and inbox.status != "deleting":
        at = parse_time(inbox.expires_at)
        told += [
            Piece(f" It expires {relative(at, now)} ("),
            Piece(clock(at, now), "time", at),
            Piece(") unless its consumer renews it. Then it is deleted, and its messages are cancelled."),
        ]
    return told


def _counts(each: UndeliveredView) -> str:
    dead = f"{capped(each.dead, exact=each.dead_exact)} dead" if each.dead or not each.dead_exact else ""
    pending = f"{capped(each.pending, exact=each.pending_exact)} pending" if each.pending else ""
    return " and ".join(filter(None, (dead, pending)))


def _deliveries(each: UndeliveredView) -> str:
    exact = each.dead_exact and each.pending_exact
    return "delivery" if exact and each.dead + each.pending == 1 else "deliveries"


def _met(each: UndeliveredView) -> str:
    met = last_failure(each)
    return f"; last failure: {met}" if met else ""


def _since(at: str, now: datetime) -> str:
    return rough(max(0.0, (now - parse_time(at)).total_seconds()))


def _noun(job: ReplayView, number: int) -> str:
    one, many = ("message", "messages") if job.subscription_kind == "inbox" else ("delivery", "deliveries")
    return one if number == 1 else many


def _planned(job: ReplayView) -> str:
    return f"{'' if job.planned_exact else 'about '}{job.planned or 0:,}"


def _which(plan: ReplayView) -> str:
    kinds = {
        "replay": "all that are dead, cancelled or expired",
        "retry": "all that are pending",
        "cancel": "all that are pending",
    }[plan.action]
    types = f", with the types {', '.join(plan.event_types)}" if plan.event_types else ""
    return f"{kinds}{types}"
