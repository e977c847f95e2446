"""The page of one event, and the forms that retry or cancel its deliveries."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime
from typing import Annotated, Any, Final, NamedTuple
from uuid import UUID

import msgspec
from msgspec import Meta
from starlette.responses import Response

from triggers.console.desk import Desk, page_route, shown
from triggers.console.event_view import gather
from triggers.console.live import Drawn, Live, LivePart
from triggers.console.payload_tree import draw_in_steps
from triggers.console.rendering import HEADERS
from triggers.deliveries.routes import DeliveryRoutes
from triggers.domain import Scope
from triggers.errors import Conflict
from triggers.events.routes import EventDetail, EventRoutes
from triggers.fairness.pace import do
from triggers.http.request import Request
from triggers.sessions.sessions import Session
from triggers.streams.frames import StreamKind
from triggers.streams.stream import Wanted

FIRST_NODES: Final = 500
MOST_NODES: Final = 20_500
_FILES: Final = {**HEADERS, "content-security-policy": "default-src 'none'; sandbox"}

Nodes = Annotated[int, Meta(ge=1, le=MOST_NODES)]
View = Annotated[str, Meta(pattern="^(tree|raw)$")]


class PayloadChoice(NamedTuple):
    """How to show a payload."""

    view: View = "tree"
    nodes: Nodes = FIRST_NODES
    """Number of nodes of the tree that are shown."""


class EventPages:
    """Handlers of these pages."""

    def __init__(self, desk: Desk, live: Live) -> None:
        self.desk = desk
        self._live = live

    @shown
    async def event(
        self, request: Request, event_id: str, view: View = "tree", nodes: Nodes = FIRST_NODES
    ) -> Response:
        """Show one event: its deliveries, its payload and its attributes."""
        session = await self.desk.session(request)
        return await self._event(request, session, event_id, PayloadChoice(view, nodes))

    async def live(self, request: Request, event_id: str) -> Response:
        """Keep the part of an event's page up to date that changes."""

        async def draw(session: Session, _: int) -> Drawn:
            now = datetime.now(UTC)
            found = await gather(self.desk.api, session.caller, event_id, now)
            mend = self.desk.api.may(session.caller, DeliveryRoutes.retry_delivery)
            drawn = await self.desk.page(
                request, session, "event_live.html", found=found, now=now, said=None, may_mend=mend
            )
            return Drawn(bytes(drawn.body), found.again_seconds)

        happens = Wanted(frozenset({StreamKind.ATTEMPT, StreamKind.DEAD}), event_id=_id_of(event_id))
        return await self._live.answer(request, LivePart(EventRoutes.get_event, happens, draw))

    @shown
    async def payload(self, request: Request, event_id: str) -> Response:
        """Return the exact bytes of a payload, as text that a browser does not interpret."""
        session = await self.desk.session(request)
        answer = await self.desk.api.ask(session.caller, EventRoutes.get_payload, event_id=event_id)
        return Response(bytes(answer.body), media_type="text/plain; charset=utf-8", headers=dict(_FILES))

    @shown
    async def curl(self, request: Request, event_id: str) -> Response:
        """Return a command that sends the same content again, as a new event."""
        session = await self.desk.session(request)
        session.caller.require(Scope.EVENTS_READ)  # the command contains the payload
        event = await self.desk.api.ask(session.caller, EventRoutes.get_event, event_id=event_id)
        text = curl_of(event, self.desk.public_url(request))
        return Response(text, media_type="text/plain; charset=utf-8", headers=dict(_FILES))

    @shown
    async def retry(self, request: Request, delivery_id: str) -> Response:
        """Retry a pending delivery now, or send a settled delivery again."""
        return await self._mend(request, delivery_id, DeliveryRoutes.retry_delivery)

    @shown
    async def cancel(self, request: Request, delivery_id: str) -> Response:
        """Cancel an unsettled delivery."""
        return await self._mend(request, delivery_id, DeliveryRoutes.cancel_delivery)

    async def _mend(self, request: Request, delivery_id: str, handler: Any) -> Response:
        session, _ = await self.desk.posted(request)
        event_id, _, subscription_id = delivery_id.partition(".")
        try:
            await self.desk.api.ask(session.caller, handler, delivery_id=delivery_id)
        except Conflict as error:
            return await self._event(request, session, event_id, said=str(error))
        return self.desk.to(request, f"/events/{event_id}#delivery-{subscription_id}")

    async def _event(
        self,
        request: Request,
        session: Session,
        event_id: str,
        choice: PayloadChoice = PayloadChoice(),  # noqa: B008 - it cannot change
        *,
        said: str | None = None,
    ) -> Response:
        now = datetime.now(UTC)
        found = await gather(self.desk.api, session.caller, event_id, now)
        payload = payload_of(found.event)
        tree = None
        if payload is not None and choice.view == "tree":
            tree = await do(draw_in_steps(payload, choice.nodes), session.own.org_id)
        return await self.desk.page(
            request,
            session,
            "event.html",
            200 if said is None else 409,
            found=found,
            now=now,
            said=said,
            nodes=choice.nodes,
            raw=payload.decode("utf-8", "replace") if payload is not None and choice.view == "raw" else None,
            tree=tree,
            may_mend=self.desk.api.may(session.caller, DeliveryRoutes.retry_delivery),
        )


def _id_of(text: str) -> UUID:
    """Return the id in a path. An id that is no UUID belongs to no event, so the page of it is an error."""
    try:
        return UUID(text)
    except ValueError:
        return UUID(int=0)


def payload_of(event: EventDetail) -> bytes | None:
    """Return the bytes of an event's payload, or None if the caller may not see the payload."""
    if event.payload is msgspec.UNSET:
        return None
    return (
        bytes(event.payload) if isinstance(event.payload, msgspec.Raw) else msgspec.json.encode(event.payload)
    )


def curl_of(event: EventDetail, url: str) -> str:
    """Return a shell command that sends the event once more. It reads the API key from the variable KEY."""
    known = {"type": event.type, "source": event.source, "subject": event.subject}
    members = {name: value for name, value in known.items() if value is not None}
    body = msgspec.json.encode({**members, "payload": event.payload}).decode()
    return (
        f"curl -i {shlex.quote(url + '/v1/events')} \\\n"
        '  -H "Authorization: Bearer $KEY" \\\n'
        "  -H 'Content-Type: application/json' \\\n"
        f"  -d {shlex.quote(body)}\n"
    )


ROUTES = (
    page_route("GET", "/events/{event_id}", EventPages.event),
    page_route("GET", "/events/{event_id}/live", EventPages.live),
    page_route("GET", "/events/{event_id}/payload", EventPages.payload),
    page_route("GET", "/events/{event_id}/curl", EventPages.curl),
    page_route("POST", "/deliveries/{delivery_id}/retry", EventPages.retry),
    page_route("POST", "/deliveries/{delivery_id}/cancel", EventPages.cancel),
)
