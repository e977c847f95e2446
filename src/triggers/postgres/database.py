"""Connections to PostgreSQL: the pools, named statements, and what its errors mean."""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import socket
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from importlib import resources
from typing import Any, Final, TypeAlias
from uuid import UUID

import asyncpg
import structlog
from asyncpg.pgproto import pgproto

from triggers.errors import DatabaseUnavailable, OperatorError
from triggers.fairness.room import Places, acting_for
from triggers.postgres.connection_parameters import driver_arguments
from triggers.postgres.pooler import refuse_shared_sessions
from triggers.postgres.session import session_settings, setting_statement

log = structlog.get_logger()

CONNECT_SECONDS = 3.0
REQUEST_SECONDS = 15.0
ACQUIRE_SECONDS = 5.0
DEADLOCKS = 3
"""Number of deadlocks of a statement after which its caller is told to try later."""
PLAN_ANEW: Final = {"plan_cache_mode": "force_custom_plan", "enable_sort": "off"}
"""Every statement is planned at every use. A plan that is kept fits the table at the time of planning, and a
queue that was empty then may have millions of rows now. Rows are never sorted if an index has their order.
While a table has three pages, another index costs the same, but later it reads the whole lane."""
PLAN_ONCE: Final = {"plan_cache_mode": "force_generic_plan", "enable_sort": "off", "enable_seqscan": "off"}
"""For statements that only look rows up in the order of an index. Planning them takes longer than running
them, and only one plan is good, even if the table has few pages when the plan is made."""
PLAN_BY_INDEX: Final = {"enable_seqscan": "off"}
"""For statements that look rows up in a table that may be empty when a plan is made and kept. Reading an
empty table from end to end costs nothing, and that plan would still be used for millions of rows."""
GIVE_BACK_SECONDS = 1.0  # for a statement that was given up to be cancelled on the server

API_NAME: Final = "triggers api "
"""The name of a process that serves the API begins with this, in PostgreSQL's list of connections."""
_MOST_OF_A_NAME: Final = 63
_CONDITION: Final = re.compile(r"^ *-- if (\w+)$", re.MULTILINE)
_MARKER: Final = re.compile(r"^ *-- (if \w+|end)$", re.MULTILINE)
_ONLY_IF: Final = re.compile(r"^ *-- if (\w+)\n(.*?)^ *-- end\n", re.MULTILINE | re.DOTALL)

Connection: TypeAlias = asyncpg.Connection
PostgresError: TypeAlias = asyncpg.PostgresError
Row: TypeAlias = asyncpg.Record
UniqueViolation: TypeAlias = asyncpg.UniqueViolationError
DriverUUID: TypeAlias = pgproto.UUID
"""The driver's own UUID, which is made and written faster than the standard library's, and is one."""


def statements(module: str) -> dict[str, str]:
    """The statements, by name, of the `.sql` file beside a module, which passes its `__name__`.

    In the file each statement follows a line `-- name: <name>`.
    """
    package, _, name = module.rpartition(".")
    text = resources.files(package).joinpath(f"{name}.sql").read_text(encoding="utf-8")
    parts = re.split(r"^-- name: (\w+)\n", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], (part.strip() for part in parts[2::2]), strict=True))


def only_if(statement: str, **conditions: bool) -> str:
    """A statement without the lines between `-- if <condition>` and `-- end` whose condition is false.

    Raises:
        ValueError: these are not exactly the conditions of the statement, or an `if` has no `end` of its own.
    """
    named = set(_CONDITION.findall(statement))
    if named != conditions.keys():
        raise ValueError(f"The statement has the conditions {sorted(named)}, not {sorted(conditions)}.")
    text = _ONLY_IF.sub(lambda found: found[2] if conditions[found[1]] else "", statement)
    if _MARKER.search(text):
        raise ValueError("In the statement an `-- if` has no `-- end`, or stands within another one.")
    return text


class Column:
    """An array for the driver, which reads it twice: first to search for arrays in it, then to write it. The
    search takes longer than the writing, and a column contains no arrays. So the first pass finds nothing
    (docs/adr/0005-array-columns.md)."""

    __slots__ = ("_searched", "_values")

    def __init__(self, values: Sequence[Any]) -> None:
        self._values = values
        self._searched = False

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Iterator[Any]:
        if self._searched:
            return iter(self._values)
        self._searched = True
        return iter(())


def columns(rows: Iterable[tuple[Any, ...]]) -> list[Column]:
    """Rows as arrays to be unnested together. A column of nulls becomes an empty array, because `unnest` adds
    the nulls."""
    return [
        Column(() if values[0] is None and values.count(None) == len(values) else values)
        for values in zip(*rows, strict=True)
    ]


class Database:
    """One PostgreSQL: a pool for requests, and single connections for those that store.

    Storing has connections of its own, so that a rush of reads cannot hold up a commit.
    """

    def __init__(self, url: str, *, pool_size: int, program: str = "triggers ") -> None:
        """PostgreSQL shows a name for the connections of this process, which begins with `program`."""
        self._arguments = driver_arguments(url)
        # The host comes last, because PostgreSQL cuts long names.
        self.name = f"{program}{os.getpid()}@{socket.gethostname()}"[:_MOST_OF_A_NAME]
        self._pool_size = pool_size
        self._pool: asyncpg.Pool | None = None
        # The pool's own queue lets newcomers overtake, so that under load a few never get a turn.
        self._places = Places(pool_size)
        self._numbers = itertools.count(1)

    async def open(self) -> None:
        """Open the pool, failing now if the server cannot be used."""
        try:
            await refuse_shared_sessions(self._connect_to_probe)
            self._pool = await asyncpg.create_pool(
                **self._arguments,
                min_size=min(2, self._pool_size),
                max_size=self._pool_size,
                max_inactive_connection_lifetime=300,
                timeout=CONNECT_SECONDS,
                command_timeout=REQUEST_SECONDS + 5,
                server_settings={"application_name": self.name},
                init=_set_up_for_requests,
                reset=_keep_session,
            )
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError, ValueError) as error:
            raise OperatorError(f"PostgreSQL does not answer: {error}") from error

    async def _connect_to_probe(self) -> Connection:
        return await asyncpg.connect(
            **self._arguments,
            timeout=CONNECT_SECONDS,
            command_timeout=CONNECT_SECONDS,
            statement_cache_size=0,
        )

    async def close(self) -> None:
        """Close the pool: politely for a few seconds, then by force."""
        if self._pool is None:
            return
        try:
            await asyncio.wait_for(self._pool.close(), 5)
        except TimeoutError:
            self._pool.terminate()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection of the pool, for one statement or one transaction.

        Organisations share the connections as `Places` says. Work for no organisation counts as an
        organisation of its own that has no other connection.

        Raises:
            DatabaseUnavailable: for every error that is the server's state and not the statement's.
        """
        assert self._pool is not None
        org_id = acting_for.get() or UUID(int=next(self._numbers))
        with unavailable():
            async with asyncio.timeout(ACQUIRE_SECONDS):
                await self._places.take(org_id)
        try:
            with unavailable():
                connection = await self._pool.acquire(timeout=ACQUIRE_SECONDS)
            try:
                with unavailable():
                    yield connection
            finally:
                await self._give_back(connection)
        finally:
            self._places.leave(org_id)

    async def _give_back(self, connection: Connection) -> None:
        """The result of the statement is kept, even if the pool has to close its connection."""
        assert self._pool is not None
        try:
            await asyncio.shield(self._pool.release(connection, timeout=GIVE_BACK_SECONDS))
        except Exception as error:
            if not is_unavailable(error):
                raise

    async def fetch(self, statement: str, *values: Any) -> list[Row]:
        """All rows of one statement. One that had to give way in a deadlock has done nothing, and is
        repeated: who settles messages by ids and who does by a lease may meet in different orders."""
        for _ in range(DEADLOCKS):
            try:
                return await self._fetch(statement, values)
            except DatabaseUnavailable as error:
                if not isinstance(error.__cause__, asyncpg.DeadlockDetectedError):
                    raise
        return await self._fetch(statement, values)

    async def _fetch(self, statement: str, values: Sequence[Any]) -> list[Row]:
        async with self.connection() as connection:
            rows: list[Row] = await connection.fetch(statement, *values)
            return rows

    async def row(self, statement: str, *values: Any) -> Row | None:
        """The first row of one statement."""
        async with self.connection() as connection:
            return await connection.fetchrow(statement, *values)

    async def connect(self, seconds: float, plans: Mapping[str, str] | None = None) -> Connection:
        """A connection of its own, whose statements may take `seconds`. The caller closes it.

        `plans`: how they are planned, one of the PLAN_ settings, if not as the server sees fit.
        """
        with unavailable():
            connection = await asyncpg.connect(
                **self._arguments,
                timeout=CONNECT_SECONDS,
                command_timeout=seconds + 2,  # for a server that does not even keep its own timeout
                server_settings={"application_name": self.name},
            )
            await _set_up(connection, {**session_settings(seconds), **(plans or {})})
            return connection

    def pool_use(self) -> tuple[int, int, int]:
        """Connections in use, open, and allowed."""
        if self._pool is None:
            return 0, 0, self._pool_size
        size = self._pool.get_size()
        return size - self._pool.get_idle_size(), size, self._pool_size


async def _set_up(connection: Connection, settings: Mapping[str, str]) -> None:
    await connection.execute(setting_statement(settings, connection.get_server_version().major))


async def _set_up_for_requests(connection: Connection) -> None:
    await _set_up(connection, session_settings(REQUEST_SECONDS))


async def _keep_session(_: Connection) -> None:
    """After its start we set nothing on a session, so a released connection needs no reset."""


# ---- what an error of the driver means -------------------------------------------------------------

_DATA_CLASSES = ("22", "23", "54")
_CHECK = "23514"
_LOST = re.compile("clos(ed|ing)|released|terminat")


def is_data_error(error: BaseException) -> bool:
    """Whether the statement's own data is to blame, so that splitting a batch finds the culprit."""
    if isinstance(error, asyncpg.PostgresError):
        return (error.sqlstate or "").startswith(_DATA_CLASSES) and not _lacks_partition(error)
    return isinstance(error, asyncpg.exceptions.DataError | UnicodeEncodeError | OverflowError)


def is_unavailable(error: BaseException) -> bool:
    """Whether the server or the way to it is to blame, so that the same may work later."""
    if isinstance(error, asyncpg.InvalidCachedStatementError):
        # A migration of a newer node gave a table another column. The driver forgets its statements now, but
        # within a transaction it cannot repeat them.
        return True
    if isinstance(error, asyncpg.PostgresError):
        sqlstate = error.sqlstate or ""
        return sqlstate.startswith(("08", "25006", "40", "53", "55", "57", "58")) or _lacks_partition(error)
    if isinstance(error, asyncpg.InterfaceError):
        # The driver's word for a lost connection, but for a wrong call of ours too, which must not hide.
        return _LOST.search(str(error)) is not None
    return isinstance(error, OSError | TimeoutError | asyncpg.InternalClientError | EOFError)


def sqlstate_of(error: BaseException) -> str:
    """The name of an error for readers who must not see its message, such as `SQLSTATE 23514`."""
    sqlstate = getattr(error, "sqlstate", None)
    return f"SQLSTATE {sqlstate}" if sqlstate else type(error).__name__


def _lacks_partition(error: asyncpg.PostgresError) -> bool:
    # The error has the class of wrong data, although the data is right. A failed CHECK names its constraint,
    # and a missing partition names none. The message cannot be compared, because the server translates it.
    return error.sqlstate == _CHECK and getattr(error, "constraint_name", None) is None


@contextmanager
def unavailable() -> Iterator[None]:
    """Turn the errors of an unreachable or overloaded server into DatabaseUnavailable."""
    try:
        yield
    except Exception as error:
        if is_unavailable(error):
            raise DatabaseUnavailable(retry_after=2) from error
        raise
