"""Stores sessions and links. Their tokens are stored only as SHA-256 hashes."""

from __future__ import annotations

import secrets
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

import msgspec

from triggers.domain import (
    TENANT_SCOPES,
    Caller,
    KeyId,
    Organisation,
    OrgId,
    PageRequest,
    Plan,
    Scope,
    with_read,
)
from triggers.errors import NotFound
from triggers.keys.organisations import quota
from triggers.keys.store import NewKey, caller_of, create, hash_of, scopes_of
from triggers.postgres.clock import DatabaseClock
from triggers.postgres.database import Connection, Database, Row, statements
from triggers.sessions.cookie import SESSION_SECONDS

_SQL = statements(__name__)

CONSOLE_KEY = "console"
"""Name of the key for which `triggers console` makes links if it is called without an API key."""

MAX_PER_KEY = 100
"""Maximum number of sessions of a key, and of its unused links. Beyond it, the oldest ones are removed."""
MAX_PER_ORGANISATION = 1_000
"""The same for all keys of an organisation together."""


class NewLink(NamedTuple):
    """A link to be stored. `scopes` narrows the scopes of the key. None stands for all of them."""

    key_id: UUID
    seconds: float
    scopes: Collection[Scope] | None = None
    return_url: str | None = None


class StoredLink(NamedTuple):
    """A link that was stored. `token` opens it, and is stored nowhere."""

    token: str
    expires_at: datetime


class LinkOffer(NamedTuple):
    """The session that a link would open."""

    org_name: str
    key_name: str | None
    scopes: frozenset[Scope]
    return_url: str | None
    expires_at: datetime


class StoredSession(NamedTuple):
    """A session that is valid. `caller` is the caller of its key, with the scopes of the session."""

    id: UUID
    caller: Caller
    key_name: str | None
    return_url: str | None
    expires_at: datetime
    acting_for: Organisation | None


class ListedSession(msgspec.Struct, kw_only=True, frozen=True):
    """A session in the list of an organisation."""

    id: UUID
    key_id: UUID
    key_name: str | None
    key_prefix: str
    scopes: frozenset[Scope]
    return_url: str | None
    acting_for: UUID | None
    created_at: datetime
    expires_at: datetime


async def insert_link(
    connection: Connection, clock: DatabaseClock, org_id: OrgId, new: NewLink
) -> StoredLink:
    """Store a link for a key of the organisation, within a transaction."""
    token = secrets.token_urlsafe(32)
    await connection.execute(_SQL["lock"], org_id)
    expires_at = await connection.fetchval(
        _SQL["insert_link"],
        org_id,
        clock.mint(),
        hash_of(token),
        new.key_id,
        None if new.scopes is None else sorted(new.scopes),
        new.return_url,
        timedelta(seconds=new.seconds),
    )
    await connection.execute(_SQL["trim_links"], org_id, new.key_id, MAX_PER_KEY, MAX_PER_ORGANISATION)
    return StoredLink(token, expires_at)


async def link(database: Database, token: str) -> LinkOffer | None:
    """Return the session that a link would open. None if the link or its key is no longer valid."""
    row = await database.row(_SQL["link"], hash_of(token))
    if row is None:
        return None
    scopes = _scopes(row)
    return LinkOffer(row["org_name"], row["key_name"], scopes, row["return_url"], row["expires_at"])


async def open_with_link(database: Database, clock: DatabaseClock, link_token: str) -> str | None:
    """Use a link: open a session and return its token. None as for `link`, or if another call used it."""
    token = secrets.token_urlsafe(32)
    async with database.connection() as connection, connection.transaction():
        row = await connection.fetchrow(
            _SQL["open_with_link"], hash_of(link_token), clock.mint(), hash_of(token), _DURATION
        )
        return None if row is None else await _trimmed(connection, row, token)


async def insert_console_link(
    database: Database, clock: DatabaseClock, org_id: OrgId, seconds: float
) -> StoredLink:
    """Store a link for the key named `console`. Create the key if no valid key has this name."""
    async with database.connection() as connection, connection.transaction():
        await connection.execute(
            _SQL["lock"], org_id
        )  # so that two commands at the same time create only one key
        key_id = await connection.fetchval(_SQL["key_named"], org_id, CONSOLE_KEY)
        if key_id is None:
            # Nobody ever sees the key itself. It can be used only by links.
            key_id = (await create(connection, clock, org_id, NewKey(TENANT_SCOPES, name=CONSOLE_KEY))).id
        return await insert_link(connection, clock, org_id, NewLink(key_id, seconds))


async def open_with_key(database: Database, clock: DatabaseClock, org_id: OrgId, key_id: KeyId) -> str | None:
    """Open a session and return its token. None if the key is no longer valid."""
    token = secrets.token_urlsafe(32)
    async with database.connection() as connection, connection.transaction():
        row = await connection.fetchrow(
            _SQL["open_with_key"], org_id, key_id, clock.mint(), hash_of(token), _DURATION
        )
        return None if row is None else await _trimmed(connection, row, token)


async def by_token(database: Database, token: str) -> StoredSession | None:
    """Return the session with this token. None if the session or its key has ended."""
    row = await database.row(_SQL["by_hash"], hash_of(token))
    if row is None:
        return None
    of_key = caller_of(row)
    until = min(of_key.expires_at, row["session_expires_at"].timestamp())
    caller = msgspec.structs.replace(of_key, scopes=_scopes(row), expires_at=until)
    acting_for = None
    if row["acting_id"] is not None:
        acting_for = Organisation(
            id=row["acting_id"],
            name=row["acting_name"],
            plan=Plan(row["acting_plan"]),
            requests_per_minute=quota(row["acting_plan"], row["acting_quota"]),
            created_at=row["acting_created_at"],
        )
    return StoredSession(
        row["session_id"], caller, row["key_name"], row["return_url"], row["session_expires_at"], acting_for
    )


async def act_for(database: Database, org_id: OrgId, session_id: UUID, other: OrgId | None) -> None:
    """Store the other organisation for which a session acts. None stands for its own organisation."""
    await database.fetch(_SQL["act_for"], org_id, session_id, other)


async def listed(database: Database, org_id: OrgId, page: PageRequest) -> list[ListedSession]:
    """List the open sessions of an organisation, in the order in which they were opened."""
    rows = await database.fetch(_SQL["list"], org_id, page.above, page.limit)
    return [_listed(row) for row in rows]


async def by_id(database: Database, org_id: OrgId, session_id: UUID) -> ListedSession:
    """Return an open session of an organisation, or raise NotFound."""
    row = await database.row(_SQL["by_id"], org_id, session_id)
    if row is None:
        raise NotFound("No open session has this id.")
    return _listed(row)


async def still_open(database: Database, sessions: Collection[tuple[OrgId, UUID]]) -> set[UUID]:
    """Return which of these sessions, with the organisations of their keys, have not ended or expired."""
    org_ids, ids = zip(*sessions, strict=True)
    return {row["id"] for row in await database.fetch(_SQL["still_open"], list(org_ids), list(ids))}


async def end(database: Database, org_id: OrgId, session_id: UUID) -> None:
    """End a session at once on every node. Ending it again changes nothing."""
    await database.fetch(_SQL["end"], org_id, session_id)


async def sweep(database: Database, limit: int) -> int:
    """Delete at most `limit` expired sessions and as many links. Return the larger of both numbers."""
    sessions = await database.fetch(_SQL["sweep"], limit)
    links = await database.fetch(_SQL["sweep_links"], limit)
    return max(len(sessions), len(links))


_DURATION = timedelta(seconds=SESSION_SECONDS)


async def _trimmed(connection: Connection, opened: Row, token: str) -> str:
    """End the oldest sessions beyond the maximum, in the transaction that opened a session."""
    org_id, key_id = opened["org_id"], opened["key_id"]
    await connection.execute(_SQL["lock"], org_id)
    await connection.execute(_SQL["trim"], org_id, key_id, MAX_PER_KEY, MAX_PER_ORGANISATION)
    return token


def _scopes(row: Row) -> frozenset[Scope]:
    """Return the scopes of a key, narrowed to those of its session or link."""
    scopes, narrowed = scopes_of(row["scopes"]), row["narrowed"]
    return scopes if narrowed is None else with_read(scopes & scopes_of(narrowed))


def _listed(row: Row) -> ListedSession:
    return ListedSession(
        id=row["id"],
        key_id=row["key_id"],
        key_name=row["key_name"],
        key_prefix=row["key_prefix"],
        scopes=_scopes(row),
        return_url=row["return_url"],
        acting_for=row["acting_for"],
        created_at=row["created_at"],
        expires_at=row["expires_at"],
    )
