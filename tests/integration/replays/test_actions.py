"""Jobs that retry or cancel what waits: each delivery of the selection once, and nothing else."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest

from harness import Node, Tenant, eventually
from triggers.domain import created_at
from triggers.replays import actions
from triggers.replays import job as replaying

from .test_replays import World


@pytest.fixture
async def world(node: Node, client: httpx.AsyncClient, tenant: Tenant) -> World:
    return World(node, client, tenant)


async def later(world: World, subscription_id: Any) -> None:
    """Let everything of a subscription wait for an hour, as after a failed attempt."""
    await world.database.fetch(
        "update deliveries set due_at = now() + interval '1 h', attempts = 1, reason = 'unavailable'"
        " where subscription_id = $1",
        subscription_id,
    )

    async def are_past() -> bool:
        row = await world.database.row("select now(), max(event_id::text) from deliveries")
        assert row is not None
        return created_at(UUID(row[1])) < row[0] - timedelta(milliseconds=1)

    # The clock of a busy node runs ahead by the time of a question, and a job ends with the present.
    await eventually(are_past, 10)


async def counts(world: World, subscription_id: Any) -> tuple[int, int, int]:
    """Deliveries that are due, that wait for a time, and that were cancelled."""
    row = await world.database.row(
        "select count(*) filter (where due_at <= now()), count(*) filter (where due_at > now()),"
        " (select count(*) from settled_deliveries where subscription_id = $1 and status = 'cancelled')"
        " from deliveries where subscription_id = $1",
        subscription_id,
    )
    assert row is not None
    return tuple(row)


async def test_a_retry_makes_due_what_waits(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replaying, "CHUNK_DELIVERIES", 4)
    monkeypatch.setattr(actions, "SCAN", 7)
    mine, other = await world.subscribe(), await world.subscribe()
    sent = await world.post_many(20)
    for each in (mine, other):
        await later(world, each)
    plan = await world.replay(mine, 200, action="retry", plan_only=True)
    assert (plan["action"], plan["planned"], plan["planned_exact"], plan["status"]) == (
        "retry",
        20,
        True,
        "planned",
    )
    assert await counts(world, mine) == (0, 20, 0)
    done = await world.done(await world.replay(mine, action="retry"))
    assert (done["action"], done["made"], done["progress"]) == ("retry", 20, 1.0)
    assert await counts(world, mine) == (20, 0, 0)
    assert await counts(world, other) == (0, 20, 0)
    assert {row["event_id"] for row in await world.owed(mine)} == set(sent)
    # Those of a failing endpoint wait although they are due, so they are planned and counted too.
    assert (await world.replay(mine, 200, action="retry", plan_only=True))["planned"] == 20
    assert (await world.done(await world.replay(mine, action="retry")))["made"] == 20
    assert await counts(world, mine) == (20, 0, 0)


async def test_a_cancellation_ends_what_waits_in_a_range_and_of_types(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replaying, "CHUNK_DELIVERIES", 3)
    mine = await world.subscribe()
    before = await world.post_many(2)
    other = await world.post_many(2, type="user.created")
    wanted = await world.post_many(8)
    since = created_at(wanted[0])
    await later(world, mine)
    changed = await world.database.row("select changed_at from subscriptions where id = $1", mine)
    body: dict[str, Any] = {"action": "cancel", "since": since.isoformat(), "event_types": ["order.*"]}
    assert (await world.replay(mine, 200, plan_only=True, **body))["planned"] == 8
    done = await world.done(await world.replay(mine, **body))
    assert done["made"] == 8
    assert {row["event_id"] for row in await world.owed(mine)} == {*before, *other}
    settled = await world.database.fetch(
        "select event_id, status, reason, attempts from settled_deliveries where subscription_id = $1", mine
    )
    assert {row["event_id"] for row in settled} == set(wanted)
    assert {tuple(row)[1:] for row in settled} == {("cancelled", "cancelled by request", 1)}
    # Whoever read them ahead drops them.
    assert changed != await world.database.row("select changed_at from subscriptions where id = $1", mine)
    # They can be sent again, as the next generation.
    again = await world.done(await world.replay(mine))
    assert again["made"] == 8


async def test_a_message_that_a_consumer_holds_is_left_to_it(world: World) -> None:
    inbox = (await world.client.get("/v1/inboxes/default")).json()["id"]
    sent = await world.post_many(5)
    lease = (await world.client.post("/v1/inboxes/default/messages/lease", json={"lease_limit": 2})).json()
    assert (await world.done(await world.replay(inbox, action="cancel")))["made"] == 3
    held = await world.database.fetch("select event_id from deliveries where subscription_id = $1", inbox)
    assert {row["event_id"] for row in held} == set(sent[:2])
    ack = await world.client.post("/v1/inboxes/default/messages/ack", json={"lease_id": lease["lease_id"]})
    assert ack.status_code == 201


async def test_a_delivery_that_is_being_settled_is_neither_waited_for_nor_missed(world: World) -> None:
    mine = await world.subscribe()
    sent = await world.post_many(6)
    async with world.database.connection() as settling, settling.transaction():
        await settling.fetch(
            "select from deliveries where subscription_id = $1 and event_id = $2 for update",
            mine,
            sent[3],
        )
        job = await world.replay(mine, action="cancel")

        async def went_so_far() -> bool:
            return await counts(world, mine) == (3, 0, 3)

        await eventually(went_so_far)
        shown = (await world.client.get(f"/v1/replays/{job['id']}")).json()
        assert shown["status"] == "running"
    assert (await world.done(job))["made"] == 6
    assert await counts(world, mine) == (0, 0, 6)


async def test_an_earlier_version_leaves_such_jobs_alone(world: World) -> None:
    """It runs only jobs with the status `running`, each as a replay."""
    mine = await world.subscribe()
    await world.post_many(500)
    job = await world.replay(mine, action="cancel", rate=1)
    row = await world.database.row("select status, action from replays")
    assert row is not None
    assert tuple(row) == ("acting", "cancel")
    running = (await world.client.get("/v1/replays", params={"status": "running"})).json()["data"]
    assert [each["id"] for each in running] == [job["id"]]
    cancelled = await world.client.delete(f"/v1/replays/{job['id']}")
    assert cancelled.json()["status"] == "cancelled"
    assert (await world.owed(mine)) != []
