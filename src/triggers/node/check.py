"""`triggers check`: finds configuration errors without starting the service or changing anything."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Awaitable, Callable

from triggers.errors import OperatorError
from triggers.http import server
from triggers.node.failures import explained
from triggers.node.resources import KEY_RING_FILE, data_dir_of, key_ring_of
from triggers.node.settings import Settings
from triggers.outbound.connector import NO_ROOTS, has_roots
from triggers.postgres import embedded, migrate
from triggers.postgres.database import Database
from triggers.secrets.key_ring import KeyRing
from triggers.subscriptions import sealed as sealed_secrets
from triggers.wakeups.wakeup import Wakeup


async def check_configuration(settings: Settings) -> list[tuple[str, str]]:
    """Each checked part, with `ok …` or the error."""
    checks = {
        "settings": _check_settings,
        "address": _check_address,
        "database": _check_database,
        "disk": _check_disk,
        "secrets": _check_key_ring,
        "ca roots": _check_roots,
        "redis": _check_redis,
    }
    found = [(name, await _outcome(check, settings)) for name, check in checks.items()]
    return [(name, outcome) for name, outcome in found if outcome is not None]


async def _outcome(check: Callable[[Settings], Awaitable[str | None]], settings: Settings) -> str | None:
    """The result of a check, or why it failed. None if there is nothing to check."""
    try:
        return await check(settings)
    except Exception as error:
        if (failure := explained(error)) is None:
            raise
        return failure


async def _check_settings(settings: Settings) -> str:
    return "ok " + " ".join(f"{name}={value}" for name, value in settings.masked().items())


async def _check_address(settings: Settings) -> str:
    place = f"{settings.host} port {settings.port}"
    try:
        server.bind(settings.host, settings.port).close()
    except OperatorError as error:
        # The check also runs beside a running service, and cannot tell who uses the port.
        if isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EADDRINUSE:
            return f"ok, {place} is in use. If another program uses it, the service cannot start."
        raise
    return f"ok, {place}"


async def _check_database(settings: Settings) -> str:
    if settings.database_url:
        return f"ok, {await _schema(settings, settings.database_url)}"
    data_dir = data_dir_of(settings)
    has_data, url = embedded.inspect(data_dir)
    if url is not None:
        return f"ok, private PostgreSQL in {data_dir}: {await _schema(settings, url)}"
    if has_data:
        return f"ok, private PostgreSQL in {data_dir}. It is not running, so its schema was not checked."
    return f"ok, a private PostgreSQL will be created in {data_dir}"


async def _check_disk(settings: Settings) -> str | None:
    """The free space that `serve` would see. The disk of another PostgreSQL cannot be seen from here."""
    if settings.database_url:
        return None
    data_dir = data_dir_of(settings)
    existing = next(path for path in (data_dir, *data_dir.parents) if path.exists())
    free_mib = shutil.disk_usage(existing).free // (1024 * 1024)
    if free_mib < settings.min_free_disk:
        return (
            f"Only {free_mib:,} MiB are free on the disk of {data_dir}, so events would be refused. Free some"
            f" space, or lower TRIGGERS_MIN_FREE_DISK, which is {settings.min_free_disk:,} MiB."
        )
    return f"ok, {free_mib:,} MiB are free"


async def _check_roots(settings: Settings) -> str:
    # A warning, because a service without https:// endpoints works.
    return "ok" if has_roots() else f"ok, but with a warning: {NO_ROOTS}"


async def _check_redis(settings: Settings) -> str | None:
    if not settings.redis_url:
        return None
    from triggers.wakeups.redis_link import RedisLink  # noqa: PLC0415 - slow to import, and seldom used

    link = RedisLink(settings.redis_url, Wakeup(), None, lambda _: None)
    try:
        return "ok" if await link.ping() else "Redis does not answer. Check TRIGGERS_REDIS_URL."
    finally:
        await link.stop()


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


async def _check_key_ring(settings: Settings) -> str:
    ring = _ring(settings)
    if ring is None:
        return "ok, an encryption key will be created on the first run"
    return f"ok, encryption keys {', '.join(ring.key_ids)}"


def _ring(settings: Settings) -> KeyRing | None:
    """The key ring that the service would use; None if it would create one."""
    data_dir = None if settings.database_url else data_dir_of(settings)
    if data_dir is not None and not settings.secret_keys and not (data_dir / KEY_RING_FILE).exists():
        return None
    return key_ring_of(settings, data_dir)
