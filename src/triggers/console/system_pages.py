"""The page of the state of the service, for operators."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from triggers.console.desk import Desk, page_route, shown
from triggers.console.system_view import problems_of, tell
from triggers.domain import parse_time
from triggers.http.request import Request
from triggers.sessions.sessions import Session
from triggers.system.routes import SystemRoutes


class SystemPages:
    """Handlers of these pages."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    @shown
    async def system(self, request: Request) -> Response:
        """Show the state of the service."""
        return await self._page(request, "system.html")

    @shown
    async def live(self, request: Request) -> Response:
        """Return the part of the page that changes."""
        return await self._page(request, "system_live.html")

    async def _page(self, request: Request, template: str) -> Response:
        session: Session = await self.desk.session(request)
        state = await self.desk.api.ask(session.caller, SystemRoutes.get_system)
        values: dict[str, Any] = {
            "it": state,
            "problems": problems_of(state),
            "story": tell(state),
            "largest": max((each.size_bytes for each in state.postgresql.tables or []), default=0) or 1,
            "now": parse_time(state.at),
        }
        return await self.desk.page(request, session, template, **values)


ROUTES = (
    page_route("GET", "/system", SystemPages.system),
    page_route("GET", "/system/live", SystemPages.live),
)
