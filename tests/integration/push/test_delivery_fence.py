"""The one statement that settles: what a stale owner may do, and what doing it twice does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from delivering import Owner, Standing, States, Subscribe, Workers, post, settlement
from harness import Tenant, eventually
from receiving import FAILED, Receiver
from triggers.domain import AttemptOutcome
from triggers.postgres.clock import DatabaseClock
from triggers.postgres.database import Connection, Database
from triggers.push import ownership_store
from triggers.push import store as lane_store
from triggers.push.settler import Disabling, Ended, Settler
from triggers.push.store import Settlement
from triggers.subscriptions.store import Subscription

URL = "http://127.0.0.1:9/"


@pytest.fixture
async def connection(database: Database) -> AsyncIterator[Connection]:
    opened = await database.connect(10)
    yield opened
    await opened.close()


@pytest.fixture
async def subscription(subscribed: Subscribe) -> Subscription:
    return await subscribed(URL)


async def everything(database: Database) -> list[Any]:
    """Every row that a settle may touch."""
    found = []
    for table in ("deliveries", "settled_deliveries", "attempts", "events", "subscriptions"):
        rows = await database.fetch(f"select * from {table} order by 1, 2, 3")
        found.append([dict(row) for row in rows])
    return found


@pytest.mark.parametrize("outcome", AttemptOutcome)
async def test_a_stale_owner_is_recorded_and_changes_nothing(
    client: httpx.AsyncClient,
    subscription: Subscription,
    owner: Owner,
    states: States,
    clock: DatabaseClock,
    database: Database,
    outcome: AttemptOutcome,
) -> None:
    await post(client, [{}])
    stale = await settlement(states, clock, outcome)
    before = await states.deliveries(subscription.id)
    await owner.lose()
    successor = Owner(database, clock)
    await successor.take()
    await owner.settle(stale)
    assert [dict(row) | {"now": 0} for row in await states.deliveries(subscription.id)] == [
        dict(row) | {"now": 0} for row in before
    ]
    assert await states.settled(subscription.id) == {}
    (attempt,) = await states.attempts(subscription.id)
    assert (attempt["outcome"], attempt["worker_id"]) == (outcome, owner.id)
    # The same from who owns it now does change the state.
    await successor.settle(await settlement(states, clock, AttemptOutcome.DELIVERED))
    assert await states.settled(subscription.id) == {"delivered": 1}


async def test_a_stale_owner_counts_nothing(
    client: httpx.AsyncClient,
    subscription: Subscription,
    owner: Owner,
    states: States,
    clock: DatabaseClock,
    database: Database,
    connection: Connection,
) -> None:
    """It would use up an attempt that it must not send."""
    await post(client, [{}])
    (row,) = await states.deliveries(subscription.id)
    due = lane_store.Due(
        row["org_id"], subscription.id, row["event_id"], 0, 0, None, row["due_at"], row["accepted_at"], 2
    )
    await owner.lose()
    successor = Owner(database, clock)
    await successor.take()
    for worker, counted in (owner, set()), (successor, {0}):
        begin = lane_store.Begin(worker.groups[row["lane_group"]], due, row["now"])
        assert await lane_store.begin_attempts(connection, [begin]) == counted
        (after,) = await states.deliveries(subscription.id)
        assert after["attempts"] == len(counted)


@pytest.mark.parametrize("outcome", AttemptOutcome)
async def test_settling_again_changes_nothing(
    client: httpx.AsyncClient,
    subscription: Subscription,
    owner: Owner,
    states: States,
    clock: DatabaseClock,
    database: Database,
    outcome: AttemptOutcome,
) -> None:
    await post(client, [{}])
    once = await settlement(states, clock, outcome)
    await owner.settle(once)
    after = await everything(database)
    await owner.settle(once)
    assert await everything(database) == after
    assert len(await states.attempts(subscription.id)) == 1
    assert await states.pending(subscription.id) == (1 if outcome is AttemptOutcome.RETRY else 0)


@pytest.mark.parametrize("within_transaction", [False, True])
async def test_what_was_settled_before_holds_up_nothing_beside_it(
    client: httpx.AsyncClient,
    subscribed: Subscribe,
    owner: Owner,
    states: States,
    clock: DatabaseClock,
    connection: Connection,
    within_transaction: bool,
) -> None:
    """Its outcome was unknown: the whole batch is written again, and others with it."""
    before, new = await subscribed(URL), await subscribed(URL)
    await post(client, [{}])
    batch = []
    for each in (before, new):
        (row,) = await states.deliveries(each.id)
        facts = {name: row[name] for name in ("subscription_id", "lane_group", "event_id")}
        batch.append(await settlement(states, clock, AttemptOutcome.DELIVERED, **facts))
    await owner.settle(batch[0])
    if within_transaction:
        async with connection.transaction():
            await lane_store.settle(connection, owner.id, list(owner.groups.values()), batch)
    else:
        await owner.settle(*batch)
    for each in (before, new):
        assert await states.settled(each.id) == {"delivered": 1}
        assert await states.pending(each.id) == 0
        assert len(await states.attempts(each.id)) == 1


def nothing(_: Settlement | None) -> None:
    """Nothing follows."""


async def test_what_is_new_is_settled_without_looking_for_it(
    client: httpx.AsyncClient,
    subscription: Subscription,
    owner: Owner,
    states: States,
    clock: DatabaseClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lane_store, "_SETTLE_REPEATED", "select from nowhere")
    assert "on conflict" not in lane_store._SETTLE
    await post(client, [{}])
    await owner.settle(await settlement(states, clock, AttemptOutcome.DELIVERED))
    assert await states.settled(subscription.id) == {"delivered": 1}


async def test_an_attempt_that_was_overtaken_changes_nothing(
    client: httpx.AsyncClient,
    subscription: Subscription,
    owner: Owner,
    states: States,
    clock: DatabaseClock,
) -> None:
    """A settle names the attempt that it was read with: the row has moved on, so only the record is kept."""
    await post(client, [{}])
    slow = await settlement(states, clock, AttemptOutcome.DELIVERED)
    await owner.settle(await settlement(states, clock, AttemptOutcome.RETRY))
    await owner.settle(slow)
    (left,) = await states.deliveries(subscription.id)
    assert (left["attempts"], left["reason"]) == (1, "unavailable")
    assert len(await states.attempts(subscription.id)) == 2


async def test_one_batch_of_two_groups_of_which_one_is_lost(
    client: httpx.AsyncClient, subscribed: Subscribe, owner: Owner, states: States, clock: DatabaseClock
) -> None:
    subscriptions = [await subscribed("http://127.0.0.1:9/") for _ in range(8)]
    kept, lost = next(
        (one, two)
        for one in subscriptions
        for two in subscriptions
        if one.id.bytes[-1] & 63 != two.id.bytes[-1] & 63
    )
    await post(client, [{}])
    batch = []
    for each in (kept, lost):
        row = (await states.deliveries(each.id))[0]
        batch.append(
            await settlement(
                states,
                clock,
                AttemptOutcome.DELIVERED,
                subscription_id=each.id,
                lane_group=row["lane_group"],
                event_id=row["event_id"],
            )
        )
    await states.database.fetch(
        "update lane_groups set token = $2 where id = $1", batch[1].lane_group, clock.mint()
    )
    await owner.settle(*batch)
    assert await states.settled(kept.id) == {"delivered": 1}
    assert await states.settled(lost.id) == {}
    assert await states.pending(lost.id) == 1
    assert len(await states.attempts(lost.id)) == 1


@pytest.mark.parametrize("stale", [False, True])
async def test_a_dead_letter_is_told_once_and_only_by_the_owner(
    client: httpx.AsyncClient,
    subscription: Subscription,
    subscribed: Subscribe,
    owner: Owner,
    states: States,
    clock: DatabaseClock,
    connection: Connection,
    stale: bool,
) -> None:
    """The outcome of a commit may be unknown: what is repeated after it tells nothing anew."""
    await subscribed("http://127.0.0.1:9/", event_types=["triggers.*"])
    await post(client, [{}])
    database = states.database
    settler = Settler(database, clock, Standing(database, clock, owner))
    ended = Ended(await settlement(states, clock, AttemptOutcome.DEAD), "a", nothing)
    if stale:
        await owner.lose()
    for _ in range(2):
        await settler._write(connection, [ended])
    row = await database.row("select count(*) from events where type = 'triggers.delivery.dead'")
    assert row is not None
    assert row[0] == (0 if stale else 1)
    assert await states.settled(subscription.id) == ({} if stale else {"dead": 1})


async def test_a_stale_owner_does_not_disable_for_failing_too_long(
    client: httpx.AsyncClient,
    subscription: Subscription,
    owner: Owner,
    states: States,
    clock: DatabaseClock,
    database: Database,
    connection: Connection,
) -> None:
    """What it remembers of the endpoint may be out of date; a 410 is the endpoint's own word and stands."""
    await post(client, [{}])
    settler = Settler(database, clock, Standing(database, clock, owner))
    retry = await settlement(states, clock, AttemptOutcome.RETRY)
    await owner.lose()
    await settler._write(connection, [Ended(retry, "a", nothing, Disabling("failing_too_long", URL))])
    assert (await states.status(subscription.id))[0] == "active"
    await settler._write(connection, [Ended(retry, "a", nothing, Disabling("gone", "http://127.0.0.1:8/"))])
    assert (await states.status(subscription.id))[0] == "active", "another URL than it has by now"
    await settler._write(connection, [Ended(retry, "a", nothing, Disabling("gone", URL))])
    assert await states.status(subscription.id) == ("disabled", "gone")


async def test_what_is_told_is_stored_with_what_it_tells_of(
    client: httpx.AsyncClient,
    receiver: Receiver,
    subscribed: Subscribe,
    states: States,
    workers: Workers,
    database: Database,
    tenant: Tenant,
) -> None:
    """While the telling cannot be stored the dead letter is not one either; then both are."""
    async with Receiver() as told:
        receiver.answer = lambda _: FAILED
        failing = await subscribed(f"{receiver.url}/secret", delays=[], event_types=["a"])
        await subscribed(told.url, event_types=["triggers.delivery.dead"])
        await post(client, [{}])
        # Whoever would store an event waits for this, and gives up at its lock timeout.
        async with database.connection() as other, other.transaction():
            await other.execute("lock table events in exclusive mode")
            await workers.start()
            await eventually(lambda: receiver.hooks, 10)
            assert await states.settled(failing.id) == {}
        await eventually(lambda: told.hooks, 20)
        assert await states.settled(failing.id) == {"dead": 1}
        assert len(told.hooks) == 1
        assert len(receiver.hooks) == 1
        news = json.loads(told.hooks[0].body)["data"]
        assert (news["endpoint"], news["status_code"], news["attempts"]) == (
            receiver.url.removesuffix("/hook"),
            500,
            1,
        )
        assert "secret" not in str(news)
        assert news["delivery"] == f"/v1/deliveries/{news['event_id']}.{failing.id}"
        found = (await client.get(news["delivery"])).json()
        assert found["target_url"] == f"{receiver.url}/secret"
        assert found["last_attempt"]["status_code"] == 500
        await eventually(lambda: database.row("select 1 from settled_deliveries where status = 'delivered'"))
        kept = await database.fetch("select first_attempt_at from settled_deliveries")
        assert len(kept) == 2, "the dead letter, and the delivery that tells of it"
        assert all(row["first_attempt_at"] for row in kept)


async def test_the_last_worker_takes_nothing_once_it_is_declared_dead(
    owner: Owner, database: Database, clock: DatabaseClock
) -> None:
    """It finds that out with its next heartbeat; a share among no living worker must not break it before."""
    await owner.lose()
    async with database.connection() as connection:
        assert await ownership_store.take(connection, owner.id, clock.mint()) == []


async def test_what_a_dead_worker_holds_stops_no_living_one(
    client: httpx.AsyncClient,
    receiver: Receiver,
    subscribed: Subscribe,
    workers: Workers,
    database: Database,
    clock: DatabaseClock,
    tenant: Tenant,
) -> None:
    """Frozen in the middle of a settle, it keeps its groups until its transaction ends; the rest move."""
    frozen = Owner(database, clock)
    async with database.connection() as connection:
        await ownership_store.register(connection, frozen.id, "frozen")
        await ownership_store.take(connection, frozen.id, clock.mint())
    lanes = [await subscribed(f"{receiver.url}/{n}") for n in range(8)]
    row = await database.row("select lane_group from subscriptions where id = $1", lanes[0].id)
    assert row is not None
    held = row["lane_group"]
    others = await database.fetch(
        "select id from subscriptions where kind = 'push' and lane_group <> $1", held
    )
    assert others, "of eight lanes one at least is in another group"
    async with database.connection() as connection, connection.transaction():
        await connection.execute("select from lane_groups where id = $1 for share", held)
        running = await workers.start()
        ownership = running.worker.ownership
        await eventually(lambda: len(ownership.groups) == 63, 10)
        trusted = []
        for _ in range(40):
            await asyncio.sleep(0.05)
            trusted.append(ownership.sendable(ownership.groups[0]) is not None)
        assert all(trusted)
        await post(client, [{}])
        await eventually(lambda: len(receiver.hooks) == len(others), 10)
    await eventually(lambda: len(ownership.groups) == 64, 10)
    await eventually(lambda: len(receiver.hooks) == len(lanes), 10)
