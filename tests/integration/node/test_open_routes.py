"""Routes that need no key: even many requests for them do not delay other callers."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from harness import Node
from triggers.errors import OperatorError
from triggers.http import pages
from triggers.http.problems import KINDS
from triggers.node import openapi
from triggers.node.metrics_server import MetricsServer
from triggers.node.settings import Settings
from triggers.postgres import migrate


@pytest.mark.parametrize("path", ["/", "/docs", "/problems", "/problems/dedup-conflict", "/openapi.json"])
async def test_a_page_is_made_once_whatever_host_says(
    node: Node, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    made: Counter[str] = Counter()
    render, reference = pages.render, pages.render_reference

    def counted(template: str, *paths: str, **values: Any) -> str:
        made[template] += 1
        return render(template, *paths, **values)

    def counted_reference(document: bytes, *urls: str) -> str:
        made["reference"] += 1
        return reference(document, *urls)

    monkeypatch.setattr(pages, "render", counted)
    monkeypatch.setattr(pages, "render_reference", counted_reference)
    openapi.encoded.cache_clear()
    async with node.client() as client:
        calls = [client.get(path, headers={"host": f"random{number}.example"}) for number in range(50)]
        answers = await asyncio.gather(*calls)
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert "random" not in answers[0].text
    assert set(made.values()) <= {1}
    assert openapi.encoded.cache_info().misses <= 1


async def test_a_page_shows_the_address_that_the_caller_has_reached(node: Node) -> None:
    async with node.client() as client:
        for path in ("/", "/docs"):
            assert f"{node.url}/v1/events" in (await client.get(path)).text


async def test_unknown_names_of_errors_are_not_kept(node: Node) -> None:
    async with node.client() as client:
        for number in range(20):
            assert (await client.get(f"/problems/unknown-{number}")).status_code == 404
        assert (await client.get(f"/problems/{next(iter(KINDS.values())).slug}")).status_code == 200
    # The pages of this node belong to the object that the router calls.
    table: Any = node.server.config.app
    route = next(route for route in table.routes if route.path == "/problems/{slug}")
    assert len(route.handler.__self__._pages._kept._making) == 1


async def test_readiness_asks_the_database_seldom(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = 0
    pending = migrate.pending

    async def counted(*arguments: Any) -> Any:
        nonlocal asked
        asked += 1
        return await pending(*arguments)

    monkeypatch.setattr(migrate, "pending", counted)
    async with node.client() as client:
        began = asyncio.get_running_loop().time()
        for _ in range(10):
            answers = await asyncio.gather(*[client.get("/readyz") for _ in range(20)])
            assert {answer.status_code for answer in answers} == {200}
        seconds = asyncio.get_running_loop().time() - began
    assert 1 <= asked <= 2 + seconds / 0.5


async def test_metrics_elsewhere(make_node: Callable[..., Any]) -> None:
    """The metrics are served at an address of their own, and not with the API."""
    node: Node = await make_node(metrics_port=0)
    assert node.metrics_server is not None
    async with node.client() as client:
        assert (await client.get("/metrics")).status_code == 404
        assert (await client.get("/livez")).status_code == 200
    elsewhere = f"http://127.0.0.1:{node.metrics_server.port}"
    async with httpx.AsyncClient(base_url=elsewhere) as reading:
        assert "triggers_build_info" in (await reading.get("/metrics")).text
        assert (await reading.get("/livez")).status_code == 404
        assert (await reading.get("/v1/org")).status_code == 404


async def test_an_address_for_metrics_that_is_taken(node: Node) -> None:
    port = int(node.url.rpartition(":")[2])
    metrics = MetricsServer(Settings(metrics_port=port), node.server.config.app)
    with pytest.raises(OperatorError, match=f"Cannot listen on 127.0.0.1 port {port}"):
        await metrics.start()
    await metrics.stop()
