"""Real servers for every test: one PostgreSQL and one Redis a session, a database of its own per test."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
import structlog
from structlog.testing import LogCapture

from harness import Node, RedisServer, Tenant, Tenants, node_settings
from triggers.events import store as event_store
from triggers.postgres import migrate
from triggers.postgres.clock import DatabaseClock
from triggers.postgres.database import Database
from triggers.postgres.embedded import EmbeddedPostgres
from triggers.postgres.embedded_cluster import SUPERUSER

_TEMPLATE = "tests_template"
_numbers = itertools.count(1)


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[Any]]:
    """What is logged during the test; the end of it is shown where a test fails."""
    capture = LogCapture()
    structlog.configure(processors=[structlog.contextvars.merge_contextvars, capture])
    yield capture.entries
    structlog.reset_defaults()
    for entry in capture.entries[-50:]:
        print(entry)


class Postgres:
    """The session's PostgreSQL, with a migrated database to copy.

    A thread makes the next copy and drops those that were used while a test runs: most tests are
    done in less time than that takes.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._thread = ThreadPoolExecutor(1)
        self._next: Future[str] | None = None
        self._drops: list[Future[None]] = []

    def url_of(self, name: str, user: str | None = None) -> str:
        url = self.url.replace("/triggers?", f"/{name}?")
        return url.replace("user=triggers", f"user={user}") if user else url

    async def create(self, template: str = _TEMPLATE) -> str:
        """Make a database; return its name."""
        if template != _TEMPLATE:
            return await self._copy(template)
        ready, self._next = self._next, self._thread.submit(asyncio.run, self._copy())
        return await (self._copy() if ready is None else asyncio.wrap_future(ready))

    async def _copy(self, template: str = _TEMPLATE) -> str:
        name = f"test_{os.getpid()}_{next(_numbers)}"
        await self.run(f"create database {name} template {template} owner triggers", user=SUPERUSER)
        return name

    def drop(self, name: str) -> None:
        """Drop it soon. Only a superuser may end an autovacuum worker that is at work in it."""
        drop = self.run(f"drop database if exists {name} with (force)", user=SUPERUSER)
        self._drops.append(self._thread.submit(asyncio.run, drop))

    def close(self) -> None:
        """Wait for the thread, and say what went wrong there."""
        self._thread.shutdown()
        for drop in self._drops:
            drop.result()

    async def disconnect(self, name: str) -> None:
        """Cut every connection to a database."""
        await self.run(
            f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'",
            user=SUPERUSER,
        )

    async def run(self, statement: str, *, database: str = "triggers", user: str | None = None) -> None:
        connection = await asyncpg.connect(self.url_of(database, user))
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    # Started by root, PostgreSQL runs as another user, who must be able to get there.
    place = Path(tempfile.mkdtemp(prefix="triggers-tests-", dir="/tmp"))
    place.chmod(0o755)
    embedded = EmbeddedPostgres(place / "data")
    found = Postgres(asyncio.run(embedded.start()))
    try:
        asyncio.run(_make_template(found))
        yield found
        found.close()
    finally:
        asyncio.run(embedded.stop(immediate=True))
        shutil.rmtree(place)


async def _make_template(postgres: Postgres) -> None:
    # No test pulls the plug on this server; those that do start their own.
    await postgres.run("alter system set fsync = off", user=SUPERUSER)
    await postgres.run("select pg_reload_conf()", user=SUPERUSER)
    await postgres.run(f"create database {_TEMPLATE} template template0 owner triggers", user=SUPERUSER)
    database = Database(postgres.url_of(_TEMPLATE), pool_size=2)
    await migrate.migrate(database)


@pytest.fixture
async def database_url(postgres: Postgres) -> AsyncIterator[str]:
    """A migrated, empty database that only this test has."""
    name = await postgres.create()
    yield postgres.url_of(name)
    postgres.drop(name)


@pytest.fixture
async def empty_database_url(postgres: Postgres) -> AsyncIterator[str]:
    """A database without any schema."""
    name = await postgres.create("template0")
    yield postgres.url_of(name)
    postgres.drop(name)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = Database(database_url, pool_size=10)
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture
async def clock(database: Database) -> DatabaseClock:
    """The database's time, and ids on it."""
    learned = DatabaseClock()
    await event_store.learn_time(database, learned)
    return learned


@pytest.fixture
def tenants(database: Database, clock: DatabaseClock) -> Tenants:
    return Tenants(database, clock)


@pytest.fixture
async def tenant(tenants: Tenants) -> Tenant:
    """An organisation without a limit, and a key of it with every scope but `admin`."""
    return await tenants.make()


@pytest.fixture
async def make_node(database_url: str) -> AsyncIterator[Callable[..., Any]]:
    """Starts nodes on the test's database: `await make_node(dedup_window=1)`; they stop with the test."""
    async with AsyncExitStack() as stack:

        async def make(*, url: str = database_url, data_dir: Path | None = None, **overrides: Any) -> Node:
            node = Node(node_settings(**overrides), url, data_dir=data_dir)
            return await stack.enter_async_context(node)

        yield make


@pytest.fixture
async def node(make_node: Callable[..., Any]) -> Node:
    """A running node with the settings as they are."""
    running: Node = await make_node()
    return running


@pytest.fixture
async def client(node: Node, tenant: Tenant) -> AsyncIterator[httpx.AsyncClient]:
    """Calls the node with the tenant's key."""
    async with node.client(tenant) as calling:
        yield calling


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """The session's Redis."""
    running = RedisServer()
    running.start()
    yield running
    running.kill()


@pytest.fixture
def redis_of_our_own() -> Iterator[RedisServer]:
    """A Redis that the test may kill."""
    running = RedisServer()
    running.start()
    yield running
    running.kill()
