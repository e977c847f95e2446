"""The parts that all pages of the console share: sessions, the check of forms, and errors as pages."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Any, Final
from urllib.parse import parse_qsl, quote

from starlette.responses import HTMLResponse, RedirectResponse, Response

from triggers.console.api import Api
from triggers.console.multipart import fields_of
from triggers.console.navigation import places_for
from triggers.console.rendering import CONSOLE, HEADERS, page, page_in_steps
from triggers.errors import Forbidden, Invalid, RateLimited, TriggersError, Unauthenticated
from triggers.events.accept import AcceptApp
from triggers.fairness.pace import do
from triggers.fairness.room import Room, acting_for
from triggers.http import problems
from triggers.http.exchange import Held, essence, read_body
from triggers.http.request import Request
from triggers.http.route import PUBLIC, Method, Route
from triggers.keys.rate_limit import RateLimiter
from triggers.sessions.sessions import Session, Sessions

MAX_FORM_BYTES: Final = 16 * 1024
"""Maximum size of a form, unless its page allows more."""
MAX_FORMS_BYTES: Final = 8 * 1024 * 1024
"""Maximum size of all forms together that are being answered."""

Form = dict[str, str]


class Desk:
    """Finds the session of a request and makes the response of a page."""

    def __init__(self, sessions: Sessions, api: Api, public_url: Callable[[Request], str]) -> None:
        """`public_url` is the base URL for the caller's own requests, without a slash at its end."""
        self.sessions = sessions
        self.api = api
        self.public_url = public_url
        # Separate from the limit of the API, so that an open page never uses up the requests of senders.
        self._limiter = RateLimiter()
        self._forms = Room(MAX_FORMS_BYTES)

    async def session(self, request: Request) -> Session:
        """Return the session of a request, and count the request against the organisation's quota for pages.

        Raises:
            Unauthenticated: the request has no session.
            RateLimited, Unavailable: as for the API.
        """
        found = await self.sessions.session_of(request.fields)
        if found is None:
            raise Unauthenticated
        request.caller = found.caller
        acting_for.set(found.own.org_id)
        grant = self._limiter.take(found.own)
        if grant is not None and not grant.granted:
            raise RateLimited(retry_after=grant.retry_after)
        return found

    async def posted(self, request: Request, most_bytes: int = MAX_FORM_BYTES) -> tuple[Session, Form]:
        """Return the session and the fields of a form that a page of this session sent.

        Raises:
            Forbidden: another page sent the form.
            TooLarge: the form has more than `most_bytes`.
            Unauthenticated, RateLimited, Unavailable: as for `session`.
        """
        session = await self.session(request)
        request.held = Held(self._forms, session.own.org_id)
        form = await form_of(request, most_bytes)
        if not self.sessions.is_our_post(request.fields, session, form.get("token")):
            raise Forbidden("This form is not from a page of this session. Load the page again.")
        return session, form

    async def page(
        self, request: Request, session: Session, template: str, status: int = 200, **values: Any
    ) -> HTMLResponse:
        """Return a page of a session."""
        values |= {
            "session": session,
            "places": places_for(self.api, session.caller),
            "may_send": self.api.may(session.caller, AcceptApp.accept_single),
        }
        steps = page_in_steps(template, request.root_path, status, **values)
        return await do(steps, session.own.org_id)

    def to(self, request: Request, path: str) -> Response:
        """Redirect the browser to another page of the console, with GET."""
        return RedirectResponse(f"{request.root_path}{CONSOLE}{path}", 303, headers=dict(HEADERS))

    def error(self, request: Request, error: TriggersError) -> Response:
        """Return an error page. If the error is a missing session, redirect to the sign-in page instead."""
        request.problem = error.logged
        if isinstance(error, Unauthenticated):
            asked = request.scope["path"].removeprefix(CONSOLE) if request.method == "GET" else ""
            query = request.scope["query_string"].decode("ascii", "replace")
            wanted = asked + (f"?{query}" if query else "")
            path = f"/sign-in?next={quote(wanted)}" if wanted else "/sign-in"
            if b"hx-request" in request.fields:
                place = f"{request.root_path}{CONSOLE}{path}"
                return Response(status_code=204, headers={"hx-redirect": place, "cache-control": "no-store"})
            return self.to(request, path)
        kind = problems.kind_of(error)
        return page(
            "error.html",
            request.root_path,
            kind.status,
            title=kind.title,
            text=error.message,
            request_id=request.id,
            docs=f"{request.root_path}/problems/{kind.slug}",
        )


Handler = Callable[..., Awaitable[Response]]


def page_route(method: Method, path: str, handler: Handler) -> Route:
    """Make the route of a page. Its handler finds the session, and the OpenAPI document omits it."""
    return Route(method, f"{CONSOLE}{path}", handler, PUBLIC, hidden=True, media_type="text/html")


def shown(handler: Handler) -> Handler:
    """Wrap the handler of a page so that its errors are pages too."""

    @functools.wraps(handler)
    async def answered(self: Any, request: Request, **arguments: Any) -> Response:
        try:
            return await handler(self, request=request, **arguments)
        except TriggersError as error:
            response: Response = self.desk.error(request, error)
            return response

    return answered


async def form_of(request: Request, most_bytes: int = MAX_FORM_BYTES) -> Form:
    """Return the fields of a form.

    Raises:
        TooLarge, Invalid: the form has more than `most_bytes`, or cannot be read.
    """
    body = await read_body(request.receive, most_bytes, b"", request.held)
    media_type = request.fields.get(b"content-type", b"")
    if essence(media_type) == b"multipart/form-data":
        return fields_of(body, media_type)
    try:
        return dict(parse_qsl(body.decode("utf-8"), keep_blank_values=True, max_num_fields=100))
    except ValueError:
        raise Invalid("The form cannot be read.") from None


def safe_path(path: str | None) -> str:
    """Return the path if it is a path within the console, or else that of the console itself."""
    if path is None or not path.startswith("/") or path.startswith(("//", "/\\")) or not path.isprintable():
        return ""
    return path
