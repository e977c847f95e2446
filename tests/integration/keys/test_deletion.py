"""Deleting an organisation: at once for everybody who asks for it, and nothing of it remains after that."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable
from typing import Any
from uuid import UUID

import httpx
import pytest

from delivering import RING, Workers, post, store_many
from harness import Node, Tenant, Tenants, eventually, is_waited_for
from integration.console.test_pages import signed_in
from integration.keys.test_tenancy import build
from receiving import Receiver
from streaming import streaming
from triggers.domain import TENANT_SCOPES, OrgId, Scope
from triggers.errors import Conflict
from triggers.events.matching import Judging
from triggers.events.service_events import DEAD_LETTER, Told, tell
from triggers.inboxes import changes as inbox_changes
from triggers.keys import deletion
from triggers.node import housekeeping
from triggers.postgres.clock import DatabaseClock
from triggers.postgres.database import Database
from triggers.postgres.time_bounds import ACCEPTS_ENDED
from triggers.secrets.signing_secrets import generate_secret
from triggers.subscriptions import store as subscription_store
from triggers.subscriptions.rules import PushSettings
from triggers.subscriptions.store import NewSubscription

KEY_COLUMNS = """
select c.relname as table,
    array_agg(a.attname || ' ' || format_type(a.atttypid, null) order by k.place) as key
from pg_class c
join pg_attribute o on o.attrelid = c.oid and o.attname = 'org_id' and not o.attisdropped
join pg_index i on i.indrelid = c.oid and i.indisprimary
cross join lateral unnest(i.indkey::int[]) with ordinality as k (number, place)
join pg_attribute a on a.attrelid = c.oid and a.attnum = k.number
where c.relkind in ('r', 'p') and not c.relispartition and c.relnamespace = 'public'::regnamespace
    and a.attname <> 'org_id'
group by 1
"""


@pytest.fixture
async def operator(tenants: Tenants) -> Tenant:
    return await tenants.make(scopes=set(Scope), name="operators")


async def rows_of(database: Database, org_id: UUID) -> dict[str, int]:
    """How many rows of an organisation each table has, but for statistics, which come a few seconds late."""
    found = {}
    for table in deletion.OWNED:
        if not table.name.startswith("statistics_"):
            row = await database.row(f"select count(*) from {table.name} where org_id = $1", org_id)
            assert row is not None
            found[table.name] = row[0]
    return found


async def delete(node: Node, operator: Tenant, org_id: UUID | str) -> httpx.Response:
    async with node.client(operator) as client:
        return await client.delete(f"/v1/admin/orgs/{org_id}")


async def let_time_pass(database: Database, interval: str) -> None:
    await database.fetch(
        "update deleted_organisations set due_at = due_at - $1::text::interval,"
        " deleted_at = deleted_at - $1::text::interval",
        interval,
    )


async def is_emptied(database: Database, org_id: UUID) -> bool:
    row = await database.row("select emptied_at from deleted_organisations where id = $1", org_id)
    assert row is not None
    return row["emptied_at"] is not None


async def test_the_list_of_tables_is_that_of_the_database(database: Database) -> None:
    names = {"timestamp with time zone": "timestamptz"}
    found = {}
    for row in await database.fetch(KEY_COLUMNS):
        columns = [each.split(" ", 1) for each in row["key"]]
        found[row["table"]] = tuple((name, names.get(kind, kind)) for name, kind in columns)
    assert {table.name: table.key for table in deletion.OWNED} == found


async def test_nothing_of_it_remains_and_nothing_of_another_is_touched(
    node: Node, database: Database, tenants: Tenants, operator: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(housekeeping, "CHUNK", 2)
    node._housekeeping._deletion_chunk = 2
    victim, neighbour = await build(node, tenants), await build(node, tenants)
    org_id = victim.tenant.id
    for estate in (victim, neighbour):
        async with node.client(estate.tenant) as client:
            await client.post("/v1/console/links", json={})
            await client.post("/v1/ack", json={"event_ids": [estate.ids["event_id"][0]]})
            gone = (
                await client.post("/v1/subscriptions", json={"target_url": "https://example.com/"})
            ).json()
            await client.delete(f"/v1/subscriptions/{gone['id']}")
        await database.fetch(
            "insert into attempts (org_id, subscription_id, id, event_id, generation, attempt, outcome,"
            " reason, duration_ms, worker_id) values ($1, $2, $3, $3, 0, 1, 'dead', 'x', 1, $3)",
            estate.tenant.id,
            UUID(estate.ids["subscription_id"][0]),
            UUID(estate.ids["event_id"][0]),
        )
        await database.fetch(
            "insert into finished_leases values ($1, $2, $3, now() + interval '1 hour')",
            estate.tenant.id,
            UUID(estate.ids["inbox"][0]),
            uuid.uuid4(),
        )
    before = await rows_of(database, neighbour.tenant.id)
    assert all(before.values()), before
    answer = await delete(node, operator, org_id)
    assert answer.status_code == 202, answer.text
    assert (answer.json()["id"], answer.json()["emptied_at"]) == (str(org_id), None)
    assert any((await rows_of(database, org_id)).values()), "its rows follow later"
    assert (await delete(node, operator, org_id)).json() == answer.json(), "again is as once"
    row = await database.row("select due_at - deleted_at as wait from deleted_organisations")
    assert row is not None
    assert row["wait"] >= ACCEPTS_ENDED, "before that, an accept could still store an event"
    await let_time_pass(database, "1 minute")
    await eventually(lambda: is_emptied(database, org_id), 20)
    assert not any((await rows_of(database, org_id)).values())
    assert (await rows_of(database, neighbour.tenant.id)) == before
    assert (await delete(node, operator, org_id)).json()["emptied_at"] is not None

    # What comes late, such as the statistics of a process that could not write them, goes with the last look.
    late = (
        "insert into statistics_minutes (org_id, subscription_id, began_at, process_id)"
        " values ($1, $1, now(), $2)"
    )
    process = uuid.uuid4()
    for each in (org_id, neighbour.tenant.id):
        await database.fetch(late, each, process)
    await let_time_pass(database, "1 day")

    async def forgotten() -> bool:
        return await database.fetch("select from deleted_organisations") == []

    await eventually(forgotten, 20)
    left = await database.fetch("select org_id from statistics_minutes where process_id = $1", process)
    assert [each["org_id"] for each in left] == [neighbour.tenant.id]
    assert (await delete(node, operator, org_id)).status_code == 404


async def test_every_node_refuses_it_within_a_second(
    node: Node, make_node: Callable[..., Any], tenants: Tenants, operator: Tenant
) -> None:
    other: Node = await make_node()
    victim = await tenants.make(name="victim")
    async with (
        other.client(victim) as client,
        signed_in(other, victim) as person,
        signed_in(other, operator) as acting,
        streaming(other.url, "/v1/stream", victim) as stream,
        streaming(other.url, "/v1/stream", operator, headers={"triggers-org": str(victim.id)}) as looked_at,
    ):
        event = {"type": "a", "payload": 1}
        assert (await client.post("/v1/events", json=event)).status_code == 201
        assert (await person.get("/console/events")).status_code == 200
        await stream.until(1)
        await looked_at.until(1)
        session = await other.sessions.session_of({b"cookie": acting.headers["cookie"].encode()})
        assert session is not None
        await other.sessions.act_for(session, victim.id)
        assert "victim" in (await acting.get("/console/events")).text
        lease = "/v1/inboxes/default/messages/lease"
        assert len((await client.post(lease, json={"wait_seconds": 20})).json()["results"]) == 1
        waiting = asyncio.create_task(
            client.post("/v1/inboxes/default/messages/lease", json={"wait_seconds": 20})
        )
        assert (await delete(node, operator, victim.id)).status_code == 202
        deleted_at = time.monotonic()

        async def is_refused() -> bool:
            return (await client.post("/v1/events", json=event)).status_code == 401

        await eventually(is_refused)
        assert time.monotonic() - deleted_at < 1.2
        assert (await client.post("/v1/events", json=event)).status_code == 401
        assert (await client.get("/v1/org")).status_code == 401
        assert (await person.get("/console/events")).status_code == 303
        await stream.end(1.5)
        await looked_at.end(1.5)
        assert (await asyncio.wait_for(waiting, 3)).status_code in (404, 409)
        page = await acting.get("/console/organisations")
        assert page.status_code == 200, "its operator acts for nobody now"
        assert "victim" not in page.text
        async with other.client(operator) as asking:
            headers = {"triggers-org": str(victim.id)}
            assert (await asking.get("/v1/events", headers=headers)).status_code == 404
            assert (await asking.post("/v1/events", json=event, headers=headers)).status_code == 404
            made = await asking.post(f"/v1/admin/orgs/{victim.id}/keys", json={})
            assert made.status_code == 404
            again = await asking.post("/v1/admin/orgs", json={"name": "victim"})
            assert (again.status_code, again.json()["id"] != str(victim.id)) == (201, True), (
                "its name is free"
            )


async def test_no_attempt_begins_a_second_after_the_answer(
    node: Node,
    database: Database,
    clock: DatabaseClock,
    tenants: Tenants,
    operator: Tenant,
    workers: Workers,
    receiver: Receiver,
) -> None:
    await workers.start()
    victim, neighbour = await tenants.make(), await tenants.make()
    async with Receiver() as of_neighbour:
        hooks = []
        for tenant, url in ((victim, receiver.url), (neighbour, of_neighbour.url)):
            async with node.client(tenant) as client:
                made = await client.post("/v1/subscriptions", json={"target_url": url, "rate_limit": 20})
                hooks.append(UUID(made.json()["id"]))
                await post(client, [{} for _ in range(200)])
        await eventually(lambda: len(receiver.hooks) > 5 and len(of_neighbour.hooks) > 5)
        assert (await delete(node, operator, victim.id)).status_code == 202
        answered_at = time.monotonic()
        await let_time_pass(database, "1 minute")
        await eventually(lambda: is_emptied(database, victim.id), 20)
        number = len(of_neighbour.hooks)
        await eventually(
            lambda: time.monotonic() > answered_at + 1.5 and len(of_neighbour.hooks) > number + 5
        )
        assert max(hook.at for hook in receiver.hooks) < answered_at + 1.0
        assert len(receiver.hooks) < 100, "it was stopped in the middle"
    # What was in flight is recorded when it ends. The last look a day later finds that.
    settled = "select count(*) from settled_deliveries where subscription_id = $1"
    assert (await database.row(settled, hooks[0]))[0] <= 2
    assert (await database.row(settled, hooks[1]))[0] > 5


async def test_an_accept_that_began_before_leaves_nothing(
    node: Node, database: Database, tenants: Tenants, operator: Tenant
) -> None:
    victim = await tenants.make()
    async with node.client(victim) as client, database.connection() as holding:
        # A transaction sees only the connections that there were at its first look at them.
        assert (await client.post("/v1/events", json={"type": "a", "payload": 1})).status_code == 201
        async with holding.transaction():
            # The accept waits for this dedup_id in the middle of its statement.
            await holding.execute(
                "insert into dedup values ($1, 'held', $2, '', now() + interval '1 hour')",
                victim.id,
                uuid.uuid4(),
            )
            accepting = asyncio.create_task(
                client.post("/v1/events", json={"type": "a", "payload": 1, "dedup_id": "held"})
            )
            await eventually(lambda: is_waited_for(holding))
            assert (await delete(node, operator, victim.id)).status_code == 202
            await holding.execute("delete from dedup where org_id = $1", victim.id)
        assert (await accepting).status_code == 201
    stored = "select count(*) from events where org_id = $1"
    assert (await database.row(stored, victim.id))[0] == 2
    await let_time_pass(database, "10 seconds")
    await eventually(lambda: is_emptied(database, victim.id), 20)
    assert not any((await rows_of(database, victim.id)).values())


async def test_a_deletion_that_died_is_finished(
    database: Database,
    clock: DatabaseClock,
    tenants: Tenants,
    operator: Tenant,
    make_node: Callable[..., Any],
) -> None:
    """Between its two steps, and then by two nodes that share the work."""
    victim = await tenants.make()
    moved = await deletion._move(database, victim.id)
    assert moved is not None
    statuses = "select status, deleted_at from subscriptions where org_id = $1"
    assert {row["status"] for row in await database.fetch(statuses, victim.id)} == {"active"}
    for _ in range(2):
        await make_node()

    async def ended() -> bool:
        return all(row["deleted_at"] for row in await database.fetch(statuses, victim.id))

    await eventually(ended)
    others = [await tenants.make() for _ in range(3)]
    for each in others:
        await store_many(database, clock, each, uuid.uuid4(), 2_500)
        assert await deletion.delete(database, each.id, operator.id)
    await let_time_pass(database, "1 minute")
    for each in (victim, *others):
        await eventually(lambda each=each: is_emptied(database, each.id), 30)
        assert not any((await rows_of(database, each.id)).values())


async def test_others_are_served_before_its_subscriptions_are_marked(
    database: Database, clock: DatabaseClock, tenants: Tenants
) -> None:
    """A process died between the two steps. Until they are marked, they look as if they were active."""
    victim, neighbour = await tenants.make(), await tenants.make()
    hook = PushSettings(target_url="https://example.com/", event_types=["triggers.delivery.dead"])
    brief = inbox_changes.NewInbox("brief", expires_in_seconds=3_600)
    for each in (victim, neighbour):
        new = NewSubscription(hook, "v1", generate_secret())
        await subscription_store.create(database, clock, RING, each.id, new)
        await inbox_changes.create(database, clock, RING, each.id, brief)
    assert await deletion._move(database, victim.id) is not None
    told = [Told(each.id, DEAD_LETTER, {}) for each in (victim, neighbour)]
    async with database.connection() as connection, connection.transaction():
        await tell(connection, clock, Judging(database), told)
    stored = await database.fetch("select org_id from events where type = $1", DEAD_LETTER)
    assert [row["org_id"] for row in stored] == [neighbour.id]
    await database.fetch(
        "update subscriptions set expires_at = now() - case when org_id = $1 then interval '2 minutes'"
        " else interval '1 minute' end where key = 'brief'",
        victim.id,
    )
    assert [org_id for org_id, _ in await inbox_changes.delete_expired(database, 10)] == [neighbour.id]


async def test_the_last_operator_stays(
    node: Node, database: Database, tenants: Tenants, operator: Tenant
) -> None:
    own = await delete(node, operator, operator.id)
    assert own.status_code == 409
    assert "its own organisation" in own.json()["detail"]
    for wrong in ("nonsense", uuid.uuid4()):
        assert (await delete(node, operator, wrong)).status_code == 404
    plain = await tenants.make(scopes=TENANT_SCOPES)
    assert (await delete(node, plain, operator.id)).status_code == 403
    with pytest.raises(Conflict, match="the last organisation that has a key with the scope `admin`"):
        await deletion.delete(database, operator.id, None)
    # Two operators who delete each other's organisations at the same moment: one of them stays.
    second = await tenants.make(scopes=[Scope.ADMIN], name="second")
    answers = await asyncio.gather(delete(node, operator, second.id), delete(node, second, operator.id))
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses in ([202, 409], [202, 401]), [each.text for each in answers]
    # Organisations without such a key can be deleted beside the database, even the last one.
    await database.fetch("update api_keys set revoked_at = now() where 'admin' = any (scopes)")
    for row in await database.fetch("select id from organisations"):
        assert await deletion.delete(database, OrgId(row["id"]), None)
    assert await database.fetch("select from organisations") == []


async def test_a_key_is_not_made_while_its_organisation_is_deleted(
    node: Node, database: Database, tenants: Tenants, operator: Tenant
) -> None:
    victim = await tenants.make()
    async with node.client(operator) as client:
        async with database.connection() as holding, holding.transaction():
            await holding.execute(deletion._SQL["lock"], victim.id)
            making = asyncio.create_task(client.post(f"/v1/admin/orgs/{victim.id}/keys", json={}))
            await eventually(lambda: is_waited_for(holding))
            await holding.execute(deletion._SQL["move"], victim.id, ACCEPTS_ENDED)
        assert (await making).status_code == 404
    assert len(await database.fetch("select from api_keys where org_id = $1", victim.id)) == 1


async def test_accepts_go_on_while_many_rows_are_deleted(
    node: Node, database: Database, clock: DatabaseClock, tenants: Tenants, operator: Tenant
) -> None:
    victim, neighbour = await tenants.make(), await tenants.make()
    await store_many(database, clock, victim, uuid.uuid4(), 20_000)
    assert (await delete(node, operator, victim.id)).status_code == 202
    await let_time_pass(database, "1 minute")
    remaining = "select count(*) from deliveries where org_id = $1"

    async def begun() -> bool:
        return 0 < (await database.row(remaining, victim.id))[0] < 20_000

    await eventually(begun, 20)
    times = []
    async with node.client(neighbour) as client:
        while not await is_emptied(database, victim.id):
            began = time.monotonic()
            assert (await client.post("/v1/events", json={"type": "a", "payload": 1})).status_code == 201
            times.append(time.monotonic() - began)
            assert len(times) < 10_000
    assert len(times) > 20
    assert sorted(times)[len(times) // 2] < 0.1
    assert max(times) < 2.0
