"""What settings point at: the data directory, the database, the ring of keys."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import structlog

from triggers.errors import SettingsError, TriggersError
from triggers.key_ring import SETTING, KeyRing
from triggers.settings import Settings
from triggers.storage import event_store, migrate
from triggers.storage.clock import DatabaseClock
from triggers.storage.database import Database
from triggers.storage.embedded import default_data_dir, running_url
from triggers.storage.wakeup import Wakeup

log = structlog.get_logger()

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
        from triggers.storage.redis_link import RedisLink  # noqa: PLC0415 - slow to import, and seldom used

        link = RedisLink(settings.redis_url, Wakeup(), None, lambda _: None)
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
