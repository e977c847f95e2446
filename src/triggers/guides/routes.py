"""The URLs of the guides, the reference, the search, the errors and the start page."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from html import escape
from typing import Annotated, Final

from msgspec import Meta
from starlette.responses import Response

from triggers import errors
from triggers.console.assets import asset_response
from triggers.guides import rendering
from triggers.guides.api_reference import reference
from triggers.guides.library import API, INDEX, library
from triggers.guides.rendering import PACKAGE, Site, html_response, text_response
from triggers.guides.search_index import MOST_CHARACTERS, SearchIndex
from triggers.http.kept import Kept
from triggers.http.pages import url_of
from triggers.http.problems import KINDS
from triggers.http.request import Request
from triggers.http.route import PUBLIC, Route

_MARKDOWN: Final = "text/markdown; charset=utf-8"
_MARKS: Final = ("@query@", "@results@")
"""Texts that no guide contains, for the places of a query and its results."""


class GuideRoutes:
    """Handlers of the pages for people who use the API.

    Each page is made once, in a thread, and kept. Only what exists is made, so callers cannot fill memory.
    """

    def __init__(
        self,
        document: Callable[[str], Awaitable[bytes]],
        public_url: str | None,
        *,
        console: bool,
        metrics: bool,
    ) -> None:
        """`document` gets the OpenAPI document for the path of a public URL. `console` and `metrics` say
        whether the console and /metrics are served with the API."""
        self._document = document
        self._public_url = public_url
        self._parts = {"console": console, "metrics": metrics}
        self._pages: Kept[bytes] = Kept()
        self._problems: Kept[bytes] = Kept()
        self._index: Kept[tuple[SearchIndex, list[str]]] = Kept()

    async def home(self, request: Request) -> Response:
        """Get the start page."""
        site = self._site(request)
        return await _page(
            self._pages,
            ("home", site.url),
            lambda: rendering.make_page("home.html", site, "Durable webhooks and inboxes"),
        )

    async def index(self, request: Request) -> Response:
        """Get the list of guides."""
        return await self._guide(request, INDEX)

    async def guide(self, request: Request, page: str) -> Response:
        """Get a guide as a page, or with `.md` at the end as Markdown."""
        return await self._guide(request, page)

    async def decision(self, request: Request, page: str) -> Response:
        """Get the record of a decision."""
        return await self._guide(request, f"adr/{page}")

    async def search(
        self,
        request: Request,
        q: Annotated[str, Meta(description="Words to search for.")] = "",
    ) -> Response:
        """Search the guides. The answer is put together from parts that are made once."""
        site = self._site(request)
        index, (before, between, after) = await self._index.get("index", lambda: self._make_index(site))
        items = index.find(q)
        shown = escape(q[:MOST_CHARACTERS])
        said = f"Results for “{shown}”" if items else f"Nothing found for “{shown}”"
        heading = f"<h1>{said if q.strip() else 'Search'}</h1>"
        results = f'{heading}<ul id="results">{"".join(items)}</ul>'
        return html_response(f"{before}{shown}{between}{results}{after}".encode())

    async def guide_asset(self, name: str) -> Response:
        """Get a style sheet, script or font. Its name contains a hash of its content."""
        return asset_response(name, PACKAGE)

    async def list_for_models(self, request: Request) -> Response:
        """Get the list of guides in the form of llms.txt."""
        text = rendering.make_list(library().menu, request.root_path)
        return text_response(text.encode(), "text/plain; charset=utf-8")

    async def problem_index(self, request: Request) -> Response:
        """Get the list of all errors."""
        site, kinds = self._site(request), sorted(KINDS.values())
        return await _page(
            self._problems,
            "",
            lambda: rendering.make_page("problems.html", site, "Errors", kinds=kinds),
        )

    async def problem_page(self, request: Request, slug: str) -> Response:
        """Get the page of one error: its meaning, what to do, and an example."""
        found = next((error for error, kind in KINDS.items() if kind.slug == slug), None)
        if found is None:
            raise errors.NotFound("No error has this name.")
        site = self._site(request)
        return await _page(self._problems, slug, lambda: rendering.make_problem(found, site))

    def url(self, request: Request) -> str:
        """The URL that examples on pages use. Without a public URL it is the address to which the caller
        connected. It is not the header Host, because each value of that would need a page of its own."""
        host, port = request.scope["server"] or ("localhost", 80)
        return (self._public_url or url_of(host, port)).rstrip("/")

    async def _guide(self, request: Request, page: str) -> Response:
        name = page.removesuffix(".md")
        text = library().texts.get(name)
        if text is None:
            raise errors.NotFound("No guide has this name.")
        site = self._site(request)
        if name == API:
            return await self._reference(site, text, as_markdown=page != name)
        if page != name:
            return text_response(text.encode(), _MARKDOWN)
        return await _page(self._pages, name, lambda: rendering.make_guide(name, text, site))

    async def _reference(self, site: Site, text: str, *, as_markdown: bool) -> Response:
        """The guide `api`, with the reference of all routes behind its text."""
        document = await self._document(site.root_path)

        def whole() -> str:
            return f"{text}\n{reference(document, site.url)}"

        if as_markdown:
            return text_response(await _kept(self._pages, (API, site.url, "text"), whole), _MARKDOWN)
        return await _page(self._pages, (API, site.url), lambda: rendering.make_guide(API, whole(), site))

    async def _make_index(self, site: Site) -> tuple[SearchIndex, list[str]]:
        document = await self._document(site.root_path)

        def made() -> tuple[SearchIndex, list[str]]:
            added = {API: reference(document, site.url)}
            index = SearchIndex(rendering.places(added, site.root_path))
            return index, rendering.make_search_frame(site, _MARKS)

        return await asyncio.to_thread(made)

    def _site(self, request: Request) -> Site:
        return Site(request.root_path, self.url(request), **self._parts)


async def _page(kept: Kept[bytes], name: Hashable, make: Callable[[], str]) -> Response:
    return html_response(await _kept(kept, name, make))


def _kept(kept: Kept[bytes], name: Hashable, make: Callable[[], str]) -> Awaitable[bytes]:
    """The text of this name. It is made in a thread, so that the event loop is free meanwhile."""

    def encoded() -> bytes:
        return make().encode()

    return kept.get(name, lambda: asyncio.to_thread(encoded))


ROUTES = (
    Route("GET", "/", GuideRoutes.home, PUBLIC, hidden=True),
    Route("GET", "/docs", GuideRoutes.index, PUBLIC, hidden=True),
    Route("GET", "/docs/search", GuideRoutes.search, PUBLIC, hidden=True),
    Route("GET", "/docs/assets/{name}", GuideRoutes.guide_asset, PUBLIC, hidden=True),
    Route("GET", "/docs/{page}", GuideRoutes.guide, PUBLIC, hidden=True),
    Route("GET", "/docs/adr/{page}", GuideRoutes.decision, PUBLIC, hidden=True),
    Route("GET", "/llms.txt", GuideRoutes.list_for_models, PUBLIC, hidden=True),
    Route("GET", "/problems", GuideRoutes.problem_index, PUBLIC, hidden=True),
    Route("GET", "/problems/{slug}", GuideRoutes.problem_page, PUBLIC, hidden=True),
)
