"""The list of events, and the live tail, which shows new events as they come."""

from __future__ import annotations

import time
from typing import Annotated, Final, NamedTuple
from urllib.parse import urlencode

from msgspec import Meta
from starlette.responses import Response

from triggers.console.desk import Desk, page_route, shown
from triggers.console.forms import query_of
from triggers.console.live import Drawn, Live, LivePart
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

AGAIN_SECONDS: Final = 60.0
"""Frames tell of everything that the tail shows, unless the log could not be read for a while."""
MOST_CHARACTERS: Final = 300
TypeText = Annotated[str, Query("type"), Meta(max_length=MOST_CHARACTERS)]


class AskedEvents(NamedTuple):
    """The filters of the list, as texts. Empty ones are not used."""

    type: str = ""
    subject: str = ""
    undelivered: str = ""
    since: str = ""
    until: str = ""
    cursor: str = ""

    @classmethod
    def of(cls, request: Request) -> AskedEvents:
        """Return the filters in a request. The API says which of them are wrong."""
        given = request.query_params
        return cls(*[given.get(name, "").strip()[:MOST_CHARACTERS] for name in cls._fields])

    @property
    def filtered(self) -> bool:
        """Whether not all events are wanted."""
        return any(self[:-1])

    @property
    def query(self) -> str:
        """The query of the first page with these filters."""
        return self.link(cursor="")

    def link(self, **changed: str) -> str:
        """Return the query of a page that differs in some of these."""
        return query_of(self._asdict() | changed)


class EventListPages:
    """Handlers of these pages."""

    def __init__(self, desk: Desk, live: Live) -> None:
        self.desk = desk
        self._live = live

    @shown
    async def events(self, request: Request) -> Response:
        """List events, newest first."""
        session = await self.desk.session(request)
        return await self._page(request, session, AskedEvents.of(request))

    @shown
    async def tail(self, request: Request, event_type: TypeText = "") -> Response:
        """Show the newest events, and new ones as they come."""
        session = await self.desk.session(request)
        return await self._page(request, session, AskedEvents(type=event_type.strip()), tail=True)

    async def live(self, request: Request, event_type: TypeText = "") -> Response:
        """Keep the live tail up to date."""
        asked = AskedEvents(type=event_type.strip())
        announcer = Announcer()

        async def draw(session: Session, come: int) -> Drawn:
            found = await self._found(session, asked)
            url = self.desk.public_url(request)
            drawn = await self.desk.page(
                request, session, "events_list.html", found=found, asked=asked, url=url
            )
            told = announcer.tell(come, time.monotonic())
            again_seconds = TOLD_EVERY_SECONDS if announcer.has_more(come) else AGAIN_SECONDS
            return Drawn(bytes(drawn.body), again_seconds, told)

        accepted = Wanted(frozenset({StreamKind.ACCEPTED}), asked.type or None)
        return await self._live.answer(request, LivePart(EventRoutes.list_events, accepted, draw))

    async def _page(
        self, request: Request, session: Session, asked: AskedEvents, *, tail: bool = False
    ) -> Response:
        wrong, found = None, None
        try:
            found = await self._found(session, asked)
        except Invalid as error:
            wrong = str(error)
        return await self.desk.page(
            request,
            session,
            "events.html",
            200 if wrong is None else 422,
            found=found,
            asked=asked,
            wrong=wrong,
            tail=tail,
            as_type=urlencode({"type": asked.type}) if asked.type else "",
            url=self.desk.public_url(request),
        )

    async def _found(self, session: Session, asked: AskedEvents) -> EventPage:
        given = {name: text for name, text in asked._asdict().items() if text}
        return await self.desk.api.ask(session.caller, EventRoutes.list_events, limit=str(PAGE), **given)


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

    def has_more(self, come: int) -> bool:
        """Whether there is something to say later."""
        return come > self._come


ROUTES = (
    page_route("GET", "/events", EventListPages.events),
    page_route("GET", "/events/tail", EventListPages.tail),
    page_route("GET", "/events/tail/live", EventListPages.live),
)
