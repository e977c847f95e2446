"""The composition root: opens what is needed, builds the parts, starts and stops them in order."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import structlog

from triggers.api import accept, server
from triggers.api.app import App
from triggers.api.authentication import KeyCache
from triggers.api.rate_limit import RateLimiter
from triggers.api.services import Services
from triggers.domain import TENANT_SCOPES, OrgId, Plan
from triggers.errors import SettingsError, TriggersError
from triggers.housekeeping import Housekeeping
from triggers.intake import Intake
from triggers.key_ring import SETTING, KeyRing
from triggers.replaying import Replaying
from triggers.settings import Settings
from triggers.storage import api_keys, event_store, migrate, organisations
from triggers.storage.clock import DatabaseClock
from triggers.storage.database import Database
from triggers.storage.embedded import default_data_dir, running_url
from triggers.storage.health import Health
from triggers.storage.redis_link import RedisLink
from triggers.storage.wakeup import Wakeup

log = structlog.get_logger()

FIRST_ORGANISATION = "default"
KEY_FILE = "secret-keys"
"""In the data directory of a private server: its ring of keys, made on the first run."""


def data_dir_of(settings: Settings) -> Path:
    """Where the private PostgreSQL lives."""
    return Path(settings.data_dir).expanduser().absolute() if settings.data_dir else default_data_dir()


def database_url_of(settings: Settings) -> str:
    """The database that commands work on: the one configured, or that of the running `serve`."""
    return settings.database_url or running_url(data_dir_of(settings))


def key_ring_of(settings: Settings, data_dir: Path | None) -> KeyRing:
    """The ring that opens secrets: the one configured, or of the private server the one in its `data_dir`.

    Raises:
        SettingsError: there is none, or it cannot be read.
    """
    if settings.secret_keys:
        return KeyRing.from_setting(settings.secret_keys)
    if data_dir is None:
        raise SettingsError(
            f"{SETTING} is needed with TRIGGERS_DATABASE_URL, the same on every node: it encrypts the signing"
            " secrets in that database. `openssl rand -base64 32` makes a key; of a private server it is the"
            f" content of `{KEY_FILE}` in the data directory."
        )
    data_dir.mkdir(parents=True, exist_ok=True)
    return KeyRing.from_file(data_dir / KEY_FILE)


def secret_keys_of(settings: Settings, data_dir: Path | None) -> str:
    """The key ring as a setting, for a process that this one starts."""
    if settings.secret_keys is not None or data_dir is None:
        return settings.secret_keys or ""
    return (data_dir / KEY_FILE).read_text(encoding="ascii").strip()


@asynccontextmanager
async def open_database(
    settings: Settings, url: str | None = None
) -> AsyncIterator[tuple[Database, DatabaseClock]]:
    """A database and its clock, for a command beside a running service."""
    database = Database(url or database_url_of(settings), pool_size=settings.pool_size)
    await database.open()
    try:
        clock = DatabaseClock()
        await event_store.learn_time(database, clock)
        yield database, clock
    finally:
        await database.close()


async def ensure_first_key(database: Database, clock: DatabaseClock, settings: Settings) -> str | None:
    """On the first run make an organisation without limits and return its key, else None.

    The key is kept nowhere: whoever gets it here shows it, once.
    """
    if await organisations.exist(database):
        return None
    org = await organisations.create(
        database, clock, FIRST_ORGANISATION, Plan.ENTERPRISE, None, settings.inbox_retention
    )
    key = await api_keys.create(database, clock, OrgId(org.id), TENANT_SCOPES, name="first key")
    return key.key


class ApiNode:
    """Everything of one process that serves the API, on a database that is migrated."""

    def __init__(self, settings: Settings, url: str, *, data_dir: Path | None) -> None:
        self.settings = settings
        self.database = Database(url, pool_size=settings.pool_size)
        self.clock = DatabaseClock()
        self.key_ring = key_ring_of(settings, data_dir)
        self.health = Health(self.database)
        self.wakeup = Wakeup()
        self.more_metrics: list[Callable[[], bytes]] = []
        self._limiter = RateLimiter()
        self._keys = KeyCache(self.database, self.clock)
        self.intake = Intake(
            self.database,
            self.clock,
            dedup_window=settings.dedup_window,
            max_events=settings.max_waiting_events,
            max_bytes=settings.max_waiting_bytes,
            committed=self.wakeup.give,
        )
        self._accept = accept.AcceptApp(
            self.intake,
            self._keys,
            self._limiter,
            self.health,
            max_bytes_of_org=settings.max_waiting_bytes,
            log_accepted=settings.log_accepted,
        )
        self._housekeeping = Housekeeping(
            self.database, self.health, data_dir=data_dir, min_free_mib=settings.min_free_disk
        )
        self._replaying = Replaying(self.database, self.wakeup)
        self._redis = (
            RedisLink(settings.redis_url, self.wakeup, self._limiter, self._note_redis)
            if settings.redis_url
            else None
        )
        self._tasks: list[asyncio.Task[None]] = []
        self.server = server.make_server(
            App(
                Services(
                    settings=settings,
                    database=self.database,
                    clock=self.clock,
                    intake=self.intake,
                    keys=self._keys,
                    limiter=self._limiter,
                    wakeup=self.wakeup,
                    health=self.health,
                    key_ring=self.key_ring,
                    more_metrics=self.more_metrics,
                ),
                self._accept,
            ),
            shutdown_timeout=settings.shutdown_timeout,
        )

    async def start(self) -> None:
        """Open the database and start every part but the server."""
        await self.database.open()
        await self.intake.start()
        await self._keys.start()
        await self._housekeeping.start()
        await self._replaying.start()
        if self._redis is not None:
            self.health.redis = False
            await self._redis.start()
        self._tasks = [
            asyncio.create_task(accept.sum_up(self._accept), name="accept sums"),
            asyncio.create_task(
                server.sweep(self.server, self.settings.receive_timeout), name="slow requests"
            ),
        ]

    async def stop(self) -> None:
        """Stop every part, in the opposite order; what is waiting to be stored is stored."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._redis is not None:
            await self._redis.stop()
        await self._replaying.stop()
        await self._housekeeping.stop()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.intake.stop(), self.settings.shutdown_timeout)
        await self._keys.stop()
        await self.database.close()

    def _note_redis(self, up: bool) -> None:
        self.health.redis = up


async def migrate_only(settings: Settings, url: str | None = None) -> list[migrate.Migration]:
    """Bring the database up to date; return what was applied."""
    database = Database(url or database_url_of(settings), pool_size=2)
    await database.open()
    try:
        applied = await migrate.migrate(database)
    finally:
        await database.close()
    for migration in applied:
        log.info("migrated", number=migration.number, name=migration.name)
    return applied


async def check_configuration(settings: Settings) -> list[tuple[str, str]]:
    """What `triggers check` finds: each part with `ok …` or what is wrong."""
    found = [("settings", "ok " + " ".join(f"{k}={v}" for k, v in settings.masked().items()))]
    if settings.database_url:
        found.append(("database", await _check_database(settings)))
    else:
        found.append(("database", _check_data_dir(data_dir_of(settings))))
    found.append(("secrets", _check_key_ring(settings)))
    if settings.redis_url:
        link = RedisLink(settings.redis_url, Wakeup(), RateLimiter(), lambda _: None)
        found.append(("redis", "ok" if await link.ping() else "does not answer"))
        await link.stop()
    return found


async def _check_database(settings: Settings) -> str:
    database = Database(settings.database_url or "", pool_size=2)
    try:
        await database.open()
        missing = await migrate.pending(database)
    except TriggersError as error:
        return error.message
    finally:
        await database.close()
    return f"ok, {len(missing)} migrations to apply" if missing else "ok, schema up to date"


def _check_key_ring(settings: Settings) -> str:
    data_dir = None if settings.database_url else data_dir_of(settings)
    if data_dir is not None and not settings.secret_keys and not (data_dir / KEY_FILE).exists():
        return "ok, a key will be made on the first run"
    try:
        return f"ok, keys {', '.join(key_ring_of(settings, data_dir).key_ids)}"
    except TriggersError as error:
        return error.message


def _check_data_dir(data_dir: Path) -> str:
    existing = next(path for path in (data_dir, *data_dir.parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        return f"{existing} cannot be written to; choose another --data-dir"
    return f"ok, a private PostgreSQL in {data_dir}"
