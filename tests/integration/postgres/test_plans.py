"""The plans of the hot statements, asked of PostgreSQL itself: what they read follows what they return."""

from __future__ import annotations

import json
import uuid
from collections.abc import Awaitable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import asyncpg
import pytest

from harness import Tenant, Tenants, eventually
from triggers.deliveries import backlogs, undelivered
from triggers.domain import (
    MAX_PAGE_BYTES,
    AttemptOutcome,
    EventId,
    NewEvent,
    SubscriptionStatus,
    first_id_at,
)
from triggers.events import listing
from triggers.events import store as event_store
from triggers.inboxes import changes as inbox_changes
from triggers.inboxes import settlement_store
from triggers.inboxes import store as inbox_store
from triggers.keys import store as api_keys
from triggers.postgres.clock import DatabaseClock
from triggers.postgres.database import (
    PLAN_ANEW,
    PLAN_BY_INDEX,
    PLAN_ONCE,
    Connection,
    Database,
)
from triggers.previews import event_matching
from triggers.push import store as lane_store
from triggers.push.suspects import BATCH
from triggers.replays import store as replay_store
from triggers.search import store as search_store
from triggers.streams import store as stream_store
from triggers.streams.store import MAX_AVAILABLE, MAX_SUBSCRIPTIONS
from triggers.streams.window import MAX_SEEN

BACKLOG = 50_000
BEGINNING = datetime(2000, 1, 1, tzinfo=UTC)
BIG = {"deliveries", "events", "settled_deliveries", "dedup", "subscriptions", "api_keys", "finished_leases"}


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for inner in plan.get("Plans", ()):
        yield from nodes(inner)


async def explained(connection: Connection, statement: str, *values: Any) -> dict[str, Any]:
    """The plan of a statement that is carried out and taken back, with what it read."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        text = await connection.fetchval(f"explain (analyze, buffers, format json) {statement}", *values)
    finally:
        await transaction.rollback()
    plan: dict[str, Any] = json.loads(text)[0]["Plan"]
    return plan


def read(plan: dict[str, Any]) -> int:
    blocks: int = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
    return blocks


def scanned(plan: dict[str, Any]) -> set[str]:
    """The big tables that a plan reads from end to end."""
    return {
        node["Relation Name"]
        for node in nodes(plan)
        if node["Node Type"] == "Seq Scan"
        and any(node["Relation Name"].startswith(name) for name in BIG)
        and read(node) > 8  # an empty partition is read that way, and rightly
    }


async def touched(connection: Connection) -> list[int]:
    """How many deliveries this transaction read from end to end, fetched by an index, and deleted."""
    return [
        *await connection.fetchrow(
            "select seq_tup_read, idx_tup_fetch, n_tup_del from pg_stat_xact_user_tables"
            " where relname = 'deliveries'"
        )
    ]


@pytest.fixture
async def connection(database: Database) -> Any:
    opened = await database.connect(60)
    yield opened
    await opened.close()


async def inbox_of(database: Database, tenant: Tenant) -> inbox_store.Inbox:
    return await inbox_store.find(database, tenant.id, "default")


async def fill(database: Database, tenant: Tenant, number: int, ago: str = "2 hours") -> None:
    """So many events with their deliveries, accepted over the time since `ago`."""
    inbox = await inbox_of(database, tenant)
    async with database.connection() as filling:
        await filling.execute(
            "create temporary table filler as select"
            " now() - $1::text::interval * (1 - n::float / $2::int) as at, n"
            " from generate_series(1, $2::int) n",
            ago,
            number,
        )
        await filling.execute(
            "alter table filler add column id uuid;"
            " update filler set id = (lpad(to_hex((extract(epoch from at) * 1000)::bigint), 12, '0')"
            " || '7000' || '8000' || lpad(to_hex(n), 12, '0'))::uuid"
        )
        await filling.execute(
            "insert into events (org_id, id, type, payload, dedup_id)"
            " select $1, id, 'type ' || n % 7, '{}', 'd' || n from filler",
            tenant.id,
        )
        await filling.execute(
            "insert into dedup select $1, 'd' || n, id, '', now() + interval '1 day' from filler", tenant.id
        )
        await filling.execute(
            "insert into deliveries (org_id, subscription_id, event_id, due_at, accepted_at, payload_size)"
            " select $1, $2, id, at, at, 2 from filler",
            tenant.id,
            inbox.id,
        )
        await filling.execute("drop table filler")


async def test_the_hot_statements_use_their_indexes(
    database: Database, connection: Connection, tenants: Tenants, clock: DatabaseClock
) -> None:
    tenant, other = await tenants.make(), await tenants.make()
    for each in (tenant, other):
        await fill(database, each, BACKLOG // 2)
    await database.fetch(
        "insert into subscriptions (org_id, id, kind, key, status_at, created_at, all_types)"
        " select gen_random_uuid(), gen_random_uuid(), 'inbox', 'k', now(), now(), true"
        " from generate_series(1, 5000)"
    )
    await database.fetch(
        "insert into api_keys (id, org_id, prefix, hash, scopes, created_at)"
        " select gen_random_uuid(), $1, lpad(n::text, 12, 'x'), lpad(to_hex(n), 64, '0'), '{}', now()"
        " from generate_series(1, 20000) n",
        other.id,
    )
    inbox = await inbox_of(database, tenant)
    lease_id = uuid.uuid4()
    leased = await inbox_store.claim(
        database, inbox_store.Positions(), inbox, inbox_store.Claim(lease_id, 300, 100)
    )
    ids = [message.event_id for message in leased]
    await settlement_store.acknowledge(database, inbox, ids[50:])
    finished_id = uuid.uuid4()
    await database.fetch(
        "insert into finished_leases"
        " select $1::uuid, $2::uuid, case when n = 45000 then $3 else gen_random_uuid() end,"
        " now() - n * interval '2 seconds' from generate_series(1, 50000) n",
        tenant.id,
        inbox.id,
        finished_id,
    )
    await connection.execute("analyze")

    inbox_sql, settlement_sql = inbox_store._SQL, settlement_store._SQL
    event_sql, key_sql = event_store._SQL, api_keys._SQL
    listing_sql, matching_sql = listing._SQL, event_matching._SQL
    replay_sql, search_sql = replay_store._SQL, search_store._SQL
    who = (tenant.id, inbox.id)
    claim = (MAX_PAGE_BYTES, 100, uuid.uuid4(), timedelta(seconds=300), None, "worker 1")
    beyond = uuid.UUID(int=(1 << 128) - 1)
    all_events = (tenant.id, uuid.UUID(int=0), beyond)
    anything, no_more = (None,) * 4, (None,) * 3
    asked: list[tuple[str, str, tuple[Any, ...], int]] = [
        ("claim", inbox_sql["claim"], (*who, BEGINNING, *claim), 4_000),
        (
            "claim of a paused one",
            inbox_sql["claim_paused"],
            (*who, inbox_store._id_ceiling(inbox.status_at), *claim),
            4_000,
        ),
        ("leases", inbox_sql["leases"], (*who, uuid.UUID(int=0), 5_000), 200),
        ("held", inbox_sql["held"], (*who, lease_id), 200),
        ("ack", settlement_sql["ack"], (*who, lease_id, None, None), 2_000),
        ("ack of some", settlement_sql["ack"], (*who, lease_id, ids[:5], "{}"), 1_000),
        ("release", settlement_sql["release"], (*who, lease_id, None, timedelta(0), None, True), 2_500),
        ("reject", settlement_sql["reject"], (*who, lease_id, ids[:5], "poison", None), 1_000),
        ("extend", settlement_sql["extend"], (*who, lease_id, timedelta(seconds=9)), 2_500),
        ("acknowledge", settlement_sql["acknowledge"], (*who, ids[:10]), 600),
        ("acknowledge the rest", settlement_sql["acknowledge"], (*who, ids[:50]), 3_000),
        (
            "acknowledged before",
            settlement_sql["acknowledged_before"],
            (*who, ids[50:60], ids[50], ids[60]),
            100,
        ),
        ("acknowledged last", settlement_sql["acknowledged_last"], (*who, ids[50:60], ids[50], ids[60]), 300),
        ("is alive", settlement_sql["is_alive"], (*who, lease_id), 200),
        ("is finished", settlement_sql["is_finished"], (*who, finished_id), 20),
        ("reopen", inbox_sql["reopen"], (*who, finished_id), 20),
        ("sweep of finished leases", settlement_sql["sweep_finished"], (timedelta(hours=24), 100), 1_500),
        ("list", inbox_sql["oldest_first"], (*who, ids[5], 100), 300),
        ("list backwards", inbox_sql["newest_first"], (*who, beyond, 100), 300),
        ("quarantined", inbox_sql["quarantined_oldest_first"], (*who, uuid.UUID(int=0), 100), 100),
        ("holds any", inbox_sql["holds_any"], (*who, beyond), 20),
        ("deliveries of an event", event_sql["deliveries_of_event"], (tenant.id, ids[0]), 100),
        ("find an inbox", inbox_sql["inbox"], (tenant.id, None, "default"), 30),
        ("expired inboxes", inbox_changes._SQL["expired"], (50,), 20),
        ("events", listing_sql["newest_first"], (*all_events, 100, 100, *anything), 300),
        ("events backwards", listing_sql["oldest_first"], (*all_events, 100, 100, *anything), 300),
        ("events of a type", listing_sql["newest_first"], (*all_events, 5_000, 100, "type 3", *no_more), 900),
        ("window", listing_sql["window"], (*all_events, 5_000), 900),
        ("named", listing_sql["named"], (tenant.id, "d9"), 20),
        ("undelivered", listing_sql["undelivered"], (tenant.id, [inbox.id], *all_events[1:], 100), 300),
        ("events of ids", listing_sql["of_ids"], (tenant.id, ids, min(ids), max(ids), *anything), 1_000),
        ("candidates", matching_sql["candidates"], (tenant.id, uuid.UUID(int=0), ids[0], 500), 300),
        ("one event", event_sql["one"], (tenant.id, ids[0]), 20),
        ("payloads", event_sql["payloads"], (tenant.id, ids, min(ids), max(ids)), 1_000),
        ("waiting", replay_sql["waiting_deliveries"], (*who, uuid.UUID(int=0), beyond, 500, "retry"), 600),
        ("waiting, to lock", replay_sql["lock_waiting"], (*who, ids[:20]), 600),
        ("waiting, due now", replay_sql["make_due"], (*who, ids[:20]), 900),
        ("waiting, cancelled", replay_sql["cancel_waiting"], (*who, ids[:20], "x"), 1_200),
        ("worst subscriptions", undelivered._SQL["worst"], (tenant.id, "inbox", 10_000, 50, 0, None), 60),
        ("counts of subscriptions", undelivered._SQL["counts"], (tenant.id, [inbox.id], 1_001), 4_000),
        ("deliveries of an event with all", undelivered._SQL["of_event"], (tenant.id, ids[0], 100), 100),
        ("subscriptions that there are", undelivered._SQL["subscriptions"], (tenant.id, 10_000), 60),
        ("search by the end of an id", search_sql["ending"], (tenant.id, 5_000, "00000009", 20), 900),
        ("search by subject", search_sql["about"], (tenant.id, 5_000, "s", 20), 900),
        ("search by dedup_id", search_sql["deduplicated"], (tenant.id, "d9"), 20),
        ("search by name", search_sql["subscriptions"], (tenant.id, 10_000, "default", 40), 60),
        ("key", key_sql["by_prefix"], ("xxxxxxx10000",), 30),
    ]
    for name, statement, values, most in asked:
        plan = await explained(connection, statement, *values)
        assert not scanned(plan), name
        assert read(plan) <= most, f"{name} read {read(plan)} blocks"


async def test_redriving_reads_nothing_of_what_was_redriven_before(
    database: Database, connection: Connection, tenant: Tenant
) -> None:
    inbox = await inbox_of(database, tenant)
    await fill(database, tenant, BACKLOG)
    await connection.execute(
        "insert into settled_deliveries (org_id, subscription_id, event_id, generation, status, lease_count,"
        " accepted_at, settled_at) select org_id, subscription_id, event_id, 0, 'dead', 2, accepted_at, now()"
        " from deliveries"
    )
    await connection.execute("update deliveries set generation = 1")
    last = await connection.fetch("select event_id from deliveries order by event_id desc limit 100")
    await connection.execute("delete from deliveries where event_id >= $1", last[-1]["event_id"])
    await connection.execute("analyze")
    plan = await explained(
        connection, inbox_store._SQL["redrive"], tenant.id, inbox.id, None, 100, last[-1]["event_id"]
    )
    assert not scanned(plan)
    assert read(plan) < 3_000


async def test_accept_looks_up_only_the_names_that_came(
    database: Database, connection: Connection, tenant: Tenant, clock: DatabaseClock
) -> None:
    """A hundred thousand names of one organisation, for an event that one of them matches."""
    await connection.execute(
        "insert into subscriptions (org_id, id, kind, key, status_at, created_at, all_types, type_names)"
        " select $1, gen_random_uuid(), 'inbox', 'k' || n, now(), now(), false,"
        " array(select 'type.' || n || '.' || m from generate_series(1, 100) m)"
        " from generate_series(1, 1000) n",
        tenant.id,
    )
    plans: list[dict[str, Any]] = []

    class Explaining:
        async def fetchrow(self, statement: str, *values: Any) -> Any:
            plans.append(await explained(connection, statement, *values))
            return {"now": BEGINNING, "fits": False, "missing": [], "owed": [], "broad": []}

    event = NewEvent(org_id=tenant.id, id=clock.mint(), type="type.7.7", payload=b"{}")
    explaining = cast("Connection", Explaining())
    await event_store.accept(explaining, clock, event_store.Batch([event]), timedelta(days=1))
    named = next(node for node in nodes(plans[1]) if node.get("Subplan Name") == "CTE named")
    assert named["Actual Rows"] == 1


async def test_a_backlog_is_counted_on_an_index_up_to_a_limit(
    database: Database, connection: Connection, tenant: Tenant
) -> None:
    """The statement reads at most the wanted number of entries of one index, however many there are."""

    async def all_visible() -> bool:
        # What holds a snapshot in this moment, such as an analysis of its own, keeps pages from being marked.
        await connection.execute("vacuum analyze deliveries")
        marked: bool = await connection.fetchval(
            "select relallvisible = relpages from pg_class where oid = 'deliveries'::regclass"
        )
        return marked

    await fill(database, tenant, BACKLOG)
    await eventually(all_visible, 30)
    plan = await explained(connection, backlogs._SQL["count"], tenant.id, 1_001)
    scan = next(node for node in nodes(plan) if node.get("Relation Name") == "deliveries")
    assert scan["Node Type"] == "Index Only Scan"
    assert scan["Actual Rows"] == 1_001
    assert scan["Heap Fetches"] == 0
    assert read(plan) < 50
    sorts = [node for node in nodes(plan) if "Sort" in node["Node Type"]]
    assert all(node["Actual Rows"] <= 1 for node in sorts), "of subscriptions, not of deliveries"
    assert await backlogs.count(connection, tenant.id, 1_000) == (
        1_001,
        (await inbox_of(database, tenant)).id,
    )
    number, _ = await backlogs.count(connection, tenant.id, 10 * BACKLOG)
    assert number == BACKLOG


async def test_expiry_reads_what_expires(database: Database, connection: Connection, tenant: Tenant) -> None:
    await fill(database, tenant, BACKLOG)
    await connection.execute("analyze")
    plan = await explained(
        connection,
        inbox_store._SQL["expire_messages"],
        uuid.UUID(int=0),
        uuid.UUID(int=0),
        1000,
        timedelta(days=7),
    )
    assert "deliveries" not in scanned(plan)
    assert read(plan) < 200


async def test_a_held_snapshot_does_not_make_claims_wade_through_the_dead(
    database: Database, database_url: str, connection: Connection, tenant: Tenant
) -> None:
    """What was settled during somebody's long transaction cannot be cleaned away, but is not read again."""
    holder = await asyncpg.connect(database_url)
    held = holder.transaction(isolation="repeatable_read")
    await held.start()
    await holder.fetchval("select count(*) from deliveries")
    try:
        await fill(database, tenant, 20_000, ago="10 minutes")
        inbox = await inbox_of(database, tenant)
        assert inbox.status == SubscriptionStatus.ACTIVE
        positions = inbox_store.Positions()
        taken = 0
        while taken < 19_000:
            lease_id = uuid.uuid4()
            leased = await inbox_store.claim(
                database, positions, inbox, inbox_store.Claim(lease_id, 300, 1000)
            )
            assert len(leased) == 1000
            messages = settlement_store.LeasedMessages(lease_id)
            assert len(await settlement_store.acknowledge_lease(database, inbox, messages)) == 1000
            taken += 1000
        await connection.execute("vacuum deliveries")
        values = (MAX_PAGE_BYTES, 100, uuid.uuid4(), timedelta(seconds=300), None, None)
        claim = inbox_store._SQL["claim"]
        from_start = await explained(connection, claim, tenant.id, inbox.id, BEGINNING, *values)
        positions._known[inbox.id]._reread_at = float("inf")  # no reading anew just now
        from_hint = await explained(
            connection, claim, tenant.id, inbox.id, positions.start(inbox.id), *values
        )
        due = [
            next(node for node in nodes(plan) if node.get("Subplan Name") == "CTE due")
            for plan in (from_start, from_hint)
        ]
        assert read(due[0]) > 500, "the dead are there: this is not a test of nothing"
        assert read(due[1]) * 3 < read(due[0])
    finally:
        await held.rollback()
        await holder.close()


async def test_a_read_sorts_nothing_that_an_index_has_in_order(
    database: Database, tenant: Tenant, clock: DatabaseClock
) -> None:
    """A lane that was three rows when it was analyzed, under an index that was large before."""
    lane = uuid.uuid4()

    async def owe(number: int) -> None:
        await database.fetch(
            "insert into deliveries"
            " (org_id, subscription_id, event_id, due_at, accepted_at, payload_size, lane_group)"
            " select $1, $2, id, now() + (n - 100000) * interval '1 ms', now(), 2, 1"
            " from unnest($3::uuid[]) with ordinality as e (id, n)",
            tenant.id,
            lane,
            [clock.mint() for _ in range(number)],
        )

    async with database.connection() as filling:
        await filling.execute("alter table deliveries set (autovacuum_enabled = off)")
        await owe(BACKLOG)
        await filling.execute("delete from deliveries")
        await filling.execute("vacuum deliveries")
        await filling.execute("reindex index deliveries_pkey")
        await owe(3)
        await filling.execute("vacuum analyze deliveries")
        await owe(2_000)
    connection = await database.connect(60, PLAN_ANEW)
    try:
        async with connection.transaction():
            (rows,) = await lane_store.read(
                connection, [(tenant.id, lane)], [(BEGINNING, uuid.UUID(int=0))], [100]
            )
            _, fetched, _ = await touched(connection)
    finally:
        await connection.close()
    assert len(rows) == 100
    assert fetched <= 150


async def test_dedup_ids_are_looked_up_by_their_index_though_there_were_none_when_that_was_planned(
    database: Database, tenant: Tenant, clock: DatabaseClock
) -> None:
    connection = await database.connect(60, {**PLAN_BY_INDEX, "plan_cache_mode": "force_generic_plan"})
    try:
        await connection.execute("alter table dedup set (autovacuum_enabled = off)")
        await connection.execute("vacuum analyze dedup")
        new = NewEvent(org_id=tenant.id, id=EventId(clock.mint()), type="a", payload=b"1", dedup_id="d7")
        assert not await event_store.taken(connection, [new])
        await fill(database, tenant, 20_000)
        async with connection.transaction():
            assert list(await event_store.taken(connection, [new])) == [new.id]
            scanned_rows, by_index = await connection.fetchrow(
                "select seq_tup_read, idx_tup_fetch from pg_stat_xact_user_tables where relname = 'dedup'"
            )
    finally:
        await connection.close()
    assert (scanned_rows, by_index) == (0, 1)


class Queue:
    """A lane that was all but empty when its statements were planned, and has grown since."""

    def __init__(self, database: Database, tenant: Tenant, clock: DatabaseClock) -> None:
        self._database = database
        self._tenant = tenant
        self._clock = clock
        self.lane = uuid.uuid4()
        self.worker_id = uuid.uuid4()
        self.group = lane_store.Group(1, uuid.uuid4(), probation=False)

    async def begin(self, state: str) -> list[uuid.UUID]:
        """Few rows, of which there may be statistics, and indexes that are larger than others because the
        queue was not always empty."""
        async with self._database.connection() as filling:
            await filling.execute(
                "insert into workers (id, name, started_at, heartbeat_at) values ($1, 'w', now(), now())",
                self.worker_id,
            )
            await filling.execute(
                "update lane_groups set worker_id = $1, token = $2 where id = 1",
                self.worker_id,
                self.group.token,
            )
            await filling.execute("alter table deliveries set (autovacuum_enabled = off)")
            if state == "grown":
                await self.owe(BACKLOG)
                await filling.execute("delete from deliveries")
                await filling.execute("vacuum deliveries")
                await filling.execute("reindex index deliveries_by_due")
            few = await self.owe(3)
            if state != "new":
                await filling.execute("vacuum analyze deliveries")
        return few

    async def owe(self, number: int) -> list[uuid.UUID]:
        ids = [self._clock.mint() for _ in range(number)]
        await self._database.fetch(
            "insert into deliveries"
            " (org_id, subscription_id, event_id, due_at, accepted_at, payload_size, lane_group)"
            " select $1, $2, id, now() + (n / 1000 - 100) * interval '1 s', now(), 2, 1"
            " from unnest($3::uuid[]) with ordinality as e (id, n)",
            self._tenant.id,
            self.lane,
            ids,
        )
        return ids

    async def settle(self, connection: Connection, ids: list[uuid.UUID]) -> None:
        settlements = [
            lane_store.Settlement(
                org_id=self._tenant.id,
                subscription_id=self.lane,
                event_id=event_id,
                generation=0,
                lane_group=1,
                read_attempts=0,
                attempts=1,
                outcome=AttemptOutcome.DELIVERED,
                due_at=None,
                reason="delivered",
                status_code=200,
                response=None,
                duration_ms=1,
                attempt_id=self._clock.mint(),
                began_at=BEGINNING,
            )
            for event_id in ids
        ]
        await lane_store.settle(connection, self.worker_id, [self.group], settlements)

    async def count(self, connection: Connection, ids: list[uuid.UUID]) -> None:
        begins = [
            lane_store.Begin(
                self.group,
                lane_store.Due(
                    self._tenant.id, self.lane, event_id, 0, 0, None, BEGINNING, BEGINNING, payload_size=2
                ),
                BEGINNING,
            )
            for event_id in ids
        ]
        assert len(await lane_store.begin_attempts(connection, begins)) == len(ids)


@pytest.fixture
def queue(database: Database, tenant: Tenant, clock: DatabaseClock) -> Queue:
    return Queue(database, tenant, clock)


async def touched_by(connection: Connection, work: Awaitable[None]) -> list[int]:
    """What a piece of work touched."""
    async with connection.transaction():
        before = await touched(connection)
        await work
        after = await touched(connection)
    return [now - then for now, then in zip(after, before, strict=True)]


@pytest.mark.parametrize("statement", ["_SETTLE", "_SETTLE_REPEATED"])
@pytest.mark.parametrize("state", ["new", "analyzed", "grown"])
async def test_a_settle_finds_its_rows_by_a_plan_from_when_there_were_few(
    database: Database, queue: Queue, state: str, statement: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is planned once, on a queue that is all but empty then."""
    monkeypatch.setattr(lane_store, "_SETTLE_REPEATED", getattr(lane_store, statement))  # in a transaction
    few = await queue.begin(state)
    connection = await database.connect(60, PLAN_ONCE)
    try:
        await touched_by(connection, queue.settle(connection, few))
        ids = await queue.owe(BACKLOG // 2)
        end_to_end, fetched, deleted = await touched_by(connection, queue.settle(connection, ids[-100:]))
    finally:
        await connection.close()
    assert (end_to_end, deleted) == (0, 100)
    assert fetched <= 300


@pytest.mark.parametrize("state", ["new", "analyzed", "grown"])
async def test_attempts_are_counted_by_a_plan_from_when_there_were_few(
    database: Database, queue: Queue, state: str
) -> None:
    """A whole batch before it is sent: each row is found by its key, and nothing else is read."""
    few = await queue.begin(state)
    connection = await database.connect(60, PLAN_ONCE)
    try:
        await touched_by(connection, queue.count(connection, few))
        ids = await queue.owe(BACKLOG // 2)
        end_to_end, fetched, deleted = await touched_by(connection, queue.count(connection, ids[-BATCH:]))
    finally:
        await connection.close()
    assert (end_to_end, deleted) == (0, 0)
    assert fetched <= 3 * BATCH


async def settle_and_attempt(database: Database, tenant: Tenant, subscriptions: int) -> None:
    """Attempts of so many subscriptions and dead letters, over the time of the events that `fill` made."""
    await database.fetch(
        "insert into subscriptions (org_id, id, kind, lane_group, target_url, format, signature, secrets,"
        " status_at, created_at, all_types) select $1, gen_random_uuid(), 'push', 0, 'https://example.com/',"
        " 'standard', 'v1', 'x', now(), now(), true from generate_series(1, $2::int)",
        tenant.id,
        subscriptions,
    )
    await database.fetch(
        "with mine as (select id, row_number() over () as n from subscriptions"
        " where org_id = $1 and kind = 'push')"
        " insert into attempts (org_id, subscription_id, id, event_id, generation, attempt, outcome, reason,"
        " duration_ms, worker_id)"
        " select $1, m.id, e.id, e.id, 0, 1, 'delivered', 'delivered', 1, e.id"
        " from (select id, row_number() over () as n from events where org_id = $1) e"
        " join mine m on m.n = 1 + e.n % $2::int",
        tenant.id,
        subscriptions,
    )
    await database.fetch(
        "insert into settled_deliveries (org_id, subscription_id, event_id, generation, status, lease_count,"
        " accepted_at, settled_at)"
        " select org_id, subscription_id, event_id, 0, case when random() < 0.5 then 'dead' else 'delivered'"
        " end, 0, accepted_at, accepted_at from deliveries where org_id = $1",
        tenant.id,
    )


@pytest.mark.parametrize("plans", [{}, {"plan_cache_mode": "force_generic_plan"}])
async def test_a_stream_reads_what_is_new(
    database: Database, tenants: Tenants, plans: dict[str, str], clock: DatabaseClock
) -> None:
    tenant, other = await tenants.make(), await tenants.make()
    for each in (tenant, other):
        await fill(database, each, BACKLOG // 2)
        await settle_and_attempt(database, each, 20)
    await database.fetch("analyze")
    inbox = await inbox_of(database, tenant)
    since = clock.moment() - timedelta(seconds=30)  # about a hundred events
    looks: dict[str, tuple[Any, ...]] = {
        "accepted": (tenant.id, first_id_at(since), MAX_SEEN),
        "attempts": (tenant.id, first_id_at(since), MAX_SEEN, MAX_SUBSCRIPTIONS),
        "dead": (tenant.id, since, MAX_SEEN),
        "available": (tenant.id, inbox.id, since, MAX_AVAILABLE),
    }
    connection = await database.connect(60, plans)
    try:
        for name, values in looks.items():
            plan = await explained(connection, stream_store._SQL[name], *values)
            assert not scanned(plan), (name, plan)
            rows = max(node["Actual Rows"] * node["Actual Loops"] for node in nodes(plan))
            assert 20 <= rows < 500, (name, rows)
            assert read(plan) < 600, (name, read(plan))
        beginning = await explained(
            connection, stream_store._SQL["available"], tenant.id, inbox.id, BEGINNING, MAX_AVAILABLE
        )
        assert read(beginning) < MAX_AVAILABLE * 3, "it counts no further than the limit"
    finally:
        await connection.close()


async def test_undelivered_events_are_counted_up_to_a_limit(
    database: Database, connection: Connection, tenant: Tenant
) -> None:
    """However many deliveries are dead or pending, so many entries are read, and no table from end to end."""
    inbox = await inbox_of(database, tenant)
    await fill(database, tenant, BACKLOG)
    await connection.execute(
        "insert into settled_deliveries (org_id, subscription_id, event_id, generation, status, lease_count,"
        " accepted_at, settled_at) select org_id, subscription_id, event_id, 0, 'dead', 2, accepted_at, now()"
        " from deliveries; delete from deliveries where event_id in"
        " (select event_id from deliveries order by event_id desc limit 10000)"
    )
    await connection.execute("vacuum analyze deliveries")
    await connection.execute("vacuum analyze settled_deliveries")
    sql = undelivered._SQL
    plan = await explained(connection, sql["worst"], tenant.id, "inbox", 10_000, 50, 0, None)
    assert not scanned(plan)
    assert read(plan) < 60
    plan = await explained(connection, sql["counts"], tenant.id, [inbox.id], 1_001)
    assert not scanned(plan)
    for node in nodes(plan):
        assert node["Actual Rows"] * node["Actual Loops"] <= 1_001, node
    assert read(plan) < 12_000, "two look-ups for each of at most 1,001 dead deliveries"
    counted = (await undelivered.backlogs(database, tenant.id, [inbox.id]))[inbox.id]
    assert counted.unsettled == counted.dead == (1_000, False)
