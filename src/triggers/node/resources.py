"""The resources that settings name: the data directory, the database, the key ring."""

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

KEY_RING_FILE = "secret-keys"
"""File in the data directory of a private PostgreSQL with its key ring, created on the first run."""


def data_dir_of(settings: Settings) -> Path:
    """The directory of the private PostgreSQL."""
    if not settings.data_dir:
        return default_data_dir()
    try:
        return Path(settings.data_dir).expanduser().absolute()
    except RuntimeError:
        raise SettingsError(
            f"TRIGGERS_DATA_DIR is {settings.data_dir!r}, which begins with a home directory that does not"
            " exist on this machine."
        ) from None


def database_url_of(settings: Settings) -> str:
    """URL of the configured database, or of the private PostgreSQL of the running `serve`."""
    return settings.database_url or running_url(data_dir_of(settings))


def key_ring_of(settings: Settings, data_dir: Path | None) -> KeyRing:
    """The key ring for secrets: the configured one, or the one in the `data_dir` of a private PostgreSQL.

    Raises:
        SettingsError: no key ring is configured, or it cannot be read.
    """
    if settings.secret_keys:
        return KeyRing.from_setting(settings.secret_keys)
    if data_dir is None:
        raise SettingsError(
            f"TRIGGERS_DATABASE_URL needs {SETTING}, which encrypts the signing secrets in that database."
            " Set the same value on every node. `openssl rand -base64 32` makes a key. If the database came"
            f" from a private PostgreSQL, use the content of `{KEY_RING_FILE}` in its data directory."
        )
    data_dir.mkdir(parents=True, exist_ok=True)
    return KeyRing.from_file(data_dir / KEY_RING_FILE)


def secret_keys_of(settings: Settings, data_dir: Path | None) -> str:
    """The key ring as a setting, for a process that this one starts."""
    if settings.secret_keys is not None or data_dir is None:
        return settings.secret_keys or ""
    return (data_dir / KEY_RING_FILE).read_text(encoding="ascii").strip()


@asynccontextmanager
async def open_database(
    settings: Settings, url: str | None = None
) -> AsyncIterator[tuple[Database, DatabaseClock]]:
    """Open the database and its clock, for a command that runs beside the service."""
    database = Database(url or database_url_of(settings), pool_size=settings.pool_size)
    await database.open()
    try:
        clock = DatabaseClock()
        await event_store.learn_time(database, clock)
        yield database, clock
    finally:
        await database.close()


async def migrate_only(settings: Settings, url: str | None = None) -> list[migrate.Migration]:
    """Apply pending migrations and return them."""
    database = Database(url or database_url_of(settings), pool_size=2)
    await database.open()
    try:
        applied = await migrate.migrate(database)
    finally:
        await database.close()
    for migration in applied:
        log.info("migrated", number=migration.number, name=migration.name)
    return applied
