"""Migrations: what they build is what is documented, whoever runs them, and nothing newer is touched."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from harness import Node, Tenant, eventually, node_settings
from triggers.domain import AttemptOutcome, DeliveryStatus, Scope
from triggers.errors import OperatorError, SchemaTooNew
from triggers.events.store import learn_time
from triggers.node.check import check_configuration
from triggers.postgres import migrate, partitions
from triggers.postgres.clock import DatabaseClock
from triggers.postgres.database import Database
from triggers.postgres.embedded_cluster import SUPERUSER

SCHEMA = Path(__file__).parents[3] / "docs" / "schema.txt"
REWRITE = "TRIGGERS_TESTS_REWRITE_SCHEMA"

_TABLES = """
select c.relname as name, c.oid,
    case c.relkind when 'p' then ' partitioned by ' || pg_get_partkeydef(c.oid) else '' end as kind,
    coalesce(' with (' || array_to_string(c.reloptions, ', ') || ')', '') as options
from pg_class c
where c.relkind in ('r', 'p') and c.relnamespace = 'public'::regnamespace and not c.relispartition
order by c.relname
"""
_PARTS = """
select 1 as section, attnum::int as place, attname || ' ' || format_type(atttypid, atttypmod)
    || case when attnotnull then ' not null' else '' end
    || coalesce(' default ' || pg_get_expr(d.adbin, d.adrelid), '') as line
from pg_attribute a left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
where attrelid = $1 and attnum > 0 and not attisdropped
union all
select 2, 0, conname || ' ' || pg_get_constraintdef(oid) from pg_constraint
where conrelid = $1 and contype <> 'n'
union all
select 3, 0, pg_get_indexdef(indexrelid) from pg_index where indrelid = $1
order by section, place, line
"""


@pytest.fixture
async def empty(empty_database_url: str) -> AsyncIterator[Database]:
    opened = Database(empty_database_url, pool_size=4)
    await opened.open()
    yield opened
    await opened.close()


async def dump(database: Database) -> str:
    """Every table with its columns, constraints and indexes, one a line."""
    lines = []
    for table in await database.fetch(_TABLES):
        lines.append(f"{table['name']}{table['kind']}{table['options']}")
        lines += [f"    {row['line']}" for row in await database.fetch(_PARTS, table["oid"])]
    return "\n".join(lines) + "\n"


async def test_what_they_build_is_what_is_documented(database: Database) -> None:
    found = await dump(database)
    if os.environ.get(REWRITE):
        SCHEMA.write_text(found, encoding="utf-8")
    assert found == SCHEMA.read_text(encoding="utf-8"), f"if that is meant, run this with {REWRITE}=1"


async def listed_by_checks(database: Database, column: str) -> dict[str, set[str]]:
    """The words that the CHECK of a column named `<table>.<column>` allows, by table and partition."""
    table, name = column.split(".")
    rows = await database.fetch(
        "select conrelid::regclass::text as relation, pg_get_constraintdef(oid) as definition"
        " from pg_constraint where conname = $1",
        f"{table}_{name}_check",
    )
    return {row["relation"]: set(re.findall(r"'([\w:]+)'::text", row["definition"])) for row in rows}


async def test_the_checks_list_the_words_of_the_program(database: Database) -> None:
    """In a table and in each of its partitions, and checked for the rows that are there."""
    outcomes = await listed_by_checks(database, "attempts.outcome")
    settled = await listed_by_checks(database, "settled_deliveries.status")
    unsettled = await listed_by_checks(database, "deliveries.status")
    assert len(outcomes) > 3, "the table and its partitions"
    assert len(outcomes) == len(settled)
    for words in outcomes.values():
        assert words == set(AttemptOutcome)
    for words in settled.values():
        assert words | unsettled["deliveries"] == set(DeliveryStatus)
        assert words >= set(AttemptOutcome) - {AttemptOutcome.RETRY}, "what ends a delivery is its status"
    assert AttemptOutcome.RETRY not in set(DeliveryStatus)
    assert (await listed_by_checks(database, "api_keys.scopes"))["api_keys"] == set(Scope)
    row = await database.row("select bool_and(convalidated) from pg_constraint where contype = 'c'")
    assert row is not None
    assert row[0]


async def test_attempts_of_a_version_before_keep_their_outcomes(
    empty: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = migrate.migrations()
    with monkeypatch.context() as before:
        before.setattr(migrate, "migrations", lambda: known[:7])
        before.setattr(partitions, "PARTITIONED", partitions.PARTITIONED[:3])
        await migrate.migrate(empty)
    insert = (
        "insert into attempts (org_id, subscription_id, id, event_id, generation, attempt, outcome, reason,"
        " duration_ms, worker_id) values ($1, $1, $2, $1, 0, 1, $3, 'x', 1, $1)"
    )
    clock = DatabaseClock()
    await learn_time(empty, clock)
    for outcome in AttemptOutcome:
        await empty.fetch(insert, UUID(int=1), clock.mint(), outcome)
    assert [each.number for each in await migrate.migrate(empty)] == [each.number for each in known[7:]]
    rows = await empty.fetch("select outcome from attempts")
    assert sorted(row["outcome"] for row in rows) == sorted(AttemptOutcome)
    with pytest.raises(Exception, match="attempts_outcome_check"):
        await empty.fetch(insert, UUID(int=1), clock.mint(), "cancelled")
    assert await dump(empty) == SCHEMA.read_text(encoding="utf-8")


async def test_they_are_numbered_without_a_gap() -> None:
    assert [each.number for each in migrate.migrations()] == [*range(1, len(migrate.migrations()) + 1)]


async def test_five_migrators_at_once(empty: Database) -> None:
    applied = await asyncio.gather(*[migrate.migrate(empty) for _ in range(5)])
    done = sorted(migration for each in applied for migration in each)
    assert done == migrate.migrations(), "each by one of them"
    assert await migrate.pending(empty) == []
    assert await dump(empty) == SCHEMA.read_text(encoding="utf-8")
    assert await migrate.migrate(empty) == []


async def test_a_newer_schema_is_refused(database: Database, database_url: str) -> None:
    await database.fetch("insert into schema_migrations values (9999, 'from_the_future', now())")
    with pytest.raises(SchemaTooNew, match="9999"):
        await migrate.migrate(database)
    command = [sys.executable, "-c", "from triggers.cli import main; main()"]
    for arguments in (["migrate"], ["serve", "--port", "0"]):
        ended = await asyncio.to_thread(
            subprocess.run,
            [*command, *arguments, "--database-url", database_url],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={**os.environ, "COLUMNS": "200"},
        )
        assert ended.returncode == 1, ended.stderr
        assert "The database is at migration 9999" in ended.stderr
        assert "Traceback" not in ended.stderr


async def test_an_old_server_is_refused(empty: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrate, "OLDEST_SERVER", 99)
    with pytest.raises(OperatorError, match="too old"):
        await migrate.migrate(empty)
    assert len(await migrate.pending(empty)) == len(migrate.migrations())


async def test_one_that_fails_leaves_nothing_of_itself(
    empty: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = migrate.migrations()
    broken = migrate.Migration(len(known) + 1, "broken", "create table half (id int); select nonsense;")
    monkeypatch.setattr(migrate, "migrations", lambda: [*known, broken])
    with pytest.raises(Exception, match="nonsense"):
        await migrate.migrate(empty)
    assert await migrate.pending(empty) == [broken]
    row = await empty.row("select to_regclass('half') is null")
    assert row is not None
    assert row[0]


async def test_accepts_go_on_while_a_migration_waits_for_its_lock(
    node: Node, tenant: Tenant, database: Database, monkeypatch: pytest.MonkeyPatch, logs: list[Any]
) -> None:
    """A transaction of somebody else holds the lock. A migration that waited for it would stop everybody."""
    known = migrate.migrations()
    waiting = migrate.Migration(
        len(known) + 1, "waiting", "alter table subscriptions add column late integer"
    )
    monkeypatch.setattr(migrate, "migrations", lambda: [*known, waiting])
    monkeypatch.setattr(migrate, "LOCK_SECONDS", 0.3)
    monkeypatch.setattr(migrate, "PAUSE_SECONDS", 0.5)

    def attempts() -> list[Any]:
        return [each for each in logs if each["event"] == "migration_waits"]

    async with node.client(tenant) as client, database.connection() as holding:
        async with holding.transaction():
            pid = await holding.fetchval("select pg_backend_pid() from subscriptions")
            migrating = asyncio.create_task(migrate.migrate(database))
            accepted = 0
            while len(attempts()) < 3:
                answer = await client.post("/v1/events", json={"type": "a", "payload": 1})
                assert answer.status_code == 201, answer.text
                accepted += 1
            assert accepted > 3
            assert f"process {pid} of PostgreSQL" in attempts()[-1]["oldest"]
            assert attempts()[-1]["waited_seconds"] >= 1
            monkeypatch.setattr(migrate, "GIVE_UP_SECONDS", 0.1)
            with pytest.raises(OperatorError, match=rf"Migration {waiting.number} got no lock .* {pid} "):
                await migrating
            monkeypatch.setattr(migrate, "GIVE_UP_SECONDS", 60)
            both = [asyncio.create_task(migrate.migrate(database)) for _ in range(2)]
            await eventually(lambda: len(attempts()) > 5)
        applied = await asyncio.gather(*both)
    assert sorted(map(len, applied)) == [0, 1], "one waited for the table, and the other for that one"


async def test_a_node_goes_on_after_a_newer_one_added_a_column(
    node: Node, tenant: Tenant, database: Database
) -> None:
    """Its connections know the statements with fewer columns. The first change must be repeated."""
    async with node.client(tenant) as client:

        async def create(number: int) -> int:
            return (await client.post("/v1/inboxes", json={"key": f"k{number}"})).status_code

        assert {await create(number) for number in range(5)} == {201}
        await database.fetch("alter table subscriptions add column later timestamptz")
        assert [await create(5) for _ in range(2)] == [503, 201]
        assert {await create(number) for number in range(6, 10)} == {201}


_C = "locale_provider libc locale 'C'"
UNUSABLE = {
    "another encoding": "encoding SQL_ASCII. Create one with UTF8",
    "only to be read": "{name} is read-only",
    "another's": "The role {name}_guest may not create tables in {name}. Make it the owner of the database",
}


@pytest.mark.parametrize("why", UNUSABLE)
async def test_a_database_that_cannot_be_used_is_refused_and_check_says_so(postgres: Any, why: str) -> None:
    name = await postgres.create("template0")
    said, guest = UNUSABLE[why].format(name=name), f"{name}_guest"
    await postgres.run(f"create role {guest} role triggers", user=SUPERUSER)
    match why:
        case "another encoding":
            await postgres.run(f"drop database {name}", user=SUPERUSER)
            made = f"create database {name} template template0 encoding SQL_ASCII {_C} owner triggers"
            await postgres.run(made, user=SUPERUSER)
        case "only to be read":
            await postgres.run(f"alter database {name} set default_transaction_read_only = on")
    url = postgres.url_of(name) + (f"&role={guest}" if why == "another's" else "")
    refused = Database(url, pool_size=2)
    await refused.open()
    try:
        with pytest.raises(OperatorError, match=said):
            await migrate.migrate(refused)
        checked = dict(await check_configuration(node_settings(database_url=url)))
        assert said in checked["database"]
    finally:
        await refused.close()
        await postgres.run(f"drop database {name}", user=SUPERUSER)
        await postgres.run(f"drop role {guest}", user=SUPERUSER)


async def test_what_postgres_refuses_is_one_line(postgres: Any, database_url: str) -> None:
    guest = "guest_of_all"
    await postgres.run(f"create role {guest} role triggers", user=SUPERUSER)
    try:
        name = database_url.split("/")[3].split("?", maxsplit=1)[0]
        command = [Path(sys.executable).with_name("triggers"), "orgs", "list"]
        url = f"{postgres.url_of(name)}&role={guest}"
        done = await asyncio.to_thread(
            subprocess.run, [*command, "--database-url", url], capture_output=True, text=True, check=False
        )
    finally:
        await postgres.run(f"drop role {guest}", user=SUPERUSER)
    assert (done.returncode, done.stdout) == (1, "")
    said = "PostgreSQL reported an error (SQLSTATE 42501): permission denied for table organisations."
    assert done.stderr == f"triggers: {said}\n"
