"""Runs jobs that retry or cancel the pending deliveries of a subscription, one chunk at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple
from uuid import UUID

from triggers.deliveries.owing import events_of, id_after
from triggers.deliveries.store import Recipient
from triggers.domain import type_matches
from triggers.postgres.database import Connection
from triggers.replays import store as replay_store
from triggers.replays.store import Action, FirstOf, Job, WaitingDelivery

SCAN: Final = 2_000
"""Maximum number of unsettled deliveries that one transaction looks at."""
PASSED_OVER_SECONDS: Final = 0.1
"""Pause before a job looks again at a delivery that another transaction was changing."""
_REASON: Final = "cancelled by request"


class Chunk(NamedTuple):
    """The result of one transaction."""

    org_id: UUID
    subscription_id: UUID
    made: int


async def act(connection: Connection, job: Job, most: int) -> Chunk:
    """Do the next chunk of a job that retries or cancels, at most `most` deliveries.

    The caller has locked the subscription and the job. The job does not wait for a delivery that another
    transaction is changing. The chunk ends before that delivery, and the next chunk begins with it.
    """
    of = FirstOf(job.position, job.end_id, SCAN)
    found = await replay_store.waiting_deliveries(connection, job.org_id, job.subscription_id, of, job.action)
    done = job.end_id if len(found) < SCAN else id_after(found[-1].event_id)
    wanted = await _of_types(connection, job.org_id, found, job.event_types)
    if len(wanted) > most:
        wanted, done = wanted[:most], id_after(wanted[most - 1])
    locked = await replay_store.lock_waiting(connection, job.org_id, job.subscription_id, wanted)
    passed_over = next((event_id for event_id in wanted if event_id not in locked), None)
    if passed_over is not None:
        wanted, done = [event_id for event_id in wanted if event_id < passed_over], passed_over
    if job.action == "retry":
        made = await replay_store.make_due(connection, job.org_id, job.subscription_id, wanted)
    else:
        made = await replay_store.cancel_waiting(connection, job.org_id, job.subscription_id, wanted, _REASON)
    pause = max(made / job.rate, 0.0 if passed_over is None else PASSED_OVER_SECONDS)
    await replay_store.advance(connection, job, done, made, pause)
    return Chunk(job.org_id, job.subscription_id, made)


async def planned(
    connection: Connection, to: Recipient, first: FirstOf, event_types: list[str] | None, action: Action
) -> tuple[int, bool]:
    """Return how many deliveries a job would retry or cancel. False: the number is estimated."""
    found = await replay_store.waiting_deliveries(connection, to.org_id, to.id, first, action)
    wanted = await _of_types(connection, to.org_id, found, event_types)
    if len(found) < first.limit:
        return len(wanted), True
    reached = (found[-1].event_id.int - first.first_id.int) / max(1, first.end_id.int - first.first_id.int)
    return round(len(wanted) / max(reached, 1e-6)), False


async def _of_types(
    connection: Connection, org_id: UUID, found: Sequence[WaitingDelivery], event_types: list[str] | None
) -> list[UUID]:
    """Return the ids of events of these types whose delivery the action applies to, oldest first."""
    ids = sorted({each.event_id for each in found if each.concerned})
    if event_types is None:
        return ids
    return [
        event.id
        for event in await events_of(connection, org_id, ids)
        if type_matches(event.type, event_types)
    ]
