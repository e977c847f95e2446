"""Migrate a database to the schema of this version, and refuse a newer one."""

from __future__ import annotations

import re
from importlib import resources
from typing import NamedTuple

from triggers.errors import OperatorError, SchemaTooNew
from triggers.postgres import partitions
from triggers.postgres.database import Connection, Database

_LOCK = 0x7472_6967_6765_7273  # "triggers", as an advisory lock's number
MIGRATION_SECONDS = 600.0
OLDEST_SERVER = 15


class Migration(NamedTuple):
    """One numbered file."""

    number: int
    name: str
    sql: str


def migrations() -> list[Migration]:
    """All migrations of this version, in order."""
    return sorted(
        Migration(int(match[1]), match[2], file.read_text(encoding="utf-8"))
        for file in resources.files("triggers.postgres.migrations").iterdir()
        if (match := re.fullmatch(r"(\d{4})_(\w+)\.sql", file.name))
    )


async def migrate(database: Database) -> list[Migration]:
    """Apply what is missing, one transaction each; return what was applied.

    Safe to run from many nodes at once: in each transaction an advisory lock lets one work and the others
    wait. The lock belongs to the transaction: a pooler that keeps the session would hold a lock of the
    session for ever.

    Raises:
        SchemaTooNew: the database knows migrations that this version does not.
        OperatorError: the database is not one that Triggers can use.
    """
    connection = await database.connect(MIGRATION_SECONDS)
    try:
        await require_usable(connection)
        applied = [m for m in await _missing(connection) if await _apply(connection, m)]
        await partitions.ensure(connection)
        return applied
    finally:
        await connection.close()


async def require_usable(connection: Connection) -> None:
    """Raise OperatorError unless server and database are such that Triggers can live there."""
    server = connection.get_server_version().major
    if server < OLDEST_SERVER:
        raise OperatorError(
            f"PostgreSQL {server} is too old. Triggers needs PostgreSQL {OLDEST_SERVER} to 18."
        )
    found = await connection.fetchrow(
        "select current_database() as name, current_user as role,"
        " current_setting('server_encoding') as encoding,"
        " current_setting('transaction_read_only') = 'on' as read_only,"
        " coalesce(has_schema_privilege(current_schema(), 'create'), false) as may_create"
    )
    name = found["name"]
    if found["encoding"] != "UTF8":
        raise OperatorError(
            f"The database {name} has the encoding {found['encoding']}. Create one with UTF8."
        )
    if found["read_only"]:
        raise OperatorError(f"The database {name} is read-only.")
    if not found["may_create"]:
        raise OperatorError(
            f"The role {found['role']} may not create tables in {name}. Make it the owner of the database."
        )


async def pending(database: Database) -> list[Migration]:
    """The migrations that `migrate` would apply."""
    async with database.connection() as connection:
        return await _missing(connection)


async def _missing(connection: Connection) -> list[Migration]:
    # to_regclass cannot be used: inside a transaction it answers from the session's cache.
    present = await connection.fetchval(
        "select exists (select from pg_class"
        " where relname = 'schema_migrations' and pg_table_is_visible(oid))"
    )
    rows = await connection.fetch("select number from schema_migrations") if present else []
    done = {row["number"] for row in rows}
    known = migrations()
    if done and max(done) > known[-1].number:
        raise SchemaTooNew(
            f"The database is at migration {max(done)}; this version knows {known[-1].number}."
            " Run the newer version of Triggers that migrated it."
        )
    return [migration for migration in known if migration.number not in done]


async def _apply(connection: Connection, migration: Migration) -> bool:
    """Apply a migration; False if another node has done that meanwhile."""
    async with connection.transaction():
        await connection.execute("select pg_advisory_xact_lock($1::bigint)", _LOCK)
        if migration not in await _missing(connection):
            return False
        await connection.execute(
            "create table if not exists schema_migrations"
            " (number integer primary key, name text not null, applied_at timestamptz not null)"
        )
        await connection.execute(migration.sql)
        await connection.execute(
            "insert into schema_migrations values ($1, $2, now())", migration.number, migration.name
        )
    return True
