"""The page that sends an event. Before that, it shows which subscriptions and inboxes would get the event."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final, NamedTuple, TypeAlias
from uuid import UUID

import msgspec
from msgspec import Meta
from starlette.responses import Response

from triggers import strict_json
from triggers.console.desk import Desk, Form, page_route, shown
from triggers.console.event_pages import payload_of
from triggers.console.forms import wrong_fields
from triggers.domain import MAX_EVENT_BYTES, Caller, Scope
from triggers.errors import (
    DedupConflict,
    Forbidden,
    Invalid,
    MalformedBody,
    TooLarge,
    TriggersError,
)
from triggers.events.routes import EventDetail, EventRoutes
from triggers.fairness.pace import do
from triggers.http.request import Request, request_with
from triggers.previews.event_routes import EventDryRun, EventPreviewRoutes
from triggers.sessions.sessions import Session

Send: TypeAlias = Callable[[Caller, bytes], Awaitable[tuple[UUID, bool]]]
"""Stores the event of a JSON text. Returns its id, and whether it was stored before."""

MAX_SEND_FORM_BYTES: Final = MAX_EVENT_BYTES * 2 + 16 * 1024
"""Browsers write each line break of a text with two bytes."""
OPTIONAL: Final = ("subject", "source", "ordering_key", "dedup_id")
_NEW: Final = {"type": "", "payload": '{\n  "n": 1\n}'}


class Checked(NamedTuple):
    """A form that was checked: its errors by field, and what the event would match, if that is known."""

    wrong: dict[str, str]
    run: EventDryRun | None = None


class SendPages:
    """Handlers of these pages."""

    def __init__(self, desk: Desk, send: Send) -> None:
        self.desk = desk
        self._send = send

    @shown
    async def send(self, request: Request, event: Annotated[str, Meta(max_length=64)] = "") -> Response:
        """Show the form, with the content of an event if there is one to copy."""
        session = await self._session(request)
        form, note = dict(_NEW), None
        if event:
            found = await self.desk.api.ask(session.caller, EventRoutes.get_event, event_id=event)
            form, note = copy_of(found), _note_of(found)
        judged = await self._judge(session, form) if form["type"] else Checked({})
        return await self._page(request, session, form, judged, note=note)

    @shown
    async def check(self, request: Request) -> Response:
        """Show what the event of a form would match. Nothing is stored."""
        session, form = await self._posted(request)
        judged = await self._judge(session, form)
        if b"hx-request" in request.fields:
            return await self._page(request, session, form, judged, template="send_judged.html", oob=True)
        return await self._page(request, session, form, judged)

    @shown
    async def sent(self, request: Request) -> Response:
        """Send the event, and open its page."""
        session, form = await self._posted(request)
        try:
            event_id, duplicate = await self._send(session.caller, await self._body(session, form))
        except Forbidden:
            raise
        except TriggersError as error:
            earlier = error.facts.get("original_id")
            return await self._page(request, session, form, Checked(_wrong(error)), earlier=earlier)
        if duplicate:
            return await self._page(request, session, form, Checked({}), duplicate_of=str(event_id))
        return self.desk.to(request, f"/events/{event_id}")

    async def _session(self, request: Request) -> Session:
        session = await self.desk.session(request)
        session.caller.require(Scope.EVENTS_WRITE)
        return session

    async def _posted(self, request: Request) -> tuple[Session, Form]:
        session, form = await self.desk.posted(request, MAX_SEND_FORM_BYTES)
        session.caller.require(Scope.EVENTS_WRITE)
        return session, {name: form.get(name, "") for name in ("type", "payload", *OPTIONAL)}

    async def _body(self, session: Session, form: Form) -> bytes:
        """Return the body of a request that sends the event of a form. The payload stays as it was written.

        Raises:
            MalformedBody, TooLarge: the payload is not JSON, or is too large.
        """
        payload = form["payload"].strip().encode()
        if len(payload) > MAX_EVENT_BYTES:
            raise TooLarge(f"The payload must have at most {MAX_EVENT_BYTES:,} bytes, not {len(payload):,}.")
        await do(strict_json.check_in_steps(payload), session.own.org_id)
        members: dict[str, Any] = {"type": form["type"].strip()}
        members |= {name: form[name].strip() for name in OPTIONAL if form[name].strip()}
        return msgspec.json.encode({**members, "payload": msgspec.Raw(payload)})

    async def _judge(self, session: Session, form: Form) -> Checked:
        """Check a form as if the event were sent."""
        if not form["type"].strip():
            return Checked({"payload": text} if (text := await self._payload_error(session, form)) else {})
        try:
            body = await self._body(session, form)
            if not self.desk.api.may(session.caller, EventPreviewRoutes.dry_run_event):
                return Checked({})
            run = await self.desk.api.ask(
                session.caller, EventPreviewRoutes.dry_run_event, None, request_with(body)
            )
        except (Invalid, MalformedBody, TooLarge) as error:
            return Checked(_wrong(error))
        return Checked({}, run)

    async def _payload_error(self, session: Session, form: Form) -> str | None:
        try:
            await self._body(session, form)
        except (MalformedBody, TooLarge) as error:
            return error.message
        return None

    async def _page(
        self,
        request: Request,
        session: Session,
        form: Form,
        judged: Checked,
        template: str = "send.html",
        **values: Any,
    ) -> Response:
        values = {"note": None, "duplicate_of": None, "earlier": None, "oob": False} | values
        status = 422 if judged.wrong and template == "send.html" else 200
        return await self.desk.page(
            request,
            session,
            template,
            status,
            form=form,
            judged=judged,
            may_match=self.desk.api.may(session.caller, EventPreviewRoutes.dry_run_event),
            **values,
        )


def copy_of(event: EventDetail) -> Form:
    """Return the form that sends the content of an event again. A dedup id would make it a duplicate."""
    payload = payload_of(event)
    return {
        "type": event.type,
        "payload": payload.decode("utf-8", "replace") if payload is not None else "",
        "subject": event.subject or "",
        "source": event.source or "",
        "ordering_key": event.ordering_key or "",
        "dedup_id": "",
    }


def _note_of(event: EventDetail) -> str:
    if event.payload is msgspec.UNSET:
        return (
            "This is a copy without the payload, because only keys with the scope `events:read` see payloads."
        )
    return "This is a copy of an event without its dedup id. It is sent as a new event."


def _wrong(error: TriggersError) -> dict[str, str]:
    """Return the errors by field. The form has only one field that can be malformed or too large."""
    if isinstance(error, MalformedBody | TooLarge):
        return {"payload": error.message}
    if isinstance(error, DedupConflict):
        return {"dedup_id": error.message}
    return wrong_fields(error)


ROUTES = (
    page_route("GET", "/send", SendPages.send),
    page_route("POST", "/send", SendPages.sent),
    page_route("POST", "/send/check", SendPages.check),
)
