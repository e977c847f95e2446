"""The list of events, and the live tail, which shows new events as they come."""

from __future__ import annotations

import time
from typing import Annotated, Final
from urllib.parse import urlencode

from msgspec import Meta
from starlette.responses import Response

from triggers.console.desk import Desk, page_route, shown
from triggers.console.live import Drawn, Live, Part
from triggers.console.words import counted
from triggers.errors import Invalid
from triggers.events.routes import EventPage, EventRoutes
from triggers.http.parameters import Query
from triggers.http.request import Request
from triggers.sessions.sessions import Session
from triggers.streams.frames import StreamKind
from triggers.streams.stream import Wanted

PAGE: Final = 50
TOLD_EVERY_SECONDS: Final = 10.0
"""Minimum time between two announcements of the tail, so that a screen reader can be used beside it."""

Text = Annotated[str, Meta(max_length=300)]
TypeText = Annotated[str, Query("type"), Meta(max_length=300)]


class EventListPages:
    """Handlers of these pages."""

    def __init__(self, desk: Desk, live: Live) -> None:
        self.desk = desk
        self._live = live

    @shown
    async def events(
        self,
        request: Request,
        event_type: TypeText = "",
        since: Text = "",
        until: Text = "",
        cursor: Text = "",
    ) -> Response:
        """List events, newest first."""
        session = await self.desk.session(request)
        asked = {"type": event_type.strip(), "since": since.strip(), "until": until.strip()}
        return await self._page(request, session, asked, cursor)

    @shown
    async def tail(self, request: Request, event_type: TypeText = "") -> Response:
        """Show the newest events, and new ones as they come."""
        session = await self.desk.session(request)
        return await self._page(request, session, {"type": event_type.strip()}, tail=True)

    async def live(self, request: Request, event_type: TypeText = "") -> Response:
        """Keep the live tail up to date."""
        wanted = event_type.strip()
        announcer = Announcer()

        async def draw(session: Session, come: int) -> Drawn:
            found = await self._found(session, {"type": wanted})
            asked, url = {"type": wanted}, self.desk.public_url(request)
            drawn = await self.desk.page(
                request, session, "events_list.html", found=found, asked=asked, url=url, later=False
            )
            # Frames tell of everything that is shown here. Only the stream's gaps need another look.
            return Drawn(bytes(drawn.body), 60.0, announcer.tell(come, time.monotonic()))

        accepted = Wanted(frozenset({StreamKind.ACCEPTED}), wanted or None)
        return await self._live.answer(request, Part(EventRoutes.list_events, accepted, draw))

    async def _page(
        self,
        request: Request,
        session: Session,
        asked: dict[str, str],
        cursor: str = "",
        *,
        tail: bool = False,
    ) -> Response:
        wrong, found = None, None
        try:
            found = await self._found(session, asked, cursor)
        except Invalid as error:
            wrong = str(error)
        return await self.desk.page(
            request,
            session,
            "events.html",
            200 if wrong is None else 422,
            found=found,
            asked={"since": "", "until": "", **asked},
            wrong=wrong,
            later=bool(cursor),
            tail=tail,
            as_type=urlencode({"type": asked["type"]}) if asked["type"] else "",
            url=self.desk.public_url(request),
        )

    async def _found(self, session: Session, asked: dict[str, str], cursor: str = "") -> EventPage:
        given = {name: text for name, text in asked.items() if text}
        return await self.desk.api.ask(
            session.caller, EventRoutes.list_events, limit=str(PAGE), cursor=cursor or None, **given
        )


class Announcer:
    """Says how many events have come, at most every TOLD_EVERY_SECONDS."""

    def __init__(self) -> None:
        self._come = 0  # as was said the last time
        self._next_at = float("-inf")

    def tell(self, come: int, now: float) -> str | None:
        """Return what to say. `come`: events since the beginning. `now`: seconds on a monotonic clock."""
        new = come - self._come
        if not new or now < self._next_at:
            return None
        self._come, self._next_at = come, now + TOLD_EVERY_SECONDS
        sampled = f" Only the newest {PAGE} are shown." if new > PAGE else ""
        return f"{counted(new, 'new event')}.{sampled}"


ROUTES = (
    page_route("GET", "/events", EventListPages.events),
    page_route("GET", "/events/tail", EventListPages.tail),
    page_route("GET", "/events/tail/live", EventListPages.live),
)
