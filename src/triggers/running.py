"""`triggers serve` and its like, from the first signal handler to the last closed connection."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import structlog
from prometheus_client import generate_latest, start_http_server

from triggers.api import server
from triggers.delivery import metrics
from triggers.delivery.worker import Worker
from triggers.errors import OperatorError
from triggers.service import (
    ApiNode,
    data_dir_of,
    database_url_of,
    ensure_first_key,
    key_ring_of,
    migrate_only,
    open_database,
    secret_keys_of,
)
from triggers.settings import Settings
from triggers.storage.embedded import EmbeddedPostgres
from triggers.storage.redis_link import RedisLink
from triggers.storage.wakeup import Wakeup
from triggers.worker_process import ParentSocket, WorkerProcess

log = structlog.get_logger()


class Stopping:
    """SIGTERM and SIGINT: the first asks everything to finish, the second hurries."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.hurried = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signal)

    def _signal(self) -> None:
        if self.asked.is_set():
            self.hurried.set()
        self.asked.set()


async def serve(
    settings: Settings, ready: Callable[[str, str | None], None], *, with_worker: bool = True
) -> None:
    """Run the API, and a delivery worker beside it, until a signal asks to stop.

    `ready` is called once requests are answered, with the URL and, on the first run, the first key.

    Raises:
        OperatorError: it cannot start, saying why and what to do.
    """
    stopping = Stopping()
    bound = server.bind(settings.host, settings.port)
    with bound:
        async with _database(settings, stopping) as url:
            await migrate_only(settings, url)
            data_dir = None if settings.database_url else data_dir_of(settings)
            node = ApiNode(settings, url, data_dir=data_dir)
            announce = functools.partial(ready, _url_of(settings, bound))
            if not with_worker:
                await _run_api(node, bound, stopping, announce)
                return
            worker = WorkerProcess(settings, url, secret_keys_of(settings, data_dir))
            node.wakeup.listen_for_lanes(worker.hint)
            node.more_metrics.append(lambda: worker.metrics)
            await worker.start()
            hurrying = asyncio.create_task(_hurry_worker(worker, stopping))
            try:
                await _run_api(node, bound, stopping, announce)
            finally:
                await worker.stop()
                hurrying.cancel()


async def work(settings: Settings) -> None:
    """Deliver, and nothing else, until a signal asks to stop."""
    stopping = Stopping()
    url = database_url_of(settings)
    await migrate_only(settings, url)
    async with open_database(settings, url) as (database, clock):
        worker = Worker(
            database,
            clock,
            key_ring_of(settings, None if settings.database_url else data_dir_of(settings)),
            settings.outbound_policy(),
            disable_after_seconds=settings.disable_after,
        )
        wakeup = Wakeup()
        wakeup.listen_for_lanes(worker.hint)
        redis = RedisLink(settings.redis_url, wakeup, None, lambda _: None) if settings.redis_url else None
        if redis is not None:
            await redis.start()
        parent = ParentSocket(worker.hint)
        if settings.worker_metrics_port is not None:
            start_http_server(settings.worker_metrics_port, settings.host, metrics.registry)
        await worker.start()
        _settle_memory()
        log.info("worker_started", worker_id=str(worker.ownership.worker_id))
        broken = asyncio.create_task(worker.broken())
        while not (stopping.asked.is_set() or parent.orphaned or broken.done()):
            parent.say(generate_latest(metrics.registry))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopping.asked.wait(), 1)
        # An orphan's database is going too, and whoever comes next will want its lanes.
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
            raise OperatorError("The worker ended by itself; the log says why.")


@asynccontextmanager
async def _database(settings: Settings, stopping: Stopping) -> AsyncIterator[str]:
    """The URL of the configured PostgreSQL, or of a private one that runs as long as the block."""
    if settings.database_url:
        yield settings.database_url
        return
    postgres = EmbeddedPostgres(data_dir_of(settings))
    url = await _start_postgres(postgres, stopping)
    watching = asyncio.create_task(postgres.run(), name="postgres")
    try:
        yield url
    finally:
        hurrying = asyncio.create_task(_hurry_postgres(postgres, stopping))
        await postgres.stop(immediate=stopping.hurried.is_set())
        for task in (hurrying, watching):
            task.cancel()
        await asyncio.gather(hurrying, watching, return_exceptions=True)


async def _start_postgres(postgres: EmbeddedPostgres, stopping: Stopping) -> str:
    """Start it, which may take a recovery's time; asked to stop meanwhile, end at once."""
    starting = asyncio.create_task(postgres.start())
    asked = asyncio.create_task(stopping.asked.wait())
    await asyncio.wait({starting, asked}, return_when=asyncio.FIRST_COMPLETED)
    asked.cancel()
    if not starting.done():
        await postgres.stop()
    return await starting


async def _hurry_worker(worker: WorkerProcess, stopping: Stopping) -> None:
    await stopping.hurried.wait()
    await worker.stop()


async def _hurry_postgres(postgres: EmbeddedPostgres, stopping: Stopping) -> None:
    await stopping.hurried.wait()
    await postgres.stop(immediate=True)


async def _run_api(
    node: ApiNode, bound: socket.socket, stopping: Stopping, ready: Callable[[str | None], None]
) -> None:
    """Serve until asked to stop; then answer what is in flight and store what is waiting."""
    await node.start()
    serving = asyncio.create_task(node.server.serve(sockets=[bound]), name="server")
    started = asyncio.create_task(node.server.has_started.wait())
    asked = asyncio.create_task(stopping.asked.wait())
    broken = asyncio.create_task(node.intake.broken())
    hurried = asyncio.create_task(_hurry_server(node, stopping))
    try:
        await asyncio.wait({serving, started}, return_when=asyncio.FIRST_COMPLETED)
        _settle_memory()
        if node.server.started:
            ready(await ensure_first_key(node.database, node.clock, node.settings))
        await asyncio.wait({serving, asked, broken}, return_when=asyncio.FIRST_COMPLETED)
        node.health.stopping = True
        node.server.should_exit = True
        await serving
        if not stopping.asked.is_set():
            raise OperatorError("The service ended by itself; the log says why.")
    finally:
        for task in (started, asked, broken, hurried):
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await node.stop()
        log.info("stopped")


def _settle_memory() -> None:
    """Spare the garbage collector what was made at the start: it stays for good.

    Requests make little garbage in cycles, so collecting seldom costs no memory to speak of, and
    a full collection does not walk through the framework's routes and schemas each time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


async def _hurry_server(node: ApiNode, stopping: Stopping) -> None:
    await stopping.hurried.wait()
    node.server.force_exit = True


def _url_of(settings: Settings, bound: socket.socket) -> str:
    if settings.public_url:
        return settings.public_url.rstrip("/")
    host, port = bound.getsockname()[:2]
    if host in ("0.0.0.0", "::"):  # noqa: S104 - what was bound to, not what is chosen here
        host = "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
