"""The page and the part of a page that say why an event was not sent to some subscriptions and inboxes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from starlette.responses import Response

from triggers.console.desk import Desk, page_route, shown
from triggers.http.request import Request
from triggers.inboxes.routes import InboxRoutes
from triggers.previews.event_routes import EventPreviewRoutes, Unmatched

REASONS: Final[Mapping[str, str]] = {
    "type": "It does not take this type.",
    "filter": "Its filter does not match.",
    "disabled": "It is disabled.",
    "created_later": "It was created after the event.",
    "matches_now": "It would get the event now.",
}
"""The reason why an event was not sent to a subscription or an inbox."""

_PLURAL: Final[Mapping[str, tuple[str, str]]] = {
    "type": ("does not take this type", "do not take this type"),
    "filter": ("has a filter that does not match", "have a filter that does not match"),
    "disabled": ("is disabled", "are disabled"),
    "created_later": ("was created after the event", "were created after the event"),
    "matches_now": ("would get the event now", "would get the event now"),
}


def told(found: Unmatched) -> str:
    """Say how many subscriptions and inboxes there are for each reason."""
    said = [
        f"{count:,} {_PLURAL[reason][0 if count == 1 else 1]}"
        for reason, count in sorted(found.reasons.items(), key=lambda each: -each[1])
    ]
    if not said:
        return "Every subscription and inbox has a delivery of this event."
    return f"By today’s rules, {', '.join(said)}."


def caution(found: Unmatched) -> str:
    """Say how many of the rules changed since the event."""
    if not found.unmatched:
        return ""
    if not found.changed:
        return "None of these rules changed since the event."
    has = "has" if found.changed == 1 else "have"
    return (
        f"{found.changed:,} of them {has} changed since the event, so the reason may have been another then."
    )


class UnmatchedPages:
    """Handlers of these pages."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    @shown
    async def unmatched(self, request: Request, event_id: str) -> Response:
        """List the subscriptions and inboxes that have no delivery of an event: a page, or a part of one."""
        session = await self.desk.session(request)
        found = await self.desk.api.ask(session.caller, EventPreviewRoutes.list_unmatched, event_id=event_id)
        return await self.desk.page(
            request,
            session,
            "unmatched_list.html" if b"hx-request" in request.fields else "unmatched.html",
            found=found,
            event_id=event_id,
            told=told(found),
            caution=caution(found),
            reasons=REASONS,
            sees_inboxes=self.desk.api.may(session.caller, InboxRoutes.get_inbox),
        )


ROUTES = (page_route("GET", "/events/{event_id}/unmatched", UnmatchedPages.unmatched),)
