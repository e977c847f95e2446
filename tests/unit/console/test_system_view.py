"""The state of the service in sentences: one row for each thing that can need attention."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec
import pytest

from triggers.console.system_view import problems_of, tell
from triggers.console.words import size
from triggers.system.body import (
    ApiProcessView,
    DiskView,
    GroupsView,
    PoolView,
    PostgresView,
    SystemState,
    VersionsView,
    WorkerView,
)

NOW = "2026-03-09T14:28:10.000Z"
WORKER = WorkerView(
    id=UUID(int=1), name="a:1", since=NOW, heartbeat_at=NOW, heartbeat_age_seconds=0.1, groups=64, lanes=3
)
API = ApiProcessView(name="1@a", since=NOW, last_active_at=NOW, idle_seconds=0.1, connections=5, is_this=True)
POSTGRES = PostgresView(
    pool=PoolView(in_use=3, open=5, most=20),
    connections=14,
    max_connections=100,
    oldest_xmin_age=4,
    oldest_transaction_seconds=0.2,
    tables=[],
)
GOOD = SystemState(
    status="ready",
    checks={"database": "ok", "stopping": "ok", "disk": "ok"},
    redis="off",
    disk=DiskView(free_bytes=10 * 2**30, total_bytes=100 * 2**30, least_free_bytes=2**29),
    settings=[],
    at=NOW,
    api_processes=[API],
    workers=[WORKER],
    groups=GroupsView(total=64, without_owner=0),
    postgresql=POSTGRES,
    versions=VersionsView(triggers="1", python="3", postgresql="18", migration=15),
)


def state(**changes: Any) -> SystemState:
    return msgspec.structs.replace(GOOD, **changes)


def postgres(**changes: Any) -> SystemState:
    return state(postgresql=msgspec.structs.replace(POSTGRES, **changes))


def test_a_service_that_works() -> None:
    assert problems_of(GOOD) == []
    assert tell(GOOD) == (
        "Everything works: 1 process answers requests, 1 worker owns all 64 groups of lanes, and 3 of 20"
        " database connections are in use."
    )
    assert "2 processes answer requests, 2 workers share 64" in tell(
        state(workers=[WORKER] * 2, api_processes=[API] * 2)
    )


@pytest.mark.parametrize(
    ("found", "problem"),
    [
        (state(workers=[]), "No worker runs, so nothing is sent."),
        (state(groups=GroupsView(total=64, without_owner=5)), "5 of 64 groups of lanes have no worker."),
        (
            state(workers=[msgspec.structs.replace(WORKER, heartbeat_age_seconds=28.0)]),
            "The worker a:1 has been silent for 28 s.",
        ),
        (postgres(pool=PoolView(in_use=20, open=20, most=20)), "All 20 database connections"),
        (postgres(connections=95), "PostgreSQL has 95 of at most 100 connections."),
        (postgres(oldest_transaction_seconds=7200.0), "A transaction has been open for 2 h."),
        (postgres(oldest_xmin_age=12_000_000), "The oldest snapshot is 12,000,000 transactions old."),
        (state(redis="down"), "Redis cannot be reached"),
        (
            state(disk=DiskView(free_bytes=2**28, total_bytes=2**40, least_free_bytes=2**29)),
            "Only 256.0 MiB of the disk are free.",
        ),
        (state(checks={"flusher": "connection refused"}), "Flusher: connection refused."),
    ],
    ids=[
        "no worker",
        "no owner",
        "silent",
        "pool",
        "connections",
        "transaction",
        "snapshot",
        "redis",
        "disk",
        "check",
    ],
)
def test_what_needs_attention(found: SystemState, problem: str) -> None:
    [told] = problems_of(found)
    assert told.startswith(problem)


def test_sizes() -> None:
    assert [size(count) for count in (0, 1023, 1024, 2**20 - 1, 2**20, 31 * 2**30, 3 * 2**50)] == [
        "0 B",
        "1023 B",
        "1.0 KiB",
        "1,024.0 KiB",
        "1.0 MiB",
        "31.0 GiB",
        "3,072.0 TiB",
    ]
