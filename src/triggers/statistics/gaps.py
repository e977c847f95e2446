"""Finds the times for which there are no numbers, because nobody wrote them. Pure."""

from __future__ import annotations

from collections.abc import Container
from datetime import datetime, timedelta
from itertools import groupby
from typing import Final, NamedTuple

SHORTEST: Final = timedelta(minutes=3)
"""A restart, or many organisations whose samples take longer than a minute, leave out single minutes."""
LATE: Final = timedelta(minutes=1)
"""Time until the sample of a minute is written."""


class Gap(NamedTuple):
    """A time without numbers."""

    since: datetime
    until: datetime


def gaps(since: datetime, step: timedelta, known: Container[datetime], now: datetime) -> list[Gap]:
    """Return the gaps from `since` to now, oldest first. `known`: the beginnings of the steps with numbers.

    Steps that ended only just now are not judged, because their numbers may still be written.
    """
    number = max(0, (now - LATE - since) // step)
    found = []
    for is_known, run in groupby(range(number), lambda place: since + step * place in known):
        places = list(run)
        if not is_known and step * len(places) >= SHORTEST:
            found.append(Gap(since + step * places[0], since + step * (places[-1] + 1)))
    return found
