"""Reads ahead: due deliveries of many lanes with one statement, their events with a second.

One read at a time. A settlement that commits while a read is under way may be younger than what
that read returns, so its delivery is forgotten only when the read has ended.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Awaitable, Callable
from typing import Final
from uuid import UUID

from triggers.domain import LaneId
from triggers.postgres.database import (
    REQUEST_SECONDS,
    Connection,
    Database,
    Row,
)
from triggers.postgres.read_position import BEGINNING, Position
from triggers.push import store as lane_store
from triggers.push.lane import Key, Lane
from triggers.push.ownership import Ownership
from triggers.push.store import Due

LANES_A_READ: Final = 256
ROWS_A_READ: Final = 2_000
KNOWN_A_SECOND: Final = 10_000
FEW: Final = 50
"""Rows that are known which reads from the beginning may return once more: of a lane with more than a
few, as many a second as leave the others their time."""
READ_AHEAD_BYTES: Final = 64 * 1024 * 1024
"""Payloads in memory, of which an organisation may fill a quarter. A lane that has nothing may go beyond it
for one delivery, until all of them have twice that."""
HANDOVER_SECONDS: Final = 1.0
"""What was handed over later than this after its flush began is read instead."""


class Reader:
    """Keeps the lanes of this worker supplied."""

    def __init__(
        self,
        database: Database,
        ownership: Ownership,
        lane: Callable[[LaneId], Lane | None],
        load: Callable[[Connection, list[LaneId]], Awaitable[None]],
        filled: Callable[[Lane], None],
    ) -> None:
        """With ways to find a lane in memory, to bring lanes there, and to tell that one has new rows."""
        self._database = database
        self._ownership = ownership
        self._lane = lane
        self._load = load
        self._filled = filled
        self._hungry: OrderedDict[UUID, deque[LaneId]] = OrderedDict()  # by organisation
        self._is_hungry: set[LaneId] = set()
        self._wake = asyncio.Event()
        self._spare_at = 0.0  # from when on there is time to read what is known once more
        self._reading = False
        self._to_forget: list[tuple[Lane, Key]] = []
        self._under_read: list[Lane] = []
        # Subscriptions and events: of the last HANDOVER_SECONDS, or of less, and of those before.
        self._forgotten: tuple[set[tuple[UUID, UUID]], ...] = (set(), set())
        self._forgotten_since = 0.0
        self._bytes = 0
        self._bytes_of: Counter[UUID] = Counter()
        self._crowded_out: set[LaneId] = set()  # without a row that fitted

    async def run(self) -> None:
        """Read, for ever."""
        await self._database.work_on(self._round, REQUEST_SECONDS, failed="read_failed")

    def hint(self, lane_id: LaneId) -> None:
        """This lane may have something to read."""
        if (lane := self._lane(lane_id)) is not None:
            if lane.wants_nothing:
                return
            lane.drained = False
        if lane_id not in self._is_hungry:
            self._is_hungry.add(lane_id)
            self._hungry.setdefault(lane_id[0], deque()).append(lane_id)
            self._wake.set()

    def forget(self, lane: Lane, key: Key) -> None:
        """A settlement is committed: no read that begins from now on returns the delivery as it was."""
        moment = time.monotonic()
        if moment >= self._forgotten_since + HANDOVER_SECONDS:
            self._forgotten, self._forgotten_since = (set(), self._forgotten[0]), moment
        self._forgotten[0].add((lane.id[1], key[0]))
        if self._reading:
            self._to_forget.append((lane, key))
        else:
            lane.forget(key)

    def take_over(self, lane: Lane, dues: list[Due], asked_at: float) -> bool:
        """Take what was stored by a flush that began at `asked_at`. False: it is to be read, or some of it.

        Only a lane that has all that was due before, and nothing that a read may have returned by now,
        be it under way still or sent and settled since.
        """
        if (
            not lane.drained
            or lane.stale
            or lane.ordered
            or lane.breaker.open
            or lane.wants() < len(dues)
            or lane.read_until == math.inf
            or asked_at < max(lane.renewed_at, time.monotonic() - HANDOVER_SECONDS)
            or self._ownership.group(lane.group) is None
        ):
            return False
        if asked_at <= lane.read_until:
            dues = [
                due
                for due in dues
                if due.key not in lane.known
                and not any((due.subscription_id, due.event_id) in some for some in self._forgotten)
            ]
        fitting = self._fitting(lane, dues)
        if fitting:
            lane.handed_over = True
            lane.add(fitting)
            self._filled(lane)
        return len(fitting) == len(dues)

    def sent(self, due: Due) -> None:
        """A payload left the memory."""
        self._bytes -= due.payload_size
        self._bytes_of[due.org_id] -= due.payload_size
        if not self._bytes_of[due.org_id]:
            del self._bytes_of[due.org_id]
        if self._crowded_out and self._bytes < READ_AHEAD_BYTES:
            crowded_out, self._crowded_out = self._crowded_out, set()
            for lane_id in crowded_out:
                self.hint(lane_id)

    # ---- the loop --------------------------------------------------------------------------------

    async def _round(self, connection: Connection) -> None:
        """Read for the lanes that are hungry, once there are any."""
        if not self._hungry:
            self._wake.clear()
            await self._wake.wait()
        try:
            await self._read(connection)
        finally:
            self._end_read()

    def _take_hungry(self) -> list[LaneId]:
        """In turn over organisations: one with a thousand lanes keeps no other from the next read."""
        taken: list[LaneId] = []
        while self._hungry and len(taken) < LANES_A_READ:
            org_id, lanes = self._hungry.popitem(last=False)
            taken.append(lanes.popleft())
            if lanes:
                self._hungry[org_id] = lanes
        self._is_hungry.difference_update(taken)
        return taken

    async def _read(self, connection: Connection) -> None:
        hungry = self._take_hungry()
        try:
            await self._read_lanes(connection, hungry)
        except Exception:
            for lane_id in hungry:  # they are as hungry as before
                self.hint(lane_id)
            raise

    async def _read_lanes(self, connection: Connection, hungry: list[LaneId]) -> None:
        for lane_id in hungry:
            if (lane := self._lane(lane_id)) is not None:
                lane.used_at = time.monotonic()  # dropped as idle now, it would get its rows, and another too
        await self._load(connection, hungry)
        lanes = [lane for lane_id in hungry if (lane := self._lane(lane_id)) is not None and lane.wants() > 0]
        lanes = [lane for lane in lanes if self._ownership.group(lane.group) is not None]
        if not lanes:
            return
        share = max(1, ROWS_A_READ // len(lanes))
        self._reading = True
        planned = self._plan([lane for lane in lanes if not lane.ordered], share)
        plain = [lane for lane, _, _ in planned]
        ordered = [lane for lane in lanes if lane.ordered]
        lanes = plain + ordered
        self._under_read = lanes
        for lane in lanes:
            lane.read_until, lane.handed_over = math.inf, False
        limits = [limit for _, _, limit in planned] + [min(share, lane.wants()) for lane in ordered]
        found: list[list[Row]] = []
        if plain:
            found += await lane_store.read(
                connection,
                [lane.id for lane in plain],
                [start for _, start, _ in planned],
                limits[: len(plain)],
            )
        if ordered:
            found += await lane_store.read_heads(
                connection,
                [lane.id for lane in ordered],
                [lane.after_key for lane in ordered],
                limits[len(plain) :],
            )
        chosen = [
            (lane, self._choose(lane, rows, limit))
            for lane, rows, limit in zip(lanes, found, limits, strict=True)
        ]
        await self._fill(connection, chosen)

    def _plan(self, lanes: list[Lane], share: int) -> list[tuple[Lane, Position, int]]:
        """From where each lane is read and how many rows it asks for; what would be too much waits.

        Rows that are known count too. Of many lanes that are read from their beginnings they could be
        a hundred thousand, and nobody's next delivery may wait for that.
        """
        planned: list[tuple[Lane, Position, int]] = []
        asked = 0
        moment = time.monotonic()
        for lane in lanes:
            if asked >= 2 * ROWS_A_READ:
                self.hint(lane.id)
                continue
            start = lane.position.start(moment, spare=len(lane.known) <= FEW or self._spare_at <= moment)
            if start is BEGINNING:
                self._spare_at = max(self._spare_at, moment) + len(lane.known) / KNOWN_A_SECOND
            limit = lane.known_from(start) + min(share, lane.wants())
            asked += limit
            planned.append((lane, start, limit))
        return planned

    async def _fill(self, connection: Connection, chosen: list[tuple[Lane, list[Due]]]) -> None:
        """Fetch the events of what was chosen, and hand each lane its rows."""
        try:
            await lane_store.read_contents(connection, [due for _, dues in chosen for due in dues])
        except BaseException:
            for lane, dues in chosen:
                self._drop(dues)
                lane.position.start_over()  # they lie behind the position by now
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
                lane.position.start_over()  # the rest lies behind the position by now
            lane.add(kept)
            if kept:
                self._filled(lane)
            if lane.half_empty and (kept or lane.after_key is not None):
                self.hint(lane.id)

    def _choose(self, lane: Lane, found: list[Row], limit: int) -> list[Due]:
        """Of what was read: what is new and fits. Notes how far the read has come."""
        dues = [
            Due(*lane.id, *row[1:9])
            for row in found
            if (row["event_id"], row["generation"]) not in lane.known and (not lane.ordered or row["due"])
        ]
        fitting = self._fitting(lane, dues)
        full = len(found) == limit
        if lane.ordered:
            lane.after_key = found[-1]["ordering_key"] if full else None
            lane.drained = not full and len(fitting) == len(dues)
        elif not found:
            lane.drained = True
        elif len(fitting) < len(dues):
            # No room for its bytes: the next read begins where this one had to stop.
            lane.moved(dues[len(fitting)].position, found[0]["now"], drained=False)
        else:
            last = found[-1]
            lane.moved((last["due_at"], last["event_id"]), last["now"], drained=not full)
        return fitting

    def _fitting(self, lane: Lane, dues: list[Due]) -> list[Due]:
        """As many of the first as the memory has room for, and takes that; one at least for a lane
        that has none."""
        for count, due in enumerate(dues):
            total = self._bytes + due.payload_size
            mine = self._bytes_of[lane.org_id] + due.payload_size
            full = total > READ_AHEAD_BYTES or mine > READ_AHEAD_BYTES // 4
            if full and (count or lane.known or total > 2 * READ_AHEAD_BYTES):
                if not count and not lane.known:
                    self._crowded_out.add(lane.id)
                return dues[:count]
            self._bytes, self._bytes_of[lane.org_id] = total, mine
        return dues

    def _drop(self, dues: list[Due]) -> None:
        for due in dues:
            self.sent(due)

    def _end_read(self) -> None:
        self._reading = False
        moment = time.monotonic()
        for lane in self._under_read:
            lane.read_until = moment
        self._under_read = []
        for lane, key in self._to_forget:
            lane.forget(key)
        self._to_forget.clear()
