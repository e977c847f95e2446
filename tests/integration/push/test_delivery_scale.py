"""Many lanes, many neighbours, and old rows that cannot be cleared away."""

from __future__ import annotations

import asyncio
import dataclasses
import re
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from uuid import UUID

import httpx
import pytest

from delivering import (
    NEVER_AGAIN,
    POLICY,
    States,
    Subscribe,
    Workers,
    post,
    store_many,
    subscribe,
    subscribe_many,
)
from harness import Node, Tenants, eventually
from receiving import Hook, Receiver
from triggers.postgres.clock import DatabaseClock
from triggers.postgres.database import Database
from triggers.push import store as lane_store

BACKLOG = 200_000
HOSTS = 1_000


@pytest.mark.timeout(180)
async def test_ten_thousand_lanes(
    database: Database,
    clock: DatabaseClock,
    tenants: Tenants,
    receiver: Receiver,
    workers: Workers,
    states: States,
) -> None:
    """One delivery each; and every one is owned, read, sent and settled."""
    tenant = await tenants.make()
    base = receiver.url.removesuffix("/hook")
    ids = await subscribe_many(database, clock, tenant, [f"{base}/{n}" for n in range(10_000)])
    await store_many(database, clock, tenant, ids[0], 10_000, spread=ids)
    await workers.start()
    await eventually(lambda: len(receiver.hooks) >= 10_000, 90)
    assert {hook.path for hook in receiver.hooks} == {f"/{n}" for n in range(10_000)}

    async def settled() -> bool:
        return await states.pending() == 0

    await eventually(settled, 20)
    assert len(receiver.hooks) == 10_000


async def test_one_event_to_a_thousand_subscriptions(
    client: httpx.AsyncClient,
    node: Node,
    database: Database,
    clock: DatabaseClock,
    tenants: Tenants,
    receiver: Receiver,
    workers: Workers,
) -> None:
    tenant = await tenants.make()
    base = receiver.url.removesuffix("/hook")
    await subscribe_many(database, clock, tenant, [f"{base}/{n}" for n in range(1_000)])
    await workers.start()
    async with node.client(tenant) as calling:
        ids = await post(calling, [{"payload": 1}])
    await eventually(lambda: len(receiver.hooks) >= 1_000, 30)
    assert {hook.path for hook in receiver.hooks} == {f"/{n}" for n in range(1_000)}
    assert set(receiver.ids) == set(ids)


# ---- neighbours ----------------------------------------------------------------------------------


async def moved_before(
    neighbours: AsyncExitStack,
    node: Node,
    database: Database,
    clock: DatabaseClock,
    tenants: Tenants,
    count: object,
) -> list[int]:
    """How far the others' work moved before each of ten new events of a newcomer was sent."""
    quiet = await tenants.make()
    well = await neighbours.enter_async_context(Receiver())
    await subscribe(database, clock, quiet, well.url)
    found = []
    assert callable(count)
    async with node.client(quiet) as calling:
        for number in range(10):
            before = count()
            await post(calling, [{}])
            await eventually(lambda more=number: len(well.hooks) == more + 1, 20)
            found.append(count() - before)
    return found


@pytest.mark.timeout(180)
async def test_a_huge_backlog_to_a_slow_endpoint(
    node: Node,
    database: Database,
    clock: DatabaseClock,
    tenants: Tenants,
    workers: Workers,
) -> None:
    """Two hundred thousand due deliveries of one organisation: another's event goes in its turn."""
    noisy = await tenants.make()

    async def slow(_: Hook) -> bytes:
        await asyncio.sleep(0.05)
        return b"HTTP/1.1 204 No Content\r\n\r\n"

    async with AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(Receiver(slow))
        lane = await subscribe(database, clock, noisy, receiver.url, max_concurrency=1_000)
        await store_many(database, clock, noisy, lane.id, BACKLOG)
        running = await workers.start()
        node.wakeup.listen_for_lanes(running.worker.hint)
        await eventually(lambda: len(receiver.hooks) > 500, 30)
        moved = await moved_before(stack, node, database, clock, tenants, lambda: len(receiver.hooks))
    # Of a backlog that would take minutes, at most what fits into a few rounds of its slots.
    assert max(moved) < 5_000, moved
    assert sorted(moved)[5] < 2_000, moved


@asynccontextmanager
async def hanging_hosts(number: int) -> AsyncIterator[list[str]]:
    """Addresses of this machine that take connections and never answer: two listeners' worth of ports."""
    servers = []
    urls = []
    held: list[asyncio.StreamWriter] = []

    async def hang(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append(writer)

    for n in range(number):
        host = f"127.0.{1 + n // 250}.{1 + n % 250}"
        server = await asyncio.start_server(hang, host, 0)
        servers.append(server)
        urls.append(f"http://{host}:{server.sockets[0].getsockname()[1]}/")
    try:
        yield urls
    finally:
        for server in servers:
            server.close()
        for writer in held:
            writer.transport.abort()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("number", [1, 5])
async def test_a_thousand_hanging_hosts(
    node: Node, database: Database, clock: DatabaseClock, tenants: Tenants, workers: Workers, number: int
) -> None:
    """The hosts of one organisation, or of five."""
    async with AsyncExitStack() as stack:
        urls = await stack.enter_async_context(hanging_hosts(HOSTS))
        for first in range(number):
            noisy = await tenants.make()
            lanes = await subscribe_many(database, clock, noisy, urls[first::number])
            await store_many(database, clock, noisy, lanes[0], 10 * len(lanes), spread=lanes)
        running = await workers.start(policy=dataclasses.replace(POLICY, total_timeout_seconds=10))
        node.wakeup.listen_for_lanes(running.worker.hint)
        dispatcher = running.worker._dispatcher
        share = dispatcher.slots // (number + 1)
        await eventually(lambda: dispatcher.in_flight >= number * share - number, 30)

        async def ended() -> int:
            row = await database.row("select count(*) from attempts")
            assert row is not None
            return int(row[0])

        before = await ended()
        moved = await moved_before(stack, node, database, clock, tenants, lambda: 0)
        assert len(moved) == 10
        after = await ended()
        # All ten were sent while the hanging ones hung: nobody had to wait for a timeout to get a slot.
        assert after - before - 10 < dispatcher.slots


@pytest.mark.timeout(120)
@pytest.mark.parametrize("number", [1, 4])
async def test_a_thousand_silent_names(
    node: Node, database: Database, clock: DatabaseClock, tenants: Tenants, workers: Workers, number: int
) -> None:
    """Look-ups of these names never end, so their organisations hold their shares of the places."""
    over = threading.Event()
    asked: list[str] = []

    def resolve(host: str) -> tuple[str, ...]:
        asked.append(host)
        if host != "well.test":
            over.wait(60)
            raise OSError
        return ("127.0.0.1",)

    try:
        async with AsyncExitStack() as stack:
            for first in range(number):
                noisy = await tenants.make()
                hosts = [f"http://silent{n}.test/" for n in range(first, HOSTS, number)]
                lanes = await subscribe_many(database, clock, noisy, hosts)
                await store_many(database, clock, noisy, lanes[0], 5 * len(lanes), spread=lanes)
            running = await workers.start(resolver=resolve)
            node.wakeup.listen_for_lanes(running.worker.hint)
            await eventually(lambda: len(asked) >= number * (32 // (number + 1)), 20)
            well = await stack.enter_async_context(Receiver())
            quiet = await tenants.make()
            await subscribe(database, clock, quiet, f"http://well.test:{well.port}/")
            async with node.client(quiet) as calling:
                for sent in range(10):
                    before = len(asked)
                    await post(calling, [{}])
                    await eventually(lambda more=sent: len(well.hooks) == more + 1, 10)
                    # After five seconds a look-up fails, and another one begins in a thread of its own.
                    assert len(asked) - before <= 32
    finally:
        over.set()


# ---- a transaction that holds the horizon --------------------------------------------------------


@pytest.mark.timeout(180)
async def test_a_held_horizon_does_not_stop_delivery(
    client: httpx.AsyncClient,
    receiver: Receiver,
    subscribed: Subscribe,
    workers: Workers,
    database: Database,
    states: States,
) -> None:
    """Thousands of settled rows that vacuum may not clear: reads step over them at an index's pace."""
    subscription = await subscribed(receiver.url)
    async with database.connection() as other, other.transaction(isolation="repeatable_read", readonly=True):
        await other.fetchval("select count(*) from deliveries")  # its snapshot, held to the end
        await workers.start()
        ids = [each for _ in range(4) for each in await post(client, [{}] * 2_500)]
        await eventually(lambda: len(receiver.hooks) >= 10_000, 60)

        async def settled() -> bool:
            return await states.settled(subscription.id) == {"delivered": 10_000}

        await eventually(settled, 10)
        assert receiver.counts() == dict.fromkeys(ids, 1)
        await post(client, [{}] * 100)
        await eventually(lambda: len(receiver.hooks) == 10_100, 10)
        plan = await explain(
            database,
            "read",
            [subscription.org_id],
            [subscription.id],
            [(await database.row("select now() - interval '1 hour'"))[0]],  # type: ignore[index]
            [UUID(int=0)],
            [500],
        )
    # Dead rows are stepped over inside the index scan: none is read from the heap to be thrown away.
    assert "Seq Scan" not in plan
    assert "deliveries_by_due" in plan
    assert removed_by_filter(plan) == 0


# ---- plans ---------------------------------------------------------------------------------------


async def explain(database: Database, name: str, *values: object, analyze: bool = True) -> str:
    options = "analyze, buffers, " if analyze else ""
    async with database.connection() as connection, connection.transaction():
        rows = await connection.fetch(f"explain ({options}costs off) {lane_store._SQL[name]}", *values)
        return "\n".join(row[0] for row in rows)


def removed_by_filter(plan: str) -> int:
    return sum(int(found) for found in re.findall(r"Rows Removed by Filter: (\d+)", plan))


@pytest.mark.timeout(120)
async def test_the_hot_statements_use_their_indexes(
    database: Database, clock: DatabaseClock, tenants: Tenants
) -> None:
    """On sixty thousand rows of many lanes, one of which keeps order behind a blocked key."""
    tenant = await tenants.make()
    lanes = await subscribe_many(database, clock, tenant, [f"http://127.0.0.1/{n}" for n in range(200)])
    ordered = await subscribe(
        database, clock, tenant, "http://127.0.0.1/", ordering="key", delays=NEVER_AGAIN
    )
    await store_many(database, clock, tenant, lanes[0], 30_000, spread=lanes)
    await store_many(database, clock, tenant, ordered.id, 30_000, ordering_key="a")
    for key in ("b", "c", "d"):
        await store_many(database, clock, tenant, ordered.id, 10, ordering_key=key)
    await database.fetch("analyze deliveries, events, subscriptions")
    now = (await database.row("select now()"))[0]  # type: ignore[index]
    some = lanes[:50]

    # From the middle of those that came due at one moment, as a whole batch does.
    middle = await database.fetch(
        "select m.due_at, m.event_id from unnest($1::uuid[]) l (id) cross join lateral ("
        " select due_at, event_id from deliveries where org_id = $2 and subscription_id = l.id"
        " order by due_at, event_id offset 25 limit 1) m",
        some,
        tenant.id,
    )
    starts = [[row[column] for row in middle] for column in ("due_at", "event_id")]
    plan = await explain(database, "read", [tenant.id] * 50, some, *starts, [20] * 50)
    assert "deliveries_by_due" in plan
    assert removed_by_filter(plan) == 0

    for after in (None, "a", "b"):
        plan = await explain(database, "read_heads", [tenant.id], [ordered.id], [after], [500])
        assert "deliveries_by_key" in plan
        assert removed_by_filter(plan) == 0, (after, plan)
        assert "Seq Scan on deliveries" not in plan
        executed = plan.split("Planning:")[0]
        blocks = max(int(found) for found in re.findall(r"shared hit=(\d+)", executed))
        assert blocks < 100, (after, blocks, plan)

    plan = await explain(database, "due_lanes", list(range(64)), now)
    assert "deliveries_due_lanes" in plan
    assert "Seq Scan on deliveries" not in plan

    plan = await explain(database, "lanes_with_work", list(range(64)))
    assert "Seq Scan on deliveries" not in plan

    ids = await database.fetch("select event_id from deliveries limit 500")
    events: list[UUID] = [row[0] for row in ids]
    plan = await explain(database, "contents", [tenant.id] * len(events), events, min(events), max(events))
    assert len(set(re.findall(r"on (events_\w+)", plan))) <= 3, "it touches the partitions of these ids only"
