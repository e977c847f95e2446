"""Storage of API keys: creation, lists, rotation, revocation, import, and look-up by prefix."""

from __future__ import annotations

import hashlib
import hmac
import math
import re
import secrets
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

import msgspec

from triggers.domain import (
    Caller,
    KeyId,
    OrgId,
    PageRequest,
    Plan,
    Scope,
    check_text,
    with_read,
    without_implied_read,
)
from triggers.errors import Conflict, Invalid, NotFound
from triggers.keys.organisations import quota
from triggers.postgres.clock import DatabaseClock
from triggers.postgres.database import (
    Connection,
    Database,
    Row,
    statements,
)

_SQL = statements(__name__)
PREFIX_LENGTH = 12
_KNOWN_SCOPES = frozenset(Scope)


class NewKey(NamedTuple):
    """A new key. If `expires_at` is None, it does not expire."""

    scopes: Collection[Scope]
    name: str | None = None
    live: bool = False
    expires_at: datetime | None = None


class ForeignKey(NamedTuple):
    """A key that another system made: its first 12 characters, and its SHA-256 in hex."""

    prefix: str
    sha256: str
    scopes: Collection[Scope]
    name: str | None = None


class _Columns(NamedTuple):
    """The columns of a new key."""

    name: str | None
    prefix: str
    digest: str
    scopes: Collection[Scope]
    expires_at: datetime | None = None


class ApiKey(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A key for display. `key` is the secret itself, which is set only when the key is created."""

    id: UUID
    name: str | None
    prefix: str
    scopes: list[Scope]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    key: str | None = None


def generate(*, live: bool) -> str:
    """A new key: `zap_live_` or `zap_test_` and 256 random bits."""
    return ("zap_live_" if live else "zap_test_") + secrets.token_urlsafe(32)


def hash_of(key: str) -> str:
    """SHA-256 in hex. A slow hash is not needed, because the key is random."""
    return hashlib.sha256(key.encode()).hexdigest()


async def version(connection: Connection) -> int:
    """The number that every change of a key, a scope or a plan raises."""
    number: int = await connection.fetchval(_SQL["version"])
    return number


async def verify(database: Database, key: str) -> Caller | None:
    """The caller behind a key, None for a key that is unknown, revoked or expired."""
    digest = hash_of(key)
    found = None
    for row in await database.fetch(_SQL["by_prefix"], key[:PREFIX_LENGTH]):
        if hmac.compare_digest(row["hash"], digest):
            found = row
    return None if found is None else caller_of(found)


def caller_of(row: Row) -> Caller:
    """Return the caller of a valid key, from the columns of the statement `by_prefix`."""
    return Caller(
        org_id=OrgId(row["org_id"]),
        org_name=row["org_name"],
        plan=Plan(row["plan"]),
        requests_per_minute=quota(row["plan"], row["custom_quota"]),
        key_id=KeyId(row["id"]),
        key_prefix=row["prefix"],
        scopes=scopes_of(row["scopes"]),
        expires_at=row["expires_at"].timestamp() if row["expires_at"] else math.inf,
    )


def scopes_of(stored: Iterable[str]) -> frozenset[Scope]:
    """Return the stored scopes of a key, without those of a newer version that this one does not know."""
    return with_read(Scope(scope) for scope in stored if scope in _KNOWN_SCOPES)


async def create(connection: Connection, clock: DatabaseClock, org_id: OrgId, new: NewKey) -> ApiKey:
    """Create a key. Only the returned object contains it.

    Raises:
        Invalid: a wrong name, or no scope.
        NotFound: the organisation was deleted.
    """
    if new.name is not None:
        check_text(new.name, "/name", longest=255)
    if not new.scopes:
        raise Invalid("A key needs at least one scope.", pointer="/scopes")
    key = generate(live=new.live)
    columns = _Columns(new.name, key[:PREFIX_LENGTH], hash_of(key), new.scopes, new.expires_at)
    made = await _insert(connection, clock, org_id, columns)
    made.key = key
    return made


async def import_hash(database: Database, clock: DatabaseClock, org_id: OrgId, foreign: ForeignKey) -> ApiKey:
    """Import a key of another system.

    Importing the same row into the same organisation again answers the key that is there.
    """
    prefix, sha256, scopes, name = foreign
    if name is not None:
        check_text(name, "/name", longest=255)
    if len(prefix) != PREFIX_LENGTH or not (prefix.isascii() and prefix.isprintable()):
        raise Invalid(f"Must be the first {PREFIX_LENGTH} characters of the key.", pointer="/prefix")
    if not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise Invalid("Must be 64 hexadecimal digits.", pointer="/sha256")
    async with database.connection() as connection:
        return await _insert(connection, clock, org_id, _Columns(name, prefix, sha256.lower(), scopes))


async def listed(database: Database, org_id: OrgId, page: PageRequest) -> list[ApiKey]:
    """The keys of an organisation in the order of their creation."""
    return [_api_key(row) for row in await database.fetch(_SQL["list"], org_id, page.above, page.limit)]


async def by_id(database: Database, org_id: OrgId, key_id: UUID) -> ApiKey:
    """One key of an organisation, or NotFound."""
    row = await database.row(_SQL["by_id"], org_id, key_id)
    if row is None:
        raise NotFound("No API key has this id.")
    return _api_key(row)


async def rotate(
    database: Database, clock: DatabaseClock, org_id: OrgId, old: ApiKey, overlap: timedelta
) -> ApiKey:
    """Create a key with the same name, scopes and expiry. The old key stays valid for `overlap`."""
    if old.expires_at is not None and old.expires_at.timestamp() <= clock.now():
        raise Conflict("This key has expired. Create a new one.")
    async with database.connection() as connection, connection.transaction():
        made = await connection.fetchrow(_SQL["lock"], org_id, old.id)
        if made is None or made["revoked_at"] is not None:
            raise Conflict("This key was revoked. Create a new one.")
        new = NewKey(
            old.scopes,
            name=old.name,
            live=old.prefix.startswith("zap_live_"),
            # Not `expires_at`: of a key that was rotated before, that is the end of its overlap.
            expires_at=made["made_until"],
        )
        successor = await create(connection, clock, org_id, new)
        await connection.execute(_SQL["end_after_overlap"], org_id, old.id, overlap)
    return successor


async def revoke(database: Database, org_id: OrgId, key_id: UUID) -> ApiKey:
    """Revoke a key. It stops working within a second on every node. Revoking it again changes nothing."""
    row = await database.row(_SQL["revoke"], org_id, key_id)
    if row is None:
        raise NotFound("No API key has this id.")
    return _api_key(row)


async def still_valid(database: Database, key_ids: Collection[UUID]) -> set[UUID]:
    """Return which of these keys, of any organisations that exist, are neither revoked nor expired."""
    return {row["id"] for row in await database.fetch(_SQL["still_valid"], list(key_ids))}


async def touch(database: Database, used_at: Mapping[UUID, float]) -> None:
    """Note when these keys were last used, in seconds since the epoch.

    A crash may lose the newest uses, so no fsync is needed.
    """
    async with database.connection() as connection, connection.transaction():
        await connection.execute("set local synchronous_commit = off")
        await connection.execute(_SQL["touch"], list(used_at), list(used_at.values()))


async def _insert(connection: Connection, clock: DatabaseClock, org_id: OrgId, new: _Columns) -> ApiKey:
    row = await connection.fetchrow(
        _SQL["insert"],
        clock.mint(),
        org_id,
        new.name,
        new.prefix,
        new.digest,
        # Implied `read` is not stored, because a node of the previous version does not know that scope.
        sorted(without_implied_read(new.scopes)),
        new.expires_at,
    )
    if row is None:
        row = await connection.fetchrow(_SQL["by_hash"], new.digest)
        if row is None:
            raise NotFound("No organisation has this id.")
        if row["org_id"] != org_id:
            raise Conflict("This key belongs to another organisation.")
    return _api_key(row)


def _api_key(row: Row) -> ApiKey:
    return ApiKey(
        id=row["id"],
        name=row["name"],
        prefix=row["prefix"],
        scopes=sorted(scopes_of(row["scopes"])),
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        revoked_at=row["revoked_at"],
        last_used_at=row["last_used_at"],
    )
