"""What the tests run against: nodes in the test's own loop, tenants, a Redis of our own, and patience."""

from __future__ import annotations

import asyncio
import base64
import shutil
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import httpx

from triggers.domain import TENANT_SCOPES, OrgId, Plan, Scope
from triggers.http import server
from triggers.keys import organisations
from triggers.keys import store as api_keys
from triggers.node.api_node import ApiNode
from triggers.node.settings import Settings
from triggers.postgres.clock import DatabaseClock
from triggers.postgres.database import Connection, Database


async def eventually(condition: Callable[[], Any], seconds: float = 5.0) -> Any:
    """Return what the condition returns (awaited if need be) once that is true, or fail at the deadline."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if isinstance(found, Awaitable):
            found = await found
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"still {found!r} after {seconds:g} seconds")
        await asyncio.sleep(0.01)


async def is_waited_for(holding: Connection) -> bool:
    """Whether somebody waits for a lock in the database of this connection."""
    waiting: bool = await holding.fetchval(
        "select exists (select from pg_stat_activity"
        " where datname = current_database() and wait_event_type = 'Lock')"
    )
    return waiting


async def behind_a_lock(
    database: Database, rows: str, subject: UUID, work: Awaitable[Any]
) -> tuple[Any, datetime]:
    """Do `work` while the rows that `rows` selects are locked, until it waits for them.

    Returns what came of it, and the database's time when they were let go.
    """
    async with database.connection() as holding:
        async with holding.transaction():
            await holding.fetch(f"{rows} for no key update", subject)
            waiting = asyncio.ensure_future(work)
            await eventually(lambda: is_waited_for(holding))
            released_at = await holding.fetchval("select clock_timestamp()")
        return await waiting, released_at


def free_port() -> int:
    """A port that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(frozen=True)
class Tenant:
    """An organisation and one of its keys."""

    id: OrgId
    name: str
    key: str
    key_id: UUID

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.key}"}


class Tenants:
    """Makes organisations and keys in one database."""

    def __init__(self, database: Database, clock: DatabaseClock) -> None:
        self._database = database
        self._clock = clock
        self._made = 0

    async def make(
        self,
        *,
        plan: Plan = Plan.ENTERPRISE,
        requests_per_minute: int | None = None,
        scopes: Iterable[Scope] = TENANT_SCOPES,
        name: str | None = None,
    ) -> Tenant:
        """An organisation with a key."""
        self._made += 1
        org = await organisations.create(
            self._database, self._clock, name or f"org {self._made}", plan, requests_per_minute
        )
        return await self.key_of(org.id, org.name, scopes)

    async def key_of(self, org_id: UUID, name: str, scopes: Iterable[Scope]) -> Tenant:
        """Another key of an organisation."""
        async with self._database.connection() as connection:
            key = await api_keys.create(connection, self._clock, OrgId(org_id), api_keys.NewKey(scopes))
        assert key.key is not None
        return Tenant(OrgId(org_id), name, key.key, key.id)


class Node(ApiNode):
    """An API node that answers on a port of 127.0.0.1, in the test's loop."""

    url: str

    async def __aenter__(self) -> Node:
        bound = server.bind("127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        self._stack = AsyncExitStack()
        self._stack.enter_context(bound)
        await self.start()
        self._serving = asyncio.create_task(self.server.serve(sockets=[bound]))
        await eventually(lambda: self.server.started or self._serving.done())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.begin_to_stop()
        self.server.should_exit = True
        await self._serving
        await self.stop()
        await self._stack.aclose()

    def client(self, tenant: Tenant | None = None, **options: Any) -> httpx.AsyncClient:
        """A client that calls this node with the tenant's key, or with none."""
        return httpx.AsyncClient(
            base_url=self.url,
            headers=tenant.headers if tenant else {},
            timeout=30,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=None),
            **options,
        )


SECRET_KEYS = base64.b64encode(bytes(range(32))).decode()


def node_settings(**overrides: Any) -> Settings:
    """Settings of a node in a test, which may deliver to receivers on this machine."""
    chosen = {
        "shutdown_timeout": 2.0,
        "secret_keys": SECRET_KEYS,
        "outbound_allow": "127.0.0.0/8",
        "outbound_allow_http": True,
    }
    return Settings(**{**chosen, **overrides})


class RedisServer:
    """A `redis-server` that keeps nothing, and can be killed and started again on its port."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Return once it answers."""
        program = shutil.which("redis-server")
        assert program, "the tests need the program redis-server"
        self._process = subprocess.Popen(
            [
                program,
                "--port",
                str(self.port),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--appendonly",
                "no",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
        )
        deadline = time.monotonic() + 10
        while self._ask(b"PING") != b"+PONG\r\n":
            assert self._process.poll() is None, "redis-server ended"
            assert time.monotonic() < deadline, "redis-server does not answer"
            time.sleep(0.01)

    def flush(self) -> None:
        """Lose everything."""
        assert self._ask(b"FLUSHALL") == b"+OK\r\n"

    def kill(self) -> None:
        """End it without a chance to say goodbye."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _ask(self, command: bytes) -> bytes:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(command + b"\r\n")
                return connection.recv(64)
        except OSError:
            return b""
