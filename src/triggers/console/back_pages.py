"""Redirects addresses that take only forms to the page of their form.

The answer to some forms is a page at the form's address. A browser asks for that address with GET when
somebody opens it again.
"""

from __future__ import annotations

from urllib.parse import quote

from starlette.responses import Response

from triggers.console.desk import Desk, page_route, shown
from triggers.http.request import Request


class BackPages:
    """Handlers of these addresses."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    @shown
    async def subscription(self, request: Request, subscription_id: str) -> Response:
        """Go to a subscription."""
        return await self._to(request, f"/subscriptions/{_part(subscription_id)}")

    @shown
    async def group(self, request: Request, subscription_id: str) -> Response:
        """Go to the undelivered events of a subscription."""
        return await self._to(request, f"/undelivered/{_part(subscription_id)}")

    @shown
    async def inbox(self, request: Request, inbox: str) -> Response:
        """Go to an inbox."""
        return await self._to(request, f"/inboxes/{_part(inbox)}")

    @shown
    async def lease(self, request: Request, inbox: str, lease_id: str) -> Response:
        """Go to the inbox of a lease."""
        return await self._to(request, f"/inboxes/{_part(inbox)}")

    @shown
    async def delivery(self, request: Request, delivery_id: str) -> Response:
        """Go to the event of a delivery."""
        return await self._to(request, f"/events/{_part(delivery_id.partition('.')[0])}")

    @shown
    async def job(self, request: Request, job_id: str) -> Response:
        """Go to a job."""
        return await self._to(request, f"/jobs/{_part(job_id)}")

    @shown
    async def key(self, request: Request, key_id: str) -> Response:
        """Go to the list of keys."""
        return await self._to(request, "/access")

    @shown
    async def session(self, request: Request, session_id: str) -> Response:
        """Go to the list of sessions."""
        return await self._to(request, "/access#sessions")

    @shown
    async def organisation(self, request: Request, org_id: str) -> Response:
        """Go to the list of organisations."""
        return await self._to(request, "/organisations")

    @shown
    async def sending(self, request: Request) -> Response:
        """Go to the form of an event."""
        return await self._to(request, "/send")

    async def _to(self, request: Request, path: str) -> Response:
        await self.desk.session(request)
        return self.desk.to(request, path)


def _part(text: str) -> str:
    return quote(text, safe="")


_SUBSCRIPTION = ("pause", "resume", "enable", "disable", "test", "matches", "rotate")

ROUTES = (
    *[
        page_route("GET", f"/subscriptions/{{subscription_id}}/{form}", BackPages.subscription)
        for form in _SUBSCRIPTION
    ],
    page_route("GET", "/undelivered/{subscription_id}/chosen", BackPages.group),
    *[
        page_route("GET", f"/inboxes/{{inbox}}/{form}", BackPages.inbox)
        for form in ("pause", "resume", "chosen")
    ],
    page_route("GET", "/inboxes/{inbox}/leases/{lease_id}/revoke", BackPages.lease),
    *[
        page_route("GET", f"/deliveries/{{delivery_id}}/{form}", BackPages.delivery)
        for form in ("retry", "cancel")
    ],
    page_route("GET", "/jobs/{job_id}/cancel", BackPages.job),
    *[page_route("GET", f"/access/keys/{{key_id}}/{form}", BackPages.key) for form in ("rotate", "revoke")],
    page_route("GET", "/access/sessions/{session_id}/end", BackPages.session),
    *[
        page_route("GET", f"/organisations/{{org_id}}/{form}", BackPages.organisation)
        for form in ("keys", "plan", "delete", "act")
    ],
    page_route("GET", "/send/check", BackPages.sending),
)
