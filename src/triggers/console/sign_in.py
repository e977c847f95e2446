"""Pages that begin and end a session: sign in with a key, open a link, sign out."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta
from starlette.responses import Response

from triggers.console.desk import Desk, form_of, page_route, safe_path, shown
from triggers.console.rendering import page
from triggers.errors import Forbidden, LinkOver, Unauthenticated
from triggers.http.request import Request
from triggers.sessions.sessions import NewSession

Next = Annotated[str, Meta(max_length=2000)]
_NOT_OURS = "This form is not from a page of this service. Load the page again."


class SignInPages:
    """Handlers of the pages that begin or end a session."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    @shown
    async def sign_in(self, request: Request, next: Next = "") -> Response:  # noqa: A002 - as in the URL
        """Show the form for an API key."""
        return page("sign_in.html", request.root_path, next=next, wrong=None)

    @shown
    async def signed_in(self, request: Request) -> Response:
        """Open a session with a key, and redirect to the page that was requested."""
        form = await form_of(request)
        if not self.desk.sessions.is_our_post(request.fields):
            raise Forbidden(_NOT_OURS)
        wanted = form.get("next", "")[:2000]
        try:
            opened = await self.desk.sessions.open_with_key(form.get("key", ""))
        except Unauthenticated:
            wrong = (
                "This API key is not valid. Check it for typing errors. It may also be revoked or expired."
            )
            return page("sign_in.html", request.root_path, 401, next=wanted, wrong=wrong)
        return self._opened(request, opened, safe_path(wanted))

    @shown
    async def link(self, request: Request, token: Annotated[str, Meta(max_length=100)] = "") -> Response:
        """Show the session that a link would open. The button on this page uses the link."""
        try:
            offer = await self.desk.sessions.look_at_link(token)
        except LinkOver as over:
            return page("link.html", request.root_path, 410, offer=None, token="", over=str(over))
        return page("link.html", request.root_path, offer=offer, token=token, over=None)

    @shown
    async def linked(self, request: Request) -> Response:
        """Open a session with a link."""
        form = await form_of(request)
        if not self.desk.sessions.is_our_post(request.fields):
            raise Forbidden(_NOT_OURS)
        try:
            opened = await self.desk.sessions.open_with_link(form.get("link", ""))
        except LinkOver as over:
            return page("link.html", request.root_path, 410, offer=None, token="", over=str(over))
        return self._opened(request, opened, safe_path(None))

    @shown
    async def sign_out(self, request: Request) -> Response:
        """End the session."""
        session, _ = await self.desk.posted(request)
        await self.desk.sessions.end(session)
        response = self.desk.to(request, "/sign-in")
        response.headers["set-cookie"] = self.desk.sessions.cookie.cleared()
        return response

    @shown
    async def act_for_none(self, request: Request) -> Response:
        """Stop acting for another organisation."""
        session, _ = await self.desk.posted(request)
        await self.desk.sessions.act_for(session, None)
        return self.desk.to(request, "")

    def _opened(self, request: Request, opened: NewSession, path: str) -> Response:
        response = self.desk.to(request, path)
        response.headers["set-cookie"] = self.desk.sessions.cookie.holding(opened.token)
        return response


ROUTES = (
    page_route("GET", "/sign-in", SignInPages.sign_in),
    page_route("POST", "/sign-in", SignInPages.signed_in),
    page_route("GET", "/link", SignInPages.link),
    page_route("POST", "/link", SignInPages.linked),
    page_route("POST", "/sign-out", SignInPages.sign_out),
    page_route("POST", "/act-for-none", SignInPages.act_for_none),
)
