"""The form for the settings of a subscription, the check of its filter, and the rotation of its secret."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final, NamedTuple

from starlette.responses import Response

from triggers.console.desk import Desk, Form, page_route, shown
from triggers.console.health import name_of
from triggers.console.subscription_form import (
    changes_of,
    dry_run_of,
    errors_of,
    tell_matches,
    texts_of,
)
from triggers.domain import Scope
from triggers.errors import Conflict, Invalid
from triggers.http.request import Request
from triggers.previews.routes import PreviewRoutes
from triggers.sessions.sessions import Session
from triggers.subscriptions.routes import SubscriptionRoutes

OVERLAPS: Final = {"0": "not at all", "3600": "for 1 hour", "86400": "for 1 day", "604800": "for 7 days"}
"""How long the old secret signs after a rotation: seconds, and the words for them."""


class Refused(NamedTuple):
    """Why a form was not saved: the status of the page, and the message for each field."""

    status: int
    wrong: dict[str, str]


class SubscriptionEditPages:
    """Handlers of these pages."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    @shown
    async def edit(self, request: Request, subscription_id: str) -> Response:
        """Show the form with the present settings."""
        session = await self.desk.session(request)
        session.caller.require(Scope.SUBSCRIPTIONS)
        return await self._form(request, session, subscription_id, {})

    @shown
    async def save(self, request: Request, subscription_id: str) -> Response:
        """Change the settings, or only check the types and the filter. Keep the input if it is wrong."""
        session, form = await self.desk.posted(request)
        session.caller.require(Scope.SUBSCRIPTIONS)
        if form.get("do") == "check":
            return await self._form(request, session, subscription_id, form)
        ask = self.desk.api.ask
        present = await ask(
            session.caller, SubscriptionRoutes.get_subscription, subscription_id=subscription_id
        )
        if form.get("changed_at", present.changed_at) != present.changed_at:
            told = (
                "The subscription was changed after this form was loaded. Compare your input with its present"
                " settings, and save again."
            )
            return await self._form(request, session, subscription_id, form, Refused(409, {"": told}))
        try:
            body = changes_of(form, texts_of(present))
            if body:
                await ask(
                    session.caller,
                    SubscriptionRoutes.change_subscription,
                    body,
                    subscription_id=subscription_id,
                )
        except Invalid as error:
            return await self._form(request, session, subscription_id, form, Refused(422, errors_of(error)))
        except Conflict as error:
            return await self._form(request, session, subscription_id, form, Refused(409, {"": str(error)}))
        return self.desk.to(request, f"/subscriptions/{subscription_id}")

    @shown
    async def matches(self, request: Request, subscription_id: str) -> Response:
        """Return only the result of a check. htmx asks for it while a person types."""
        session, form = await self.desk.posted(request)
        told, kind = await self._matches(session, form)
        return await self.desk.page(request, session, "matches.html", matches=told, kind=kind)

    @shown
    async def rotate(self, request: Request, subscription_id: str) -> Response:
        """Replace the signing secret, and show the new one. No other page shows it."""
        session, form = await self.desk.posted(request)
        overlap = form.get("overlap", "86400")
        if overlap not in OVERLAPS:
            raise Invalid("Choose one of the listed times for the overlap.", pointer="overlap")
        rotated = await self.desk.api.ask(
            session.caller,
            SubscriptionRoutes.rotate_secret,
            {"overlap_seconds": int(overlap)},
            subscription_id=subscription_id,
        )
        return await self.desk.page(
            request,
            session,
            "secret.html",
            it=rotated,
            name=name_of(rotated),
            overlaps=overlap != "0",
            now=datetime.now(UTC),
        )

    async def _form(
        self,
        request: Request,
        session: Session,
        subscription_id: str,
        form: Form,
        refused: Refused = Refused(200, {}),  # noqa: B008 - it cannot change
    ) -> Response:
        found = await self.desk.api.ask(
            session.caller, SubscriptionRoutes.get_subscription, subscription_id=subscription_id
        )
        texts = texts_of(found)
        matches, kind = await self._matches(session, form) if form else (None, "waiting")
        return await self.desk.page(
            request,
            session,
            "subscription_edit.html",
            refused.status,
            it=found,
            name=name_of(found),
            texts=texts | {name: form[name] for name in texts if name in form},
            wrong=refused.wrong,
            matches=matches,
            kind=kind,
        )

    async def _matches(self, session: Session, form: Form) -> tuple[str, str]:
        """Return how many of the last events the types and the filter match, and the state to show."""
        try:
            answer = await self.desk.api.ask(session.caller, PreviewRoutes.dry_run, dry_run_of(form))
        except Invalid as error:
            return " ".join(errors_of(error).values()), "failed"
        return tell_matches(answer), "arrived" if answer.matched else "waiting"


ROUTES = (
    page_route("GET", "/subscriptions/{subscription_id}/edit", SubscriptionEditPages.edit),
    page_route("POST", "/subscriptions/{subscription_id}/edit", SubscriptionEditPages.save),
    page_route("POST", "/subscriptions/{subscription_id}/matches", SubscriptionEditPages.matches),
    page_route("POST", "/subscriptions/{subscription_id}/rotate", SubscriptionEditPages.rotate),
)
