"""HTTP as callers of every kind speak it, below the routes."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
import re
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import structlog

from harness import Node, Tenant, Tenants, eventually
from raw_requests import LINES, OFFERS, chunked, cut
from triggers.node.routes import ROUTES
from triggers.node.settings import Settings

EVENT = b'{"type":"a","payload":1}'
HEAD = (
    "POST /v1/events HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n"
    "{offer}content-length: {length}\r\n\r\n"
)


async def said(node: Node, *pieces: bytes) -> tuple[int, dict[str, str], Any]:
    """Send it piece by piece on a new connection; the answer."""
    reader, writer = await asyncio.open_connection(*node.url.removeprefix("http://").split(":"))
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.05)
        head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)).decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in head[1:] if line)
        body = await asyncio.wait_for(reader.readexactly(int(headers["content-length"])), 5)
        return int(head[0].split()[1]), headers, json.loads(body)
    finally:
        writer.close()


@pytest.mark.parametrize(
    "offer",
    [
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n",
        "connection: upgrade\r\nUPGRADE: websocket\r\n",
    ],
)
@pytest.mark.parametrize("split", [False, True])
async def test_who_offers_another_protocol_is_answered_in_this_one(
    node: Node, tenant: Tenant, offer: str, split: bool
) -> None:
    """As Java's client does with each request, and curl when it is asked for HTTP/2."""
    head = HEAD.format(key=tenant.key, offer=offer, length=len(EVENT)).encode()
    status, _, body = await said(node, *([head, EVENT] if split else [head + EVENT]))
    assert (status, body["status"]) == (201, "accepted")


@pytest.mark.parametrize(
    "text", [b"NOT HTTP AT ALL\r\n\r\n", b"GET / HTTP/1.1\r\nno colon\r\n\r\n", b"GET /\x00 HTTP/1.1\r\n\r\n"]
)
async def test_what_is_not_http_is_a_problem_with_an_id(node: Node, text: bytes) -> None:
    status, headers, body = await said(node, text)
    assert (status, headers["content-type"]) == (400, "application/problem+json")
    assert body["request_id"] == headers["x-request-id"]
    assert headers["connection"] == "close"


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/livez"), ("GET", "/openapi.json"), ("GET", "/v1/org"), ("POST", "/v1/events")],
)
async def test_what_breaks_in_its_body_has_one_answer(
    node: Node, tenant: Tenant, method: str, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The request was begun when the refusal went out; its own answer must not come behind that."""
    head = f"{method} {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {tenant.key}\r\n"
    reader, writer = await asyncio.open_connection(*node.url.removeprefix("http://").split(":"))
    try:
        writer.write(f"{head}transfer-encoding: chunked\r\n\r\nzz\r\n".encode())
        said = await asyncio.wait_for(reader.read(), 5)
    finally:
        writer.close()
    assert said.startswith(b"HTTP/1.1 400 ")
    assert said.count(b"HTTP/1.1") == 1
    assert caplog.records == []


async def test_a_head_is_a_get_without_its_body(client: httpx.AsyncClient) -> None:
    for path in ("/livez", "/v1/org", "/problems/invalid"):
        asked, got = await client.head(path), await client.get(path)
        assert (asked.status_code, asked.content) == (200, b"")
        assert asked.headers["content-type"] == got.headers["content-type"]
    assert (await client.head("/v1/nothing")).status_code == 404


async def test_a_path_names_the_methods_that_it_answers(client: httpx.AsyncClient) -> None:
    for path, methods in {
        "/v1/events": "GET, HEAD, OPTIONS, POST",
        "/events/": "GET, HEAD, OPTIONS, POST",
        "/v1/org": "GET, HEAD, OPTIONS",
        "/v1/events/batch": "OPTIONS, POST",
    }.items():
        asked, refused = await client.options(path), await client.delete(path)
        assert (asked.status_code, asked.content, asked.headers["allow"]) == (204, b"", methods)
        assert (refused.status_code, refused.headers["allow"]) == (405, methods)


async def test_a_path_of_its_own_does_not_answer_what_one_with_an_id_does(client: httpx.AsyncClient) -> None:
    for refused in (await client.get("/v1/hooks/dry-run"), await client.patch("/v1/subscriptions/dry-run/")):
        assert (refused.status_code, refused.headers["allow"]) == (405, "OPTIONS, POST")


async def test_every_path_answers_the_methods_that_it_allows_and_no_others(node: Node) -> None:
    paths = {re.sub(r"\{\w+\}", "x", path) for route in ROUTES for path in route.paths}
    async with httpx.AsyncClient() as stranger:  # a request without a key does not change that
        for url in sorted(f"{node.url}{path}" for path in paths):
            allowed = (await stranger.options(url)).headers["allow"].split(", ")
            for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"):
                answer = await stranger.request(method, url)
                assert (answer.status_code == 405) == (method not in allowed), (method, url)
                assert answer.headers.get("allow", ", ".join(allowed)).split(", ") == allowed


async def test_a_path_with_an_empty_part_or_an_encoded_slash_is_not_found(node: Node) -> None:
    paths = {re.sub(r"\{\w+\}", "x", path) for route in ROUTES for path in route.paths}
    async with httpx.AsyncClient() as stranger:
        for path in sorted(paths):
            encoded = path[1:].replace("/", "%2f")
            for wrong in (f"/{path}", f"{path}//", f"{path}/%2f", f"{path}%2F", f"/{encoded}%2f"):
                for method in ("GET", "POST", "OPTIONS"):
                    answer = await stranger.request(method, node.url + wrong)
                    assert (answer.status_code, "allow" in answer.headers) == (404, False), (method, wrong)


@pytest.mark.parametrize("path", ["/v1/events/", "/v1/events/batch/", "/events/"])
async def test_a_slash_at_the_end_is_no_other_path(client: httpx.AsyncClient, path: str) -> None:
    event = {"type": "a", "payload": 1}
    answer = await client.post(path, json=[event] if "batch" in path else event)
    assert answer.status_code in (200, 201), answer.text


async def test_who_leaves_in_the_middle_of_a_body_is_no_fault_of_ours(node: Node, tenant: Tenant) -> None:
    head = HEAD.format(key=tenant.key, offer="", length=100).replace("/v1/events", "/v1/inboxes")
    with structlog.testing.capture_logs() as lines:
        _, writer = await asyncio.open_connection(*node.url.removeprefix("http://").split(":"))
        writer.write(head.encode() + b"{")
        await writer.drain()
        await asyncio.sleep(0.2)
        writer.close()
        await eventually(lambda: any(line.get("path") == "/v1/inboxes" for line in lines), 5)
    assert [(line["status"], line["log_level"]) for line in lines if "path" in line] == [(408, "info")]


async def test_a_caller_that_half_closes_gets_its_answer(node: Node, tenant: Tenant) -> None:
    reader, writer = await asyncio.open_connection(*node.url.removeprefix("http://").split(":"))
    head = HEAD.format(key=tenant.key, offer="", length=len(EVENT)).encode()
    batch = head.replace(b"/v1/events", b"/v1/events/batch")
    asked = f"GET /v1/org HTTP/1.1\r\nhost: x\r\nx-api-key: {tenant.key}\r\n\r\n".encode()
    writer.write(head + EVENT + batch + EVENT + asked)
    writer.write_eof()
    text = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    assert re.findall(rb"HTTP/1.1 (\d+) ", text) == [b"201", b"400", b"200"]
    assert text.rpartition(b"\r\n\r\n")[2].startswith(b"{")


async def test_a_connection_is_kept_as_long_as_the_operator_wants(
    make_node: Callable[..., Any],
) -> None:
    """The load balancer must close first, or it would send a request while the node closes the connection."""
    assert Settings().keep_alive == 75
    short: Node = await make_node(keep_alive=0.4)
    reader, writer = await asyncio.open_connection(*short.url.removeprefix("http://").split(":"))
    writer.write(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n")
    assert (await asyncio.wait_for(reader.read(), 10)).startswith(b"HTTP/1.1 200")
    writer.close()


async def test_a_key_in_a_trailer_is_no_key(node: Node, tenants: Tenants) -> None:
    """The trailers of a request say nothing of it: not whose it is, and not how its body is coded."""
    attacker, victim = await tenants.make(), await tenants.make()
    chunks = b"%x\r\n%b\r\n0\r\n" % (len(EVENT), EVENT)
    trailers = "authorization: Bearer {0}\r\nx-api-key: {0}\r\ncontent-encoding: gzip\r\n\r\n"
    head = "POST /v1/events HTTP/1.1\r\nhost: x\r\n{}transfer-encoding: chunked\r\n\r\n"
    trailer = trailers.format(victim.key).encode()
    status, _, _ = await said(node, head.format("").encode() + chunks + trailer)
    assert status == 401
    own = f"authorization: Bearer {attacker.key}\r\n"
    status, _, body = await said(node, head.format(own).encode() + chunks + trailer)
    assert status == 201
    async with node.client(attacker) as client:
        assert (await client.get(f"/v1/events/{body['id']}")).status_code == 200
    async with node.client(victim) as client:
        assert (await client.get(f"/v1/events/{body['id']}")).status_code == 404


@pytest.mark.parametrize("seed", range(40))
async def test_payloads_come_back_as_they_were_sent(node: Node, tenant: Tenant, seed: int) -> None:
    """However they were sent: sized, chunked, compressed, pipelined, beside offers, and cut anywhere."""
    chance = random.Random(seed)
    reader, writer = await asyncio.open_connection(*node.url.removeprefix("http://").split(":"))
    payloads, text = [], b""
    for _ in range(25):
        lines = [chance.choice(LINES) for _ in range(chance.randrange(1, 6))]
        payload = json.dumps(chance.choice((b"\r\n", b"\n", b"")).join(lines).decode("latin-1")).encode()
        payload = payload.replace(b"\\n", b"\\n" + b" " * chance.randrange(3))
        body = b'{"type": "a",\n"payload":\n' + payload + b"\n}"
        head = HEAD.partition("{offer}")[0].format(key=tenant.key).encode() + chance.choice(OFFERS)
        if chance.random() < 0.3:
            body, head = gzip.compress(body), head + b"content-encoding: gzip\r\n"
        if chance.random() < 0.5:
            text += head + b"content-length: %d\r\n\r\n" % len(body) + body
        else:
            text += head + b"transfer-encoding: chunked\r\n\r\n" + chunked(body, chance)
        payloads.append(payload)
    for piece in cut(text, chance):
        writer.write(piece)
        await writer.drain()
    async with node.client(tenant) as client:
        for payload in payloads:
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
            length = int(head.partition(b"content-length: ")[2].split(b"\r\n")[0])
            answer = json.loads(await asyncio.wait_for(reader.readexactly(length), 5))
            assert answer["status"] == "accepted", answer
            assert (await client.get(f"/v1/events/{answer['id']}/payload")).content == payload
    writer.close()
