"""Settles attempts in batches: one transaction for all attempts that end within 10 ms."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple, assert_never

import msgspec
import structlog

from triggers.domain import AttemptOutcome
from triggers.errors import DatabaseUnavailable
from triggers.events.matching import Judging
from triggers.events.service_events import (
    DEAD_LETTER,
    DISABLED,
    Told,
    tell,
)
from triggers.outbound.addresses import origin_of
from triggers.postgres.clock import DatabaseClock
from triggers.postgres.database import (
    PLAN_ONCE,
    Connection,
    Database,
    is_data_error,
)
from triggers.postgres.kept_connection import KeptConnection
from triggers.postgres.time_bounds import SETTLE_SECONDS
from triggers.push import store as lane_store
from triggers.push.attempt import put_off, without_answer
from triggers.push.counting import count
from triggers.push.ownership import Ownership
from triggers.push.store import DeliveryId, Settlement
from triggers.statistics.tally import Tally

log = structlog.get_logger()

BATCH = 1_000
GATHER_SECONDS = 0.01
"""Time for which an attempt waits for others, as a transaction costs as much as ten settlements."""
ENOUGH = 200
"""When this many attempts wait, they are written at once."""
PAUSE_SECONDS = 0.2
FAILING_TOO_LONG = "failing_too_long"


class Disabling(NamedTuple):
    """The reason to disable a subscription, and the URL that must still be its `target_url`."""

    reason: str
    target_url: str


class Ended(msgspec.Struct):
    """An attempt that ended: how to record it, and whether it disables its subscription."""

    settlement: Settlement
    event_type: str
    then: Callable[[Settlement | None], None]
    """Called with the settlement that was committed. If the database refused the first one, it is the one
    without the answer, or else the one that only delays the delivery. It is None if the database refused
    all of them. Then the row is unchanged."""
    disable: Disabling | None = None
    _recorded: asyncio.Event | None = None

    def settled(self, written: Settlement | None) -> None:
        """Report the settlement that was committed, or None."""
        self.then(written)
        if self._recorded is not None:
            self._recorded.set()

    async def recorded(self) -> None:
        """Wait until it is settled. Must be called in the same turn of the event loop as `Settler.put`."""
        self._recorded = asyncio.Event()
        await self._recorded.wait()

    @property
    def is_dead_letter(self) -> bool:
        """Whether the delivery is now a dead letter."""
        match self.settlement.outcome:
            case AttemptOutcome.DEAD:
                return True
            case AttemptOutcome.DELIVERED | AttemptOutcome.RETRY:
                return False
            case _:
                assert_never(self.settlement.outcome)


class Settler:
    """Writes attempts that ended. It repeats a write until it succeeds or this worker stops."""

    def __init__(
        self, database: Database, clock: DatabaseClock, ownership: Ownership, public_url: str = ""
    ) -> None:
        """Links in the service's own events begin with `public_url`. If it is empty, they are paths."""
        self._public_url = public_url.rstrip("/")
        self._connection = KeptConnection(database, SETTLE_SECONDS, PLAN_ONCE)
        self._clock = clock
        self._ownership = ownership
        self._judging = Judging(database)
        self.tally = Tally(clock.now)
        """The counts of deliveries, for the statistics."""
        self._ended: list[Ended] = []
        self._work = asyncio.Event()
        self._hurry = asyncio.Event()
        self._stopping = False
        self._all_written = asyncio.Event()

    async def finish(self) -> None:
        """Write what is left, but do not wait for a database that does not answer."""
        self._stopping = True
        self._hurry.set()
        if self._ended or not self._all_written.is_set():
            self._all_written.clear()
            self._work.set()
            await self._all_written.wait()

    def put(self, ended: Ended, *, urgent: bool = False) -> None:
        """Add an attempt to the next batch. `urgent`: write the batch at once, because others wait for it."""
        self._ended.append(ended)
        self._work.set()
        if urgent or len(self._ended) >= ENOUGH:
            self._hurry.set()

    async def run(self) -> None:
        """Write attempts as they end, until the worker stops."""
        try:
            while True:
                if not self._ended:
                    self._all_written.set()
                    self._work.clear()
                    await self._work.wait()
                    self._all_written.clear()
                    continue
                await self._gather()
                batch, self._ended = self._ended[:BATCH], self._ended[BATCH:]
                await self._write_or_split(batch)
        finally:
            self._connection.drop()

    async def _gather(self) -> None:
        """Wait a moment for more, unless there is enough, or somebody is waiting."""
        if len(self._ended) < ENOUGH and not self._hurry.is_set():
            timer = asyncio.get_running_loop().call_later(GATHER_SECONDS, self._hurry.set)
            await self._hurry.wait()
            timer.cancel()
        if not self._stopping:
            self._hurry.clear()

    async def _write_or_split(self, batch: list[Ended]) -> None:
        """Write a batch. One that the database refuses for its data is split until the guilty settlement
        stands alone, so that all others are written."""
        pieces = [batch]
        while pieces:
            piece = pieces.pop()
            refusal = await self._until_written(piece)
            if refusal is None:
                count(self.tally, [ended.settlement for ended in piece])
                for ended in piece:
                    ended.settled(ended.settlement)
            elif len(piece) == 1:
                await self._write_without_answer(piece[0], refusal)
            else:
                middle = len(piece) // 2
                pieces += [piece[middle:], piece[:middle]]

    async def _write_without_answer(self, refused: Ended, refusal: Exception) -> None:
        """Write an attempt again as an internal failure, without the answer. If this is also refused,
        only delay the delivery. If that is refused too, the row stays unchanged."""
        log.warning("settlement_refused", **_named(refused.settlement), error=repr(refusal))
        again: Exception | None = refusal
        if (settlement := without_answer(refused.settlement, self._clock.moment())) is not None:
            refused.settlement = settlement
            again = await self._until_written([refused])
        if again is None:
            count(self.tally, [refused.settlement])
            refused.settled(refused.settlement)
            return
        log.error("settlement_skipped", **_named(refused.settlement), error=repr(again))
        if (settlement := put_off(refused.settlement, self._clock.moment())) is not None:
            refused.settlement, refused.disable = settlement, None
            again = await self._until_written([refused])
        refused.settled(refused.settlement if again is None else None)

    async def _until_written(self, batch: list[Ended]) -> Exception | None:
        """Write a batch, as often as it takes until the database answers or this worker stops.

        Returns the error if the database refuses the data, else None.
        """
        while True:
            try:
                async with self._connection.use() as connection:
                    await self._write(connection, batch)
            except DatabaseUnavailable as error:
                log.warning("settle_failed", attempts=len(batch), error=repr(error.__cause__))
                if self._stopping:
                    log.error("attempts_unrecorded", attempts=len(batch))
                    return None
                await asyncio.sleep(PAUSE_SECONDS)
            except Exception as error:
                if not is_data_error(error):
                    raise
                return error
            else:
                return None

    async def _write(self, connection: Connection, batch: list[Ended]) -> None:
        groups = {ended.settlement.lane_group for ended in batch}
        tokens = [group for group_id in groups if (group := self._ownership.group(group_id)) is not None]
        settlements = [ended.settlement for ended in batch]
        notable = [e for e in batch if e.disable or e.is_dead_letter]
        if not notable:
            await lane_store.settle(connection, self._ownership.worker_id, tokens, settlements)
            return
        # The service's own events are stored in the transaction of the changes that they report.
        async with connection.transaction():
            changed = await lane_store.settle(connection, self._ownership.worker_id, tokens, settlements)
            await self._disable_and_tell(connection, notable, changed)

    async def _disable_and_tell(
        self, connection: Connection, notable: list[Ended], changed: set[DeliveryId]
    ) -> None:
        """`changed`: the failed deliveries whose state this settle changed. If it is repeated, none."""
        told: list[Told] = []
        for ended in notable:
            about = ended.settlement
            ours = about.delivery in changed
            if ours and ended.is_dead_letter and not ended.event_type.startswith("triggers."):
                told.append(Told(about.org_id, DEAD_LETTER, self._dead_letter(ended)))
            if ended.disable is None or (ended.disable.reason == FAILING_TOO_LONG and not ours):
                continue  # what a stale owner remembers may be out of date; an endpoint's own word stands
            reason, url = ended.disable
            if await lane_store.disable(connection, about.org_id, about.subscription_id, url, reason):
                subscription = {"subscription_id": str(about.subscription_id), "reason": reason}
                told.append(Told(about.org_id, DISABLED, subscription))
        await tell(connection, self._clock, self._judging, told)

    def _dead_letter(self, ended: Ended) -> dict[str, str | int | None]:
        """The payload of `triggers.delivery.dead`. Its readers may lack the scope `subscriptions`, so it has
        a link instead of the answer and of the path of the URL, which may contain a secret."""
        about = ended.settlement
        delivery_id = f"{about.event_id}.{about.subscription_id}"
        return {
            "event_id": str(about.event_id),
            "subscription_id": str(about.subscription_id),
            "generation": about.generation,
            "event_type": ended.event_type,
            "attempts": about.attempts,
            "reason": about.reason,
            "status_code": about.status_code,
            "endpoint": origin_of(about.target_url),
            "delivery": f"{self._public_url}/v1/deliveries/{delivery_id}",
        }


def _named(settlement: Settlement) -> dict[str, str | int]:
    """The fields of a log line about a delivery."""
    return {
        "org_id": str(settlement.org_id),
        "subscription_id": str(settlement.subscription_id),
        "event_id": str(settlement.event_id),
        "generation": settlement.generation,
        "attempt": settlement.attempts,
    }
