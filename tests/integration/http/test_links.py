"""If a proxy serves the service under a path of its host, every link begins with that path."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from harness import Node, Tenant
from triggers.http.problems import KINDS

BEHIND = "/triggers"


@pytest.fixture
async def behind(make_node: Callable[..., Any]) -> Node:
    """A node whose callers reach it as https://host.example/triggers."""
    node: Node = await make_node(public_url=f"https://host.example{BEHIND}/")
    return node


async def follow(client: httpx.AsyncClient, link: str) -> httpx.Response:
    """Get a link like a proxy, which removes its own path."""
    assert link.startswith(f"{BEHIND}/"), link
    return await client.get(link.removeprefix(BEHIND))


async def test_locations_lead_to_what_was_made(behind: Node, tenant: Tenant) -> None:
    event = {"type": "a", "payload": 1, "dedup_id": "x"}
    async with behind.client(tenant) as client:
        for status in (201, 200):
            answer = await client.post("/v1/events", json=event)
            assert answer.status_code == status
            assert (await follow(client, answer.headers["location"])).json()["id"] == answer.json()["id"]
        hook = await client.post("/v1/subscriptions", json={"target_url": "http://127.0.0.1:1/"})
        asked = {"subscription_id": hook.json()["id"], "only": "all"}
        replay = await client.post("/v1/replays", json=asked)
        assert replay.status_code == 201
        assert (await follow(client, replay.headers["location"])).json()["id"] == replay.json()["id"]


async def test_problems_lead_to_their_pages(behind: Node, tenant: Tenant) -> None:
    async with behind.client(tenant) as client:
        refused = [
            (await client.get("/v1/nothing")).json(),
            (await client.get("/v1/events?limit=x")).json(),
            (await client.post("/v1/events", content=b"{")).json(),
            (await client.post("/v1/events/batch", json=[{"type": "a"}, {"type": "a", "payload": 1}])).json()[
                "results"
            ][0]["problem"],
        ]
        for problem in refused:
            page = await follow(client, problem["type"])
            assert page.status_code == 200
            assert problem["type"] == f"{BEHIND}/problems/{problem['code']}"
            assert problem["code"] in {kind.slug for kind in KINDS.values()}


async def test_a_request_that_cannot_be_read_is_told_where_its_problem_is_explained(behind: Node) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(behind.url.rpartition(":")[2]))
    writer.write(b"NOT HTTP AT ALL\r\n\r\n")
    answer = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    assert b'"type":"/triggers/problems/malformed-request","code":"malformed-request"' in answer


async def test_pages_link_to_pages(behind: Node) -> None:
    async with behind.client() as client:
        for path in ("/", "/docs", "/docs/webhooks", "/problems", "/problems/invalid"):
            text = (await client.get(path)).text
            links = {each for each in re.findall(r'<a href="([^"]*)"', text) if each.startswith("/")}
            assert links
            for link in links - {f"{BEHIND}/console"}:
                assert (await follow(client, link)).status_code == 200
        assert f"{BEHIND}/problems/invalid&#34;" in text
        document = (await client.get("/openapi.json")).json()
    assert document["servers"] == [{"url": BEHIND}]
