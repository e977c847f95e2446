"""Describes the last attempts of a subscription: their results and times, and what waits. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

from triggers.console.story import Piece
from triggers.console.words import capped, duration, failure, first_line
from triggers.deliveries.body import AttemptView
from triggers.deliveries.overview_routes import UndeliveredView


class AttemptResult(NamedTuple):
    """One result of some attempts, whether it is a delivery, and its number."""

    text: str
    delivered: bool
    number: int


def results_of(attempts: Sequence[AttemptView]) -> list[AttemptResult]:
    """Return the results of some attempts. Frequent ones come first."""
    met = Counter((failure(each.reason, each.status_code), each.outcome == "delivered") for each in attempts)
    return [AttemptResult(*result, number) for result, number in met.most_common()]


def met_with(attempt: AttemptView) -> str:
    """Return the result of an attempt with the first line of the answer: `503: in maintenance`."""
    met = failure(attempt.reason, attempt.status_code)
    line = first_line(attempt.response) if attempt.status_code is not None else ""
    return f"{met}: {line}" if line else met


def tell_times(attempts: Sequence[AttemptView]) -> str:
    """Say how fast the endpoint answered. Empty if it never did."""
    seconds = [each.duration_ms / 1000 for each in attempts if each.status_code is not None]
    if not seconds:
        return ""
    if len(seconds) == 1:
        return f"The last answer took {duration(seconds[0])}."
    return (
        f"The endpoint answers in {duration(median(seconds))} (median of the last {len(seconds)} answers)."
        f" The slowest answer took {duration(max(seconds))}."
    )


def tell_waiting(group: UndeliveredView | None, attempts: Sequence[AttemptView]) -> list[Piece]:
    """Say how many deliveries wait, and how the last attempt failed. Empty if it did not."""
    told = []
    if group is not None and group.pending:
        number = capped(group.pending, exact=group.pending_exact)
        told.append(Piece(f" {number} {'delivery waits' if number == '1' else 'deliveries wait'}."))
    if attempts and attempts[0].outcome != "delivered":
        told.append(Piece(f" The last attempt failed with {met_with(attempts[0])}."))
    return told


def undelivered_words(group: UndeliveredView) -> str:
    """Return the text of the link to the undelivered events, with their number."""
    exact = group.pending_exact and group.dead_exact
    return f"Undelivered ({capped(group.pending + group.dead, exact=exact)})"


def last_success(known: str | None, attempts: Sequence[AttemptView]) -> str | None:
    """Return the time of the last success. The subscription's own time is stored later than its attempts."""
    times = [each.began_at for each in attempts if each.outcome == "delivered"]
    return max(filter(None, (known, *times[:1])), default=None)
