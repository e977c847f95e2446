"""Redis is disposable: it shares limits and shortens waits between nodes, and nothing rests on it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
import redis.asyncio

from harness import Node, RedisServer, Tenant, Tenants, eventually
from triggers.domain import Plan
from triggers.inboxes import lease_queue
from triggers.wakeups.redis_link import CHANNEL

Two = tuple[Node, Node]


async def linked(nodes: Two, server: RedisServer) -> None:
    """Until every node hears the others, and says so."""
    async with redis.asyncio.from_url(server.url) as asking:

        async def subscribed() -> bool:
            return await asking.pubsub_numsub(CHANNEL) == [(CHANNEL.encode(), len(nodes))]

        await eventually(subscribed, 10)
    await eventually(lambda: all(node.health.redis for node in nodes), 10)


@pytest.fixture
async def nodes(make_node: Callable[..., Any], redis_of_our_own: RedisServer) -> Two:
    both = (await make_node(redis_url=redis_of_our_own.url), await make_node(redis_url=redis_of_our_own.url))
    await linked(both, redis_of_our_own)
    return both


@pytest.fixture
async def clients(nodes: Two, tenant: Tenant) -> AsyncIterator[tuple[httpx.AsyncClient, httpx.AsyncClient]]:
    async with nodes[0].client(tenant) as first, nodes[1].client(tenant) as second:
        yield first, second


async def wake_up(nodes: Two, clients: tuple[httpx.AsyncClient, httpx.AsyncClient]) -> float:
    """Seconds from an accept on one node to the message at a long poll on the other."""
    loop = asyncio.get_running_loop()
    body = {"wait_seconds": 20}
    polling = asyncio.create_task(clients[1].post("/v1/inboxes/default/messages/lease", json=body))
    await eventually(lambda: nodes[1].wakeup._waiters)
    posted = await clients[0].post("/v1/events", json={"type": "a", "payload": 1})
    assert posted.status_code == 201
    began = loop.time()
    found = await polling
    assert [message["id"] for message in found.json()["results"]] == [posted.json()["id"]]
    await eventually(lambda: not nodes[1].wakeup._waiters)
    return loop.time() - began


async def test_a_long_poll_on_another_node_wakes(
    nodes: Two, clients: tuple[httpx.AsyncClient, httpx.AsyncClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_queue, "POLL_SECONDS", 60)
    delays = sorted([await wake_up(nodes, clients) for _ in range(5)])
    assert delays[2] < 0.15


async def test_a_limit_is_shared(nodes: Two, tenants: Tenants) -> None:
    tenant = await tenants.make(plan=Plan.FREE)
    async with nodes[0].client(tenant) as first, nodes[1].client(tenant) as second:
        for _ in range(60):
            assert (await first.get("/v1/org")).status_code == 200

        async def told() -> bool:
            header = (await second.get("/v1/org")).headers["ratelimit"]
            return int(header.split("r=")[1].split(";")[0]) < 60

        await eventually(told)
        answers = []
        for _ in range(60):  # at a pace at which they hear of each other: ten times a second
            answers += [await first.get("/v1/org"), await second.get("/v1/org")]
            await asyncio.sleep(0.02)
        granted = 60 + sum(answer.status_code == 200 for answer in answers)
        assert granted < 130, "without the other's spending it would be 180"
        refused = [answer.status_code == 429 for answer in answers[-20:]]
        assert sum(refused) >= 15, "but for what has come back meanwhile, 100 a minute"


async def test_what_was_spent_while_redis_was_gone_is_not_charged_when_it_is_back(
    nodes: Two, tenants: Tenants, redis_of_our_own: RedisServer
) -> None:
    tenant = await tenants.make(plan=Plan.PRO)  # 1,000 a minute
    async with nodes[0].client(tenant) as client:

        async def remaining() -> int:
            header = (await client.get("/v1/org")).headers["ratelimit"]
            return int(header.split("r=")[1].split(";")[0])

        redis_of_our_own.kill()
        await eventually(lambda: not nodes[0].health.redis, 10)
        left = []
        for _ in range(50):  # slower than it comes back, so that what is left is whole all the time
            left.append(await remaining())
            await asyncio.sleep(0.1)
        assert min(left) > 990
        redis_of_our_own.start()
        await linked(nodes, redis_of_our_own)
        async with redis.asyncio.from_url(redis_of_our_own.url) as asking:

            async def told() -> bool:
                await remaining()
                await asyncio.sleep(0.1)  # as above, so that what this spends is not counted
                return bool(await asking.exists(f"triggers:spent:{tenant.id}"))

            await eventually(told, 10)
        assert await remaining() > 980


async def test_a_redis_whose_clock_was_put_back_refuses_nobody_for_long(
    nodes: Two, tenants: Tenants, redis_of_our_own: RedisServer
) -> None:
    tenant = await tenants.make(plan=Plan.FREE)
    async with redis.asyncio.from_url(redis_of_our_own.url) as asking, nodes[0].client(tenant) as client:
        seconds, _ = await asking.time()
        await asking.set(f"triggers:spent:{tenant.id}", (seconds + 3600) * 1_000_000)

        async def until_whole() -> int:
            return int((await client.get("/v1/org")).headers["ratelimit"].split("t=")[1])

        async def told() -> bool:
            return await until_whole() > 60

        await eventually(told)
        assert await until_whole() <= 121


async def test_flushed_and_killed_it_costs_latency_and_nothing_else(
    nodes: Two,
    clients: tuple[httpx.AsyncClient, httpx.AsyncClient],
    redis_of_our_own: RedisServer,
    tenants: Tenants,
) -> None:
    redis_of_our_own.flush()
    assert await wake_up(nodes, clients) < 3
    redis_of_our_own.kill()
    assert await wake_up(nodes, clients) < 3, "found by looking, once a second"
    await eventually(lambda: not any(node.health.redis for node in nodes), 10)
    ready = await clients[0].get("/readyz", params={"verbose": ""})
    assert (ready.status_code, ready.json()["status"]) == (200, "ready")
    assert "unreachable" in ready.json()["checks"]["redis"]
    limited = await tenants.make(plan=Plan.FREE)
    async with nodes[0].client(limited) as client:
        answers = await asyncio.gather(*[client.get("/v1/org") for _ in range(120)])
        assert 100 <= sum(answer.status_code == 200 for answer in answers) <= 110, "limits hold by themselves"
    redis_of_our_own.start()
    await linked(nodes, redis_of_our_own)
    assert await wake_up(nodes, clients) < 3
    listed = (await clients[0].get("/v1/inbox")).json()["events"]
    assert len(listed) == 3


async def test_a_redis_that_is_not_there_yet(make_node: Callable[..., Any], tenant: Tenant) -> None:
    node: Node = await make_node(redis_url="redis://127.0.0.1:1/0")
    async with node.client(tenant) as client:
        assert (await client.post("/v1/events", json={"type": "a", "payload": 1})).status_code == 201
        assert (await client.get("/readyz")).status_code == 200
