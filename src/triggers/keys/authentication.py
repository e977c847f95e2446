"""Finds the caller behind the key in the headers. Verified keys are cached under their hash.

A change of any key, scope or plan raises one version row. Every node reads that row a few
times a second. It uses its cache only if its last successful read of the row began less than a second
ago. So a revoked key stops working within a second everywhere, and a node that cannot read the row does
not use its cache.

Anybody can send any number of keys that do not exist. `lookups.py` bounds their cost.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from collections.abc import Mapping
from uuid import UUID

import structlog

from triggers.background import Duty
from triggers.domain import Caller
from triggers.errors import TriggersError, Unauthenticated
from triggers.keys import store as api_keys
from triggers.keys.acting import caller_by_header
from triggers.keys.lookups import Lookups, make_room
from triggers.postgres.clock import DatabaseClock
from triggers.postgres.database import Database

log = structlog.get_logger()

READ_EVERY_SECONDS = 0.25
KEY_VERSION = "key version"
"""The duty without which no key is trusted."""
TRUST_SECONDS = 1.0
TOUCH_EVERY_SECONDS = 60.0
MAX_KEY_LENGTH = 512


def key_from(fields: Mapping[bytes, bytes]) -> bytes:
    """The key that the headers contain. The names of `fields` are in lower case.

    `Authorization: Bearer` has priority over `X-API-Key`. Other schemes are ignored, because a proxy may
    check a password of its own and pass on `Authorization: Basic`.

    Raises:
        Unauthenticated: there is none, or it is not in a form that a key can have.
    """
    scheme, _, key = fields.get(b"authorization", b"").partition(b" ")
    return well_formed(key.strip() if scheme.lower() == b"bearer" else fields.get(b"x-api-key", b""))


def well_formed(key: bytes) -> bytes:
    """Return a key if it has a form that a key can have, or raise Unauthenticated."""
    if not api_keys.PREFIX_LENGTH <= len(key) <= MAX_KEY_LENGTH or not key.isascii():
        raise Unauthenticated
    return key


class KeyCache:
    """Verified keys of this process."""

    def __init__(self, database: Database, clock: DatabaseClock) -> None:
        self._database = database
        self._clock = clock
        self._callers: dict[bytes, Caller] = {}
        self._unknown: set[bytes] = set()
        self.lookups = Lookups()
        self._version = 0
        self._read_at = float("-inf")
        self._used_at: dict[UUID, float] = {}
        """The last uses that are not stored yet, in seconds since the epoch on the database's clock."""

    async def start(self) -> None:
        """Read which keys are valid, before any of them is asked for."""
        await self._read_version()

    def duties(self) -> list[Duty]:
        """Following the changes of keys, and noting their last uses."""
        return [
            Duty(KEY_VERSION, READ_EVERY_SECONDS, self._read_version),
            Duty("key last used", TOUCH_EVERY_SECONDS, self._touch),
        ]

    async def stop(self) -> None:
        """Note the last uses."""
        with contextlib.suppress(TriggersError):
            await self._touch()

    def remembered(self, key: bytes) -> Caller | None:
        """The caller of a cached key, None if the key has to be looked up."""
        if time.monotonic() - self._read_at >= TRUST_SECONDS:
            return None
        caller = self._callers.get(hashlib.sha256(key).digest())
        now = self._clock.now()
        if caller is None or caller.expires_at <= now:
            return None
        self._used_at[caller.key_id] = now
        return caller

    async def caller(self, key: bytes) -> Caller:
        """The caller behind a key.

        Raises:
            Unauthenticated: no living key of ours.
            Unavailable: it is not remembered, and cannot be looked up now.
        """
        digest = hashlib.sha256(key).digest()
        trusted = time.monotonic() - self._read_at < TRUST_SECONDS
        caller = self._callers.get(digest) if trusted else None
        if caller is None and not (trusted and digest in self._unknown):
            caller = await self._look_up(key, digest)
        now = self._clock.now()
        if caller is None or caller.expires_at <= now:
            raise Unauthenticated
        self._used_at[caller.key_id] = now
        return caller

    async def acting(self, own: Caller, fields: Mapping[bytes, bytes]) -> Caller:
        """Return the caller of a request with the header `Triggers-Org`. `own` is the caller of its key.

        Raises:
            Forbidden, NotFound: as for `caller_by_header`.
        """
        return await caller_by_header(self._database, own, fields)

    async def _look_up(self, key: bytes, digest: bytes) -> Caller | None:
        return await self.lookups.run(digest, lambda: self._verify(key, digest))

    async def _verify(self, key: bytes, digest: bytes) -> Caller | None:
        version = self._version
        caller = await api_keys.verify(self._database, key.decode("ascii"))
        if version == self._version:  # otherwise it may have been read before the change
            if caller is None:
                make_room(self._unknown, digest)
                self._unknown.add(digest)
            else:
                make_room(self._callers, digest)
                self._callers[digest] = caller
        return caller

    async def _read_version(self) -> None:
        began = time.monotonic()
        async with asyncio.timeout(TRUST_SECONDS * 2), self._database.connection() as connection:
            version = await api_keys.version(connection)
        if version != self._version:
            self._callers.clear()
            self._unknown.clear()
            self._version = version
        self._read_at = began

    async def _touch(self) -> None:
        used, self._used_at = self._used_at, {}
        if not used:
            return
        try:
            await api_keys.touch(self._database, used)
        except BaseException:  # stored the next time, unless the key has a later use by then
            self._used_at = used | self._used_at
            raise
