"""The delivery worker: owns lanes, reads ahead, sends, settles. One event loop.

Ownership   which groups of lanes are ours, by beating
Reader      due deliveries into lanes
Dispatcher  whose turn it is
Suspects    counting what may have killed a worker, before it is sent
attempt     prepare → send → judge
Settler     what became of it, in batches
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import assert_never
from uuid import UUID

import structlog

from triggers.domain import AttemptOutcome, LaneId
from triggers.errors import TriggersError
from triggers.events.handover import Handover
from triggers.outbound.addresses import OutboundPolicy
from triggers.outbound.client import Outbound
from triggers.outbound.result import Reason
from triggers.postgres.clock import DatabaseClock
from triggers.postgres.database import Connection, Database
from triggers.postgres.time_bounds import LONG_LOOK_SECONDS
from triggers.push import metrics
from triggers.push import store as lane_store
from triggers.push.attempt import (
    Outgoing,
    after_a_lost_worker,
    attempt,
    end_unsent,
    never_sent,
    told,
    unsent,
)
from triggers.push.dispatcher import Dispatcher
from triggers.push.finder import Finder
from triggers.push.handed_over import deliveries_of
from triggers.push.lane import Lane, Target
from triggers.push.ownership import Ownership
from triggers.push.reader import Reader
from triggers.push.settler import (
    FAILING_TOO_LONG,
    Disabling,
    Ended,
    Settler,
)
from triggers.push.signature import Signer
from triggers.push.store import Begin, Due, Endpoint, Group, LaneHealth, Settlement
from triggers.push.suspects import Counted, Suspects, Suspicion
from triggers.secrets.key_ring import KeyRing
from triggers.secrets.signing_secrets import read_secret
from triggers.subscriptions.rules import living, open_headers, open_secrets

log = structlog.get_logger()

SLOTS = 512
"""Attempts in flight at most."""
HEALTH_SECONDS = 2.0
IDLE_LANE_SECONDS = 60.0
POSTPONED_SECONDS = 1.0
SKIPPED_SECONDS = 300.0
"""How long until a delivery is sent again if the database refused to store its attempt."""
SOON_SECONDS = 60.0
"""A retry that is due so soon gets a timer; later ones are found by looking."""


class Worker:
    """Everything of one process that delivers, on a database that is migrated."""

    def __init__(
        self,
        database: Database,
        clock: DatabaseClock,
        key_ring: KeyRing,
        policy: OutboundPolicy,
        *,
        disable_after_seconds: float,
        slots: int = SLOTS,
        outbound: Outbound | None = None,
    ) -> None:
        self._database = database
        self._clock = clock
        self._key_ring = key_ring
        self._disable_after = timedelta(seconds=disable_after_seconds)
        self._lanes: dict[LaneId, Lane] = {}
        self._unsettled: Counter[int] = Counter()  # by group: in flight, or not written yet
        self._held: dict[int, list[Lane]] = {}  # by group on probation: whose turn comes after that
        self._outbound = outbound or Outbound(policy, max_connections=slots)
        self.ownership = Ownership(
            database,
            clock,
            gained=self._gained,
            lost=self._lost,
            changed=self._changed,
            busy=lambda group_id: self._unsettled[group_id] > 0,
        )
        self._reader = Reader(database, self.ownership, self._lanes.get, self._load, self._offer)
        self._finder = Finder(database, self.ownership, self._lanes.get, self._reader.hint)
        self._suspicion = Suspicion()
        self._suspects = Suspects(database)
        self._settler = Settler(database, clock, self.ownership)
        self._dispatcher = Dispatcher(slots, self._now)
        self._looking: list[asyncio.Task[None]] = []
        self._senders: list[asyncio.Task[None]] = []
        self._duties: list[asyncio.Task[None]] = []
        self._noticed: dict[LaneId, datetime] = {}
        self._stopping = False

    async def start(self) -> None:
        """Appear among the workers and begin."""
        await lane_store.forget_workers(self._database)
        self._settler.start()
        self._suspects.start()
        await self.ownership.start()
        self._looking = [
            asyncio.create_task(self._finder.run(), name="finder"),
            asyncio.create_task(self._reader.run(), name="reader"),
        ]
        self._senders = [
            asyncio.create_task(self._send_forever(), name=f"sender {n}")
            for n in range(self._dispatcher.slots)
        ]
        self._duties = [
            asyncio.create_task(self._note_health(), name="endpoint health"),
            asyncio.create_task(self._measure(), name="lane metrics"),
        ]

    async def stop(self, seconds: float) -> None:
        """Begin nothing new, wait up to `seconds` for what is in flight, settle it, give everything back."""
        self._stopping = True
        for task in self._looking:
            task.cancel()
        await asyncio.gather(*self._looking, return_exceptions=True)
        for lane in self._lanes.values():
            self._empty(lane)
        deadline = time.monotonic() + seconds
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._dispatcher.idle(), max(0.0, deadline - time.monotonic()))
        for task in (*self._senders, *self._duties):
            task.cancel()
        await asyncio.gather(*self._senders, *self._duties, return_exceptions=True)
        await self._suspects.stop()
        await self._settler.stop()
        await self.ownership.stop()
        await self._outbound.close()

    async def broken(self) -> None:
        """Return when a part that must run for ever has ended, which only a bug of ours can bring about."""
        parts = {
            *self._looking,
            *self._senders,
            *self._duties,
            self._suspects.task,
            self._settler.task,
            self.ownership.task,
        }
        done, _ = await asyncio.wait(
            {part for part in parts if part is not None}, return_when=asyncio.FIRST_COMPLETED
        )
        for part in done:
            if not part.cancelled():
                log.critical("worker_part_ended", part=part.get_name(), exc_info=part.exception())

    def hint(self, lanes: Iterable[LaneId]) -> None:
        """These lanes may have something due: told by whoever just stored it."""
        for lane_id in lanes:
            self._reader.hint(lane_id)

    def hand_over(self, handover: Handover) -> None:
        """What this machine's API just stored: what is not taken is read."""
        for lane_id, dues in deliveries_of(handover).items():
            lane = self._lanes.get(lane_id)
            if self._stopping or lane is None or not self._reader.take_over(lane, dues, handover.asked_at):
                self._reader.hint(lane_id)

    # ---- sending ---------------------------------------------------------------------------------

    async def _send_forever(self) -> None:
        while True:
            lane, due = await self._dispatcher.next()
            group = self.ownership.group(lane.group)
            if self._stopping or group is None or not self.ownership.may_send(lane.group):
                self._dispatcher.give_back(lane, due)
                await self._until_trusted(lane)
                continue
            if group.probation and self._unsettled[lane.group]:
                lane.held = True
                self._held.setdefault(lane.group, []).append(lane)
                self._dispatcher.give_back(lane, due)
                continue
            self._hold(lane)  # the next one may go when the rate allows, not when this one is answered
            self._unsettled[lane.group] += 1
            try:
                await self._send(lane, due, group)
            finally:
                self._dispatcher.done(lane)
                self._hold(lane)

    async def _send(self, lane: Lane, due: Due, group: Group) -> None:
        target = lane.target
        companions = lane.take_companions()
        self._unsettled[lane.group] += len(companions)
        dues = [each for each in (due, *companions) if not self._end_unsent(lane, each)]
        suspected, chosen = self._suspicion.choose(group, lane.id, dues)
        counted = suspected or group.probation
        first = bool(dues) and not dues[0].attempts
        if counted and dues:
            dues = await self._count_first(lane, group, dues, chosen)
        if not dues:
            return
        due, *companions = dues
        outgoing = Outgoing(self._clock.mint(), target, due, counted, len(dues))
        ended = await attempt(outgoing, self._outbound, self._now)
        settlement = ended.settlement
        if first:
            metrics.lag_seconds.observe(max(0.0, (settlement.began_at - due.accepted_at).total_seconds()))
        disable = None
        if lane.target.endpoint.target_url == target.endpoint.target_url:  # else it says nothing of this one
            self._learn(lane, ended.reason, ended.at)
            disable = self._disabled_by(lane, ended.disable, ended.at)
        metrics.attempts(settlement.outcome, ended.reason).inc()
        metrics.attempt_seconds.observe(settlement.duration_ms / 1000)
        last = Ended(settlement, due.type, disable)
        self._settle(lane, due, last)
        for companion in companions:
            settlement = told(Outgoing(self._clock.mint(), target, companion, counted), ended)
            last = Ended(settlement, companion.type)
            self._settle(lane, companion, last)
        if counted:
            # Another death uses up an attempt of all that is counted and not settled. This keeps it to what
            # the lane may have under way.
            await _recorded(last)

    def _end_unsent(self, lane: Lane, due: Due) -> bool:
        """Settle a delivery that has no further attempt, if this is one."""
        reason = end_unsent(lane.target, due)
        if reason is None:
            return False
        self._settle(lane, due, Ended(never_sent(lane.target, due, reason, self._now()), due.type))
        return True

    async def _count_first(self, lane: Lane, group: Group, dues: list[Due], chosen: int) -> list[Due]:
        """Count deliveries of one request in the database before they are sent; return those that may go.

        `chosen`: how many of them are among the first of their lane.
        """
        target, now = lane.target, self._now()
        begins = [Begin(group, due, after_a_lost_worker(target, due, now)) for due in dues]
        answers = await self._suspects.count(begins)
        not_counted = len(answers) - answers.count(Counted.YES)
        self._suspicion.give_back(group, lane.id, min(chosen, not_counted))
        may_send = self._may_still_send(lane, target, group)
        going = []
        for (_, due, due_again_at), answer in zip(begins, answers, strict=True):
            if answer is Counted.NO:
                self._postpone(lane, due)
                continue
            lane.counted(due, due_again_at, now)
            if may_send and answer is Counted.YES:
                going.append(due)
            else:
                self._take_back(lane, target, due)
        return going

    def _may_still_send(self, lane: Lane, target: Target, group: Group) -> bool:
        """Whether an attempt may begin after a wait, in which ownership and settings may have changed."""
        owned = self.ownership.group(lane.group)
        return (
            not self._stopping
            and owned is not None
            and owned.token == group.token
            and self.ownership.may_send(lane.group)
            and lane.target is target
            and not lane.stale
        )

    def _take_back(self, lane: Lane, target: Target, due: Due) -> None:
        """An attempt was counted, or may have been, and is not made: undo that, then let it be read again."""
        ended = Ended(unsent(target, due, self._now()), due.type)
        ended.settled = lambda _: self._postpone(lane, due)
        self._settler.put(ended)

    def _ended(self, group_id: int) -> None:
        """One delivery of a group is no longer under way; on probation the next one may go."""
        self._unsettled[group_id] -= 1
        for lane in self._held.pop(group_id, ()):
            lane.held = False
            self._offer(lane)

    def _postpone(self, lane: Lane, due: Due) -> None:
        """Nothing was sent: let it be read again in a while."""
        self._ended(lane.group)
        self._reader.sent(due)
        self._reader.forget(lane, due.key)
        asyncio.get_running_loop().call_later(POSTPONED_SECONDS, self._read_again, lane)

    def _read_again(self, lane: Lane) -> None:
        lane.position.start_over()
        self._reader.hint(lane.id)

    def _hold_back(self, lane: Lane, due: Due) -> None:
        """Nothing is stored of an attempt, so its delivery is still due: do not send it again at once."""
        # It stays known for a while, so that no read returns it. The lane may have been disabled in memory
        # alone, so its settings are read again.
        self._close(lane)
        self._reader.hint(lane.id)

        def let_go() -> None:
            self._reader.forget(lane, due.key)
            self._read_again(lane)

        asyncio.get_running_loop().call_later(SKIPPED_SECONDS, let_go)

    def _settle(self, lane: Lane, due: Due, ended: Ended) -> None:
        # Knows nothing of `ended`, which knows it: only the collector could part them.
        def settled(written: Settlement | None) -> None:
            self._ended(lane.group)
            if written is None:
                self._hold_back(lane, due)
                return
            self._reader.forget(lane, due.key)
            if lane.ordered or lane.half_empty:
                self._reader.hint(lane.id)
            if written.due_at is not None:
                wait = (written.due_at - self._now()).total_seconds()
                if wait < SOON_SECONDS:
                    asyncio.get_running_loop().call_later(max(0.0, wait) + 0.002, self._reader.hint, lane.id)

        ended.settled = settled
        self._reader.sent(due)
        self._settler.put(ended, urgent=lane.ordered)  # the next one of its key waits for it
        match ended.settlement.outcome:
            case AttemptOutcome.DELIVERED:
                pass  # thousands a second: the metrics and the attempts themselves tell of them
            case AttemptOutcome.RETRY | AttemptOutcome.DEAD:
                log.info(
                    "attempt",
                    org_id=str(due.org_id),
                    subscription_id=str(due.subscription_id),
                    event_id=str(due.event_id),
                    attempt=ended.settlement.attempts,
                    outcome=ended.settlement.outcome,
                    reason=ended.settlement.reason,
                    status_code=ended.settlement.status_code,
                    duration_ms=ended.settlement.duration_ms,
                )
            case _:
                assert_never(ended.settlement.outcome)

    def _learn(self, lane: Lane, reason: Reason, now: datetime) -> None:
        was_open = lane.breaker.open
        if reason is Reason.DELIVERED:
            lane.breaker.succeeded(now)
        else:
            lane.breaker.failed(now, reason)
        if lane.breaker.open is not was_open:
            if lane.breaker.open:
                self._empty(lane)  # probes need one at a time: the rest would only fill the memory
            self._reader.hint(lane.id)

    def _disabled_by(self, lane: Lane, disable: str | None, now: datetime) -> Disabling | None:
        """Why this attempt disables the subscription: the endpoint said so, or has failed for too long."""
        if disable is None:
            since = lane.breaker.failing_since
            if since is None or now - since < self._disable_after:
                return None
            disable = FAILING_TOO_LONG
        self._empty(lane)
        lane.disable()
        return Disabling(str(disable), lane.target.endpoint.target_url)

    async def _until_trusted(self, lane: Lane) -> None:
        """After a delivery that could not be sent: not again before the owner is sure of itself."""
        await asyncio.sleep(0.05)
        self._offer(lane)  # and not to the dispatcher alone: a rate limit may hold the lane by now

    # ---- lanes -----------------------------------------------------------------------------------

    def _offer(self, lane: Lane) -> None:
        if not self._stopping:
            self._dispatcher.offer(lane)
            self._hold(lane)

    def _hold(self, lane: Lane) -> None:
        """If a rate limit or the breaker holds a lane, offer it again when it may let go."""
        if lane.offered or not lane.queue or not lane.paced or self._stopping:
            return
        wait = lane.wait_seconds(self._now())
        if wait is None:  # it may have let go since the lane was asked, a moment ago
            self._dispatcher.offer(lane)
            return
        loop = asyncio.get_running_loop()
        at = loop.time() + wait + 0.001
        if lane.timer is not None:
            if lane.timer.when() <= at:
                return
            lane.timer.cancel()
        lane.timer = loop.call_at(at, self._let_go, lane)

    def _let_go(self, lane: Lane) -> None:
        # Held again if it is too early still: the database's clock, learned anew, may have stepped back.
        lane.timer = None
        self._offer(lane)

    async def _load(self, connection: Connection, lane_ids: list[LaneId]) -> None:
        """Bring lanes into memory that are not there, and renew the settings of those that are stale."""
        missing = [each for each in lane_ids if (lane := self._lanes.get(each)) is None or lane.stale]
        if not missing:
            return
        for endpoint in await lane_store.endpoints(connection, missing):
            target = self._open(endpoint)
            lane = self._lanes.get((endpoint.org_id, endpoint.id))
            if target is None:
                continue
            if lane is None:
                self._lanes[endpoint.org_id, endpoint.id] = Lane(target)
            else:
                lane.renew(target)
            if target.ends_at is not None:
                wait = max(0.0, (target.ends_at - self._now()).total_seconds())
                asyncio.get_running_loop().call_later(wait, self._outlived, endpoint.org_id, target)

    def _outlived(self, org_id: UUID, target: Target) -> None:
        """A secret has ended: sign nothing more with it."""
        lane = self._lanes.get((org_id, target.endpoint.id))
        if lane is not None and lane.target is target:
            self._close(lane)
            self._reader.hint(lane.id)

    def _open(self, endpoint: Endpoint) -> Target | None:
        """Unseal what the attempts of an endpoint need. Whatever is wrong with one stops no other."""
        try:
            secrets = open_secrets(self._key_ring, endpoint.org_id, endpoint.id, endpoint.secrets)
            headers = open_headers(self._key_ring, endpoint.org_id, endpoint.id, endpoint.headers)
            signing = living(secrets, self._now())
            signer = Signer([read_secret(each.secret) for each in signing])
        except Exception as error:  # noqa: BLE001 - the worker serves every organisation
            # Of an error that is not ours only the name: its text may hold what was decrypted.
            reason = error.message if isinstance(error, TriggersError) else type(error).__name__
            log.error("subscription_unusable", subscription_id=str(endpoint.id), error=reason)
            return None
        ends_at = min((each.ends_at for each in signing if each.ends_at is not None), default=None)
        return Target.of(endpoint, signer, list(headers.items()), ends_at)

    def _gained(self, groups: list[int]) -> None:
        log.info("lanes_gained", groups=len(groups))
        self._finder.sweep(groups)

    def _lost(self, groups: list[int]) -> None:
        log.info("lanes_lost", groups=len(groups))
        gone = set(groups)
        for lane in self._lanes.values():
            if lane.group in gone:
                self._close(lane)

    def _changed(self, changed: dict[LaneId, datetime]) -> None:
        """Subscriptions were changed: empty their lanes and read their settings again.

        What a lane has is compared, not what was told before: it may have been read just before a
        change and have come here after it.
        """
        for lane_id, changed_at in changed.items():
            lane = self._lanes.get(lane_id)
            if lane is None:
                if self._noticed.get(lane_id) != changed_at:
                    self._reader.hint(lane_id)
            elif not lane.stale and lane.target.endpoint.changed_at != changed_at:
                self._close(lane)
                self._reader.hint(lane_id)
        self._noticed.update(changed)

    def _empty(self, lane: Lane) -> None:
        for due in lane.queue:
            self._reader.sent(due)
        lane.empty()

    def _close(self, lane: Lane) -> None:
        """Send nothing more until the settings are read again; remember what is in flight."""
        self._empty(lane)
        lane.stale = True

    # ---- duties ----------------------------------------------------------------------------------

    async def _note_health(self) -> None:
        """Store what changed about endpoints; forget lanes that have been idle."""
        while True:
            await asyncio.sleep(HEALTH_SECONDS)
            changed = [lane for lane in self._lanes.values() if lane.breaker.changed]
            idle_since = time.monotonic() - IDLE_LANE_SECONDS
            looked_at = self._now() - timedelta(seconds=2 * LONG_LOOK_SECONDS)
            self._noticed = {lane: at for lane, at in self._noticed.items() if at > looked_at}
            for lane in list(self._lanes.values()):
                if not lane.known and not lane.breaker.changed and lane.used_at < idle_since:
                    del self._lanes[lane.id]
            if not changed:
                continue
            for lane in changed:
                lane.breaker.changed = False
            try:
                await lane_store.note_health(self._database, [_health(lane) for lane in changed])
            except TriggersError as error:
                log.warning("health_unrecorded", error=error.message)
                for lane in changed:
                    lane.breaker.changed = True

    async def _measure(self) -> None:
        while True:
            await asyncio.sleep(HEALTH_SECONDS)
            metrics.groups_owned.set(len(self.ownership.groups))
            metrics.lanes_in_memory.set(len(self._lanes))
            metrics.in_flight.set(self._dispatcher.in_flight)
            metrics.breakers_open.set(sum(lane.breaker.open for lane in self._lanes.values()))
            try:
                async with self._database.connection() as connection:
                    due, oldest, now = await lane_store.backlog(connection, self.ownership.groups, 1_000)
            except TriggersError:
                continue
            metrics.due_sampled.set(due)
            metrics.oldest_due_seconds.set((now - oldest).total_seconds() if oldest else 0)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.now(), UTC)


async def _recorded(ended: Ended) -> None:
    """Wait until what ended is written, or given up with this worker."""
    recorded = asyncio.Event()
    settled = ended.settled

    def settled_and_recorded(written: Settlement | None) -> None:
        settled(written)
        recorded.set()

    ended.settled = settled_and_recorded
    await recorded.wait()


def _health(lane: Lane) -> LaneHealth:
    breaker = lane.breaker
    org_id: UUID = lane.id[0]
    return LaneHealth(
        org_id,
        lane.id[1],
        breaker.last_success_at,
        breaker.failing_since,
        breaker.probe_at,
        breaker.probe_delay if breaker.open else None,
    )
