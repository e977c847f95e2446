"""After a worker was lost: what may have killed it is counted before it is sent, and nothing else ever is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeAlias
from uuid import UUID

import httpx
import pytest

from delivering import RunningWorker, States, Subscribe, Workers, post, store_many
from harness import Tenant, eventually
from receiving import OK, Hook, Receiver
from triggers.postgres.clock import DatabaseClock
from triggers.postgres.database import Connection, Database
from triggers.push import store as lane_store
from triggers.push.ownership import TAKEOVER_SECONDS, TRUST_SECONDS
from triggers.push.store import Begin
from triggers.push.suspects import BATCH, FIRST

Owe: TypeAlias = Callable[..., Awaitable[None]]
FOUND_SECONDS = TAKEOVER_SECONDS + 10
NOTE_UPDATES = """
create table updates (deliveries uuid[], subscriptions uuid[], counted boolean);
create function note_updates() returns trigger language plpgsql as $$ begin
    insert into updates
    select array_agg(event_id), array_agg(distinct subscription_id), bool_and(reason = 'worker_lost')
    from changed having count(*) > 0;
    return null;
end $$;
create trigger note_updates after update on deliveries
    referencing new table as changed for each statement execute function note_updates();
"""


class Updates:
    """Every statement that has updated rows of `deliveries`, noted by the database itself."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def counting(self) -> list[list[UUID]]:
        """The events of each statement that counted attempts."""
        return [row["deliveries"] for row in await self._database.fetch("table updates") if row["counted"]]

    async def number(self) -> int:
        return len(await self._database.fetch("table updates"))


@pytest.fixture
def owe(database: Database, clock: DatabaseClock, tenant: Tenant) -> Owe:
    """Makes deliveries that are due: `await owe(subscription.id, 100)`."""
    return partial(store_many, database, clock, tenant)


@pytest.fixture
async def updates(database: Database) -> Updates:
    async with database.connection() as connection:
        await connection.execute(NOTE_UPDATES)
    return Updates(database)


async def silence(_: Hook) -> bytes:
    """Never answer: what is sent stays under way."""
    await asyncio.sleep(3_600)
    return OK


async def die_with_some_under_way(workers: Workers, receiver: Receiver, number: int) -> None:
    """A worker is lost that has so many requests under way."""
    receiver.answer = silence
    lost = await workers.start()
    await eventually(lambda: len(receiver.hooks) >= number, 20)
    await lost.die()
    receiver.hooks.clear()
    receiver.in_flight = receiver.most_in_flight = 0
    receiver.answer = lambda _: OK


async def settled(states: States, subscription_id: UUID, number: int) -> None:
    async def all_settled() -> bool:
        return await states.settled(subscription_id) == {"delivered": number}

    await eventually(all_settled, 60)


async def test_without_a_death_nothing_is_written_before_a_send(
    receiver: Receiver,
    subscribed: Subscribe,
    workers: Workers,
    states: States,
    updates: Updates,
    owe: Owe,
) -> None:
    """Also when lanes pass to another worker in good order. To settle what is delivered is no update."""
    subscription = await subscribed(receiver.url, max_concurrency=10)
    await owe(subscription.id, 2_000)
    running = await workers.start()
    await eventually(lambda: len(receiver.hooks) >= 100, 20)
    await running.stop()
    assert await states.pending(subscription.id) > 0
    await workers.start()
    await settled(states, subscription.id, 2_000)
    assert await updates.number() == 0
    assert receiver.counts().most_common(1)[0][1] == 1


@pytest.mark.timeout(180)
async def test_the_first_of_each_lane_are_counted_after_a_death(
    client: httpx.AsyncClient,
    receiver: Receiver,
    subscribed: Subscribe,
    workers: Workers,
    states: States,
    updates: Updates,
    owe: Owe,
    database: Database,
) -> None:
    """As many at once as ever, in few statements; and nothing that came after the death."""
    concurrency = 200
    long = await subscribed(receiver.url, max_concurrency=concurrency, event_types=["a"])
    short = await subscribed(receiver.url, event_types=["b"])
    await owe(long.id, FIRST + 500)
    await owe(short.id, 5)
    await die_with_some_under_way(workers, receiver, concurrency)

    async def past_the_death() -> Any:
        return await database.row(
            "select 1 from workers where heartbeat_at + $1 * interval '1 second' < now()", TRUST_SECONDS
        )

    await eventually(past_the_death)
    young = {UUID(each) for each in await post(client, [{"type": "a"}] * 300)}

    async def slow(_: Hook) -> bytes:
        await asyncio.sleep(0.05)
        return OK

    receiver.answer = slow
    await workers.start()
    await settled(states, long.id, FIRST + 800)
    await settled(states, short.id, 5)
    statements = await updates.counting()
    counted = [event_id for statement in statements for event_id in statement]
    assert len(set(counted)) == FIRST + 5, "some twice, if the worker could not trust itself in between"
    assert young.isdisjoint(counted)
    assert await updates.number() == len(statements), "nothing else was written"
    assert max(map(len, statements)) <= BATCH
    assert len(statements) < len(counted) / 2
    assert receiver.most_in_flight >= concurrency
    assert max(receiver.counts().values()) == 1
    for each in await states.attempts(long.id):
        assert (each["attempt"], each["outcome"]) == (1, "delivered")


async def test_what_was_counted_before_another_death_is_counted_again(
    receiver: Receiver,
    subscribed: Subscribe,
    workers: Workers,
    states: States,
    updates: Updates,
    owe: Owe,
) -> None:
    """Its time was moved by the count, so it is due after the second death: it is a suspect all the same."""
    subscription = await subscribed(receiver.url, delays=[2.0, 0.0])
    await owe(subscription.id, 3)
    await die_with_some_under_way(workers, receiver, 3)
    await die_with_some_under_way(workers, receiver, 3)
    rows = await states.deliveries(subscription.id)
    assert [(row["attempts"], row["reason"]) for row in rows] == [(1, "worker_lost")] * 3
    await workers.start()
    await settled(states, subscription.id, 3)
    attempts = [row["attempt"] for row in await states.attempts(subscription.id)]
    assert attempts == [2, 2, 2]


@pytest.mark.parametrize("ordering", ["none", "key"])
async def test_a_schedule_that_is_used_up_by_deaths(
    receiver: Receiver,
    subscribed: Subscribe,
    workers: Workers,
    states: States,
    owe: Owe,
    database: Database,
    ordering: str,
) -> None:
    """An empty schedule allows one attempt: the one that was counted and never heard of."""
    subscription = await subscribed(receiver.url, delays=[], ordering=ordering, max_concurrency=2)
    key = "k" if ordering == "key" else None
    await owe(subscription.id, 4, ordering_key=key)
    under_way = 1 if ordering == "key" else 2
    for _ in range(2):
        await die_with_some_under_way(workers, receiver, under_way)
    await workers.start()

    async def ended() -> bool:
        return await states.settled(subscription.id) == {"dead": under_way, "delivered": 4 - under_way}

    await eventually(ended, 30)
    rows = await database.fetch("select reason, attempts from settled_deliveries where status = 'dead'")
    assert [tuple(row) for row in rows] == [("worker_lost (exhausted)", 1)] * under_way


class Counting:
    """Stands where attempts are counted; `then` is awaited when the first count has been committed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, then: Callable[[], Awaitable[None]]) -> None:
        self._count = lane_store.begin_attempts
        self._then = then
        self.batches: list[int] = []
        monkeypatch.setattr(lane_store, "begin_attempts", self)

    async def __call__(self, connection: Connection, batch: Sequence[Begin]) -> set[int]:
        counted = await self._count(connection, batch)
        self.batches.append(len(counted))
        if len(self.batches) == 1:
            await self._then()
        return counted


async def test_a_count_whose_outcome_is_unknown_uses_up_nothing(
    receiver: Receiver,
    subscribed: Subscribe,
    workers: Workers,
    states: States,
    owe: Owe,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The connection breaks after the commit. With an empty schedule each has its one attempt still."""
    subscription = await subscribed(receiver.url, delays=[])
    await owe(subscription.id, 5)
    await die_with_some_under_way(workers, receiver, 5)

    async def lose_the_answer() -> None:
        raise ConnectionResetError

    counting = Counting(monkeypatch, lose_the_answer)
    await workers.start()
    await settled(states, subscription.id, 5)
    assert counting.batches[0] >= 1
    assert sum(counting.batches) > 5, "counted again"
    assert [row["attempt"] for row in await states.attempts(subscription.id)] == [1] * 5
    assert max(receiver.counts().values()) == 1


async def test_a_count_that_the_database_refuses_postpones_the_delivery(
    receiver: Receiver,
    subscribed: Subscribe,
    workers: Workers,
    states: States,
    owe: Owe,
    database: Database,
) -> None:
    """Its row is locked for longer than a statement waits. Then it is counted, sent, and nothing is lost."""
    subscription = await subscribed(receiver.url, delays=[])
    await owe(subscription.id, 5)
    await die_with_some_under_way(workers, receiver, 5)
    async with database.connection() as other, other.transaction():
        await other.execute("select from deliveries for update")
        await workers.start()
        await eventually(lambda: _waits(database), FOUND_SECONDS)
        ended = await eventually(
            lambda: database.row(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where datname = current_database() and wait_event_type = 'Lock'"
            )
        )
        assert ended[0]
        assert receiver.hooks == []
    await settled(states, subscription.id, 5)


async def _waits(database: Database) -> bool:
    row = await database.row(
        "select exists (select from pg_stat_activity"
        " where datname = current_database() and wait_event_type = 'Lock')"
    )
    assert row is not None
    return bool(row[0])


async def test_what_may_not_go_any_more_is_not_counted_either(
    receiver: Receiver,
    subscribed: Subscribe,
    workers: Workers,
    states: States,
    owe: Owe,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The subscription is paused between the count and the send."""
    subscription = await subscribed(receiver.url, delays=[])
    await owe(subscription.id, 5)
    await die_with_some_under_way(workers, receiver, 5)
    running: list[RunningWorker] = []

    async def change(status: str) -> None:
        await database.fetch(
            "update subscriptions set status = $2, status_at = now(), changed_at = now() where id = $1",
            subscription.id,
            status,
        )

    async def pause() -> None:
        await change("paused")
        lane = running[0].worker.lanes.get((subscription.org_id, subscription.id))
        await eventually(lambda: lane.target.endpoint.status == "paused")

    counting = Counting(monkeypatch, pause)
    running.append(await workers.start())

    async def taken_back() -> bool:
        rows = await states.deliveries(subscription.id)
        return bool(counting.batches) and [row["attempts"] for row in rows] == [0] * 5

    await eventually(lambda: counting.batches, FOUND_SECONDS)
    await eventually(taken_back)
    assert receiver.hooks == []
    await change("active")
    await settled(states, subscription.id, 5)
    assert [row["attempt"] for row in await states.attempts(subscription.id)] == [1] * 5


async def test_one_notice_counts_all_that_it_tells_of(
    client: httpx.AsyncClient,
    receiver: Receiver,
    workers: Workers,
    updates: Updates,
    database: Database,
) -> None:
    """One request may kill for all of them, so each has used up an attempt."""
    answer = await client.post(
        "/v1/inboxes", json={"key": "work", "event_types": ["a"], "notification_url": receiver.url}
    )
    assert answer.status_code == 201
    ids = {UUID(each) for each in await post(client, [{}] * 20)}
    await die_with_some_under_way(workers, receiver, 1)
    await workers.start()

    async def told() -> bool:
        row = await database.row("select count(*) from settled_deliveries where status = 'delivered'")
        return row is not None and row[0] == len(ids)

    await eventually(told, 30)
    counted = [event_id for statement in await updates.counting() for event_id in statement]
    assert set(counted) == ids
    assert len(counted) == len(ids)
    rows = await database.fetch("select attempt, outcome from attempts")
    assert {tuple(row) for row in rows} == {(1, "delivered")}
    assert all(b'"redelivery":false' in hook.body for hook in receiver.hooks)
