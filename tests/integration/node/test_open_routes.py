"""Routes that need no key: even many requests for them do not delay other callers."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from harness import Node, Tenant
from triggers.errors import OperatorError
from triggers.fairness.room import acting_for
from triggers.guides import rendering
from triggers.guides import routes as guides
from triggers.http.problems import KINDS
from triggers.inboxes import store as inbox_store
from triggers.node.metrics_server import MetricsServer
from triggers.node.operator_routes import OperatorRoutes
from triggers.node.settings import Settings
from triggers.postgres import migrate


def handler_of(node: Node, path: str) -> Any:
    """The handler that the router of this node calls."""
    table: Any = node.server.config.app
    return next(route for route in table.routes if route.path == path).handler


PAGES = [
    "/",
    "/docs",
    "/docs/api",
    "/docs/api.md",
    "/docs/webhooks",
    "/docs/search",
    "/problems/dedup-conflict",
]


@pytest.mark.parametrize("path", [*PAGES, "/problems", "/openapi.json"])
async def test_a_page_is_made_once_whatever_host_says(
    node: Node, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    made: Counter[str] = Counter()

    def counted(part: str, make: Callable[..., Any]) -> Callable[..., Any]:
        def making(*arguments: Any, **values: Any) -> Any:
            made[part] += 1
            return make(*arguments, **values)

        return making

    for name in ("make_page", "make_guide", "make_problem", "make_search_frame", "places"):
        monkeypatch.setattr(rendering, name, counted(name, getattr(rendering, name)))
    monkeypatch.setattr(guides, "reference", counted("reference", guides.reference))
    operator: OperatorRoutes = handler_of(node, "/openapi.json").__self__
    monkeypatch.setattr(operator, "_openapi", counted("document", operator._openapi))
    async with node.client() as client:
        calls = [client.get(path, headers={"host": f"random{number}.example"}) for number in range(50)]
        if path in ("/docs/api", "/openapi.json"):  # the page and the document are made from the same one
            calls += [client.get("/docs/api"), client.get("/openapi.json")]
        answers = (await asyncio.gather(*calls))[:50]
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert "random" not in answers[0].text
    assert set(made.values()) <= {1}


async def test_a_page_shows_the_address_that_the_caller_has_reached(node: Node) -> None:
    async with node.client() as client:
        for path in ("/", "/docs/api", "/docs/api.md"):
            assert f"{node.url}/v1/events" in (await client.get(path)).text


async def test_names_of_pages_that_do_not_exist_are_not_kept(node: Node) -> None:
    async with node.client() as client:
        for number in range(20):
            for path in ("/problems", "/docs", "/docs/adr", "/docs/assets"):
                assert (await client.get(f"{path}/unknown-{number}.md")).status_code == 404
            assert (await client.get(f"/docs/search?q=unknown+{number}")).status_code == 200
        for path in ("/docs/..%2fREADME", "/docs/webhooks.md.md", "/docs/.md"):
            assert (await client.get(path)).status_code == 404
        assert (await client.get(f"/problems/{next(iter(KINDS.values())).slug}")).status_code == 200
    routes: guides.GuideRoutes = handler_of(node, "/docs").__self__
    assert len(routes._problems._making) == 1
    assert len(routes._pages._making) == 0


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


async def test_a_route_without_a_key_works_for_no_organisation(
    node: Node, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its task begins within the task of the request before it on the same connection."""
    worked_for: list[Any] = []
    pending, find = migrate.pending, inbox_store.find

    async def noted_pending(*arguments: Any) -> Any:
        worked_for.append(acting_for.get())
        return await pending(*arguments)

    async def noted_find(*arguments: Any) -> Any:
        worked_for.append(acting_for.get())
        return await find(*arguments)

    monkeypatch.setattr(migrate, "pending", noted_pending)
    monkeypatch.setattr(inbox_store, "find", noted_find)
    reader, writer = await asyncio.open_connection(*node.url.removeprefix("http://").split(":"))
    head = "GET {} HTTP/1.1\r\nhost: x\r\n{}\r\n"
    with_key = head.format("/v1/inboxes/default", f"authorization: Bearer {tenant.key}\r\n")
    writer.write((with_key + head.format("/readyz", "connection: close\r\n")).encode())
    answers = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    assert answers.count(b"HTTP/1.1 200 ") == 2
    assert worked_for == [tenant.id, None]


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
