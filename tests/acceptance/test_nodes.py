"""Nodes that share one PostgreSQL, some with a clock that is an hour off: no lease skips a message.

Commits do not come in the order of the times their rows bear, so a consumer that trusted a read
position would pass over what commits late. To make that happen on purpose, some accepts are held
between the moment that their rows bear and their commit, while others go on.
"""

from __future__ import annotations

import asyncio
import email.utils
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import asyncpg
import pytest

from harness import eventually
from triggers.domain import created_at

from .processes import Service
from .wire import Client

CLOCKS = ("true", "+3600", "true", "-3600")  # one flush is under way in each node: four flushers
WRITING_SECONDS = 12
PAUSE_SECONDS = 0.01
HOLDS = 5
HOLD_SECONDS = 1.2  # less than the lock timeout of a flush
SKIP_SECONDS = 5.0

_WAITS_FOR = "select true from pg_stat_activity where $1 = any(pg_blocking_pids(pid))"

FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
SITECUSTOMIZE = """
import os, time
_time, _offset = time.time, float(os.environ["CLOCK_OFFSET"])
time.time = lambda: _time() + _offset
time.time_ns = lambda: int(time.time() * 1e9)
"""


@dataclass
class History:
    """Times are of this process's monotonic clock; an event's are those of its request and its answer."""

    sent: dict[str, float] = field(default_factory=dict)
    accepted: dict[str, float] = field(default_factory=dict)
    leases: list[Taken] = field(default_factory=list)
    held_up: set[str] = field(default_factory=set)

    def taken(self) -> set[str]:
        return {each for lease in self.leases for each in lease.ids}


@dataclass
class Taken:
    """One lease: when it was asked for, when it was answered, and what it held."""

    asked: float
    answered: float
    ids: list[str]


def set_clock(node: Service, clock: str) -> str:
    """Put a node's wall clock off by seconds, as far as its own process can see; say by which means."""
    if clock == "true":
        return "true"
    if FAKETIME is not None:
        node.environment |= {
            "LD_PRELOAD": str(FAKETIME),
            "FAKETIME": clock,
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        return f"{clock} s (libfaketime)"
    patch = node.place / f"clock{clock}"
    patch.mkdir()
    (patch / "sitecustomize.py").write_text(SITECUSTOMIZE)
    inherited = node.environment.get("PYTHONPATH")
    node.environment["PYTHONPATH"] = f"{patch}:{inherited}" if inherited else str(patch)
    node.environment["CLOCK_OFFSET"] = clock
    return f"{clock} s (time.time)"


async def write(client: Client, history: History, until: float) -> None:
    while time.monotonic() < until:
        sent = time.monotonic()
        answer = await client.post("/v1/events", {"type": "node.event", "payload": {"sent": sent}})
        assert answer.status == 201, answer
        history.sent[answer.json["id"]] = sent
        history.accepted[answer.json["id"]] = time.monotonic()
        await asyncio.sleep(PAUSE_SECONDS)  # consumers shall keep up: a backlog is no skip


async def consume(client: Client, history: History, done: asyncio.Event) -> None:
    path = "/v1/inboxes/default/messages"
    while not done.is_set():
        asked = time.monotonic()
        answer = await client.post(
            f"{path}/lease", {"lease_limit": 50, "lease_seconds": 60, "wait_seconds": 1}
        )
        assert answer.status in (200, 201), answer
        lease = answer.json
        if lease["lease_id"] is not None:
            history.leases.append(Taken(asked, time.monotonic(), [each["id"] for each in lease["results"]]))
            acked = await client.post(f"{path}/ack", {"lease_id": lease["lease_id"]})
            assert len(acked.json["results"]) == len(lease["results"])


async def hold_up(url: str, org_id: str, client: Client, history: History) -> None:
    """Have a flush wait for a foreign transaction that took its dedup_id, while other nodes commit."""
    foreign = await asyncpg.connect(url)
    watcher = await asyncpg.connect(url)
    try:
        for number in range(HOLDS):
            name = f"held up {number}"
            transaction = foreign.transaction()
            await transaction.start()
            await foreign.execute(
                "insert into dedup (org_id, dedup_id, event_id, fingerprint, expires_at)"
                " values ($1, $2, gen_random_uuid(), 'x', now() + interval '1 hour')",
                org_id,
                name,
            )
            sent = time.monotonic()
            event = {"type": "node.event", "payload": {"sent": sent}, "dedup_id": name}
            posted = asyncio.create_task(client.post("/v1/events", event))
            await eventually(partial(watcher.fetchval, _WAITS_FOR, foreign.get_server_pid()), 10)
            await asyncio.sleep(HOLD_SECONDS)  # the fault: others are stored and leased meanwhile
            await transaction.rollback()
            answer = await posted
            assert answer.status == 201, answer
            history.sent[answer.json["id"]] = sent
            history.accepted[answer.json["id"]] = time.monotonic()
            history.held_up.add(answer.json["id"])
    finally:
        await foreign.close()
        await watcher.close()


def skipped(history: History) -> list[str]:
    """Messages passed over for longer than 5 s.

    That is: 5 s after its 201 a lease was asked for, which was answered before the message's own
    lease was asked for and which held an event that was sent after that 201.
    """
    taken = {event_id: lease for lease in history.leases for event_id in lease.ids}
    wrong = []
    for event_id, accepted in history.accepted.items():
        mine = taken[event_id]
        for lease in history.leases:
            if accepted + SKIP_SECONDS < lease.asked and lease.answered < mine.asked:
                passed = [each for each in lease.ids if history.sent[each] > accepted]
                if passed:
                    wrong.append(f"{event_id}: {passed[0]} was leased before it")
                    break
    return wrong


async def clock_off(client: Client) -> float:
    """By how many seconds the node's answers are dated off, as a client's clock judges."""
    dated = email.utils.parsedate_to_datetime((await client.get("/livez")).headers["date"])
    return dated.timestamp() - time.time()


@pytest.mark.timeout(200)
async def test_no_lease_skips_a_message(
    shared: Service, launch: Callable[..., Service], note: Callable[[str], None]
) -> None:
    url = shared.database_url()
    key = shared.tenant()
    nodes = [launch(name=f"node-{number}", database_url=url) for number in range(len(CLOCKS))]
    clocks = [set_clock(node, clock) for node, clock in zip(nodes, CLOCKS, strict=True)]
    for node in nodes:
        node.launch()
    for node in nodes:
        await asyncio.to_thread(node.wait_ready, 60)
    note(f"clocks: {', '.join(clocks)}")

    history = History()
    done = asyncio.Event()
    async with AsyncExitStack() as stack:
        # In the order of the loops below: each task has a connection of its own.
        clients = [[await stack.enter_async_context(node.client(key)) for _ in range(7)] for node in nodes]
        org_id = (await clients[0][0].get("/v1/org")).json["id"]
        if FAKETIME is not None:
            for clock, (client, *_) in zip(CLOCKS, clients, strict=True):
                assert abs(await clock_off(client) - (0 if clock == "true" else int(clock))) < 10
        async with asyncio.timeout(90), asyncio.TaskGroup() as group:
            for *_, first, second in clients:
                group.create_task(consume(first, history, done))
                group.create_task(consume(second, history, done))
            until = time.monotonic() + WRITING_SECONDS
            writing = [
                group.create_task(write(client, history, until)) for mine in clients for client in mine[:4]
            ]
            writing.append(group.create_task(hold_up(url, org_id, clients[1][4], history)))
            await asyncio.wait(writing)
            await eventually(lambda: history.taken() >= set(history.accepted), 30)
            done.set()

    assert len(history.held_up) == HOLDS
    times_leased = Counter(each for lease in history.leases for each in lease.ids)
    assert set(times_leased) == set(history.accepted), "none lost, none from nowhere"
    assert max(times_leased.values()) == 1, "none twice"
    first_taken = {each: lease.answered for lease in history.leases for each in lease.ids}
    gaps = {each: first_taken[each] - accepted for each, accepted in history.accepted.items()}
    note(
        f"{len(gaps)} events; from 201 to lease at most {max(gaps.values()):.2f} s,"
        f" of the {HOLDS} held up {max(gaps[each] for each in history.held_up):.2f} s"
    )
    assert skipped(history) == []
    await check_partitions(url, org_id, set(gaps))


async def check_partitions(url: str, org_id: str, ids: set[str]) -> None:
    """Every id is of the database's time, and in the partition of that time."""
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch(
            "select e.id, e.tableoid::regclass::text as partition, s.accepted_at"
            " from events e join settled_deliveries s on s.org_id = e.org_id and s.event_id = e.id"
            " where e.org_id = $1",
            org_id,
        )
    finally:
        await connection.close()
    assert {str(row["id"]) for row in rows} == ids
    for row in rows:
        minted = created_at(row["id"])
        assert abs((minted - row["accepted_at"]).total_seconds()) < 5, row
        starts = minted - (minted - datetime(2024, 1, 1, tzinfo=UTC)) % timedelta(days=7)
        assert row["partition"] == f"events_p{starts:%Y%m%d}"
