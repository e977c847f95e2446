"""The overview: what needs attention, how much arrives, and which endpoints fail most."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final, NamedTuple
from uuid import UUID

from starlette.responses import HTMLResponse, Response

from triggers.console import trend
from triggers.console.attention import Facts, matters, tell_overview
from triggers.console.desk import Desk, page_route, shown
from triggers.console.health import host_of, name_of
from triggers.console.live import Drawn, Live, LivePart
from triggers.console.trend import Chosen
from triggers.domain import Caller
from triggers.errors import NotFound
from triggers.events.routes import EventRoutes
from triggers.http.request import Request
from triggers.sessions.sessions import Session
from triggers.statistics.body import Failing, Statistics
from triggers.statistics.duties import FLUSH_SECONDS
from triggers.statistics.routes import StatisticsRoutes
from triggers.streams.frames import StreamKind
from triggers.streams.stream import Wanted
from triggers.subscriptions.body import SubscriptionView
from triggers.subscriptions.routes import SubscriptionRoutes


class WorstEndpoint(NamedTuple):
    """A subscription with many failures. `share` is the share of its attempts that failed, in percent."""

    id: UUID
    name: str
    host: str
    numbers: Failing
    share: int


_AGAIN_SECONDS: Final = 60.0
"""Every minute a point is added to the charts, also if nothing happens."""


class OverviewPages:
    """Handlers of this page."""

    def __init__(self, desk: Desk, live: Live) -> None:
        self.desk = desk
        self._live = live

    @shown
    async def overview(self, request: Request, chosen: Chosen = "24h") -> Response:
        """Show what needs attention, charts, and the worst endpoints."""
        session = await self.desk.session(request)
        found = await self.desk.api.ask(session.caller, StatisticsRoutes.get_statistics, range=chosen)
        if not await self._has_events(session.caller, found):
            url = self.desk.public_url(request)
            return await self.desk.page(request, session, "overview_empty.html", url=url)
        return await self._page(request, session, "overview.html", found)

    async def live(self, request: Request, chosen: Chosen = "24h") -> Response:
        """Keep the overview up to date."""

        async def draw(session: Session, _: int) -> Drawn:
            found = await self.desk.api.ask(session.caller, StatisticsRoutes.get_statistics, range=chosen)
            drawn = await self._page(request, session, "overview_live.html", found)
            return Drawn(bytes(drawn.body), _AGAIN_SECONDS)

        happens = Wanted(frozenset({StreamKind.ACCEPTED, StreamKind.ATTEMPT}))
        part = LivePart(StatisticsRoutes.get_statistics, happens, draw, FLUSH_SECONDS)
        return await self._live.answer(request, part)

    async def _page(
        self, request: Request, session: Session, template: str, found: Statistics
    ) -> HTMLResponse:
        caller, now = session.caller, datetime.now(UTC)
        facts = await self._facts(caller, found)
        needed = matters(facts, now)
        return await self.desk.page(
            request,
            session,
            template,
            chosen=found.range,
            lengths=trend.LENGTHS,
            matters=needed,
            sentences=tell_overview(needed, found),
            figures=trend.figures(found),
            frame=trend.frame(found),
            gaps=trend.gaps(found),
            rows=trend.rows(found),
            worst=await self._worst(caller, found, [*facts.failing, *facts.some]),
            now=now,
        )

    async def _has_events(self, caller: Caller, found: Statistics) -> bool:
        """Whether there was ever an event. A key that may not list events is shown the numbers."""
        if found.totals.accepted or not self.desk.api.may(caller, EventRoutes.list_events):
            return True
        return bool((await self.desk.api.ask(caller, EventRoutes.list_events, limit="1")).events)

    async def _facts(self, caller: Caller, found: Statistics) -> Facts:
        ask, listed = self.desk.api.ask, SubscriptionRoutes.list_subscriptions
        hour = found
        if found.range != "1h":
            hour = await ask(caller, StatisticsRoutes.get_statistics, range="1h")
        return Facts(
            failing=(await ask(caller, listed, failing="true", limit="100")).data,
            disabled=(await ask(caller, listed, status="disabled", limit="100")).data,
            paused=(await ask(caller, listed, status="paused", limit="100")).data,
            some=(await ask(caller, listed, limit="100")).data,
            hour=hour,
        )

    async def _worst(
        self, caller: Caller, found: Statistics, known: list[SubscriptionView]
    ) -> list[WorstEndpoint]:
        """Return the worst subscriptions that still exist, with their names."""
        by_id = {each.id: each for each in known}
        worst = []
        for numbers in found.worst:
            its = by_id.get(numbers.subscription_id)
            if its is None:
                try:
                    its = await self.desk.api.ask(
                        caller,
                        SubscriptionRoutes.get_subscription,
                        subscription_id=str(numbers.subscription_id),
                    )
                except NotFound:
                    continue
            share = round(100 * numbers.failed / max(1, numbers.failed + numbers.delivered))
            worst.append(WorstEndpoint(its.id, name_of(its), host_of(its), numbers, share))
        return worst


ROUTES = (
    page_route("GET", "/overview", OverviewPages.overview),
    page_route("GET", "/overview/live", OverviewPages.live),
)
