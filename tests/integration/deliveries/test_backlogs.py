"""Broad fan-out is charged to the rate limit, and the unsettled deliveries of an organisation are limited."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest

from delivering import subscribe_many
from harness import Node, Tenant, Tenants
from triggers.deliveries import backlogs
from triggers.domain import EventId, NewEvent
from triggers.errors import DatabaseUnavailable
from triggers.events import store as event_store
from triggers.events.store import DELIVERIES_A_REQUEST
from triggers.postgres.clock import DatabaseClock
from triggers.postgres.database import Database

EVENT = {"type": "a", "payload": 1}
NOWHERE = "http://127.0.0.1:9/"


async def post(client: httpx.AsyncClient, number: int = 1) -> httpx.Response:
    return await client.post("/v1/events/batch", json=[EVENT] * number)


def left(answer: httpx.Response) -> int:
    """The number of requests left in the quota."""
    return int(answer.headers["ratelimit"].split("r=")[1].split(";")[0])


# ---- fan-out -------------------------------------------------------------------------------------


async def make_inboxes(database: Database, tenant: Tenant, number: int) -> None:
    await database.fetch(
        "insert into subscriptions (org_id, id, kind, key, status_at, created_at, all_types)"
        " select $1, gen_random_uuid(), 'inbox', 'k' || n, now(), now(), true from generate_series(1, $2) n",
        tenant.id,
        number,
    )


@pytest.mark.parametrize("kind", ["push", "inbox"])
async def test_deliveries_beyond_a_hundred_are_charged_after_the_commit(
    node: Node, database: Database, clock: DatabaseClock, tenants: Tenants, kind: str
) -> None:
    tenant = await tenants.make(requests_per_minute=10)
    async with node.client(tenant) as client:
        assert left(await client.post("/v1/events", json=EVENT)) == 9
        if kind == "push":
            await subscribe_many(database, clock, tenant, [NOWHERE] * 350)
        else:
            await make_inboxes(database, tenant, 350)
        # The event has 351 deliveries (one for the default inbox), which cost three more requests.
        assert left(await client.post("/v1/events", json=EVENT)) == 8
        assert left(await client.get("/v1/org")) == 4
        # The event was granted, so it is stored, and charged even beyond the quota.
        stored = await post(client, 3)
        assert [item["status"] for item in stored.json()["results"]] == [201] * 3
        refused = await client.get("/v1/org")
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) > 30


@pytest.mark.parametrize("all_first", [True, False])
async def test_both_statements_tell_what_is_charged(
    database: Database, clock: DatabaseClock, tenants: Tenants, all_first: bool
) -> None:
    broad, narrow = await tenants.make(), await tenants.make()
    await subscribe_many(database, clock, broad, [NOWHERE] * 2 * DELIVERIES_A_REQUEST)
    events = [
        NewEvent(org_id=each.id, id=EventId(clock.mint()), type="a", payload=b"1")
        for each in (broad, narrow, broad)
    ]
    async with database.connection() as connection:
        batch = event_store.Batch(events)
        receipt = await event_store.accept(connection, clock, batch, timedelta(days=1), all_first=all_first)
    assert receipt.missing == []
    assert receipt.charges == {broad.id: 2 * 2}  # 201 deliveries each


# ---- the backlog ---------------------------------------------------------------------------------


async def test_a_full_backlog_refuses_events_until_there_is_room(
    make_node: Callable[..., Any], tenants: Tenants
) -> None:
    node: Node = await make_node(max_pending=10)
    full, other = await tenants.make(), await tenants.make()
    async with node.client(full) as client, node.client(other) as neighbour:
        await post(client, 10)
        await node.backlogs.measure()
        assert (await client.post("/v1/events", json=EVENT)).status_code == 201, "just the limit"
        await post(client, 5)  # more than the limit, until the organisation is measured again
        await post(neighbour, 10)
        await node.backlogs.measure()
        inbox = (await client.get("/v1/inboxes")).json()["data"][0]["id"]
        for refused in (await client.post("/v1/events", json=EVENT), await post(client)):
            assert refused.status_code == 429
            assert refused.headers["retry-after"] == "60"
            problem = refused.json()
            assert problem["type"] == "/problems/backlog-full"
            assert problem["retry_after"] == 60
            assert problem["subscription_id"] == inbox
        assert (await neighbour.post("/v1/events", json=EVENT)).status_code == 201
        ids = [message["id"] for message in (await client.get("/v1/inbox")).json()["events"]]
        acked = await client.post("/v1/ack", json={"event_ids": ids})
        assert acked.json()["acknowledged"] == 16
        assert (await client.post("/v1/events", json=EVENT)).status_code == 429, "not yet measured again"
        await node.backlogs.measure()
        assert (await client.post("/v1/events", json=EVENT)).status_code == 201


async def test_the_subscription_that_holds_most_is_named(
    make_node: Callable[..., Any], database: Database, clock: DatabaseClock, tenants: Tenants
) -> None:
    node: Node = await make_node(max_pending=10)
    tenant = await tenants.make()
    async with node.client(tenant) as client:
        await post(client, 5)
        many = (await subscribe_many(database, clock, tenant, [NOWHERE] * 2, ["b", "a"]))[0]
        await client.post("/v1/events/batch", json=[{"type": "b", "payload": 1}] * 8)
        await database.fetch(
            "delete from deliveries where subscription_id <> $1 and org_id = $2", many, tenant.id
        )
        await client.post("/v1/events/batch", json=[{"type": "b", "payload": 1}] * 3)
        await node.backlogs.measure()
        refused = await client.post("/v1/events", json=EVENT)
        assert refused.json()["subscription_id"] == str(many)


async def test_without_a_limit_nothing_is_kept(database: Database, clock: DatabaseClock) -> None:
    unlimited = backlogs.Backlogs(database, 0)
    unlimited.accepted({clock.mint()})
    assert unlimited.duties() == []
    assert not unlimited._accepted


async def test_an_organisation_that_cannot_be_counted_does_not_hold_up_the_others(
    make_node: Callable[..., Any], clock: DatabaseClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    node: Node = await make_node(max_pending=10)
    bad, good = clock.mint(), [clock.mint() for _ in range(3)]
    counted = []

    async def count(_: Any, org_id: Any, __: int) -> tuple[int, None]:
        if org_id == bad:
            raise DatabaseUnavailable
        counted.append(org_id)
        return 0, None

    monkeypatch.setattr(backlogs, "count", count)
    node.backlogs.accepted({bad, *good})
    for _ in range(3):
        with contextlib.suppress(DatabaseUnavailable):
            await node.backlogs.measure()
    assert sorted(counted) == sorted(good)


async def test_each_organisation_is_measured_once_and_many_in_several_rounds(
    make_node: Callable[..., Any], clock: DatabaseClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    node: Node = await make_node(max_pending=10)
    monkeypatch.setattr(backlogs, "ORGANISATIONS_AT_ONCE", 2)
    node.backlogs.accepted({clock.mint() for _ in range(5)})
    assert [await node.backlogs.measure() for _ in range(4)] == [True, True, False, False]
    assert node.backlogs.full == {}


async def test_without_a_limit_nothing_is_measured(make_node: Callable[..., Any]) -> None:
    node: Node = await make_node(max_pending=0)
    assert node.backlogs.duties() == []
