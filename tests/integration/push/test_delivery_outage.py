"""Which workers are declared dead while PostgreSQL is unavailable and after it comes back."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from harness import SECRET_KEYS, eventually, node_settings
from triggers.background import Background
from triggers.events import store as event_store
from triggers.node.worker_process import WorkerProcess
from triggers.postgres import migrate
from triggers.postgres.clock import DatabaseClock
from triggers.postgres.database import Connection, Database
from triggers.postgres.embedded import EmbeddedPostgres
from triggers.push.ownership import (
    BALANCE_SECONDS,
    TAKEOVER_SECONDS,
    TRUST_SECONDS,
    Ownership,
)

KILL_FOUND_SECONDS = 6.0


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A place that PostgreSQL's user can reach too."""
    place = Path(tempfile.mkdtemp(prefix="triggers-outage-", dir="/tmp"))
    place.chmod(0o755)
    yield place / "data"
    shutil.rmtree(place)


class Server:
    """A PostgreSQL of the test's own, which it may stop at once and start again."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._running: EmbeddedPostgres | None = None
        self.url = ""

    async def start(self) -> None:
        self._running = EmbeddedPostgres(self._data_dir)
        self.url = await self._running.start()

    async def stop(self) -> None:
        """Without a word to anybody who is connected."""
        if self._running is not None:
            await self._running.stop(immediate=True)
            self._running = None


class Beating:
    """An owner that beats, on connections of its own."""

    def __init__(self, url: str) -> None:
        self._database = Database(url, pool_size=2)
        self._clock = DatabaseClock()
        self.may_connect = asyncio.Event()
        self.may_connect.set()
        self.ownership: Ownership
        connect = self._database.connect

        async def connect_late(*arguments: Any) -> Connection:
            await self.may_connect.wait()
            return await connect(*arguments)

        self._database.connect = connect_late  # type: ignore[method-assign]

    async def start(self) -> None:
        await self._database.open()
        await event_store.learn_time(self._database, self._clock)
        self.ownership = Ownership(
            self._database,
            self._clock,
            gained=lambda _: None,
            lost=lambda _: None,
            changed=lambda _: None,
            busy=lambda _: False,
        )
        await self.ownership.register()
        self._background = Background()
        self._background.loop("heartbeat", self.ownership.beat, self.ownership.close)

    async def die(self) -> None:
        """Stop to beat, telling nobody."""
        await self._background.stop()

    async def close(self) -> None:
        await self.die()
        await self._database.close()


@pytest.fixture
async def server(data_dir: Path) -> AsyncIterator[Server]:
    made = Server(data_dir)
    await made.start()
    await migrate.migrate(Database(made.url, pool_size=1))
    yield made
    await made.stop()


@pytest.mark.timeout(180)
async def test_an_outage_longer_than_a_takeover_makes_nobody_dead(server: Server, logs: list[Any]) -> None:
    """Twice, for two deaths within a minute would be a probation. Then a real death is found."""
    async with AsyncExitStack() as stack:
        owners = [Beating(server.url) for _ in range(3)]
        for owner in owners:
            await owner.start()
            stack.push_async_callback(owner.close)
        ids = [owner.ownership.worker_id for owner in owners]

        def shared() -> bool:
            groups = sorted(len(owner.ownership.groups) for owner in owners)
            return sum(groups) == 64 and groups[0] >= 20

        await eventually(shared, 20)
        for _ in range(2):
            for owner in owners[1:]:
                owner.may_connect.clear()
            await server.stop()
            await passed(TAKEOVER_SECONDS + 1)
            await server.start()
            # One is back first, and has looked for the dead before the others beat again.
            await eventually(lambda: trusted(owners[0]), 5)
            await passed(BALANCE_SECONDS + 0.5)
            for owner in owners[1:]:
                owner.may_connect.set()
            await eventually(lambda: all(trusted(owner) for owner in owners), 5)
            # They beat for longer than it takes to find a death.
            await passed(TAKEOVER_SECONDS + 1)
            assert all(trusted(owner) for owner in owners)
        assert [owner.ownership.worker_id for owner in owners] == ids
        said = [entry["event"] for entry in logs]
        assert {entry["loop"] for entry in logs if entry["event"] == "loop_failed"} == {"heartbeat"}
        assert "declared_dead" not in said
        assert "dead_worker_found" not in said

        database = Database(server.url, pool_size=2)
        await database.open()
        stack.push_async_callback(database.close)
        marked = "select id from lane_groups where died_at is not null or suspects_until is not null"
        assert await database.fetch(marked) == []
        assert await database.fetch("select id from workers where dead_at is not null") == []

        lost = set(owners[0].ownership.groups)
        await owners[0].die()
        died = time.monotonic()
        living = owners[1:]
        await eventually(
            lambda: lost <= {group for owner in living for group in owner.ownership.groups},
            KILL_FOUND_SECONDS,
        )
        assert time.monotonic() - died > TAKEOVER_SECONDS - TRUST_SECONDS, "not before it has stopped to send"
        assert {row["id"] for row in await database.fetch(marked)} == lost
        on_probation = "select id from lane_groups where probation_until is not null"
        assert await database.fetch(on_probation) == []


async def passed(seconds: float) -> None:
    """Nothing tells that a death is not found but the time in which it would have been."""
    began = time.monotonic()
    await eventually(lambda: time.monotonic() - began > seconds, seconds + 5)


def trusted(owner: Beating) -> bool:
    groups = owner.ownership.groups
    return bool(groups) and all(owner.ownership.sendable(group) for group in groups)


@pytest.mark.timeout(60)
async def test_two_deaths_within_a_minute_are_a_probation(
    database_url: str, database: Database, logs: list[Any]
) -> None:
    """Found by an owner that has been beating all the time; what it had gained from the first is marked."""
    async with AsyncExitStack() as stack:
        observer = Beating(database_url)
        await observer.start()
        stack.push_async_callback(observer.close)
        await eventually(lambda: len(observer.ownership.groups) == 64, 10)
        for _ in range(2):
            victim = Beating(database_url)
            await victim.start()
            stack.push_async_callback(victim.close)
            await eventually(lambda dying=victim: len(dying.ownership.groups) == 32, 10)
            await victim.die()
            await eventually(lambda: len(observer.ownership.groups) == 64, KILL_FOUND_SECONDS)
        rows = await database.fetch("select probation_until > now() as now from lane_groups")
        assert sum(row["now"] is True for row in rows) == 32
        probation = [g for g in observer.ownership.groups if observer.ownership._groups[g].probation]
        assert len(probation) == 32


@pytest.mark.timeout(90)
async def test_a_worker_that_is_started_during_an_outage_begins_with_its_end(
    server: Server, logs: list[Any]
) -> None:
    """It waits. One that ended each time would be started again ever more slowly."""
    url = server.url
    await server.stop()
    worker = WorkerProcess(node_settings(), url, SECRET_KEYS)
    await worker.start()
    try:
        process = worker._process
        assert process is not None
        # Longer than it takes to start and to find that nobody answers.
        await passed(TAKEOVER_SECONDS)
        await server.start()
        database = Database(url, pool_size=1)
        await database.open()
        try:
            await eventually(lambda: database.row("select 1 from workers where dead_at is null"), 20)
            await eventually(
                lambda: database.row("select 1 from lane_groups where worker_id is not null"), 20
            )
        finally:
            await database.close()
        assert worker._process is process
        assert "worker_died" not in [entry["event"] for entry in logs]
    finally:
        await worker.stop()
