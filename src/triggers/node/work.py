"""`triggers worker`: a process that only delivers.

`serve` also starts it as a child process, with `python -m triggers.node.work` and settings from the
environment. The module imports neither the API nor the command line, so that it starts fast.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys

import structlog
import uvloop
from prometheus_client import generate_latest, start_http_server

from triggers.errors import DatabaseUnavailable, OperatorError
from triggers.node.failures import explained
from triggers.node.resources import (
    data_dir_of,
    database_url_of,
    key_ring_of,
    migrate_only,
    open_database,
)
from triggers.node.settings import Settings
from triggers.node.signals import Stopping, settle_memory
from triggers.node.variables import load
from triggers.node.worker_process import SOCKET_ENV, ParentSocket
from triggers.observability import configure_logging, show_trouble
from triggers.outbound.client import Outbound
from triggers.outbound.connector import NO_ROOTS, has_roots
from triggers.postgres.database import REQUEST_SECONDS, Database
from triggers.push import metrics
from triggers.push.worker import SLOTS, Worker, WorkerOptions
from triggers.subscriptions import sealed as sealed_secrets
from triggers.wakeups.wakeup import Wakeup

log = structlog.get_logger()

RECONNECT_SECONDS = 0.5


async def work(settings: Settings, parent_socket: str = "") -> None:
    """Deliver until a signal asks to stop. `parent_socket` is what the `serve` that started it passed."""
    stopping = Stopping()
    parent = ParentSocket(parent_socket)
    url = database_url_of(settings)
    if parent.has_parent and not await _database_answers(url, stopping, parent):
        return
    await migrate_only(settings, url)
    ring = key_ring_of(settings, None if settings.database_url else data_dir_of(settings))
    async with open_database(settings, url) as (database, clock):
        await sealed_secrets.require_key(database, ring)
        worker = Worker(
            database,
            clock,
            ring,
            Outbound(settings.outbound_policy(), max_connections=SLOTS),
            WorkerOptions(settings.disable_after, settings.public_url or ""),
        )
        wakeup = Wakeup()
        wakeup.listen_for_lanes(worker.hint)
        redis = None
        if settings.redis_url:
            from triggers.wakeups.redis_link import RedisLink  # noqa: PLC0415 - slow to import, and seldom used

            redis = RedisLink(settings.redis_url, wakeup, None, lambda _: None)
            await redis.start()
        parent.listen(worker.hint, worker.hand_over)
        if settings.worker_metrics_port is not None:
            _show_metrics(settings.host, settings.worker_metrics_port)
        await worker.start()
        if not has_roots():
            log.warning("no_ca_roots", detail=NO_ROOTS)
        settle_memory()
        log.info("worker_started", worker_id=str(worker.ownership.worker_id))
        broken = asyncio.create_task(worker.ended())
        while not (stopping.asked.is_set() or parent.orphaned or broken.done()):
            show_trouble(metrics.trouble, worker.trouble)
            parent.say(generate_latest(metrics.registry), worker.trouble)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopping.asked.wait(), 1)
        # If the parent died, its database stops too, and the next worker needs these lanes.
        finishing = asyncio.create_task(worker.stop(1 if parent.orphaned else settings.shutdown_timeout))
        hurried = asyncio.create_task(stopping.hurried.wait())
        await asyncio.wait({finishing, hurried}, return_when=asyncio.FIRST_COMPLETED)
        for task in (finishing, hurried, broken):
            task.cancel()
        await asyncio.gather(finishing, hurried, broken, return_exceptions=True)
        if redis is not None:
            await redis.stop()
        log.info("worker_stopped")
        if not (stopping.asked.is_set() or parent.orphaned):
            raise OperatorError("The worker stopped because of an error, which is in the log.")


async def _database_answers(url: str, stopping: Stopping, parent: ParentSocket) -> bool:
    """Wait until PostgreSQL answers; return False if this process has to stop before.

    PostgreSQL answered when `serve` started, so the outage is temporary. If the worker ended because of
    it, `serve` would restart it after longer and longer delays.
    """
    database = Database(url, pool_size=1)
    while not (stopping.asked.is_set() or parent.orphaned):
        try:
            connection = await database.connect(REQUEST_SECONDS)
        except DatabaseUnavailable as error:
            log.warning("database_awaited", error=repr(error.__cause__))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopping.asked.wait(), RECONNECT_SECONDS)
        else:
            await connection.close()
            return True
    return False


def _show_metrics(host: str, port: int) -> None:
    try:
        start_http_server(port, host, metrics.registry)
    except (OSError, UnicodeError) as error:  # UnicodeError: not a host name, such as `a..b`
        reason = (isinstance(error, OSError) and error.strerror) or "it is not an address"
        raise OperatorError(f"Cannot show metrics on {host} port {port}: {reason}.") from error


def main() -> None:
    """Run the worker with settings from the environment."""
    try:
        settings = load(os.environ)
        configure_logging(settings.log_format, settings.log_level)
        uvloop.run(work(settings, os.environ.get(SOCKET_ENV, "")))
    except Exception as error:
        if (failure := explained(error)) is None:
            raise
        sys.exit(f"triggers: {failure}")


if __name__ == "__main__":
    main()
