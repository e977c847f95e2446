"""`triggers check`: finds configuration errors without starting the service or changing anything."""

from __future__ import annotations

import errno

from triggers.errors import OperatorError, TriggersError
from triggers.http import server
from triggers.node.resources import KEY_FILE, data_dir_of, key_ring_of
from triggers.node.settings import Settings
from triggers.outbound.connector import NO_ROOTS, has_roots
from triggers.postgres import embedded, migrate
from triggers.postgres.database import Database, PostgresError
from triggers.secrets.key_ring import KeyRing
from triggers.subscriptions import sealed as sealed_secrets
from triggers.wakeups.wakeup import Wakeup


async def check_configuration(settings: Settings) -> list[tuple[str, str]]:
    """Each checked part, with `ok …` or the error."""
    found = [("settings", "ok " + " ".join(f"{k}={v}" for k, v in settings.masked().items()))]
    found.append(("address", _check_address(settings)))
    found.append(("database", await _check_database(settings)))
    found.append(("secrets", _check_key_ring(settings)))
    # A warning, because a service without https:// endpoints works.
    found.append(("ca roots", "ok" if has_roots() else f"ok, but with a warning: {NO_ROOTS}"))
    if settings.redis_url:
        from triggers.wakeups.redis_link import RedisLink  # noqa: PLC0415 - slow to import, and seldom used

        link = RedisLink(settings.redis_url, Wakeup(), None, lambda _: None)
        found.append(
            ("redis", "ok" if await link.ping() else "Redis does not answer. Check TRIGGERS_REDIS_URL.")
        )
        await link.stop()
    return found


def _check_address(settings: Settings) -> str:
    place = f"{settings.host} port {settings.port}"
    try:
        server.bind(settings.host, settings.port).close()
    except OperatorError as error:
        # The check also runs beside a running service, and cannot tell who uses the port.
        if isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EADDRINUSE:
            return f"ok, {place} is in use. If another program uses it, the service cannot start."
        return error.message
    return f"ok, {place}"


async def _check_database(settings: Settings) -> str:
    try:
        if settings.database_url:
            return f"ok, {await _schema(settings, settings.database_url)}"
        data_dir = data_dir_of(settings)
        has_data, url = embedded.inspect(data_dir)
        if url is not None:
            return f"ok, private PostgreSQL in {data_dir}: {await _schema(settings, url)}"
    except TriggersError as error:
        return error.message
    except PostgresError as error:
        return f"PostgreSQL reported an error: {error}."
    if has_data:
        return f"ok, private PostgreSQL in {data_dir}. It is not running, so its schema was not checked."
    return f"ok, a private PostgreSQL will be created in {data_dir}"


async def _schema(settings: Settings, url: str) -> str:
    database = Database(url, pool_size=2)
    await database.open()
    try:
        async with database.connection() as connection:
            await migrate.require_usable(connection)
        missing = await migrate.pending(database)
        if not missing and (ring := _ring(settings)) is not None:
            await sealed_secrets.require_key(database, ring)
    finally:
        await database.close()
    return f"{len(missing)} pending migrations" if missing else "schema up to date"


def _check_key_ring(settings: Settings) -> str:
    try:
        ring = _ring(settings)
        return (
            "ok, an encryption key will be created on the first run"
            if ring is None
            else f"ok, encryption keys {', '.join(ring.key_ids)}"
        )
    except TriggersError as error:
        return error.message
    except OSError as error:
        return f"{error.strerror}: {error.filename}"


def _ring(settings: Settings) -> KeyRing | None:
    """The key ring that the service would use; None if it would create one."""
    data_dir = None if settings.database_url else data_dir_of(settings)
    if data_dir is not None and not settings.secret_keys and not (data_dir / KEY_FILE).exists():
        return None
    return key_ring_of(settings, data_dir)
