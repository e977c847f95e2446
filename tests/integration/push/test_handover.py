"""What a flush stored goes straight to the worker beside it: as a read would find it, and never twice."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from delivering import Subscribe, Workers, subscribe
from harness import Node, Tenant, eventually
from receiving import Receiver
from triggers.domain import EventId, NewEvent
from triggers.events import store as event_store
from triggers.events.handover import Handover
from triggers.postgres.clock import DatabaseClock
from triggers.postgres.database import Database
from triggers.push import store as lane_store
from triggers.push import worker
from triggers.push.handed_over import deliveries_of
from triggers.push.lanes import IDLE_LANE_SECONDS
from triggers.push.store import Due


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each read returned."""
    read, counts = lane_store.read, []

    async def counted(*arguments: Any) -> Any:
        rows = await read(*arguments)
        counts.append(sum(map(len, rows)))
        return rows

    monkeypatch.setattr(lane_store, "read", counted)
    return counts


async def test_what_is_handed_over_is_what_a_read_finds(
    database: Database, clock: DatabaseClock, tenant: Tenant
) -> None:
    lanes = [await subscribe(database, clock, tenant, "http://127.0.0.1:9/") for _ in range(2)]
    full = NewEvent(
        org_id=tenant.id,
        id=EventId(clock.mint()),
        type="order.paid",
        payload=b'{"amount": 1.50}',
        source="/shop",
        subject="order 7",
        occurred_at=datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC),
        attributes=b'{"dataschema":"urn:order"}',
    )
    bare = NewEvent(org_id=tenant.id, id=EventId(clock.mint()), type="a", payload=b"1")
    async with database.connection() as connection:
        receipt = await event_store.accept(
            connection, clock, event_store.Batch([full, bare]), timedelta(days=1)
        )
        ids = [(tenant.id, lane.id) for lane in lanes]
        found = await lane_store.read(
            connection, ids, [(datetime(2000, 1, 1, tzinfo=UTC), full.id)] * 2, [9, 9]
        )
        read = [Due(*lane, *row[1:9]) for lane, rows in zip(ids, found, strict=True) for row in rows]
        await lane_store.read_contents(connection, read)
    handed = deliveries_of(receipt.handover)
    assert set(handed) == set(ids) == set(receipt.handover.lanes())
    assert [due for lane_id in ids for due in handed[lane_id]] == read
    assert len(read) == 4


async def test_a_delivery_that_is_handed_over_is_not_read(
    client: httpx.AsyncClient,
    node: Node,
    database: Database,
    receiver: Receiver,
    subscribed: Subscribe,
    workers: Workers,
    reads: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def nothing(*_: object) -> dict[lane_store.LaneId, int]:
        return {}

    monkeypatch.setattr(lane_store, "due_lanes", nothing)
    await subscribed(receiver.url)
    running = await workers.start()

    def hand_over(handover: Handover) -> bool:
        running.worker.hand_over(handover)
        return True

    node.wakeup.listen_for_lanes(running.worker.hint, hand_over)
    await client.post("/v1/events", json={"type": "a", "payload": 0})
    await eventually(lambda: len(receiver.hooks) == 1, 10)
    (lane,) = running.worker.lanes
    await eventually(lambda: lane.ahead.drained and not lane.ahead.known, 10)
    begun = len(reads)
    for number in range(1, 20):
        answer = await client.post("/v1/events", json={"type": "a", "payload": number})
        assert answer.status_code == 201
    await eventually(lambda: len(receiver.hooks) == 20, 10)
    await eventually(lambda: not lane.ahead.known, 10)
    assert sum(reads[begun:]) == 0
    (count,) = (await database.fetch("select count(*) from settled_deliveries where status = 'delivered'"))[0]
    assert count == 20


async def test_however_late_it_is_handed_over_nothing_is_sent_twice(
    client: httpx.AsyncClient, node: Node, receiver: Receiver, subscribed: Subscribe, workers: Workers
) -> None:
    """By then it may have been read, or be under read, or be sent and settled."""
    await subscribed(receiver.url)
    running = await workers.start()
    loop = asyncio.get_running_loop()
    late: Counter[bool] = Counter()

    under_way: list[Handover] = []

    def arrive(handover: Handover) -> None:
        under_way.remove(handover)
        running.worker.hand_over(handover)

    def hand_over(handover: Handover) -> bool:
        under_way.append(handover)
        if random.random() < 0.5:
            running.worker.hint(handover.lanes())
        late[wait := random.random() < 0.5] += 1
        if wait:
            loop.call_later(random.uniform(0, 0.1), arrive, handover)
        else:
            arrive(handover)
        return True

    node.wakeup.listen_for_lanes(running.worker.hint, hand_over)

    async def send() -> list[str]:
        ids = []
        for _ in range(60):
            answer = await client.post("/v1/events", json={"type": "a", "payload": {}})
            ids.append(answer.json()["id"])
            await asyncio.sleep(random.uniform(0, 0.02))
        return ids

    sent = [event_id for ids in await asyncio.gather(*[send() for _ in range(10)]) for event_id in ids]
    (lane,) = running.worker.lanes
    await eventually(lambda: len(receiver.hooks) >= len(sent) and not under_way and not lane.ahead.known, 20)
    assert receiver.counts() == Counter(sent)
    assert min(late.values()) > 10


async def test_a_lane_is_not_dropped_as_idle_while_it_is_read(
    client: httpx.AsyncClient,
    node: Node,
    receiver: Receiver,
    subscribed: Subscribe,
    workers: Workers,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It would get what the read found, and another lane would read the same."""
    read_contents, reading, go_on = lane_store.read_contents, asyncio.Event(), asyncio.Event()

    async def held_up(*arguments: Any) -> Any:
        if arguments[1]:
            reading.set()
            await go_on.wait()
        return await read_contents(*arguments)

    monkeypatch.setattr(worker, "LOOK_SECONDS", 0.02)
    node.wakeup.listen_for_lanes((running := await workers.start()).worker.hint)  # as from another node
    await subscribed(receiver.url)
    await client.post("/v1/events", json={"type": "a", "payload": 1})
    await eventually(lambda: len(receiver.hooks) == 1, 10)
    (lane,) = running.worker.lanes
    await eventually(lambda: not lane.ahead.known and lane.ahead.drained, 10)
    monkeypatch.setattr(lane_store, "read_contents", held_up)
    lane.used_at -= IDLE_LANE_SECONDS - 0.2  # idle for long: soon to be dropped
    await client.post("/v1/events", json={"type": "a", "payload": 2})
    await asyncio.wait_for(reading.wait(), 10)
    began = time.monotonic()
    await eventually(lambda: time.monotonic() - began > 0.4, 5)
    assert list(running.worker.lanes) == [lane]
    go_on.set()
    await eventually(lambda: len(receiver.hooks) == 2, 10)
