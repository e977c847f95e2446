"""Migrations: what they build is what is documented, whoever runs them, and nothing newer is touched."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from triggers.errors import OperatorError, SchemaTooNew
from triggers.storage import migrate
from triggers.storage.database import Database

SCHEMA = Path(__file__).parents[2] / "docs" / "schema.txt"
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


async def test_they_are_numbered_without_a_gap() -> None:
    assert [each.number for each in migrate.migrations()] == [*range(1, len(migrate.migrations()) + 1)]


async def test_five_migrators_at_once(empty: Database) -> None:
    applied = await asyncio.gather(*[migrate.migrate(empty) for _ in range(5)])
    assert sorted(map(len, applied)) == [0] * 4 + [len(migrate.migrations())]
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
