"""The page of the state of the service, for operators."""

from __future__ import annotations

from typing import Any, Final

from starlette.responses import Response

from triggers.console.desk import Desk, page_route, shown
from triggers.console.live import Drawn, Live, LivePart
from triggers.console.system_view import problems_of, tell
from triggers.domain import parse_time
from triggers.http.request import Request
from triggers.sessions.sessions import Session
from triggers.streams.stream import Wanted
from triggers.system.routes import SystemRoutes

_AGAIN_SECONDS: Final = 5.0
"""No frame of a stream tells of ages, sizes and use, so the page is drawn again after this time."""


class SystemPages:
    """Handlers of these pages."""

    def __init__(self, desk: Desk, live: Live) -> None:
        self.desk = desk
        self._live = live

    @shown
    async def system(self, request: Request) -> Response:
        """Show the state of the service."""
        return await self._page(request, await self.desk.session(request), "system.html")

    async def live(self, request: Request) -> Response:
        """Keep the part of the page up to date that changes."""

        async def draw(session: Session, _: int) -> Drawn:
            drawn = await self._page(request, session, "system_live.html")
            return Drawn(bytes(drawn.body), _AGAIN_SECONDS)

        return await self._live.answer(request, LivePart(SystemRoutes.get_system, Wanted(), draw))

    async def _page(self, request: Request, session: Session, template: str) -> Response:
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
