"""Redis is disposable: flushed, killed and back again under load it costs latency, and nothing else."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable

import pytest

from harness import RedisServer, eventually

from .processes import Service
from .wire import Client, whole_inbox

POLL_SECONDS = 1.0  # how often a long poll looks when nobody tells it
QUOTA = 60  # requests a minute: one comes back each second


@pytest.fixture
async def nodes(
    shared: Service, launch: Callable[..., Service], redis_of_our_own: RedisServer
) -> list[Service]:
    url = shared.database_url()
    two = [launch(name=f"redis-node-{number}", database_url=url) for number in range(2)]
    for node in two:
        node.environment["TRIGGERS_REDIS_URL"] = redis_of_our_own.url
        node.launch()
    for node in two:
        await asyncio.to_thread(node.wait_ready)
        async with node.client(None) as client:
            await eventually(lambda client=client: sees_redis(client), 10)
    return two


async def sees_redis(client: Client) -> bool:
    answer = await client.get("/readyz?verbose")
    assert answer.status == 200, "Redis never decides whether a node is ready"
    return bool(answer.json["checks"]["redis"] == "ok")


async def write(client: Client, ids: list[str], stopped: asyncio.Event) -> None:
    while not stopped.is_set():
        answer = await client.post("/v1/events", {"type": "kept", "payload": len(ids)})
        assert answer.status == 201, answer
        ids.append(answer.json["id"])
        await asyncio.sleep(0.002)


async def wake_up(waiting: Client, sending: Client) -> float:
    """How long a long poll on one node takes to be given what the other node accepted."""
    path = "/v1/inboxes/default/messages"
    body = {"lease_limit": 1000, "wait_seconds": 10}
    polling = asyncio.create_task(waiting.post(f"{path}/lease", body))
    await eventually(lambda: waiting.connected, 5)
    await asyncio.sleep(0.3)  # it has looked and found nothing; when, no answer tells
    began = time.monotonic()
    sent = await sending.post("/v1/events", {"type": "hint", "payload": None})
    lease = (await polling).json
    took = time.monotonic() - began
    assert sent.json["id"] in {each["id"] for each in lease["results"]}
    await waiting.post(f"{path}/ack", {"lease_id": lease["lease_id"]})
    return took


async def test_nothing_is_lost_with_redis(
    shared: Service, nodes: list[Service], redis_of_our_own: RedisServer, note: Callable[[str], None]
) -> None:
    key, other = shared.tenant(), shared.tenant()
    one, two = nodes
    ids: list[list[str]] = [[], []]
    stopped = asyncio.Event()
    async with (
        one.client(key) as first,
        two.client(key) as second,
        one.client(other) as sender,
        two.client(other) as waiter,
        two.client(None) as asking,
    ):
        writing = [
            asyncio.create_task(write(c, i, stopped)) for c, i in zip((first, second), ids, strict=True)
        ]
        try:
            there = await wake_up(waiter, sender)
            for _ in range(5):
                redis_of_our_own.flush()
                await goes_on(ids)
            redis_of_our_own.kill()
            await eventually(lambda: not_ok(asking), 20)
            await goes_on(ids)
            gone = await wake_up(waiter, sender)
            redis_of_our_own.start()
            await eventually(lambda: sees_redis(asking), 20)
            await goes_on(ids)
            back = await wake_up(waiter, sender)
        finally:
            stopped.set()
            await asyncio.gather(*writing)
        note(
            f"a long poll on another node wakes after {there:.3f} s, without Redis {gone:.3f} s, {back:.3f} s"
        )
        assert gone < POLL_SECONDS + 5
        listed = [each.id for each in await whole_inbox(first)]
        assert Counter(listed) == Counter(ids[0] + ids[1])


async def goes_on(ids: list[list[str]]) -> None:
    before = [len(each) for each in ids]
    await eventually(lambda: all(len(each) > count + 20 for each, count in zip(ids, before, strict=True)), 20)


async def not_ok(client: Client) -> bool:
    return not await sees_redis(client)


async def spend(client: Client, times: int) -> Counter[int]:
    statuses: Counter[int] = Counter()
    for number in range(times):
        answer = await client.post("/v1/events", {"type": "spent", "payload": number})
        statuses[answer.status] += 1
        if answer.status == 429:
            assert int(answer.headers["retry-after"]) > 0
            assert "ratelimit" in answer.headers
    return statuses


async def spend_slowly(client: Client) -> int:
    """How much is granted, at twenty requests a second, until the first refusal."""
    for granted in range(QUOTA):
        if (await spend(client, 1))[429]:
            return granted
        await asyncio.sleep(0.05)
    return QUOTA


async def test_limits_hold_with_and_without_redis(
    shared: Service, nodes: list[Service], redis_of_our_own: RedisServer
) -> None:
    one, two = nodes
    key = shared.tenant(requests_per_minute=QUOTA)
    async with one.client(key) as first, two.client(key) as second, two.client(None) as asking:
        began = time.monotonic()
        spent = (await spend(first, QUOTA + 20))[201]
        assert QUOTA <= spent <= QUOTA + came_back(began)
        # The other node learns of it a moment after it has spent something itself, not with each request.
        assert await spend_slowly(second) < QUOTA / 2

        redis_of_our_own.kill()
        await eventually(lambda: not_ok(asking), 20)
        began = time.monotonic()
        alone = (await spend(first, QUOTA + 20))[201] + (await spend(second, 2 * QUOTA))[201]
        assert alone <= QUOTA + 2 * came_back(began), "each by itself goes on limiting"

    fresh = shared.tenant(requests_per_minute=QUOTA)
    async with one.client(fresh) as first:
        began = time.monotonic()
        spent = (await spend(first, QUOTA + 20))[201]
        assert QUOTA <= spent <= QUOTA + came_back(began)


def came_back(began: float) -> int:
    return int((time.monotonic() - began) * QUOTA / 60) + 2
