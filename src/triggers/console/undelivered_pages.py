"""Pages of undelivered events: the subscriptions that have some, and the deliveries of one subscription."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Final, NamedTuple
from urllib.parse import urlencode

from msgspec import Meta
from starlette.responses import Response

from triggers.console.backlog_words import (
    TABS,
    last_failure,
    reason_in_words,
    state_of,
    tell_group,
    tell_undelivered,
)
from triggers.console.choosing import NOTHING_CHOSEN, PAGE_ROWS, Done, Remark, chosen_in, do_each
from triggers.console.desk import Desk, page_route, shown
from triggers.console.forms import query_of, texts_in
from triggers.console.health import health_of, name_of, tell_due
from triggers.console.words import capped
from triggers.deliveries.overview_routes import OverviewRoutes, UndeliveredView
from triggers.deliveries.routes import DeliveryRoutes
from triggers.domain import Caller
from triggers.errors import Invalid
from triggers.http.request import Request
from triggers.replays.routes import ReplayRoutes
from triggers.sessions.sessions import Session
from triggers.subscriptions.routes import SubscriptionRoutes

Text = Annotated[str, Meta(max_length=300)]

_ACTIONS: Final = {
    "retry": (DeliveryRoutes.retry_delivery, Done("due now", "is", "are")),
    "cancel": (DeliveryRoutes.cancel_delivery, Done("cancelled")),
}


class Asked(NamedTuple):
    """The deliveries that a page of one subscription shows."""

    status: str = ""
    since: str = ""
    until: str = ""
    cursor: str = ""

    @classmethod
    def of(cls, given: Mapping[str, str]) -> Asked:
        """Return what a query or a form asks for. The API says which of its times are wrong."""
        asked = cls(**texts_in(given, cls._fields))
        return asked if asked.status in TABS else asked._replace(status="")

    def link(self, **changed: str) -> str:
        """Return the query of a page that differs in some of these."""
        return query_of(self._asdict() | changed)


class UndeliveredPages:
    """Handlers of these pages."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    @shown
    async def undelivered(self, request: Request, cursor: Text = "") -> Response:
        """List the subscriptions that have undelivered events, worst first."""
        session = await self.desk.session(request)
        found = await self.desk.api.ask(
            session.caller, OverviewRoutes.list_undelivered, limit=str(PAGE_ROWS), cursor=cursor or None
        )
        return await self.desk.page(
            request,
            session,
            "undelivered.html",
            rows=[(each, state_of(each), last_failure(each)) for each in found.data],
            sentences=tell_undelivered(found.data, more=found.next_cursor is not None),
            next_cursor=found.next_cursor,
            later=bool(cursor),
        )

    @shown
    async def group(self, request: Request, subscription_id: str) -> Response:
        """List the deliveries of one subscription that did not arrive."""
        session = await self.desk.session(request)
        return await self._group(request, session, subscription_id, Asked.of(request.query_params))

    @shown
    async def chosen(self, request: Request, subscription_id: str) -> Response:
        """Act on the chosen deliveries. For all that match, show the plan of a job instead."""
        session, form = await self.desk.posted(request)
        asked = Asked.of(form)
        action = form.get("action", "")
        if action not in _ACTIONS:
            raise Invalid("The form names no action.")
        chosen = chosen_in(form)
        if chosen.all:
            job = action if asked.status == "pending" else "replay"
            query = {"subscription_id": subscription_id, "action": job} | _range(asked)
            return self.desk.to(request, f"/jobs/new?{urlencode(query)}")
        said = NOTHING_CHOSEN
        if chosen.rows:
            said = await self._act(session.caller, subscription_id, chosen.rows, action)
            if action == "retry" and said.kind == "arrived":
                said = await self._due(session.caller, subscription_id, said)
        return await self._group(request, session, subscription_id, asked, said)

    async def _act(self, caller: Caller, subscription_id: str, rows: list[str], action: str) -> Remark:
        handler, done = _ACTIONS[action]

        async def act(event_id: str) -> object:
            return await self.desk.api.ask(caller, handler, delivery_id=f"{event_id}.{subscription_id}")

        return await do_each(rows, act, done)

    async def _due(self, caller: Caller, subscription_id: str, said: Remark) -> Remark:
        """Add to a remark about due deliveries why they are not all sent at once."""
        asked = SubscriptionRoutes.get_subscription
        to = await self.desk.api.ask(caller, asked, subscription_id=subscription_id)
        late = tell_due(to)
        return Remark(f"{said.text} {late}", "waiting") if late else said

    async def _group(
        self,
        request: Request,
        session: Session,
        subscription_id: str,
        asked: Asked,
        said: Remark | None = None,
    ) -> Response:
        now, api, caller = datetime.now(UTC), self.desk.api, session.caller
        to = await api.ask(caller, SubscriptionRoutes.get_subscription, subscription_id=subscription_id)
        counts = await api.ask(caller, OverviewRoutes.list_undelivered, subscription_id=subscription_id)
        group = counts.data[0] if counts.data else None
        if not asked.status:
            asked = asked._replace(status=_first_tab(group))
        found, wrong = None, None
        try:
            found = await api.ask(
                caller,
                DeliveryRoutes.list_deliveries,
                status=asked.status,
                subscription_id=subscription_id,
                limit=str(PAGE_ROWS),
                cursor=asked.cursor or None,
                **_range(asked),
            )
        except Invalid as error:
            wrong = str(error)
        return await self.desk.page(
            request,
            session,
            "undelivered_group.html",
            200 if wrong is None else 422,
            to=to,
            name=name_of(to),
            health=state_of(group) if group is not None else health_of(to, now),
            group=group,
            sentences=tell_group(name_of(to), group, now),
            tabs=TABS,
            probe_at=to.next_attempt if to.failing_since else None,
            all_words=_all_words(asked, group),
            asked=asked,
            found=found,
            rows=[] if found is None else [(each, reason_in_words(each.reason)) for each in found.data],
            wrong=wrong,
            said=said,
            may_act=api.may(caller, DeliveryRoutes.retry_delivery) and to.status != "disabled",
            may_plan=api.may(caller, ReplayRoutes.create_replay),
            now=now,
        )


def _range(asked: Asked) -> dict[str, str]:
    return {name: text for name, text in (("since", asked.since), ("until", asked.until)) if text}


def _all_words(asked: Asked, group: UndeliveredView | None) -> str:
    """Return the text of the choice of all deliveries that match: a job sends those of three statuses."""
    if asked.status != "pending":
        return "All dead, cancelled and expired"
    if group is None or _range(asked):
        return "All that match"
    return f"All {capped(group.pending, exact=group.pending_exact)} that match"


def _first_tab(group: UndeliveredView | None) -> str:
    return "pending" if group is not None and not group.dead and group.pending else "dead"


ROUTES = (
    page_route("GET", "/undelivered", UndeliveredPages.undelivered),
    page_route("GET", "/undelivered/{subscription_id}", UndeliveredPages.group),
    page_route("POST", "/undelivered/{subscription_id}/chosen", UndeliveredPages.chosen),
)
