"""Counts events and deliveries in this process, by minute and subscription. It does no I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple
from uuid import UUID

import msgspec
import structlog

from triggers.domain import LaneId, OrgId
from triggers.room import Room
from triggers.statistics.lag import BUCKETS

log = structlog.get_logger()

WHOLE: Final = UUID(int=0)
"""Stands for the whole organisation in place of a subscription's id."""
MINUTE_SECONDS: Final = 60
ROWS: Final = 1_000
"""Maximum number of rows of one flush."""
PLACES: Final = 2 * ROWS
"""Maximum number of subscriptions with rows of their own. One organisation can have half of them, so one
flush can write the rows of all its subscriptions."""
IDLE_MINUTES: Final = 60
"""Time for which a subscription keeps its place after its last count."""
ENDED_MINUTES: Final = 10
"""Number of past minutes that are kept while the database does not answer."""


class Counts(msgspec.Struct):
    """The numbers of one row."""

    accepted: int = 0
    duplicate: int = 0
    delivered: int = 0
    failed: int = 0
    dead: int = 0
    lag: list[int] = msgspec.field(default_factory=lambda: [0] * BUCKETS)

    def add(self, other: Counts) -> None:
        """Add the numbers of another row."""
        self.accepted += other.accepted
        self.duplicate += other.duplicate
        self.delivered += other.delivered
        self.failed += other.failed
        self.dead += other.dead
        self.lag = [mine + its for mine, its in zip(self.lag, other.lag, strict=True)]

    @property
    def total(self) -> int:
        """A number that grows whenever something is counted."""
        return self.accepted + self.duplicate + self.delivered + self.failed + self.dead


class Row(NamedTuple):
    """The numbers of a minute so far, for a subscription or for a whole organisation.

    The numbers are absolute, so a row that is written again replaces the earlier one.
    """

    minute: int
    """Minutes since 1970, by the database's clock."""
    key: LaneId
    counts: Counts


class Counted(dict[LaneId, Counts]):
    """The counts of a minute. The first look-up of a key creates its counts. A subscription without a place
    shares the counts of its organisation."""

    def __init__(self, take_place: Callable[[LaneId], bool]) -> None:
        super().__init__()
        self._take_place = take_place

    def __missing__(self, key: LaneId) -> Counts:
        org_id, subscription_id = key
        has_row = subscription_id == WHOLE or self._take_place(key)
        found = self[key] = Counts() if has_row else self[org_id, WHOLE]
        return found

    def rows(self) -> list[tuple[LaneId, Counts]]:
        """Return the rows of organisations, and then the rows of subscriptions that have a place.

        The row of an organisation includes the numbers of all its subscriptions.
        """
        wholes: dict[LaneId, Counts] = {}
        parts: list[tuple[LaneId, Counts]] = []
        for key, counts in self.items():
            whole_key = (key[0], WHOLE)
            if key == whole_key:
                wholes.setdefault(key, Counts()).add(counts)
            elif counts is not self.get(whole_key):
                wholes.setdefault(whole_key, Counts()).add(counts)
                parts.append((key, counts))
        return [*wholes.items(), *parts]


class _Minute:
    """One minute. Its states: being counted → past → forgotten, when all its rows are written."""

    def __init__(self, number: int, counted: Counted) -> None:
        self.number = number
        self.counted = counted
        self._written: dict[LaneId, tuple[int, int]] = {}
        self._flushes = 0

    def changed(self) -> list[Row]:
        """Return the rows that changed since they were written: organisations first, oldest writes first."""
        found = []
        for key, counts in self.counted.rows():
            total, flush = self._written.get(key, (0, 0))
            if counts.total != total:
                found.append((key[1] != WHOLE, flush, key, counts))
        found.sort(key=lambda each: each[:2])
        return [Row(self.number, key, counts) for _, _, key, counts in found]

    def note_written(self, rows: Iterable[tuple[LaneId, int]]) -> None:
        """Note that rows were written, with the total that each had then."""
        self._flushes += 1
        for key, total in rows:
            self._written[key] = total, self._flushes


class Tally:
    """Counts by minute.

    A subscription has rows of its own while it has one of PLACES places. The others are counted for their
    organisations only. A place is free again after an hour in which nothing was counted for it.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        """`now`: the database's time, in seconds since 1970."""
        self._now = now
        self._room = Room(PLACES)
        self._active: dict[LaneId, int] = {}  # the minute of the last count of each subscription with a place
        self._minute = _Minute(0, Counted(self._take_place))
        self._over: list[_Minute] = []

    def counted(self) -> Counted:
        """The counts of the current minute, to be used at once."""
        minute = int(self._now()) // MINUTE_SECONDS
        if minute > self._minute.number:  # never an earlier minute, because its rows may be complete already
            self._begin(minute)
        return self._minute.counted

    def accept(self, stored: Mapping[OrgId, int]) -> None:
        """Count events that were stored, by organisation."""
        counted = self.counted()
        for org_id, number in stored.items():
            counted[org_id, WHOLE].accepted += number

    def repeat(self, org_id: UUID, number: int) -> None:
        """Count duplicates of events that were stored before."""
        self.counted()[org_id, WHOLE].duplicate += number

    def next_rows(self) -> tuple[list[Row], bool]:
        """Return copies of at most ROWS rows to write, and whether more rows of past minutes are left.

        The oldest minute comes first. Further rows of the current minute follow with the next flush.
        """
        self.counted()
        while self._over:
            rows = self._over[0].changed()
            if rows:
                more = len(rows) > ROWS or len(self._over) > 1
                return _copied(rows[:ROWS]), more
            del self._over[0]
        return _copied(self._minute.changed()[:ROWS]), False

    def note_written(self, rows: Sequence[Row]) -> None:
        """Note that rows of `next_rows` were written."""
        for minute in (*self._over, self._minute):
            minute.note_written((row.key, row.counts.total) for row in rows if row.minute == minute.number)

    def _begin(self, number: int) -> None:
        ended = self._minute
        self._minute = _Minute(number, Counted(self._take_place))
        for key in ended.counted.keys() & self._active.keys():
            self._active[key] = ended.number
        for key in [key for key, last in self._active.items() if number - last > IDLE_MINUTES]:
            del self._active[key]
            self._room.give_back(key[0])
        if ended.counted:
            self._over.append(ended)
        if len(self._over) > ENDED_MINUTES:
            lost = self._over.pop(0)
            log.warning("statistics_lost", minute=lost.number, rows=len(lost.counted))

    def _take_place(self, key: LaneId) -> bool:
        if key in self._active:
            return True
        if not self._room.take(key[0]):
            return False
        self._active[key] = int(self._now()) // MINUTE_SECONDS
        return True


def _copied(rows: Iterable[Row]) -> list[Row]:
    """Copy rows, because counting continues while they are written."""
    return [
        row._replace(counts=msgspec.structs.replace(row.counts, lag=list(row.counts.lag))) for row in rows
    ]
