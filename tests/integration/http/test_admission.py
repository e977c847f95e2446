"""Who may not is told so before the body is read; what the connection goes on to carry is understood."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import pytest

from harness import Node, Tenant, Tenants, eventually
from triggers.domain import MAX_BATCH_BYTES, Plan, Scope
from triggers.http.request import MAX_BODY_BYTES

LENGTH = 1_000_000
# `/v1/events` reads its requests by itself; what is promised here holds for all.
PATHS = ("/v1/inboxes", "/v1/inboxes/default/messages/lease", "/v1/subscriptions", "/v1/keys", "/v1/events")


@asynccontextmanager
async def connected(node: Node) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(*node.url.removeprefix("http://").split(":"))
    try:
        yield reader, writer
    finally:
        writer.close()


def head(method: str, path: str, key: str, *more: str) -> bytes:
    lines = (f"{method} {path} HTTP/1.1", "host: x", f"authorization: Bearer {key}", *more)
    return "\r\n".join([*lines, "", ""]).encode()


async def answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    """The status and the headers of the next answer, whose body is read too."""
    said = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)).decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in said[1:] if line)
    await asyncio.wait_for(reader.readexactly(int(headers["content-length"])), 5)
    return int(said[0].split()[1]), headers


async def refusals(tenants: Tenants) -> dict[int, str]:
    """By status: a key that is refused with it."""
    spent = await tenants.make(plan=Plan.ENTERPRISE, requests_per_minute=1)
    return {
        401: "zap_live_nobody",
        403: (await tenants.make(scopes=[Scope.ADMIN])).key,
        429: spent.key,
    }


async def spend(node: Node, key: str) -> None:
    async with node.client() as client:
        spent = await client.get("/v1/org", headers={"x-api-key": key})
        assert (spent.status_code, spent.headers["ratelimit"]) == (200, '"plan";r=0;t=60')


@pytest.mark.parametrize("framing", ["length", "chunks", "asks first"])
async def test_a_refusal_does_not_wait_for_the_body(
    node: Node, tenant: Tenant, tenants: Tenants, framing: str
) -> None:
    keys = await refusals(tenants)
    await spend(node, keys[429])
    match framing:
        case "length":
            headers, first = [f"content-length: {LENGTH}"], b"{"
        case "chunks":
            headers, first = ["transfer-encoding: chunked"], b"%x\r\n{" % LENGTH
        case _:
            headers, first = [f"content-length: {LENGTH}", "expect: 100-continue"], b""
    headers.append("content-type: application/json")
    for path in PATHS:
        for status, key in keys.items():
            async with connected(node) as (reader, writer):
                writer.write(head("POST", path, key, *headers) + first)
                said, fields = await answer(reader)
                assert (path, said) == (path, status)
                assert ("ratelimit" in fields) == (status == 429)
                if framing != "length":  # nobody knows where the next request would begin
                    assert fields["connection"] == "close"
                    assert await asyncio.wait_for(reader.read(), 5) == b""
                    continue
                # What was on its way all the same is no part of the next request.
                writer.write(b" " * (LENGTH - 1) + head("GET", "/v1/org", tenant.key))
                assert (await answer(reader))[0] == 200
                writer.write(head("GET", "/v1/org", tenant.key))
                assert (await answer(reader))[0] == 200


async def test_a_refused_body_that_does_not_come_is_given_up_without_a_second_answer(
    make_node: Callable[..., Any],
) -> None:
    node: Node = await make_node(receive_timeout=0.4)
    for path in PATHS:
        async with connected(node) as (reader, writer):
            writer.write(head("POST", path, "zap_live_nobody", f"content-length: {LENGTH}") + b"{")
            assert (await answer(reader))[0] == 401
            assert await asyncio.wait_for(reader.read(), 5) == b""


BAD: dict[str, tuple[dict[str, Any], int]] = {
    "not JSON": ({"content": b"{"}, 400),
    "too large": ({"content": b" " * (MAX_BODY_BYTES + 1)}, 413),
    "another shape": ({"json": {"nonsense": 1}}, 422),
}


@pytest.mark.parametrize("bad", BAD)
async def test_a_bad_body_is_told_of_only_to_who_may_and_has_paid(
    node: Node, tenants: Tenants, bad: str
) -> None:
    body, status = BAD[bad]
    payer = await tenants.make(plan=Plan.ENTERPRISE, requests_per_minute=2)
    other = await tenants.make(scopes=[Scope.ADMIN])
    async with node.client() as client:

        async def asked(key: str) -> httpx.Response:
            headers = {"x-api-key": key, "content-type": "application/json"}
            return await client.post("/v1/inboxes", headers=headers, **body)

        assert (await asked("zap_live_nobody")).status_code == 401
        assert (await asked(other.key)).status_code == 403
        answers = [await asked(payer.key) for _ in range(3)]
    assert [each.status_code for each in answers] == [status, status, 429]
    left = [each.headers["ratelimit"].split(";")[1] for each in answers]
    assert left == ["r=1", "r=0", "r=0"]


async def test_a_bad_parameter_costs_as_much(node: Node, tenants: Tenants) -> None:
    payer = await tenants.make(plan=Plan.ENTERPRISE, requests_per_minute=1)
    async with node.client(payer) as client:
        answers = [await client.get("/v1/events", params={"limit": "many"}) for _ in range(2)]
        assert [each.status_code for each in answers] == [422, 429]
        del client.headers["authorization"]
        assert (await client.get("/v1/events", params={"limit": "many"})).status_code == 401
        assert (await client.options("/v1/events")).status_code == 204


def announced(key: str, length: int) -> bytes:
    """The head of a batch that is told when it may come."""
    json = "content-type: application/json"
    return head("POST", "/v1/events/batch", key, json, f"content-length: {length}", "expect: 100-continue")


async def test_what_is_only_announced_takes_no_room(make_node: Callable[..., Any], tenants: Tenants) -> None:
    node: Node = await make_node(max_waiting_bytes=MAX_BATCH_BYTES)
    async with AsyncExitStack() as stack:
        for key in [(await tenants.make()).key for _ in range(3)] * 2:
            reader, writer = await stack.enter_async_context(connected(node))
            writer.write(announced(key, MAX_BATCH_BYTES))
            assert b" 100 " in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        async with node.client(await tenants.make()) as client:
            assert (await client.post("/v1/events", json={"type": "a", "payload": 1})).status_code == 201


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_takes_as_much_room_as_it_has(
    make_node: Callable[..., Any], tenants: Tenants, chunked: bool
) -> None:
    """One that came with nearly all that an organisation may have, and does not end."""
    node: Node = await make_node(max_waiting_bytes=MAX_BATCH_BYTES)
    under_way = node._accept._bodies._held
    slow, other = await tenants.make(), await tenants.make()
    almost = MAX_BATCH_BYTES - 1_000
    event = b'[{"type":"a","payload":"%b"}]'
    small = event % (b"x" * (900 - len(event) + 2))
    large = event % (b"x" * 6_000)

    async def in_pieces(body: bytes) -> AsyncIterator[bytes]:
        yield body

    async def post(tenant: Tenant, body: bytes) -> int:
        async with node.client(tenant) as client:
            content = in_pieces(body) if chunked else body
            headers = {"content-type": "application/json"}
            return (await client.post("/v1/events/batch", content=content, headers=headers)).status_code

    async with connected(node) as (reader, writer):
        writer.write(announced(slow.key, MAX_BATCH_BYTES))
        assert b" 100 " in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        writer.write(b" " * almost)
        await eventually(lambda: under_way == {slow.id: almost})
        answers = [await post(slow, large), await post(slow, small), await post(other, large)]
        assert answers == [503, 200, 200]
    await eventually(lambda: not under_way)
    assert await post(slow, large) == 200


def held_back(key: str, media_type: str, path: str) -> tuple[bytes, bytes]:
    """A gzip body of 5 MiB but for its last bytes, and those."""
    body = gzip.compress(b" " * (MAX_BATCH_BYTES - 1))
    coding = f"content-encoding: gzip\r\ncontent-type: {media_type}"
    return head("POST", path, key, coding, f"content-length: {len(body)}") + body[:-9], body[-9:]


async def test_bodies_that_are_held_back_take_no_room_from_others(
    make_node: Callable[..., Any], tenants: Tenants
) -> None:
    """Thirty of two tenants would be 150 MiB, and are 150 KiB."""
    node: Node = await make_node(max_waiting_bytes=MAX_BATCH_BYTES)
    room = node._accept._bodies
    async with AsyncExitStack() as stack:
        sent = 0
        for tenant in [await tenants.make(), await tenants.make()] * 15:
            _, writer = await stack.enter_async_context(connected(node))
            begun, _ = held_back(tenant.key, "application/json", "/v1/events/batch")
            writer.write(begun)
            sent += len(begun.partition(b"\r\n\r\n")[2])
        await eventually(lambda: room.taken == sent)
        async with node.client(await tenants.make()) as client:
            event = {"type": "a", "payload": "x" * 200_000}
            assert (await client.post("/v1/events", json=event)).status_code == 201
            batch = [{"type": "a", "payload": "x" * 200_000}] * 24
            answer = await client.post("/v1/events/batch", json=batch)
            assert answer.json()["results"][0]["status"] == 201  # whether all fit is not what is asked here
    await eventually(lambda: not room.taken)


async def test_bodies_of_other_routes_are_counted_too(
    make_node: Callable[..., Any], tenants: Tenants
) -> None:
    node: Node = await make_node(max_waiting_bytes=MAX_BATCH_BYTES)
    room = node._accept._bodies
    tenant = await tenants.make()
    async with connected(node) as (_, writer):
        writer.write(head("POST", "/v1/subscriptions", tenant.key, JSON_TYPE, "content-length: 200000"))
        writer.write(b" " * 100_000)
        await eventually(lambda: room.taken == 100_000)
    await eventually(lambda: not room.taken)


JSON_TYPE = "content-type: application/json"
