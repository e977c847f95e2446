"""Pages of API keys, of the sessions in the console, and of links that sign people in."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, NamedTuple

from msgspec import Meta
from starlette.responses import Response

from triggers.console.desk import Desk, Form, page_route, shown
from triggers.console.forms import wrong_fields
from triggers.console.rendering import CONSOLE
from triggers.console.scopes import (
    CHOSEN,
    MEANINGS,
    Choice,
    box_of,
    choices_for_key,
    choices_for_link,
    chosen_scopes,
    word_of,
)
from triggers.console.story import State
from triggers.domain import OPERATOR_SCOPES, Scope, parse_time, rfc3339
from triggers.errors import Conflict, Invalid
from triggers.http.request import Request
from triggers.keys.routes import ApiKeyView, KeyRoutes
from triggers.sessions.routes import SessionRoutes
from triggers.sessions.sessions import Session

_PAGE: Final = "100"
EXPIRIES: Final = {"": "Never", "7": "In 7 days", "30": "In 30 days", "90": "In 90 days", "365": "In a year"}
"""The texts of the choices of the expiry of a key, by days."""
OVERLAPS: Final = {"0": "not at all", "3600": "for 1 hour", "86400": "for 1 day", "604800": "for 7 days"}
"""The texts of the choices for how long a rotated key still works, by seconds."""

Text = Annotated[str, Meta(max_length=300)]


class KeyRow(NamedTuple):
    """A key in the list, and what the caller may do with it."""

    key: ApiKeyView
    state: State
    word: str
    may: str
    may_rotate: bool
    may_revoke: bool

    @property
    def is_valid(self) -> bool:
        """Whether the key works."""
        return self.state is not State.STOPPED


class AccessPages:
    """Handlers of these pages."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    @shown
    async def access(self, request: Request, keys: Text = "", sessions: Text = "") -> Response:
        """List API keys and open sessions. The parameters are the cursors of the two lists."""
        session = await self.desk.session(request)
        return await self._access(request, session, keys=keys, sessions=sessions)

    @shown
    async def new_key(self, request: Request) -> Response:
        """Show the form for a key."""
        session = await self.desk.session(request)
        session.caller.require(Scope.KEYS)
        return await self._key_form(request, session, {}, {})

    @shown
    async def create_key(self, request: Request) -> Response:
        """Create a key, and show it once."""
        session, form = await self.desk.posted(request)
        days = form.get("expiry", "")
        expires_at = None
        if days in EXPIRIES and days:
            expires_at = rfc3339(datetime.now(UTC) + timedelta(days=int(days)))
        body = {
            "name": form.get("name", "").strip() or None,
            "scopes": chosen_scopes(form, choices_for_key(session.caller.scopes)),
            "live": "live" in form,
            "expires_at": expires_at,
        }
        try:
            made = await self.desk.api.ask(session.caller, KeyRoutes.create_key, body)
        except Invalid as error:
            return await self._key_form(request, session, form, wrong_fields(error))
        may = word_of(made.scopes)
        return await self.desk.page(
            request, session, "key.html", made=made, may=may, console=self._console(request)
        )

    @shown
    async def rotate_key(self, request: Request, key_id: str) -> Response:
        """Create the successor of a key, and show it once."""
        session, form = await self.desk.posted(request)
        overlap = form.get("overlap", "")
        body = {"overlap_seconds": int(overlap)} if overlap in OVERLAPS else {}
        try:
            made = await self.desk.api.ask(session.caller, KeyRoutes.rotate_key, body, key_id=key_id)
        except Conflict as error:
            return await self._access(request, session, said=str(error))
        return await self.desk.page(
            request,
            session,
            "key.html",
            made=made,
            may=word_of(made.scopes),
            console=self._console(request),
            overlap=OVERLAPS.get(overlap, OVERLAPS["86400"]),
        )

    @shown
    async def revoke_key(self, request: Request, key_id: str) -> Response:
        """Revoke a key."""
        session, _ = await self.desk.posted(request)
        await self.desk.api.ask(session.caller, KeyRoutes.revoke_key, key_id=key_id)
        return self.desk.to(request, "/access")

    @shown
    async def end_session(self, request: Request, session_id: str) -> Response:
        """End a session."""
        session, _ = await self.desk.posted(request)
        await self.desk.api.ask(session.caller, SessionRoutes.end_session, session_id=session_id)
        return self.desk.to(request, "/access#sessions")

    @shown
    async def new_link(self, request: Request) -> Response:
        """Show the form for a link."""
        session = await self.desk.session(request)
        return await self._link_form(request, session, {}, {})

    @shown
    async def create_link(self, request: Request) -> Response:
        """Make a link, and show it once."""
        session, form = await self.desk.posted(request)
        scopes = chosen_scopes(form, choices_for_link(session.caller.scopes))
        try:
            made = await self.desk.api.ask(
                session.caller, SessionRoutes.create_link, {"scopes": scopes}, request
            )
        except Invalid as error:
            return await self._link_form(request, session, form, wrong_fields(error))
        return await self.desk.page(request, session, "made_link.html", made=made, may=word_of(scopes))

    def _console(self, request: Request) -> str:
        """Return the address to give to a person who gets a key."""
        return f"{self.desk.public_url(request)}{CONSOLE}"

    async def _access(
        self,
        request: Request,
        session: Session,
        *,
        keys: str = "",
        sessions: str = "",
        said: str | None = None,
    ) -> Response:
        now, api, caller = datetime.now(UTC), self.desk.api, session.caller
        found = await api.ask(caller, KeyRoutes.list_keys, limit=_PAGE, cursor=keys or None)
        people = await api.ask(caller, SessionRoutes.list_sessions, limit=_PAGE, cursor=sessions or None)
        rows = [row_of(each, caller.scopes, now) for each in found.data]
        return await self.desk.page(
            request,
            session,
            "access.html",
            200 if said is None else 409,
            valid=[row for row in rows if row.is_valid],
            over=[row for row in rows if not row.is_valid],
            people=[(each, word_of(each.scopes)) for each in people.data],
            cursors={"keys": found.next_cursor, "sessions": people.next_cursor},
            is_whole=not (keys or sessions or found.next_cursor or people.next_cursor),
            overlaps=OVERLAPS,
            may_change=api.may(caller, KeyRoutes.create_key),
            is_admin=Scope.ADMIN in caller.scopes,
            said=said,
            now=now,
        )

    async def _key_form(self, request: Request, session: Session, form: Form, wrong: Form) -> Response:
        own = session.caller.scopes - OPERATOR_SCOPES
        values = _form_values(choices_for_key(own), own, form, wrong)
        return await self.desk.page(request, session, "new_key.html", 422 if wrong else 200, **values)

    async def _link_form(self, request: Request, session: Session, form: Form, wrong: Form) -> Response:
        own = session.caller.scopes
        values = _form_values(choices_for_link(own), own, form, wrong)
        return await self.desk.page(request, session, "new_link.html", 422 if wrong else 200, **values)


def _form_values(choices: Sequence[Choice], own: frozenset[Scope], form: Form, wrong: Form) -> dict[str, Any]:
    """The values of a template with a form that chooses scopes, for a caller who has the scopes `own`."""
    first = choices[0].name if choices else CHOSEN
    return {
        "choices": choices,
        "choice": form.get("choice", first),
        "boxes": [(box_of(scope), scope, MEANINGS[scope]) for scope in Scope if scope in own],
        "expiries": EXPIRIES,
        "form": form,
        "wrong": wrong,
    }


def row_of(key: ApiKeyView, own: frozenset[Scope], now: datetime) -> KeyRow:
    """Return the row of a key for a caller with the scopes `own`."""
    state, word = _state_of(key, now)
    may_change = Scope.KEYS in own and state is not State.STOPPED
    return KeyRow(
        key,
        state,
        word,
        word_of(key.scopes),
        may_rotate=may_change and own - OPERATOR_SCOPES >= frozenset(key.scopes),
        may_revoke=may_change and (Scope.ADMIN not in key.scopes or Scope.ADMIN in own),
    )


def _state_of(key: ApiKeyView, now: datetime) -> tuple[State, str]:
    if key.revoked_at is not None:
        return State.STOPPED, "Revoked"
    if key.expires_at is None:
        return State.ARRIVED, "Valid"
    if parse_time(key.expires_at) <= now:
        return State.STOPPED, "Expired"
    return State.WAITING, "Expires"


ROUTES = (
    page_route("GET", "/access", AccessPages.access),
    page_route("GET", "/access/key", AccessPages.new_key),
    page_route("POST", "/access/key", AccessPages.create_key),
    page_route("POST", "/access/keys/{key_id}/rotate", AccessPages.rotate_key),
    page_route("POST", "/access/keys/{key_id}/revoke", AccessPages.revoke_key),
    page_route("POST", "/access/sessions/{session_id}/end", AccessPages.end_session),
    page_route("GET", "/access/link", AccessPages.new_link),
    page_route("POST", "/access/link", AccessPages.create_link),
)
