"""Connections of slow callers are closed: in a head, in a body, and between requests."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import pytest

from harness import Node, Tenant

HEAD = (
    "POST /v1/events HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n"
)
SLOW = {
    "nothing": "",
    "a piece of the head": "POST /v1/ev",
    "a head without an end": HEAD,
    "a body that stops": HEAD + 'content-length: 100\r\n\r\n{{"type"',
    "a body in pieces that stops": HEAD + 'transfer-encoding: chunked\r\n\r\n5\r\n{{"typ\r\n',
    "a body for a handler": HEAD.replace("/v1/events", "/v1/inboxes") + "content-length: 100\r\n\r\n{{",
    "a second request": "GET /livez HTTP/1.1\r\nhost: x\r\n\r\nGET /livez HT",
}
TRICKLE = {"a head without an end": b"x: y\r\n", "a body that stops": b" "}
"""A caller that still sends while the connection closes may lose the answer. This is how TCP works."""


@pytest.fixture
async def node(make_node: Callable[..., Any]) -> Node:
    running: Node = await make_node(receive_timeout=0.4)
    return running


async def test_a_request_that_does_not_arrive_is_cut_off(node: Node, tenant: Tenant) -> None:
    loop = asyncio.get_running_loop()

    async def trickle(name: str, text: str) -> None:
        reader, writer = await asyncio.open_connection(*node.url.removeprefix("http://").split(":"))
        try:
            writer.write(text.format(key=tenant.key).encode())
            began = loop.time()
            ended = asyncio.ensure_future(reader.read())
            while not ended.done():
                # A byte now and then keeps a connection from being idle, and must not keep it alive.
                writer.write(TRICKLE.get(name, b""))
                await asyncio.wait({ended}, timeout=0.05)
                assert loop.time() - began < 5, name
            with contextlib.suppress(ConnectionError):
                answer = await ended
                if name == "a second request":
                    assert answer.startswith(b"HTTP/1.1 200")
                    answer = answer.partition(b"ok\n")[2]
                if answer or name not in TRICKLE:
                    assert answer.startswith(b"HTTP/1.1 408"), (name, answer)
                    head, _, body = answer.partition(b"\r\n\r\n")
                    assert f"content-length: {len(body)}".encode() in head.lower()
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async with asyncio.TaskGroup() as group:
        for name, text in SLOW.items():
            group.create_task(trickle(name, text))


async def test_who_is_idle_or_waits_for_an_answer_is_not(node: Node, tenant: Tenant) -> None:
    async with node.client(tenant) as client:
        assert (await client.get("/livez")).status_code == 200
        connection = next(iter(node.server.server_state.connections))
        waited = await client.post("/v1/inboxes/default/messages/lease", json={"wait_seconds": 1.2})
        assert waited.status_code == 200
        assert (await client.get("/livez")).status_code == 200
        assert connection in node.server.server_state.connections, "the same connection all along"


async def test_a_head_has_a_bound(node: Node) -> None:
    reader, writer = await asyncio.open_connection(*node.url.removeprefix("http://").split(":"))
    writer.write(b"GET /livez HTTP/1.1\r\nhost: x\r\n")
    answered = asyncio.ensure_future(reader.readline())
    sent = 0
    while not answered.done() and sent < 5_000_000:
        writer.write(b"x-filler: " + b"y" * 4_000 + b"\r\n")
        sent += 4_000
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        await asyncio.sleep(0)
    assert sent < 5_000_000
    with contextlib.suppress(ConnectionError):
        assert b" 4" in await answered
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
