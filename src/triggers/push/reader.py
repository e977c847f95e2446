"""Reads ahead: one statement reads due deliveries of many lanes, and a second one reads their events.

There is one read at a time. A read may return a delivery as it was before a settlement that commits while
the read is under way. So the delivery is forgotten only when the read has ended.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, NamedTuple

from triggers.postgres.database import PLAN_ANEW, REQUEST_SECONDS, Connection, Database, Row
from triggers.postgres.kept_connection import KeptConnection
from triggers.postgres.read_position import BEGINNING, Position
from triggers.push import store as lane_store
from triggers.push.lane import Lane
from triggers.push.lanes import Lanes
from triggers.push.lanes_to_read import LanesToRead
from triggers.push.memory import PayloadMemory
from triggers.push.read_ahead import Key
from triggers.push.store import Due

LANES_A_READ: Final = 256
ROWS_A_READ: Final = 2_000
KNOWN_A_SECOND: Final = 10_000
FEW: Final = 50
"""A read from a lane's beginning returns its known rows again. A lane with more known rows than FEW is read
from its beginning only if all such reads return at most KNOWN_A_SECOND known rows per second on average."""
_FIELDS: Final = slice(1, 9)
"""The columns of a row that a Due has, from `event_id` to `lost`."""
_KEY: Final = slice(1, 3)
"""The columns `event_id` and `generation`."""


class Planned(NamedTuple):
    """A lane that is to be read, from where, and how many rows at most."""

    lane: Lane
    start: Position
    limit: int


class Supply(NamedTuple):
    """The parts of the worker that a reader uses."""

    lanes: Lanes
    to_read: LanesToRead
    memory: PayloadMemory
    owns: Callable[[int], bool]
    """Whether this worker owns a group of lanes."""
    filled: Callable[[Lane], None]
    """Called with each lane that got deliveries."""


class Reader:
    """Fills the lanes of this worker with due deliveries."""

    def __init__(self, database: Database, supply: Supply) -> None:
        self._connection = KeptConnection(database, REQUEST_SECONDS, PLAN_ANEW)
        self._lanes, self._to_read, self._memory, self._owns, self._filled = supply
        self._spare_at = 0.0  # from when on there is time to read what is known once more
        self._reading = False
        self._under_read: list[Lane] = []
        self._to_forget: list[tuple[Lane, Key]] = []

    def close(self) -> None:
        """Close its connection."""
        self._connection.drop()

    def forget(self, lane: Lane, key: Key) -> None:
        """Forget a settled delivery, because a read that begins now cannot return it in its old state."""
        if self._reading:
            self._to_forget.append((lane, key))
        else:
            lane.ahead.forget(key)

    async def read(self) -> None:
        """Wait until lanes may have due deliveries, and read them.

        Raises:
            DatabaseUnavailable: these lanes are read again the next time.
        """
        await self._to_read.wait()
        lane_ids = self._to_read.take(LANES_A_READ)
        try:
            for lane_id in lane_ids:
                if (lane := self._lanes.get(lane_id)) is not None:
                    lane.use()  # dropped as idle now, it would get its rows, and another too
            async with self._connection.use() as connection:
                await self._lanes.load(connection, lane_ids)
                lanes = [lane for each in lane_ids if (lane := self._lanes.get(each)) is not None]
                lanes = [lane for lane in lanes if lane.wants() and self._owns(lane.group)]
                await self._read(connection, lanes)
        except Exception:
            for lane_id in lane_ids:  # they have as much to read as before
                self._lanes.hint(lane_id)
            raise
        finally:
            self._end_read()

    async def _read(self, connection: Connection, lanes: list[Lane]) -> None:
        if not lanes:
            return
        share = max(1, ROWS_A_READ // len(lanes))
        self._reading = True
        plain = self.plan([lane for lane in lanes if not lane.ordered], share)
        ordered = [(lane, min(share, lane.wants())) for lane in lanes if lane.ordered]
        self._under_read = [planned.lane for planned in plain] + [lane for lane, _ in ordered]
        for lane in self._under_read:
            lane.ahead.begin_read()
        chosen: list[tuple[Lane, list[Due]]] = []
        if plain:
            found = await lane_store.read(
                connection,
                [planned.lane.id for planned in plain],
                [planned.start for planned in plain],
                [planned.limit for planned in plain],
            )
            for planned, rows in zip(plain, found, strict=True):
                chosen.append((planned.lane, self._choose(planned, rows)))
        if ordered:
            found = await lane_store.read_heads(
                connection,
                [lane.id for lane, _ in ordered],
                [lane.ahead.after_key for lane, _ in ordered],
                [limit for _, limit in ordered],
            )
            for (lane, limit), rows in zip(ordered, found, strict=True):
                chosen.append((lane, self._choose_heads(lane, rows, limit)))
        await self._fill(connection, chosen)

    def plan(self, lanes: list[Lane], share: int) -> list[Planned]:
        """Where the read of each lane begins and how many rows it asks for. Lanes beyond the total wait.

        Known rows count too. If many lanes were read from their beginnings, there could be a hundred
        thousand known rows, and every lane's next delivery would wait for them.
        """
        planned: list[Planned] = []
        asked = 0
        moment = time.monotonic()
        for lane in lanes:
            if asked >= 2 * ROWS_A_READ:
                self._lanes.hint(lane.id)
                continue
            known = len(lane.ahead.known)
            start = lane.ahead.position.start(moment, spare=known <= FEW or self._spare_at <= moment)
            if start is BEGINNING:
                self._spare_at = max(self._spare_at, moment) + known / KNOWN_A_SECOND
            limit = lane.ahead.known_from(start) + min(share, lane.wants())
            asked += limit
            planned.append(Planned(lane, start, limit))
        return planned

    def _choose(self, planned: Planned, found: list[Row]) -> list[Due]:
        """The rows that are new and fit into memory. Notes how far the read has come."""
        lane = planned.lane
        dues = _unknown(lane, found)
        fitting = self._memory.take(lane, dues)
        if len(fitting) < len(dues):
            # No room for its bytes: the next read begins where this one had to stop.
            lane.ahead.read_to(dues[len(fitting)].position, _now(found[0]))
        elif len(found) < planned.limit:
            lane.ahead.read_all(_now(found[-1]) if found else None)
        else:
            last = found[-1]
            lane.ahead.read_to((last["due_at"], last["event_id"]), _now(last))
        return fitting

    def _choose_heads(self, lane: Lane, found: list[Row], limit: int) -> list[Due]:
        """The same for an ordered lane, whose read returned the first row of each key, due or not."""
        dues = _unknown(lane, [row for row in found if row["due"]])
        fitting = self._memory.take(lane, dues)
        after_key = found[-1]["ordering_key"] if len(found) == limit else None
        lane.ahead.read_keys(after_key, all_due=len(fitting) == len(dues))
        return fitting

    async def _fill(self, connection: Connection, chosen: list[tuple[Lane, list[Due]]]) -> None:
        """Fetch the events of what was chosen, and hand each lane its rows."""
        try:
            await lane_store.read_contents(connection, [due for _, dues in chosen for due in dues])
        except BaseException:
            for lane, dues in chosen:
                self._drop(dues)
                lane.ahead.position.start_over()  # they lie behind the position by now
            raise
        self._end_read()
        for lane, dues in chosen:
            if lane.stale:  # it was emptied meanwhile: what was read may be out of date
                self._drop(dues)
                continue
            kept = dues
            if lane.breaker.open and len(dues) > lane.wants():  # it opened during the read
                kept = dues[: lane.wants()]
                self._drop(dues[len(kept) :])
                lane.ahead.position.start_over()  # the rest lies behind the position by now
            lane.ahead.add(kept)
            lane.use()
            if kept:
                self._filled(lane)
            if lane.half_empty and (kept or lane.ahead.after_key is not None):
                self._lanes.hint(lane.id)

    def _drop(self, dues: list[Due]) -> None:
        for due in dues:
            self._memory.free(due)

    def _end_read(self) -> None:
        self._reading = False
        moment = time.monotonic()
        for lane in self._under_read:
            lane.ahead.end_read(moment)
        self._under_read = []
        for lane, key in self._to_forget:
            lane.ahead.forget(key)
        self._to_forget.clear()


def _now(row: Row) -> datetime:
    return datetime.fromtimestamp(row["now"], UTC)


def _unknown(lane: Lane, rows: list[Row]) -> list[Due]:
    """The deliveries of the rows, without those that the lane knows."""
    known = lane.ahead.known
    return [Due(*lane.id, *row[_FIELDS]) for row in rows if row[_KEY] not in known]
