"""The delivery worker: puts its parts together, starts and stops them. One event loop.

Ownership    owns groups of lanes, and writes the heartbeat
Finder       finds lanes with due deliveries
Reader       reads due deliveries into lanes      Handovers   takes new deliveries from the API
Pacing       offers lanes that may send           Dispatcher  chooses the next delivery
Senders      count → attempt (prepare → send → judge) → learn → settle
Suspects     counts attempts that may kill the worker, before they are sent
Settlements  ends the turn of a delivery          Settler     writes results in batches
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable
from datetime import timedelta
from typing import NamedTuple

from triggers.background import Background, Duty
from triggers.domain import LaneId
from triggers.errors import TriggersError
from triggers.events.handover import Handover
from triggers.outbound.client import Outbound
from triggers.postgres.clock import DatabaseClock
from triggers.postgres.database import Database
from triggers.push import metrics, ownership_store
from triggers.push import store as lane_store
from triggers.push.dispatcher import Dispatcher
from triggers.push.endpoint_health import EndpointHealth
from triggers.push.finder import Finder
from triggers.push.handed_over import Handovers
from triggers.push.lane import Lane
from triggers.push.lanes import Lanes
from triggers.push.lanes_to_read import LanesToRead
from triggers.push.memory import PayloadMemory
from triggers.push.ownership import HEARTBEAT, Ownership
from triggers.push.pacing import Pacing
from triggers.push.read_ahead import Key
from triggers.push.reader import Reader, Supply
from triggers.push.sender import SenderParts, Senders
from triggers.push.settlements import Settlements
from triggers.push.settler import Settler
from triggers.push.suspects import Suspects
from triggers.push.under_way import UnderWay
from triggers.secrets.key_ring import KeyRing
from triggers.statistics.duties import Flush

SLOTS = 512
"""Maximum number of attempts in flight."""
HEALTH_SECONDS = 2.0
LOOK_SECONDS = 2.0
"""Interval between two searches for idle lanes."""


class WorkerOptions(NamedTuple):
    """Settings of the operator."""

    disable_after_seconds: float
    public_url: str = ""
    """Links in the service's own events begin with it. If it is empty, they are paths."""
    slots: int = SLOTS
    """Maximum number of attempts in flight, each on a connection of its own."""


class Worker:
    """All parts of a delivery worker. The database must be migrated."""

    def __init__(
        self,
        database: Database,
        clock: DatabaseClock,
        key_ring: KeyRing,
        outbound: Outbound,
        options: WorkerOptions,
    ) -> None:
        self._database = database
        self._outbound = outbound
        self._dispatcher = Dispatcher(options.slots, clock.moment)
        self._pacing = Pacing(self._dispatcher, clock.moment)
        self._under_way = UnderWay(self._pacing.offer)
        to_read = LanesToRead()
        memory = PayloadMemory(to_read.add)
        self.lanes = Lanes(key_ring, to_read, memory, clock.moment)
        self.ownership = Ownership(database, clock, self.lanes, gained=self._gained, busy=self._under_way.any)
        self._finder = Finder(database, self.ownership, self.lanes)
        self._handovers = Handovers(self.lanes, memory, self.ownership.owns, self._pacing.offer)
        supply = Supply(self.lanes, to_read, memory, self.ownership.owns, self._pacing.offer)
        self._reader = Reader(database, supply)
        self._settler = Settler(database, clock, self.ownership, options.public_url)
        self._statistics = Flush(database, self._settler.tally)
        self._suspects = Suspects(database)
        self._health = EndpointHealth(database, self.lanes, timedelta(seconds=options.disable_after_seconds))
        settlements = Settlements(
            clock=clock,
            settler=self._settler,
            under_way=self._under_way,
            lanes=self.lanes,
            forget=self._forget,
        )
        self._senders = Senders(
            SenderParts(
                clock=clock,
                ownership=self.ownership,
                pacing=self._pacing,
                under_way=self._under_way,
                suspects=self._suspects,
                outbound=outbound,
                health=self._health,
                settlements=settlements,
            )
        )
        self._looking = Background()
        self._sending = Background()
        self._settling = Background()
        self._beating = Background()

    async def start(self) -> None:
        """Register this worker in the database, and start its parts."""
        await ownership_store.forget_workers(self._database)
        await self.ownership.register()
        self._beating.loop(HEARTBEAT, self.ownership.beat, self.ownership.close)
        self._settling.run("settler", self._settler.run())
        self._sending.run("suspects", self._suspects.run())
        for _ in range(self._dispatcher.slots):
            self._sending.run("sender", self._senders.run())
        self._sending.start(Duty("endpoint health", HEALTH_SECONDS, self._health.store))
        self._sending.start(Duty("lane metrics", HEALTH_SECONDS, self._measure))
        self._sending.start(self._statistics.duty())
        self._looking.loop("finder", self._finder.look, self._finder.close)
        self._looking.loop("reader", self._reader.read, self._reader.close)
        self._looking.start(Duty("idle lanes", LOOK_SECONDS, self._forget_idle))

    async def stop(self, seconds: float) -> None:
        """Begin nothing new, wait up to `seconds` for attempts in flight, settle them, release all groups."""
        self._pacing.stop()
        await self._looking.stop()
        for lane in self.lanes:
            self.lanes.empty(lane)
        deadline = time.monotonic() + seconds
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._dispatcher.idle(), max(0.0, deadline - time.monotonic()))
        await self._sending.stop()
        await self._settling.unless_ended(self._settler.finish())
        await self._settling.stop()
        await self._statistics.finish()
        await self._beating.stop()
        await self.ownership.retire()
        await self._outbound.close()

    async def ended(self) -> None:
        """Return when a part that must run for ever has ended, which only a bug can cause."""
        parts = [asyncio.ensure_future(each.ended()) for each in self._backgrounds]
        await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
        for part in parts:
            part.cancel()

    @property
    def trouble(self) -> dict[str, str]:
        """The reason for each part that failed the last time, or has ended."""
        return {name: what for each in self._backgrounds for name, what in each.trouble.items()}

    @property
    def _backgrounds(self) -> tuple[Background, ...]:
        return self._looking, self._sending, self._settling, self._beating

    def hint(self, lanes: Iterable[LaneId]) -> None:
        """Note that these lanes may have due deliveries."""
        for lane_id in lanes:
            self.lanes.hint(lane_id)

    def hand_over(self, handover: Handover) -> None:
        """Take deliveries that the API of the same `serve` has just stored. Those not taken are read."""
        if not self._pacing.stopped:
            self._handovers.take(handover)

    def _forget(self, lane: Lane, key: Key) -> None:
        self._reader.forget(lane, key)
        self._handovers.settled(lane, key)

    def _gained(self, groups: list[int]) -> None:
        self._finder.sweep(groups)

    async def _forget_idle(self) -> None:
        self.lanes.forget_idle()

    async def _measure(self) -> None:
        metrics.groups_owned.set(len(self.ownership.groups))
        metrics.lanes_in_memory.set(len(self.lanes))
        metrics.in_flight.set(self._dispatcher.in_flight)
        metrics.breakers_open.set(sum(lane.breaker.open for lane in self.lanes))
        with contextlib.suppress(TriggersError):
            async with self._database.connection() as connection:
                due, oldest, now = await lane_store.backlog(connection, self.ownership.groups, 1_000)
            metrics.due_sampled.set(due)
            metrics.oldest_due_seconds.set((now - oldest).total_seconds() if oldest else 0)
