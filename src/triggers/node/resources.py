"""What settings point at: the data directory, the database, the ring of keys."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import structlog

from triggers.errors import SettingsError
from triggers.events import store as event_store
from triggers.node.settings import Settings
from triggers.postgres import migrate
from triggers.postgres.clock import DatabaseClock
from triggers.postgres.database import Database
from triggers.postgres.embedded import default_data_dir, running_url
from triggers.secrets.key_ring import SETTING, KeyRing

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
