"""Finds out whether a pooler such as PgBouncer shares connections to the server between its clients.

Every session sets time limits and other settings for itself, and keeps prepared statements. A pooler that
gives each transaction another connection to the server breaks both, and what we set would reach its other
clients. A pooler that gives each client a connection of its own, as PgBouncer does with
`pool_mode = session`, can be used.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import asyncpg

from triggers.errors import OperatorError

_PROCESS: Final = "select pg_backend_pid()"
_SHARED: Final = (
    "Triggers cannot use this PgBouncer (or another pooler), because it gives each transaction another"
    " connection to PostgreSQL. That breaks prepared statements and session settings. Set"
    " `pool_mode = session` for this database, or connect to PostgreSQL directly."
)


async def refuse_shared_sessions(connect: Callable[[], Awaitable[asyncpg.Connection]]) -> None:
    """Raise OperatorError if connections made by `connect` do not keep a session of the server each.

    The connections must not keep prepared statements. This check sets nothing in their sessions, because
    other clients may get these sessions next.
    """
    first = await connect()
    try:
        async with first.transaction():
            server_process = await first.fetchval(_PROCESS)
        if server_process == first.get_server_pid():
            return  # the process is the one that answered at the start, so there is nothing in between
        second = await connect()
        try:
            if await _changes(first, second, first) or await _changes(first, second, second):
                raise OperatorError(_SHARED)
        finally:
            await second.close(timeout=1)
    except asyncpg.PostgresConnectionError as error:
        # With `pool_mode = statement` PgBouncer ends a connection that begins a transaction.
        if "statement pooling" not in str(error):
            raise
        raise OperatorError(_SHARED) from error
    finally:
        await first.close(timeout=1)


async def _changes(first: asyncpg.Connection, second: asyncpg.Connection, again: asyncpg.Connection) -> bool:
    """Whether `again`, which is one of the two, has another server process after both had a transaction at
    the same time.

    A pooler gives out either the server connection that was used last, or the one that has been idle for
    longest. So `first` would get the server connection of `second`, or `second` that of `first`.
    """
    begun = first.transaction(), second.transaction()
    for transaction in begun:
        await transaction.start()
    before = await again.fetchval(_PROCESS)
    for transaction in begun:
        await transaction.rollback()
    async with again.transaction():
        after = await again.fetchval(_PROCESS)
    return bool(before != after)
