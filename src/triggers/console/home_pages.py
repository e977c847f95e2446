"""The console's first page, its search, its files, and the kit of components."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

from msgspec import Meta
from starlette.responses import Response

from triggers.console import kit
from triggers.console.assets import asset_response
from triggers.console.desk import Desk, page_route, shown
from triggers.console.navigation import places_for
from triggers.console.rendering import page
from triggers.console.search import find
from triggers.errors import NotFound
from triggers.http.request import Request


class HomePages:
    """Handlers of these pages. The kit is only shown if `dev` is true."""

    def __init__(self, desk: Desk, *, dev: bool) -> None:
        self.desk = desk
        self._dev = dev

    @shown
    async def home(self, request: Request) -> Response:
        """Redirect to the first page that the key may see."""
        session = await self.desk.session(request)
        places = places_for(self.desk.api, session.caller)
        return self.desk.to(request, f"/{places[0].name}" if places else "/events")

    @shown
    async def search(self, request: Request, q: Annotated[str, Meta(max_length=255)] = "") -> Response:
        """Open the only hit, or list the hits if there are several or none."""
        session = await self.desk.session(request)
        text = q.strip()
        if not text:
            return self.desk.to(request, "")
        found = await find(self.desk.api, session.caller, text)
        if len(found.hits) == 1:
            return self.desk.to(request, found.hits[0].path)
        return await self.desk.page(
            request, session, "search.html", q=text, found=found, as_type=urlencode({"type": text})
        )

    async def asset(self, name: str) -> Response:
        """Return a file by its hashed name."""
        return asset_response(name)

    @shown
    async def kit(self, request: Request) -> Response:
        """Show every component in each of its states. This needs `serve --dev`."""
        if not self._dev:
            raise NotFound("This page needs `triggers serve --dev`.")
        return page("kit.html", request.root_path, **kit.samples())


ROUTES = (
    page_route("GET", "", HomePages.home),
    page_route("GET", "/search", HomePages.search),
    page_route("GET", "/_kit", HomePages.kit),
    page_route("GET", "/assets/{name}", HomePages.asset),
)
