"""The two stacks as processes: their tables, their rows, and the app after so many of the steps."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit
from uuid import UUID

import asyncpg
import psutil

from bench.baselines import environment
from bench.baselines.steps import KEY, PREFIX_LENGTH
from bench.cluster import cluster
from bench.processes import ROOT, BenchError, answers, end, free_port, program, wait_for

ACK_IDS = 400
"""Undelivered events at the beginning; the rest of the rows are delivered."""
_TABLES = f"""
drop table if exists event_deliveries, events, organizations;
create table organizations (
    id uuid primary key, name varchar not null, api_key_hash varchar not null,
    api_key_prefix varchar({PREFIX_LENGTH}));
create table events (
    id uuid primary key, org_id uuid not null references organizations, type varchar not null,
    payload json not null, dedup_id varchar, created_at timestamptz not null);
create table event_deliveries (
    id uuid primary key, event_id uuid not null references events, status varchar not null,
    attempts integer not null);
"""
_ORGANISATIONS = """
insert into organizations
select gen_random_uuid(), 'organisation ' || n, case when n = $1 then $2 else $3 end,
       case when n = $1 then $4 else 'zap_test_' || lpad(to_hex(n % 4096), 3, '0') end
from generate_series(1, $1::int) n
"""
_EVENTS = """
insert into events
select gen_random_uuid(), $1, 'order.paid', json_build_object('order', n, 'amount', 129900), 'filled-' || n,
       now() - n * interval '1 second'
from generate_series(1, $2::int) n
"""
_DELIVERIES = """
insert into event_deliveries
select gen_random_uuid(), id, case when row_number() over (order by created_at desc) <= $1 then 'PENDING'
       else 'DELIVERED' end, 1
from events
"""
_PREFIX_INDEX = "create index idx_orgs_api_key_prefix on organizations(api_key_prefix)"
_OTHER_INDEXES = """
create index idx_events_org_created on events(org_id, created_at desc);
create index idx_events_dedup on events(dedup_id) where dedup_id is not null;
create index idx_deliveries_event on event_deliveries(event_id);
create index idx_deliveries_pending on event_deliveries(status) where status = 'PENDING';
"""
_DURABILITY = ("server_version", "fsync", "synchronous_commit", "full_page_writes")


class Stack:
    """PostgreSQL and Redis, and what the app needs to find them."""

    def __init__(self, home: Path, database_url: str, redis_url: str) -> None:
        self._home = home
        self._database_url = database_url
        self._redis_url = redis_url
        self._bcrypt_hashes: tuple[str, str] | None = None

    def fill(self, steps: tuple[str, ...], organisations: int, events: int) -> list[UUID]:
        """Make the tables anew, with rows; return the ids of undelivered events.

        The organisation that asks is the last one, so a scan compares them all.
        """
        mine, other = self._hashes(steps)

        async def fill(connection: asyncpg.Connection) -> list[UUID]:
            await connection.execute(_TABLES)
            await connection.execute(_ORGANISATIONS, organisations, mine, other, KEY[:PREFIX_LENGTH])
            org = await connection.fetchval(
                "select id from organizations where name = $1", f"organisation {organisations}"
            )
            await connection.execute(_EVENTS, org, events)
            await connection.execute(_DELIVERIES, ACK_IDS)
            if "prefix" in steps:
                await connection.execute(_PREFIX_INDEX)
            if "indexes" in steps:
                await connection.execute(_OTHER_INDEXES)
            await connection.execute("vacuum analyze")
            rows = await connection.fetch("select event_id from event_deliveries where status = 'PENDING'")
            return [row["event_id"] for row in rows]

        return asyncio.run(self._with_connection(fill))

    def durability(self) -> dict[str, str]:
        """What PostgreSQL says of how it commits, on a connection like those of the app."""

        async def ask(connection: asyncpg.Connection) -> dict[str, str]:
            return {
                name: await connection.fetchval("select current_setting($1)", name) for name in _DURABILITY
            }

        return asyncio.run(self._with_connection(ask))

    @contextmanager
    def app(self, steps: tuple[str, ...]) -> Iterator[App]:
        """The app in one process of uvicorn."""
        log = self._home / "app.log"
        port = free_port()
        with log.open("wb") as file:
            process = subprocess.Popen(
                [
                    *(environment.PYTHON, "-m", "uvicorn", "bench.baselines.app:app"),
                    *("--port", str(port), "--no-access-log", "--log-level", "warning"),
                ],
                cwd=ROOT,
                env={
                    **{name: value for name, value in os.environ.items() if not name.startswith("PG")},
                    "BASELINE_STEPS": ",".join(steps),
                    "BASELINE_DATABASE": sqlalchemy_url(self._database_url),
                    "BASELINE_REDIS": self._redis_url,
                },
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
            )
        try:
            wait_for(lambda: answers(port) or process.poll() is not None, 60, "answer of the baseline")
            if process.poll() is not None:
                raise BenchError(f"The baseline ended with {process.returncode}: {log.read_text()[-2000:]}")
            yield App(port, psutil.Process(process.pid))
        finally:
            process.kill()  # it holds nothing that is to be kept, and may be busy for a minute
            end(process)

    def _hashes(self, steps: tuple[str, ...]) -> tuple[str, str]:
        if "sha256" in steps:
            return (hashlib.sha256(KEY.encode()).hexdigest(), hashlib.sha256(b"another").hexdigest())
        if self._bcrypt_hashes is None:
            self._bcrypt_hashes = (environment.bcrypt_hash(KEY), environment.bcrypt_hash("another"))
        return self._bcrypt_hashes

    async def _with_connection(self, use: Any) -> Any:
        connection = await asyncpg.connect(self._database_url)
        try:
            return await use(connection)
        finally:
            await connection.close()


def sqlalchemy_url(url: str) -> str:
    """The same database, without the parameters that only libpq knows."""
    parts = urlsplit(url)
    found = dict(parse_qsl(parts.query))
    who = quote(found["user"], safe="") + (
        f":{quote(found['password'], safe='')}" if "password" in found else ""
    )
    where = urlencode({"host": found["host"], "port": found["port"]})
    return f"postgresql+asyncpg://{who}@{parts.path}?{where}"


class App:
    """A running app."""

    def __init__(self, port: int, process: psutil.Process) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.process = process


@contextmanager
def redis_server(home: Path, *arguments: str) -> Iterator[tuple[str, psutil.Process]]:
    """A Redis of the benchmark's own, by default as it comes; yields its URL and process."""
    port = free_port()
    process = subprocess.Popen(
        [
            *(program("redis-server", "redis-server"), "--port", str(port), "--bind", "127.0.0.1"),
            *("--dir", str(home), *arguments),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    try:
        wait_for(lambda: answers(port), 10, "redis-server")
        yield f"redis://127.0.0.1:{port}/0", psutil.Process(process.pid)
    finally:
        end(process)


@contextmanager
def stack(home: Path) -> Iterator[Stack]:
    """PostgreSQL and Redis for the two stacks."""
    environment.make()
    with cluster(home) as postgres, redis_server(home) as (redis_url, _):
        yield Stack(home, postgres.url, redis_url)
