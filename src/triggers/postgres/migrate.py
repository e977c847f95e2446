"""Migrate a database to the schema of this version, and refuse a newer one."""

from __future__ import annotations

import asyncio
import re
import time
from importlib import resources
from typing import Final, NamedTuple

import asyncpg
import structlog

from triggers.errors import OperatorError, SchemaTooNew
from triggers.postgres import partitions
from triggers.postgres.database import Connection, Database

log = structlog.get_logger()

_LOCK = 0x7472_6967_6765_7273  # "triggers", as an advisory lock's number
MIGRATION_SECONDS = 600.0
LOCK_SECONDS: Final = 1.0
"""Maximum time for which a migration waits for a lock of a table. Everybody else who needs the table waits as
long: behind a migration that waits, nobody accepts events."""
PAUSE_SECONDS: Final = 3.0
"""Pause before a migration is tried again. Accepts go on during it."""
GIVE_UP_SECONDS: Final = 300.0
"""Time after which a migration that gets no lock fails. Nothing of it was applied."""
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
        OperatorError: the database is not one that Triggers can use, or a transaction holds a lock that a
            migration needs for too long.
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
    """Apply a migration; False if another node has applied it meanwhile.

    Raises:
        OperatorError: it got no lock for GIVE_UP_SECONDS.
    """
    async with connection.transaction():
        # Only the node that has this lock tries, so that the pauses between its attempts are pauses of all.
        await connection.execute("set local lock_timeout = 0")  # the other node has a bound of its own
        await connection.execute("select pg_advisory_xact_lock($1::bigint)", _LOCK)
        if migration not in await _missing(connection):
            return False
        began = time.monotonic()
        while not await _try_to_apply(connection, migration):
            waited = time.monotonic() - began
            oldest = await _oldest_transaction(connection)
            if waited + PAUSE_SECONDS > GIVE_UP_SECONDS:
                raise OperatorError(
                    f"Migration {migration.number} got no lock for {waited:.0f} seconds, because another"
                    f" transaction uses its tables. {oldest} End it, and start again. Nothing was changed."
                )
            log.warning(
                "migration_waits", number=migration.number, waited_seconds=round(waited), oldest=oldest
            )
            await asyncio.sleep(PAUSE_SECONDS)
    return True


async def _try_to_apply(connection: Connection, migration: Migration) -> bool:
    """Apply a migration if it gets each of its locks within LOCK_SECONDS. If not, it releases all of them."""
    try:
        async with connection.transaction():
            await connection.execute(f"set local lock_timeout = {LOCK_SECONDS * 1000:.0f}")
            await connection.execute(
                "create table if not exists schema_migrations"
                " (number integer primary key, name text not null, applied_at timestamptz not null)"
            )
            await connection.execute(migration.sql)
            await connection.execute(
                "insert into schema_migrations values ($1, $2, now())", migration.number, migration.name
            )
    except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
        return False
    return True


async def _oldest_transaction(connection: Connection) -> str:
    """The open transaction that is probably in the way, in words."""
    row = await connection.fetchrow(
        "select pid, application_name as name, extract(epoch from clock_timestamp() - xact_start) as seconds"
        " from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
        " and xact_start is not null and backend_type = 'client backend' order by xact_start limit 1"
    )
    if row is None:
        # Without the role pg_read_all_stats, only its own transactions have a time here.
        return "This role sees no other open transaction. It may be one of another role, or a prepared one."
    return (
        f"The oldest transaction is that of process {row['pid']} of PostgreSQL ({row['name'] or 'no name'}),"
        f" open for {row['seconds']:.0f} seconds."
    )
