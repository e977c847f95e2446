"""The guides over HTTP: pages, their twins in Markdown, links, search, llms.txt, and the start page."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urljoin

import httpx
import pytest

from harness import Node, Tenant
from triggers.guides.library import API, INDEX, library
from triggers.node.routes import ROUTES


@pytest.fixture
async def behind(make_node: Callable[..., Any]) -> Node:
    """A node whose public URL has a path, without a console and with /metrics elsewhere."""
    node: Node = await make_node(public_url="https://x.example/t", console="off", metrics_port=0)
    return node


async def test_every_guide_is_a_page_with_a_twin_and_working_links(node: Node) -> None:
    """All links of all guides are followed, with their anchors."""
    async with node.client() as client:
        pages: dict[str, str] = {}
        for name, text in library().texts.items():
            path = "/docs" if name == INDEX else f"/docs/{name}"
            answer = await client.get(path)
            assert answer.headers["content-type"] == "text/html; charset=utf-8"
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy
            assert "unsafe" not in policy
            assert " style=" not in answer.text
            assert "<script>" not in answer.text
            pages[path] = answer.text
            twin = await client.get(f"/docs/{name}.md")
            assert twin.headers["content-type"] == "text/markdown; charset=utf-8"
            assert twin.text == text or (name == API and twin.text.startswith(text))
            assert f'href="/docs/{name}.md"' in answer.text
        for path, html in list(pages.items()):
            for link in set(re.findall(r'href="([^"]+)"', html)):
                target, _, anchor = urljoin(path, link).partition("#")
                if target.startswith("/docs") and "/assets/" not in target and not target.endswith(".md"):
                    assert not anchor or f'id="{anchor}"' in pages[target], f"{path} links to {link}"
                elif target.startswith("/"):
                    pages[target] = pages.get(target) or await _page(client, target)


async def _page(client: httpx.AsyncClient, path: str) -> str:
    answer = await client.get(path)
    assert answer.status_code == (303 if path == "/console" else 200), path
    return answer.text if answer.headers.get("content-type", "").startswith("text/") else "other"


async def test_the_reference_has_an_example_for_each_request_and_answer(node: Node) -> None:
    async with node.client() as client:
        text = (await client.get("/docs/api.md")).text
    parts = dict(re.findall(r"(?ms)^### ((?:GET|POST|PUT|PATCH|DELETE) \S+)\n(.*?)(?=^##)", text))
    for route in ROUTES:
        if not route.hidden:
            part = parts[f"{route.method} {route.path}"]
            assert "```sh\ncurl " in part
            assert "**2" in part
            if route.media_type == "application/json" and route.status not in (204, 202):
                assert "```json\n" in part, route.path
    assert text.count("| 401 |") == 1, "errors of all routes stand there once"


async def test_examples_of_an_inbox_are_what_the_service_answers(node: Node, tenant: Tenant) -> None:
    """The status of messages after each action, and the answers with nothing in them."""
    reference = await _examples(node)
    path = "/v1/inboxes/default/messages"
    async with node.client(tenant) as client:

        async def post(action: str, **body: Any) -> tuple[int, Any]:
            answer = await client.post(f"{path}/{action}", json=body)
            return answer.status_code, answer.json()

        async def compared(action: str, **body: Any) -> Any:
            status, answer = await post(action, **body)
            example = reference[f"POST /v1/inboxes/{{inbox}}/messages/{action}", status]
            assert answer.keys() == example.keys()
            assert [each["status"] for each in answer["results"]] == [
                each["status"] for each in example["results"]
            ]
            assert answer.get("not_settled") == example.get("not_settled")
            return answer

        assert (await compared("lease"))["lease_id"] is None
        await client.post("/v1/events", json={"type": "a", "payload": 1})
        for action, more in (("release", {}), ("revoke", {}), ("reject", {"reason": "wrong"})):
            leased = await compared("lease")
            await compared(action, lease_id=leased["lease_id"], **more)
        await compared("redrive")
        leased = await compared("lease")
        for _ in range(2):
            await compared("ack", lease_id=leased["lease_id"])


async def _examples(node: Node) -> dict[tuple[str, int], Any]:
    """The examples of answers in the reference, by their route and status."""
    async with node.client() as client:
        text = (await client.get("/docs/api.md")).text
    return {
        (route, int(status)): json.loads(example)
        for route, part in re.findall(r"(?ms)^### ([A-Z]+ \S+)\n(.*?)(?=^##)", text)
        for status, example in re.findall(r"(?s)\*\*(\d+) [^\n]*\n\n[^\n]*\n\n```json\n(.*?)\n```", part)
    }


async def test_search(node: Node) -> None:
    async with node.client() as client:
        for query, url in {
            "poison message": "/docs/consume-an-inbox#when-a-message-always-fails",
            "verify signature": "/docs/webhooks#verify-the-signature",
            "TRIGGERS_KEEP_ALIVE": "/docs/behind-a-proxy",
            "POST /v1/events": "/docs/api#post-v1events",
            "lease-over": "/docs/errors#lease-over",
        }.items():
            answer = await client.get("/docs/search", params={"q": query})
            assert answer.status_code == 200
            assert f'href="{url}"' in answer.text.partition('id="results"')[2], query
        hostile = await client.get("/docs/search", params={"q": '"><script>alert(1)</script>@results@' * 100})
        assert "<script>alert" not in hostile.text
        assert len(hostile.content) < 60_000
        assert "Nothing found" in (await client.get("/docs/search?q=zzzzzz")).text
        for odd in ("q=%ff%00", "q=", "q=a&q=b", "x=1", "q=" + "%F0%9F%92%A9" * 500):
            assert (await client.get(f"/docs/search?{odd}")).status_code == 200, odd


async def test_a_list_for_language_models(behind: Node) -> None:
    async with behind.client() as client:
        text = (await client.get("/llms.txt")).text
        links = re.findall(r"\]\(/t(/\S+)\)", text)
        assert len(links) > 20
        for link in links:
            assert (await client.get(link)).status_code == 200, link


async def test_the_start_page_links_only_to_what_is_served(node: Node, behind: Node) -> None:
    for served, root_path in ((node, ""), (behind, "/t")):
        async with served.client() as client:
            html = (await client.get("/")).text
            for link in set(re.findall(r'<a [^>]*href="([^"#]+)"', html)):
                assert link.startswith(root_path)
                answer = await client.get(link.removeprefix(root_path))
                assert answer.status_code == (303 if link.endswith("/console") else 200), link
    assert "/console" not in html
    assert "/metrics" not in html
    assert "https://x.example/t/v1/events" in html
