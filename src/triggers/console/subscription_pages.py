"""Pages of subscriptions: the list, and one subscription with its attempts and the forms that change it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Final, NamedTuple

import msgspec
from msgspec import Meta
from starlette.responses import Response

from triggers.console import trend
from triggers.console.desk import Desk, page_route, safe_path, shown
from triggers.console.health import health_of, name_of, sickest_first, tell_health
from triggers.console.last_attempts import (
    last_success,
    results_of,
    tell_times,
    tell_waiting,
    undelivered_words,
)
from triggers.console.story import State
from triggers.console.subscription_edit_pages import OVERLAPS
from triggers.console.trend import Chosen, sparkline
from triggers.console.words import duration, failure
from triggers.deliveries.overview_routes import OverviewRoutes
from triggers.deliveries.routes import DeliveryRoutes
from triggers.errors import Conflict, Invalid
from triggers.http.request import Request
from triggers.previews.delivery_tests import DeliveryTestRoutes, TestAnswer
from triggers.push.retry import DEFAULT_SCHEDULE
from triggers.sessions.sessions import Session
from triggers.statistics.routes import StatisticsRoutes
from triggers.subscriptions.routes import SubscriptionRoutes

_PAGE: Final = "200"
_ATTEMPTS: Final = 30
_LOOKED_AT: Final = "100"
"""Number of attempts whose results are counted."""
Text = Annotated[str, Meta(max_length=300)]


class PageNotice(NamedTuple):
    """A notice on the page about the last action, and its state."""

    text: str
    kind: str = "failed"


class SubscriptionPages:
    """Handlers of these pages."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    @shown
    async def subscriptions(self, request: Request, cursor: Text = "") -> Response:
        """List a page of subscriptions with their health. Those that need attention come first."""
        session = await self.desk.session(request)
        now = datetime.now(UTC)
        found = await self.desk.api.ask(
            session.caller, SubscriptionRoutes.list_subscriptions, limit=_PAGE, cursor=cursor or None
        )
        counted = await self.desk.api.ask(
            session.caller, StatisticsRoutes.list_statistics, limit=_PAGE, cursor=cursor or None
        )
        sparks = {each.subscription_id: sparkline(each.delivered, each.failed) for each in counted.data}
        rows = [
            (each, health_of(each, now), name_of(each), sparks.get(each.id))
            for each in sickest_first(found.data, now)
        ]
        return await self.desk.page(
            request,
            session,
            "subscriptions.html",
            rows=rows,
            failing=sum(health.state is State.FAILED for _, health, _, _ in rows),
            paused=sum(each.status == "paused" for each in found.data),
            next_cursor=found.next_cursor,
            later=bool(cursor),
            url=self.desk.public_url(request),
            now=now,
        )

    @shown
    async def subscription(self, request: Request, subscription_id: str, chosen: Chosen = "24h") -> Response:
        """Show one subscription: its health, its attempts and its settings."""
        session = await self.desk.session(request)
        return await self._subscription(request, session, subscription_id, chosen=chosen)

    @shown
    async def pause(self, request: Request, subscription_id: str) -> Response:
        """Pause a subscription."""
        return await self._change(request, subscription_id, SubscriptionRoutes.pause_subscription)

    @shown
    async def resume(self, request: Request, subscription_id: str) -> Response:
        """Resume a subscription."""
        return await self._change(request, subscription_id, SubscriptionRoutes.resume_subscription)

    @shown
    async def enable(self, request: Request, subscription_id: str) -> Response:
        """Enable a disabled subscription."""
        return await self._change(request, subscription_id, SubscriptionRoutes.enable_subscription)

    @shown
    async def disable(self, request: Request, subscription_id: str) -> Response:
        """Disable a subscription. This cancels its undelivered events."""
        return await self._change(request, subscription_id, SubscriptionRoutes.disable_subscription)

    @shown
    async def test(self, request: Request, subscription_id: str) -> Response:
        """Send a test event to a subscription, and show the result."""
        session, _ = await self.desk.posted(request)
        said = PageNotice("")
        try:
            answer = await self.desk.api.ask(
                session.caller, DeliveryTestRoutes.test_subscription, subscription_id=subscription_id
            )
        except Conflict as error:
            said = PageNotice(str(error))
        else:
            attempt = msgspec.json.decode(bytes(answer.body), type=TestAnswer).attempt
            if attempt is None:
                said = PageNotice(
                    "The test event is stored, but no attempt was made within 20 seconds.", "waiting"
                )
            elif attempt.outcome == "delivered":
                said = PageNotice(
                    f"The test event arrived in {duration(attempt.duration_ms / 1000)}.", "arrived"
                )
            else:
                met = failure(attempt.reason, attempt.status_code)
                said = PageNotice(f"The test event was not delivered: {met}.")
        return await self._subscription(request, session, subscription_id, said=said)

    async def _change(self, request: Request, subscription_id: str, handler: Any) -> Response:
        session, form = await self.desk.posted(request)
        try:
            await self.desk.api.ask(session.caller, handler, subscription_id=subscription_id)
        except (Conflict, Invalid) as error:
            return await self._subscription(request, session, subscription_id, said=PageNotice(str(error)))
        back = form.get("back")
        return self.desk.to(request, safe_path(back) if back else f"/subscriptions/{subscription_id}")

    async def _subscription(
        self,
        request: Request,
        session: Session,
        subscription_id: str,
        *,
        chosen: str = "24h",
        said: PageNotice | None = None,
    ) -> Response:
        now, api, caller = datetime.now(UTC), self.desk.api, session.caller
        found = await api.ask(caller, SubscriptionRoutes.get_subscription, subscription_id=subscription_id)
        counted = await api.ask(
            caller, StatisticsRoutes.get_statistics, range=chosen, subscription=str(found.id)
        )
        listed = await api.ask(
            caller,
            DeliveryRoutes.list_subscription_attempts,
            subscription_id=subscription_id,
            limit=_LOOKED_AT,
        )
        waiting = await api.ask(caller, OverviewRoutes.list_undelivered, subscription_id=subscription_id)
        group = waiting.data[0] if waiting.data else None
        last = last_success(found.last_success_at, listed.data)
        found = msgspec.structs.replace(found, last_success_at=last)
        delays = found.retry.delays
        return await self.desk.page(
            request,
            session,
            "subscription.html",
            it=found,
            name=name_of(found),
            health=health_of(found, now),
            sentences=[*tell_health(found, now), *tell_waiting(group, listed.data)],
            undelivered=None if group is None else undelivered_words(group),
            times=tell_times(listed.data),
            attempts=[(each, failure(each.reason, each.status_code)) for each in listed.data[:_ATTEMPTS]],
            results=results_of(listed.data),
            chosen=chosen,
            lengths=trend.LENGTHS,
            bars=trend.attempts(counted),
            points=counted.points[::-1],
            frame=trend.frame(counted),
            gaps=trend.gaps(counted),
            overlaps=OVERLAPS,
            delays=DEFAULT_SCHEDULE.delays if delays is None else delays,
            said=said,
            may_change=api.may(caller, SubscriptionRoutes.pause_subscription),
            now=now,
        )


ROUTES = (
    page_route("GET", "/subscriptions", SubscriptionPages.subscriptions),
    page_route("GET", "/subscriptions/{subscription_id}", SubscriptionPages.subscription),
    page_route("POST", "/subscriptions/{subscription_id}/pause", SubscriptionPages.pause),
    page_route("POST", "/subscriptions/{subscription_id}/resume", SubscriptionPages.resume),
    page_route("POST", "/subscriptions/{subscription_id}/enable", SubscriptionPages.enable),
    page_route("POST", "/subscriptions/{subscription_id}/disable", SubscriptionPages.disable),
    page_route("POST", "/subscriptions/{subscription_id}/test", SubscriptionPages.test),
)
