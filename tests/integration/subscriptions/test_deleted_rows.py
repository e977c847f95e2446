"""The rows of deleted subscriptions and inboxes stay while something refers to them, and then they go."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import httpx

from delivering import Workers
from harness import Node, Tenant, eventually
from receiving import Receiver
from triggers.postgres.clock import DatabaseClock
from triggers.postgres.database import Database
from triggers.subscriptions import changes
from triggers.subscriptions.changes import sweep_deleted

NAMES = "select coalesce(name, key) as name, referred_to_at from subscriptions where deleted_at is not null"
REFERENCES = {
    "deliveries": "(org_id, subscription_id, event_id, due_at, accepted_at, payload_size)"
    " values ($1, $2, $3, now(), now(), 1)",
    "settled_deliveries": "(org_id, subscription_id, event_id, generation, status, lease_count, accepted_at,"
    " settled_at) values ($1, $2, $3, 0, 'dead', 0, now(), now())",
    "attempts": "(org_id, subscription_id, id, event_id, generation, attempt, outcome, reason, duration_ms,"
    " worker_id) values ($1, $2, $3, $3, 0, 1, 'dead', 'x', 1, $3)",
    "finished_leases": "values ($1, $2, $3, now())",
    "replays": "(org_id, id, kind, subscription_id, status, first_id, end_id, position, rate, not_before,"
    " created_at, updated_at) values ($1, $3, 'replay', $2, 'done', $3, $3, $3, 1, now(), now(), now())",
    "statistics_minutes": "(org_id, subscription_id, began_at, process_id) values ($1, $2, now(), $3)",
    "statistics_hours": "(org_id, subscription_id, began_at, accepted, duplicate, delivered, failed, dead)"
    " select $1::uuid, $2::uuid, now(), 0, 0, 0, 0, 0 where $3::uuid is not null",
}


async def age(database: Database) -> None:
    await database.fetch(
        "update subscriptions set deleted_at = deleted_at - interval '25 hours',"
        " referred_to_at = referred_to_at - interval '25 hours' where deleted_at is not null"
    )


async def names(database: Database) -> set[str]:
    return {row["name"] for row in await database.fetch(NAMES)}


async def sweep(database: Database) -> set[str]:
    """Do what the duty does until it finds nothing, and return what is left."""
    while await sweep_deleted(database, 3):
        pass
    return await names(database)


async def make_deleted(database: Database, clock: DatabaseClock, tenant: Tenant, name: str) -> UUID:
    subscription_id = clock.mint()
    await database.fetch(
        "insert into subscriptions (org_id, id, kind, key, name, status, status_at, created_at, deleted_at,"
        " emptied_at, all_types)"
        " values ($1, $2, 'inbox', $3, $3, 'deleting', now(), now(), now(), now(), true)",
        tenant.id,
        subscription_id,
        name,
    )
    return subscription_id


async def test_a_row_stays_as_long_as_any_table_refers_to_it(
    database: Database, clock: DatabaseClock, tenant: Tenant
) -> None:
    assert {
        row["table_name"]
        for row in await database.fetch(
            "select table_name from information_schema.columns c join pg_class p on p.relname = c.table_name"
            " where column_name = 'subscription_id' and table_schema = 'public' and not p.relispartition"
        )
    } == set(REFERENCES), "a table that refers to subscriptions has to be in the statement"
    for table, values in REFERENCES.items():
        made = await make_deleted(database, clock, tenant, table)
        await database.fetch(f"insert into {table} {values}", tenant.id, made, clock.mint())
    await make_deleted(database, clock, tenant, "nothing")
    assert await sweep(database) == {*REFERENCES, "nothing"}, "not before a day has passed"
    await age(database)
    assert await sweep(database) == set(REFERENCES)
    assert all(row["referred_to_at"] for row in await database.fetch(NAMES))
    assert await sweep_deleted(database, 100) == 0, "each is looked at once a day"
    for number, table in enumerate(REFERENCES, 1):
        await database.fetch(f"delete from {table}")
        await age(database)
        assert await sweep(database) == set(list(REFERENCES)[number:])


async def test_what_an_inbox_leaves_goes_by_itself(
    node: Node, database: Database, client: httpx.AsyncClient, workers: Workers, receiver: Receiver
) -> None:
    """As `listen` leaves it: an inbox that got nothing, and a subscription whose delivery is kept."""
    await workers.start()
    kept = (await client.post("/v1/subscriptions", json={"target_url": receiver.url, "name": "kept"})).json()
    event = (await client.post("/v1/events", json={"type": "a", "payload": 1})).json()
    await eventually(lambda: receiver.hooks)
    box = (await client.post("/v1/inboxes", json={"key": "short"})).json()
    await client.delete("/v1/inboxes/short")
    await client.delete(f"/v1/subscriptions/{kept['id']}")
    # An accept that began before the deletion may still store a delivery for ten seconds.
    await database.fetch(
        "update subscriptions set status_at = status_at - interval '1 minute' where status = 'deleting'"
    )

    async def are_ended() -> bool:
        return await names(database) == {"short", "kept"}

    await eventually(are_ended, 10)
    await age(database)
    await node._housekeeping._sweep_subscriptions()
    assert await names(database) == {"kept"}
    shown = (await client.get(f"/v1/events/{event['id']}")).json()
    assert kept["id"] in json.dumps(shown), "its delivery is still shown"
    assert (await client.get(f"/v1/inboxes/{box['id']}")).status_code == 404
    for path in (f"/v1/inboxes/{box['id']}", "/v1/inboxes/short"):
        assert (await client.delete(path)).status_code == 404
    assert (await client.delete(f"/v1/subscriptions/{kept['id']}")).status_code == 204


async def test_it_reads_a_few_rows_of_many(database: Database, clock: DatabaseClock, tenant: Tenant) -> None:
    """Of 20,000 subscriptions that are in use or were looked at today, and of 200,000 deliveries."""
    found = await make_deleted(database, clock, tenant, "found")
    await age(database)
    await database.fetch(
        "insert into subscriptions (org_id, id, kind, key, status, status_at, created_at, deleted_at,"
        " all_types) select $1, gen_random_uuid(), 'inbox', n::text,"
        " case when n % 2 = 0 then 'deleting' else 'active' end, now(), now(),"
        " case when n % 2 = 0 then now() end, true from generate_series(1, 20000) n",
        tenant.id,
    )
    await database.fetch(
        "insert into settled_deliveries (org_id, subscription_id, event_id, generation, status, lease_count,"
        " accepted_at, settled_at) select $1, gen_random_uuid(), $2, n, 'dead', 0, now(), now()"
        " from generate_series(1, 200000) n",
        tenant.id,
        clock.mint(),
    )
    await database.fetch("analyze subscriptions, settled_deliveries")
    async with database.connection() as connection, connection.transaction():
        text = await connection.fetchval(
            f"explain (analyze, buffers, format json) {changes._SQL['sweep_deleted']}",
            changes.REFERRED_TO_FOR,
            100,
        )
        assert await connection.fetchval("select 1 from subscriptions where id = $1", found) is None
    plan: dict[str, Any] = json.loads(text)[0]["Plan"]
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 300, text


async def test_it_keeps_no_plan_that_reads_a_table_from_end_to_end(
    database_url: str, database: Database, clock: DatabaseClock, tenant: Tenant
) -> None:
    """The tables are empty when the plan is made, and a session keeps it."""
    await make_deleted(database, clock, tenant, "found")
    await age(database)
    await database.fetch("analyze deliveries, finished_leases, replays")
    looked = (
        "select sum(seq_scan) as whole, sum(idx_scan) as by_index from pg_stat_user_tables"
        " where relname in ('deliveries', 'finished_leases', 'replays')"
    )
    one = Database(database_url, pool_size=1)  # whose session says at once what it has read
    await one.open()
    try:
        await one.fetch("select pg_stat_force_next_flush()")
        before = await one.row(looked)
        assert await sweep_deleted(one, 100) == 1
        await one.fetch("select pg_stat_force_next_flush()")
        after = await one.row(looked)
    finally:
        await one.close()
    assert before is not None
    assert after is not None
    assert after["by_index"] == before["by_index"] + 3
    assert after["whole"] == before["whole"]
