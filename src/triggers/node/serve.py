"""`triggers serve` and `triggers api`, from the first signal handler to the last closed connection."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import structlog

from triggers.background import Background
from triggers.errors import OperatorError
from triggers.http import server
from triggers.http.pages import url_of
from triggers.node.api_node import ApiNode
from triggers.node.first_run import FirstRun, first_run
from triggers.node.resources import data_dir_of, migrate_only, secret_keys_of
from triggers.node.settings import Settings
from triggers.node.signals import Stopping, settle_memory
from triggers.node.worker_process import WorkerProcess
from triggers.postgres.embedded import EmbeddedPostgres

log = structlog.get_logger()


async def serve(
    settings: Settings,
    ready: Callable[[str, FirstRun | None], None],
    *,
    terminal: bool,
    with_worker: bool = True,
) -> None:
    """Run the API, and a delivery worker beside it, until a signal asks to stop.

    `ready` is called as soon as requests are answered, with the URL and, on the first run, where the first
    API key is. It gets the key itself only if it prints to a terminal. If a signal asks to stop before that,
    `serve` returns without calling it.

    Raises:
        OperatorError: the service cannot start; the message says why and what to do.
    """
    stopping, background = Stopping(), Background()
    bound = server.bind(settings.host, settings.port)
    with bound:
        async with _database(settings, stopping, background) as url:
            if url is None:
                return
            await migrate_only(settings, url)
            data_dir = None if settings.database_url else data_dir_of(settings)
            node = ApiNode(settings, url, data_dir=data_dir)
            node.health.watch(background)

            async def announce() -> None:
                made = await first_run(node.database, node.clock, terminal=terminal, data_dir=data_dir)
                ready(_url_of(settings, bound), made)

            if not with_worker:
                await _run_api(node, bound, stopping, announce)
                return
            worker = WorkerProcess(settings, url, secret_keys_of(settings, data_dir))
            node.wakeup.listen_for_lanes(worker.hint, worker.hand_over)
            node.metrics.more.append(lambda: worker.metrics)
            node.health.worker_trouble = lambda: worker.trouble
            await worker.start()
            with stopping.hurrying(worker.stop):
                try:
                    await _run_api(node, bound, stopping, announce)
                finally:
                    await worker.stop()


@asynccontextmanager
async def _database(
    settings: Settings, stopping: Stopping, background: Background
) -> AsyncIterator[str | None]:
    """The URL of the configured PostgreSQL, or of a private one that runs until the block ends.

    None if the service was asked to stop before PostgreSQL had started.
    """
    if settings.database_url:
        yield settings.database_url
        return
    postgres = EmbeddedPostgres(data_dir_of(settings))
    url = await _start_postgres(postgres, stopping)
    if url is None:
        yield None
        return
    background.run("postgres", postgres.run())
    try:
        yield url
    finally:
        with stopping.hurrying(lambda: postgres.stop(immediate=True)):
            await background.stop()
            await postgres.stop(immediate=stopping.hurried.is_set())


async def _start_postgres(postgres: EmbeddedPostgres, stopping: Stopping) -> str | None:
    """Start PostgreSQL, which may take long after a crash. Return None if asked to stop meanwhile."""
    starting = asyncio.create_task(postgres.start())
    asked = asyncio.create_task(stopping.asked.wait())
    await asyncio.wait({starting, asked}, return_when=asyncio.FIRST_COMPLETED)
    asked.cancel()
    if starting.done():
        return await starting
    await postgres.stop()
    with contextlib.suppress(OperatorError):
        await starting
    return None


async def _run_api(
    node: ApiNode, bound: socket.socket, stopping: Stopping, announce: Callable[[], Awaitable[None]]
) -> None:
    """Serve until asked to stop; then answer what is in flight and store what is waiting."""
    await node.start()
    serving = asyncio.create_task(node.server.serve(sockets=[bound]), name="server")
    started = asyncio.create_task(node.server.has_started.wait())
    asked = asyncio.create_task(stopping.asked.wait())
    broken = asyncio.create_task(node.acceptor.background.ended())
    hurried = asyncio.create_task(_hurry_server(node, stopping))
    try:
        await asyncio.wait({serving, started}, return_when=asyncio.FIRST_COMPLETED)
        settle_memory()
        if node.server.started:
            await announce()
        await asyncio.wait({serving, asked, broken}, return_when=asyncio.FIRST_COMPLETED)
        node.begin_to_stop()
        node.server.should_exit = True
        await serving
        if not stopping.asked.is_set():
            raise OperatorError("The service stopped because of an error, which is in the log.")
    finally:
        for task in (started, asked, broken, hurried):
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await node.stop()
        log.info("stopped")


async def _hurry_server(node: ApiNode, stopping: Stopping) -> None:
    await stopping.hurried.wait()
    node.server.force_exit = True


def _url_of(settings: Settings, bound: socket.socket) -> str:
    if settings.public_url:
        return settings.public_url.rstrip("/")
    host, port = bound.getsockname()[:2]
    if host in ("0.0.0.0", "::"):  # noqa: S104 - what was bound to, not what is chosen here
        host = "127.0.0.1"
    return url_of(host, port)
