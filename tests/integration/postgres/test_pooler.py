"""Connections through PgBouncer: which ones work, and which ones are refused."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from harness import Tenant, Tenants, eventually, free_port, node_settings
from triggers.errors import OperatorError
from triggers.events import store as event_store
from triggers.node.check import check_configuration
from triggers.postgres import migrate
from triggers.postgres.clock import DatabaseClock
from triggers.postgres.database import Database
from triggers.postgres.embedded_account import Account
from triggers.postgres.embedded_cluster import SUPERUSER

Pooled = Callable[..., Any]
NO_ADVISORY_LOCKS = "select count(*) from pg_locks where locktype = 'advisory'"


@pytest.fixture
async def open_server(postgres: Any) -> AsyncIterator[Any]:
    """The session's PostgreSQL. It trusts every process of its user, because PgBouncer is one of them."""
    rules = home_of(postgres) / "pg_hba.conf"
    before = rules.read_text()
    rules.write_text("local all all trust\n")
    await postgres.run("select pg_reload_conf()", user=SUPERUSER)
    yield postgres
    rules.write_text(before)
    await postgres.run("select pg_reload_conf()", user=SUPERUSER)


def home_of(postgres: Any) -> Path:
    """The directory with the server's files."""
    return Path(parse_qs(urlsplit(postgres.url).query)["host"][0]).parent


@pytest.fixture
def pooled(open_server: Any) -> Iterator[Pooled]:
    """`async with pooled(url, "session"):` gives the URL of a PgBouncer in front of this database."""
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    assert program, "the tests need the program pgbouncer"
    account = Account.choose(home_of(open_server) / "cluster")
    place = Path(tempfile.mkdtemp(prefix="pgbouncer-", dir="/tmp"))
    place.chmod(0o755)

    @asynccontextmanager
    async def start(url: str, mode: str, **settings: Any) -> AsyncIterator[str]:
        parts = urlsplit(url)
        name, host, port = parts.path.lstrip("/"), parse_qs(parts.query)["host"][0], free_port()
        (place / "users").write_text('"triggers" ""\n')
        configuration = {
            "listen_addr": "127.0.0.1",
            "listen_port": port,
            "unix_socket_dir": "",
            "auth_type": "trust",
            "auth_file": place / "users",
            "pool_mode": mode,
            "default_pool_size": 60,
            **settings,
        }
        lines = [f"[databases]\n{name} = host={host} port=5432\n[pgbouncer]"]
        lines += [f"{key} = {value}" for key, value in configuration.items()]
        (place / "ini").write_text("\n".join(lines) + "\n")
        options = {**account.process_options(), "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        with subprocess.Popen(  # noqa: ASYNC220 - it is only started
            [program, place / "ini"], cwd="/", **options
        ) as process:
            try:
                pooled_url = f"postgresql://triggers@127.0.0.1:{port}/{name}?sslmode=disable"
                await eventually(lambda: listens(port), 10)
                yield pooled_url
            finally:
                process.kill()

    yield start
    shutil.rmtree(place)


async def listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


@pytest.mark.parametrize(
    ("mode", "settings"),
    [
        ("transaction", {}),
        ("transaction", {"server_round_robin": 1}),
        ("transaction", {"ignore_startup_parameters": "extra_float_digits"}),
        ("statement", {}),
    ],
)
async def test_shared_sessions_are_refused_by_name(
    pooled: Pooled, database_url: str, mode: str, settings: dict[str, Any]
) -> None:
    async with pooled(database_url, mode, **settings) as url:
        for _ in range(3):  # later rounds find connections to the server that are left over
            with pytest.raises(OperatorError, match=r"PgBouncer.*pool_mode = session"):
                await Database(url, pool_size=2).open()
        checked = dict(await check_configuration(node_settings(database_url=url)))
        assert "pool_mode = session" in checked["database"]


async def test_sessions_of_our_own_work(
    pooled: Pooled,
    empty_database_url: str,
    make_node: Callable[..., Any],
) -> None:
    """Three nodes migrate at once, no lock remains, and an event can be stored and leased."""
    async with pooled(empty_database_url, "session", server_reset_query="DISCARD ALL") as url:
        database = Database(url, pool_size=4)
        await database.open()
        try:
            done = await asyncio.gather(*[migrate.migrate(database) for _ in range(3)])
            assert sorted(m for each in done for m in each) == migrate.migrations()
            async with database.connection() as connection:
                assert connection.get_server_pid() != await connection.fetchval("select pg_backend_pid()")
                for name in ("standard_conforming_strings", "synchronous_commit"):
                    assert await connection.fetchval(f"show {name}") == "on"
                assert await connection.fetchval("show statement_timeout") == "15s"
                assert await connection.fetchval(NO_ADVISORY_LOCKS) == 0
            checked = dict(await check_configuration(node_settings(database_url=url)))
            assert checked["database"] == "ok, schema up to date"
            await accept_and_lease(database, await make_node(url=url))
        finally:
            await database.close()


async def accept_and_lease(database: Database, node: Any) -> None:
    clock = DatabaseClock()
    await event_store.learn_time(database, clock)
    tenant: Tenant = await Tenants(database, clock).make()
    async with node.client(tenant) as client:
        for expected in (201, 200):
            answer = await client.post("/v1/events", json={"type": "a", "payload": 1, "dedup_id": "d"})
            assert answer.status_code == expected, answer.text
        leased = await client.post("/v1/inboxes/default/messages/lease", json={})
        assert len(leased.json()["results"]) == 1
