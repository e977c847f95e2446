"""The pages for people, in a real browser: they show what is there and load nothing from elsewhere."""

from __future__ import annotations

import asyncio
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple

import msgspec

from harness import Node
from triggers.http.problems import KINDS
from triggers.http.route import PUBLIC
from triggers.node.routes import ROUTES

PAGES = ("/", "/docs", "/docs/api", "/problems", *(f"/problems/{kind.slug}" for kind in KINDS.values()))


class Page(HTMLParser):
    """Names, links and headings of an HTML page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: set[str] = set()
        self.headings: list[str] = []
        self.scripts = 0
        self._in_heading = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.ids.add(found.get("id") or "")
        if tag == "a" and (link := found.get("href")):
            self.links.add(link)
        self.scripts += tag == "script"
        if re.fullmatch("h[1-6]", tag):
            self._in_heading = True
            self.headings.append("")

    def handle_endtag(self, tag: str) -> None:
        if re.fullmatch("h[1-6]", tag):
            self._in_heading = False

    def handle_data(self, data: str) -> None:
        if self._in_heading:
            self.headings[-1] += data


class Visit(NamedTuple):
    """What a browser made of a page, and every address that the page made it ask for."""

    html: str
    requests: list[str]


async def visit(url: str, place: Path) -> Visit:
    """Open an address in a browser that can resolve no name, so that nothing leaves this machine."""
    program = shutil.which("chromium")
    assert program, "the tests need the program chromium"
    log = place / "network.json"
    browser = await asyncio.create_subprocess_exec(
        program,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        f"--user-data-dir={place / 'profile'}",
        f"--log-net-log={log}",
        "--dump-dom",
        url,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        output, _ = await asyncio.wait_for(browser.communicate(), 60)
    finally:
        if browser.returncode is None:
            browser.kill()
    return Visit(output.decode(), _requests_of_the_page(log))


def _requests_of_the_page(log: Path) -> list[str]:
    """Addresses from Chromium's network log. What the browser asks for by itself has no origin."""
    found = msgspec.json.decode(log.read_bytes())
    start = found["constants"]["logEventTypes"]["URL_REQUEST_START_JOB"]
    begun = [
        event["params"]
        for event in found["events"]
        if event["type"] == start and "url" in event.get("params", ())
    ]
    return [
        request["url"]
        for request in begun
        if request.get("request_type") == "main frame" or request.get("initiator") != "not an origin"
        if request["url"].startswith("http")
    ]


async def test_the_browser_would_tell_if_a_page_asked_strangers(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text('<img src="http://stranger.example/pixel.png">')
    assert (await visit(page.as_uri(), tmp_path)).requests == ["http://stranger.example/pixel.png"]


async def test_the_documentation_shows_every_route_without_the_internet(node: Node, tmp_path: Path) -> None:
    seen = await visit(f"{node.url}/docs/api", tmp_path)

    page = Page(seen.html)
    for route in ROUTES:
        if route.hidden:
            continue
        path, *others = route.paths
        assert f"{route.method} {path}" in page.headings
        for other in others:
            assert f">{other}</code>" in seen.html
    assert page.scripts == 1
    assert all(each.startswith(f"{node.url}/docs/") for each in seen.requests)


async def test_the_documentation_says_which_scope_a_route_needs(node: Node) -> None:
    async with node.client() as client:
        document = (await client.get("/openapi.json")).json()
    for route in ROUTES:
        if route.hidden:
            continue
        for path in (route.path, *route.also):
            operation = document["paths"][path][route.method.lower()]
            if route.scope == PUBLIC:
                assert "security" not in operation
            else:
                needed = [[scope] for scope in (route.scope, route.or_scope) if scope is not None] or [[]]
                expected = [{scheme: each} for each in needed for scheme in ("bearer", "apiKey")]
                assert operation["security"] == expected


async def test_an_error_page_loads_only_its_style(node: Node, tmp_path: Path) -> None:
    seen = await visit(f"{node.url}/problems/dedup-conflict", tmp_path)
    assert "409 Another event has the dedup_id" in Page(seen.html).headings
    own = f"{node.url}/problems/dedup-conflict"
    assert seen.requests[0] == own
    assert all(each.startswith(f"{node.url}/docs/assets/") for each in seen.requests[1:])


async def test_every_link_leads_somewhere(node: Node) -> None:
    async with node.client() as client:
        for path in PAGES:
            answer = await client.get(path)
            assert answer.status_code == 200, path
            assert "default-src 'none'" in answer.headers["content-security-policy"]
            page = Page(answer.text)
            for link in page.links:
                if link.startswith("#"):
                    assert link[1:] in page.ids, f"{path} links to {link}"
                else:
                    expected = 303 if link == "/console" else 200  # to sign in
                    assert (await client.get(link)).status_code == expected, f"{path} links to {link}"


async def test_every_error_says_what_to_do(node: Node) -> None:
    async with node.client() as client:
        for error, kind in KINDS.items():
            message, _, advice = (error.__doc__ or "").partition("\n\n")
            assert message, error
            assert advice.strip(), f"{error}: what follows the first line is what the page says to do"
            text = (await client.get(f"/problems/{kind.slug}")).text
            assert f"/problems/{kind.slug}&#34;" in text  # the example's type
            assert f"&#34;status&#34;: {kind.status}" in text


async def test_a_host_header_cannot_write_into_a_page(node: Node) -> None:
    async with node.client() as client:
        answer = await client.get("/docs/api", headers={"host": 'a.example"><script>alert(1)</script>'})
    assert "a.example" not in answer.text
    assert "<script>" not in answer.text
