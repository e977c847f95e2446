"""The bounds of streams: their number, their frames in a second, slow callers, and the end of their keys."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import pytest

from harness import Node, Tenant, Tenants, eventually
from integration.streams.test_streams import INBOX, STREAM, send
from streaming import streaming
from triggers.domain import Scope
from triggers.http.event_stream import StreamLimits
from triggers.node import api_node
from triggers.postgres.database import Database
from triggers.streams import routes as stream_routes
from triggers.streams.frames import EventStored, Frame
from triggers.streams.streams import TRUST_SECONDS, StreamBounds, Streams

ACCEPTED = f"{STREAM}?kind=accepted"


def bound(monkeypatch: pytest.MonkeyPatch, **bounds: int) -> None:
    """Let nodes that are made from now on have these bounds."""
    monkeypatch.setattr(api_node, "Streams", partial(Streams, bounds=StreamBounds(**bounds)))


def limit(monkeypatch: pytest.MonkeyPatch, **limits: float) -> None:
    """Let callers of nodes that are made from now on have these limits."""
    monkeypatch.setattr(stream_routes, "StreamLimits", partial(StreamLimits, **limits))  # type: ignore[arg-type]


async def test_an_organisation_has_twenty(node: Node, tenants: Tenants) -> None:
    tenant, other = await tenants.make(), await tenants.make()
    async with AsyncExitStack() as open_ones:
        for number in range(20):
            path = STREAM if number % 2 else INBOX
            stream = await open_ones.enter_async_context(streaming(node.url, path, tenant))
            assert stream.status == 200
        for path in (STREAM, INBOX):
            async with node.client(tenant) as client:
                refused = await client.get(path)
            assert (refused.status_code, refused.json()["code"]) == (429, "too-many-streams")
            assert int(refused.headers["retry-after"]) > 0
        async with streaming(node.url, STREAM, other) as stream:
            assert stream.status == 200
            async with node.client() as client:
                assert "triggers_streams_open 21.0" in (await client.get("/metrics")).text
    await eventually(lambda: not node.streams._streams)
    async with streaming(node.url, STREAM, tenant) as stream:
        assert stream.status == 200, "closed streams give their places back"


async def test_one_organisation_does_not_take_all_of_a_process(
    make_node: Callable[..., Any], tenants: Tenants, monkeypatch: pytest.MonkeyPatch
) -> None:
    bound(monkeypatch, a_process=9)
    node = await make_node()
    statuses: list[list[int]] = []
    async with AsyncExitStack() as open_ones:
        for tenant in [await tenants.make() for _ in range(3)]:
            of_one = []
            for _ in range(6):
                stream = await open_ones.enter_async_context(streaming(node.url, STREAM, tenant))
                of_one.append(stream.status)
            statuses.append(of_one)
    assert [each.count(200) for each in statuses] == [4, 2, 1]
    assert {status for each in statuses for status in each} == {200, 429}


async def test_too_many_frames_are_sampled_and_counted(node: Node, tenant: Tenant) -> None:
    async with streaming(node.url, ACCEPTED, tenant) as stream:
        ids = await send(node, tenant, number=400)
        await eventually(
            lambda: len(stream.named("accepted")) + sum(e["left_out"] for e in stream.named("sampled")) == 400
        )
        assert 50 <= len(stream.named("accepted")) < 400
        assert {each["event_id"] for each in stream.named("accepted")} < set(ids)
        names = [each.name for each in stream.frames]
        assert names.index("sampled") == 50
        # The next second has room again.
        [last] = await send(node, tenant)
        await eventually(lambda: stream.frames[-1].data.get("event_id") == last)


async def test_a_comment_comes_when_nothing_else_does(
    make_node: Callable[..., Any], tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(monkeypatch, comment_seconds=0.05)
    node = await make_node()
    async with streaming(node.url, STREAM, tenant) as stream:
        await eventually(lambda: [each.name for each in stream.seen[:3]] == [":"] * 3)
    assert StreamLimits().comment_seconds == 15


async def flood(node: Node, size: int) -> None:
    """Offer frames to all streams, as much as they may have in a second and more."""
    while node.streams._streams:
        for stream in list(node.streams._streams):
            stream._output.put(Frame("accepted", EventStored(node.clock.mint(), "x" * size)))
        await asyncio.sleep(0)


async def test_a_caller_that_leaves_too_much_unread_is_cut(
    make_node: Callable[..., Any], tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(monkeypatch, blocked_seconds=3_600)
    node = await make_node()
    async with streaming(node.url, ACCEPTED, tenant, receive_bytes=4096, reads=False) as slow:
        async with asyncio.timeout(30):
            await flood(node, 1_000)
        await eventually(lambda: not node.server.server_state.connections)
        slow.task = asyncio.create_task(slow.read())
        await slow.end()
        assert not slow.whole


async def test_a_caller_that_lets_a_write_wait_too_long_is_cut(
    make_node: Callable[..., Any], tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(monkeypatch, blocked_seconds=0.2, unread_bytes=1_000_000_000)
    node = await make_node()
    async with (
        streaming(node.url, ACCEPTED, tenant) as reading,
        streaming(node.url, ACCEPTED, tenant, receive_bytes=4096, reads=False),
    ):
        reader, slow = sorted(node.streams._streams, key=list(node.streams._streams).index)

        async def is_cut() -> bool:
            slow._output.put(Frame("accepted", EventStored(node.clock.mint(), "x" * 1_000)))
            return slow not in node.streams._streams

        await eventually(is_cut, 30)
        await eventually(lambda: len(node.server.server_state.connections) == 1)
        assert reader in node.streams._streams
        [event_id] = await send(node, tenant)
        await eventually(lambda: reading.frames and reading.frames[-1].data["event_id"] == event_id)
    assert (StreamLimits().blocked_seconds, StreamLimits().unread_bytes) == (10, 65_536)


# ---- the end ------------------------------------------------------------------------------------


async def test_a_stream_ends_with_its_key_on_every_node(
    make_node: Callable[..., Any], tenants: Tenants
) -> None:
    node, other = await make_node(), await make_node()
    tenant = await tenants.make()
    kept = await tenants.key_of(tenant.id, tenant.name, [Scope.READ, Scope.KEYS])
    async with AsyncExitStack() as open_ones:
        ending = [
            await open_ones.enter_async_context(streaming(each.url, path, tenant))
            for each in (node, other)
            for path in (STREAM, INBOX)
        ]
        staying = await open_ones.enter_async_context(streaming(other.url, STREAM, kept))
        async with node.client(kept) as client:
            assert (await client.delete(f"/v1/keys/{tenant.key_id}")).status_code == 200
        for stream in ending:
            await stream.end(10)
            assert stream.whole

        async def is_refused() -> bool:
            async with streaming(other.url, STREAM, tenant) as refused:
                return refused.status == 401

        await eventually(is_refused)
        assert not staying.ended


async def test_a_stream_ends_when_its_key_expires(node: Node, tenant: Tenant, database: Database) -> None:
    async with streaming(node.url, STREAM, tenant) as stream:
        await database.fetch("update api_keys set expires_at = now() where id = $1", tenant.key_id)
        await stream.end()


async def test_nothing_is_shown_while_the_keys_cannot_be_checked(
    node: Node, tenant: Tenant, tenants: Tenants, database: Database
) -> None:
    event = "insert into events (org_id, id, type, payload) values ($1, $2, 'a', '{}')"
    kept = await tenants.key_of(tenant.id, tenant.name, [Scope.READ])
    async with (
        streaming(node.url, ACCEPTED, tenant) as stream,
        streaming(node.url, ACCEPTED, kept) as other,
        database.connection() as holding,
    ):
        async with holding.transaction():
            await holding.execute("lock table api_keys in access exclusive mode")
            await eventually(lambda: time.monotonic() - node.streams._checked_at > TRUST_SECONDS)
            await holding.execute("update api_keys set revoked_at = now() where id = $1", tenant.key_id)
            await database.fetch(event, tenant.id, node.clock.mint())
            [reader] = node.streams._readers.values()
            await eventually(lambda: len(reader.look._window._seen) == 1)
        await stream.end()
        await other.until(1)
        assert stream.frames == []


async def test_streams_end_at_once_when_the_service_stops(
    make_node: Callable[..., Any], tenant: Tenant
) -> None:
    node = await make_node(shutdown_timeout=60.0)
    async with streaming(node.url, STREAM, tenant) as stream, streaming(node.url, INBOX, tenant) as inbox:
        node.begin_to_stop()
        await stream.end()
        await inbox.end()
        assert stream.whole
        assert inbox.whole
        async with node.client(tenant) as client:
            assert (await client.get(STREAM)).status_code == 503


async def test_a_stream_survives_an_outage_of_the_database(
    node: Node, tenant: Tenant, database_url: str, postgres: Any
) -> None:
    name = database_url.rpartition("/")[2].partition("?")[0]
    async with streaming(node.url, ACCEPTED, tenant) as stream:
        await postgres.disconnect(name)

        async def is_sent() -> list[str]:
            async with node.client(tenant) as client:
                answer = await client.post("/v1/events", json={"type": "a", "payload": 1})
                return [answer.json()["id"]] if answer.status_code == 201 else []

        [event_id] = await eventually(is_sent, 20)
        await eventually(lambda: event_id in [each["event_id"] for each in stream.named("accepted")], 20)
        assert not stream.ended
