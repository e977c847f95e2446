"""Counts events and deliveries in this process, by minute and subscription. It does no I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Final, NamedTuple
from uuid import UUID

import msgspec
import structlog

from triggers.domain import LaneId, OrgId
from triggers.fairness.pace import Steps
from triggers.fairness.room import Room
from triggers.statistics.lag import BUCKETS

log = structlog.get_logger()

WHOLE: Final = UUID(int=0)
"""Stands for the whole organisation in place of a subscription's id."""
MINUTE_SECONDS: Final = 60
ROWS: Final = 1_000
"""Maximum number of rows of one flush."""
STEP_ROWS: Final = 100
"""Rows that one step looks at, so that thousands of them never hold up requests or deliveries."""
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


class MinuteCounts(dict[LaneId, Counts]):
    """The counts of a minute. The first look-up of a key creates its counts. A subscription without a place
    shares the counts of its organisation."""

    def __init__(self, take_place: Callable[[LaneId], bool]) -> None:
        super().__init__()
        self._take_place = take_place
        self._wholes: list[tuple[LaneId, Counts]] = []
        self.parts: list[tuple[LaneId, Counts]] = []
        """The subscriptions that have a place."""

    def __missing__(self, key: LaneId) -> Counts:
        org_id, subscription_id = key
        if subscription_id == WHOLE:
            found = Counts()
            self._wholes.append((key, found))
        elif self._take_place(key):
            found = Counts()
            self.parts.append((key, found))
        else:
            found = self[org_id, WHOLE]
        self[key] = found
        return found

    def rows(self) -> Steps[list[tuple[LaneId, Counts]]]:
        """The rows of all organisations, which contain the numbers of their subscriptions, and then those of
        the subscriptions that have a place. They are copies, because counting goes on between the steps."""
        wholes: dict[UUID, Counts] = {}
        parts: list[tuple[LaneId, Counts]] = []
        for piece in _pieces(self._wholes):
            for key, counts in piece:
                wholes[key[0]] = _copy(counts)
            yield
        for piece in _pieces(self.parts):
            for key, counts in piece:
                copy = _copy(counts)
                whole = wholes.get(key[0])
                if whole is None:
                    whole = wholes[key[0]] = Counts()
                whole.add(copy)
                parts.append((key, copy))
            yield
        return [*(((org_id, WHOLE), whole) for org_id, whole in wholes.items()), *parts]


class _Minute:
    """One minute. Its states: being counted → past → forgotten, when all its rows are written."""

    def __init__(self, number: int, counted: MinuteCounts) -> None:
        self.number = number
        self.counted = counted
        self._written: dict[LaneId, tuple[int, int]] = {}
        self._flushes = 0

    def changed(self) -> Steps[list[Row]]:
        """The rows that changed since they were written: organisations first, then what was written longest
        ago."""
        found: list[tuple[bool, int, Row]] = []
        for piece in _pieces((yield from self.counted.rows())):
            for key, counts in piece:
                total, flush = self._written.get(key, (0, 0))
                if counts.total != total:
                    found.append((key[1] != WHOLE, flush, Row(self.number, key, counts)))
            yield
        found.sort(key=itemgetter(0, 1))
        return [row for _, _, row in found]

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
        self._minute = _Minute(0, MinuteCounts(self._take_place))
        self._over: list[_Minute] = []

    def counted(self) -> MinuteCounts:
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

    def next_rows(self) -> Steps[tuple[list[Row], bool]]:
        """At most ROWS rows to write, the oldest minute first, and whether there are more of minutes that are
        over. Those of the current minute follow with the next flush."""
        self.counted()
        while self._over:
            minute = self._over[0]
            rows = yield from minute.changed()
            if rows:
                return rows[:ROWS], len(rows) > ROWS or len(self._over) > 1
            self._over = [each for each in self._over if each is not minute]
        rows = yield from self._minute.changed()
        return rows[:ROWS], False

    def note_written(self, rows: Sequence[Row]) -> None:
        """Note that rows of `next_rows` were written."""
        for minute in (*self._over, self._minute):
            minute.note_written((row.key, row.counts.total) for row in rows if row.minute == minute.number)

    def _begin(self, number: int) -> None:
        ended = self._minute
        self._minute = _Minute(number, MinuteCounts(self._take_place))
        for key, _ in ended.counted.parts:
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


def _pieces(rows: list[tuple[LaneId, Counts]]) -> Iterator[list[tuple[LaneId, Counts]]]:
    """The rows that there are now, STEP_ROWS at a time."""
    return (rows[start : start + STEP_ROWS] for start in range(0, len(rows), STEP_ROWS))


def _copy(counts: Counts) -> Counts:
    return msgspec.structs.replace(counts, lag=list(counts.lag))
