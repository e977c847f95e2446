"""Finds what became visible since the last look, though rows do not become visible in their order."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from datetime import datetime, timedelta
from typing import Final, Generic, Protocol, Self, TypeVar

MAX_SEEN: Final = 5_000
"""Maximum number of rows that a look reads, and that are remembered."""


class Ordered(Protocol):
    """The place of a row: its id or its time."""

    def __gt__(self, other: Self, /) -> bool: ...
    def __lt__(self, other: Self, /) -> bool: ...


Row = TypeVar("Row", bound=Hashable)
Place = TypeVar("Place", bound=Ordered)


class Window(Generic[Row, Place]):
    """The last part of a log, which every look reads again, and the rows that were seen there before.

    A row bears the time at which something began, and becomes visible up to `lag_seconds` later. So each look
    reads what is younger than its predecessor by that much. If there are more than MAX_SEEN rows, only the
    youngest of them are read again.
    """

    def __init__(self, lag_seconds: float, place_of: Callable[[datetime], Place], now: datetime) -> None:
        """`place_of` gives the first place of a moment. `now` is a time of the database."""
        self._lag = timedelta(seconds=lag_seconds)
        self._place_of = place_of
        self._seen: dict[Row, Place] = {}
        self.start = place_of(now - self._lag)
        """The next look reads what comes after this place."""

    def new(self, found: Mapping[Row, Place], now: datetime) -> list[Row]:
        """Return the rows that no look has found before, in their order. `now`: the database's, at this look.

        `found` maps each row of this look to its place.
        """
        new = sorted(found.keys() - self._seen.keys(), key=found.__getitem__)
        self._seen |= found
        start = max(self.start, self._place_of(now - self._lag))
        if len(self._seen) >= MAX_SEEN:
            start = max(start, sorted(self._seen.values())[-MAX_SEEN])
        if start > self.start:
            self.start = start
            self._seen = {row: place for row, place in self._seen.items() if place > start}
        return new
