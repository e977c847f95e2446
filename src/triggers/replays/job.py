"""Runs backfills and replays: creates deliveries of past events in chunks, at a bounded rate.

One transaction stores the deliveries of a chunk and the progress of the job. If a node dies, the next node
continues from there, so no delivery is missed or made twice. A job waits while its lane has a backlog, so
that live deliveries wait behind a bounded number of old ones.
"""

from __future__ import annotations

import math
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

import structlog

from triggers.background import Duty
from triggers.deliveries import store as delivery_store
from triggers.deliveries.owing import PastEvent, events_of, id_after, match_again, that_fit
from triggers.deliveries.store import Recipient
from triggers.domain import OrgId, first_id_at, type_matches
from triggers.events import matching_store as judging_store
from triggers.events.matching import RECORD_EVERY
from triggers.events.matching_store import FilterFailure
from triggers.postgres.database import (
    Connection,
    Database,
    is_data_error,
)
from triggers.postgres.time_bounds import ACCEPTS_ENDED
from triggers.replays import actions
from triggers.replays import store as replay_store
from triggers.replays.actions import Chunk
from triggers.replays.store import (
    Action,
    FirstOf,
    Job,
    NewReplay,
    WaitingJob,
)
from triggers.wakeups.wakeup import Wakeup

log = structlog.get_logger()

CHUNK_DELIVERIES: Final = 500
"""Deliveries that one transaction makes. A slow job makes those of a quarter of a second."""
SCAN: Final = 2_000
"""Events that one transaction looks at."""
BACKLOG: Final = 1_000
"""Deliveries that may be due in a lane before a job adds to them."""
HOLD_SECONDS: Final = 0.5
POLL_SECONDS: Final = 0.5
JOBS_A_ROUND: Final = 20
PLAN_EVENTS: Final = 10_000
"""Events that a plan looks at. The deliveries of further events are estimated."""
PLAN_JUDGED: Final = 200


class ReplayPlan(NamedTuple):
    """The plan of a replay: the number of deliveries (counted, or estimated), and its duration from now.

    It makes `rate` deliveries a second from `start` on, or at once if that is None.
    """

    deliveries: int
    exact: bool
    rate: int
    start: datetime | None
    seconds: float


class Range(NamedTuple):
    """The events to replay: first_id <= id < end_id, of these types, all or only undelivered ones."""

    first_id: UUID
    end_id: UUID
    event_types: list[str] | None
    only_dead: bool
    action: Action = "replay"


class Replaying:
    """A duty of every node that serves the API: runs a chunk of each waiting job, again and again."""

    def __init__(self, database: Database, wakeup: Wakeup) -> None:
        self._database = database
        self._wakeup = wakeup

    def duty(self) -> Duty:
        """A chunk for each waiting job. One that is cut off is rolled back, and is done again later."""
        return Duty("replays", POLL_SECONDS, self._round)

    async def _round(self) -> bool:
        busy = False
        for job in await replay_store.waiting(self._database, JOBS_A_ROUND):
            chunk = await run_chunk(self._database, job)
            busy |= chunk is not None
            if chunk is not None and chunk.made:
                self._wakeup.give({chunk.org_id}, [(chunk.org_id, chunk.subscription_id)])
        return busy


# ---- a chunk -------------------------------------------------------------------------------------


async def run_chunk(database: Database, waiting: WaitingJob) -> Chunk | None:
    """Do the next chunk of a job; None if another node does it or it may not go on now."""
    failures: list[FilterFailure] = []
    try:
        async with database.connection() as connection, connection.transaction():
            chunk = await _chunk(connection, waiting, failures)
    except Exception as error:
        if not is_data_error(error):
            raise
        log.error("replay_failed", replay_id=str(waiting.id), error=repr(error))
        async with database.connection() as connection:
            await replay_store.finish(connection, waiting, "failed", "The database rejected a delivery.")
            await replay_store.let_live_go(connection, waiting.org_id, waiting.subscription_id)
        return None
    if failures:
        await judging_store.record(database, failures[:1], RECORD_EVERY)
    return chunk


async def _chunk(connection: Connection, waiting: WaitingJob, failures: list[FilterFailure]) -> Chunk | None:
    org_id, subscription_id = waiting.org_id, waiting.subscription_id
    # The subscription before the job, as deleting it does, so that the two never wait in a ring.
    if not await delivery_store.lock_recipient(connection, org_id, subscription_id, wait=False):
        return None
    job = await replay_store.claim(connection, org_id, waiting.id)
    to = await delivery_store.find_recipient(connection, org_id, subscription_id)
    if job is None or to is None:
        return None
    if to.ended:
        await replay_store.finish(connection, waiting, "cancelled", f"The subscription is {to.status}.")
        return None
    # Where order is kept, what is due may stand behind a key that is blocked, and holds nobody up.
    if to.kind == "push" and to.ordering == "none" and job.action != "cancel":
        due = await replay_store.due_already(connection, org_id, subscription_id, BACKLOG)
        if due == BACKLOG:
            await replay_store.hold(
                connection,
                job,
                HOLD_SECONDS,
                f"Waiting because {BACKLOG} deliveries are already due.",
            )
            return None
    if job.action != "replay":
        return await actions.act(connection, job, min(CHUNK_DELIVERIES, math.ceil(job.rate / 4)))
    past, position = await _next_events(connection, job, to)
    owed, stopped = await match_again(connection, to, past, failures, by_filter=not job.only_dead)
    if job.kind == "backfill":
        made = await delivery_store.owe_first(connection, to, owed)
    else:
        made = await delivery_store.owe_again(connection, to, owed, only_unhappy=job.only_dead)
    done = stopped or position
    await replay_store.advance(connection, job, done, len(made), len(made) / job.rate)
    if done >= job.end_id and job.kind == "backfill":
        await replay_store.let_live_go(connection, org_id, subscription_id)
    return Chunk(org_id, subscription_id, len(made))


async def _next_events(connection: Connection, job: Job, to: Recipient) -> tuple[list[PastEvent], UUID]:
    """The events of the next chunk, and the id below which everything is done after it."""
    most = min(CHUNK_DELIVERIES, math.ceil(job.rate / 4))
    if job.only_dead:
        first = FirstOf(job.position, job.end_id, most)
        ids = await replay_store.unhappy(connection, job.org_id, job.subscription_id, first)
        found = await events_of(connection, job.org_id, sorted(set(ids)))
        full, last = len(ids) == most, ids[-1] if ids else None
    else:
        found = await replay_store.events(connection, job.org_id, FirstOf(job.position, job.end_id, SCAN))
        full, last = len(found) == SCAN, found[-1].id if found else None
    wanted = [event for event in found if _wants(to, event.type, job.event_types, only_dead=job.only_dead)]
    if len(wanted) > most:
        return wanted[:most], id_after(wanted[most - 1].id)
    return wanted, id_after(last) if full and last is not None else job.end_id


def _wants(to: Recipient, event_type: str, asked: list[str] | None, *, only_dead: bool) -> bool:
    """Whether the subscription has the type, or had it when a delivery was made, and the job asks for it."""
    if asked is not None and not type_matches(event_type, asked):
        return False
    return only_dead or type_matches(event_type, to.event_types)


# ---- before it runs ------------------------------------------------------------------------------


async def range_of(
    database: Database, org_id: OrgId, since: datetime | None, until: datetime
) -> tuple[UUID, UUID]:
    """The ids from the first event since a time, or the first that is kept, up to another time."""
    end = first_id_at(until)
    first = first_id_at(since) if since else await replay_store.first_event(database, org_id)
    return min(first or end, end), end


async def plan(database: Database, to: Recipient, chosen: Range, rate: int, now: datetime) -> ReplayPlan:
    """Estimate a replay from its first PLAN_EVENTS events and their deliveries."""
    start = earliest_start(to, chosen, now)
    async with database.connection() as connection:
        number, exact = await _planned(connection, to, chosen)
    wait_seconds = (start - now).total_seconds() if start else 0
    return ReplayPlan(number, exact, rate, start, wait_seconds + number / rate)


async def _planned(connection: Connection, to: Recipient, chosen: Range) -> tuple[int, bool]:
    first = FirstOf(chosen.first_id, chosen.end_id, PLAN_EVENTS)
    if chosen.action != "replay":
        return await actions.planned(connection, to, first, chosen.event_types, chosen.action)
    if chosen.only_dead:
        ids = await replay_store.unhappy(connection, to.org_id, to.id, first)
        found = await events_of(connection, to.org_id, sorted(set(ids)))
        full, last = len(ids) == PLAN_EVENTS, ids[-1] if ids else chosen.end_id
    else:
        found = await replay_store.events(connection, to.org_id, first)
        full, last = len(found) == PLAN_EVENTS, found[-1].id if found else chosen.end_id
    wanted = [
        event for event in found if _wants(to, event.type, chosen.event_types, only_dead=chosen.only_dead)
    ]
    sample, judged_all = wanted, True
    if to.filter is not None and not chosen.only_dead:
        sample = wanted[:: max(1, math.ceil(len(wanted) / PLAN_JUDGED))]
        sample = list(that_fit(sample)[0])
        judged_all = len(sample) == len(wanted)
    owed, stopped = await match_again(connection, to, sample, [], by_filter=not chosen.only_dead)
    if stopped is not None:  # its time was used up
        judged_all = False
        sample = [event for event in sample if event.id < stopped]
    kept = {each.event_id for each in owed}
    ids = [event.id for event in sample if event.id in kept] if judged_all else [e.id for e in wanted]
    number = await replay_store.to_make_again(
        connection, to.org_id, to.id, ids, only_unhappy=chosen.only_dead
    )
    share = 1.0 if judged_all else len(kept) / max(1, len(sample))
    reached = (last.int - chosen.first_id.int) / max(1, chosen.end_id.int - chosen.first_id.int)
    scale = 1 / max(reached, 1e-6) if full else 1.0
    return round(number * share * scale), judged_all and not full


def earliest_start(to: Recipient, chosen: Range, now: datetime) -> datetime | None:
    """The time when a replay may begin, None for at once.

    An accept that began before the last change of the subscription may still commit an event of the range,
    judged by the old settings. So the replay waits until such accepts have ended. A replay of undelivered
    events does not wait, because their deliveries exist already.
    """
    settled_at = to.changed_at + ACCEPTS_ENDED
    near = chosen.end_id > first_id_at(to.changed_at - ACCEPTS_ENDED)
    finds_all = chosen.only_dead or chosen.action != "replay"
    return settled_at if near and settled_at > now and not finds_all else None


def new_replay(replay_id: UUID, to: Recipient, chosen: Range, found: ReplayPlan) -> NewReplay:
    """The row of a planned replay."""
    return NewReplay(
        id=replay_id,
        subscription_id=to.id,
        only_dead=chosen.only_dead,
        event_types=chosen.event_types,
        first_id=chosen.first_id,
        end_id=chosen.end_id,
        rate=found.rate,
        planned=found.deliveries,
        plan_exact=found.exact,
        not_before=found.start,
        action=chosen.action,
    )
