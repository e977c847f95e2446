"""Pages for operators: all organisations with their plans and use, and a form for a new one."""

from __future__ import annotations

from typing import Annotated, Any, Final, NamedTuple

from msgspec import Meta
from starlette.responses import Response

from triggers.console.desk import Desk, Form, page_route, shown
from triggers.console.forms import wrong_fields
from triggers.console.scopes import word_of
from triggers.domain import PLAN_QUOTAS, Scope, parse_id
from triggers.errors import Conflict, Invalid, NameTaken, NotFound
from triggers.http.request import Request
from triggers.keys.routes import KeyRoutes, NewApiKey
from triggers.sessions.sessions import Session
from triggers.statistics.routes import StatisticsRoutes

_PAGE: Final = "50"
_FIRST_KEY: Final = "first key"

Text = Annotated[str, Meta(max_length=300)]


class PlanForm(NamedTuple):
    """A form for a plan that is shown again because of an error."""

    org_id: str
    form: Form
    wrong: Form


class OrganisationPages:
    """Handlers of these pages."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    @shown
    async def organisations(self, request: Request, cursor: Text = "") -> Response:
        """List organisations."""
        return await self._list(request, await self.desk.session(request), cursor)

    @shown
    async def new_organisation(self, request: Request) -> Response:
        """Show the form for an organisation."""
        session = await self.desk.session(request)
        session.caller.require(Scope.ADMIN)
        return await self._new(request, session, {}, {})

    @shown
    async def create_organisation(self, request: Request) -> Response:
        """Create an organisation and its first key, and show the key once."""
        session, form = await self.desk.posted(request)
        body = {"name": form.get("name", "").strip(), **plan_of(form)}
        try:
            made = await self.desk.api.ask(session.caller, KeyRoutes.admin_create_org, body)
        except NameTaken as error:
            return await self._new(request, session, form, {"name": error.message})
        except Invalid as error:
            return await self._new(request, session, form, wrong_fields(error))
        key = await self.desk.api.ask(
            session.caller, KeyRoutes.admin_create_key, {"name": _FIRST_KEY}, org_id=str(made.id)
        )
        return await self._key(request, session, key, title=f"The first key of {made.name}")

    @shown
    async def create_key(self, request: Request, org_id: str) -> Response:
        """Create a key with all scopes of an organisation, and show it once."""
        session, _ = await self.desk.posted(request)
        key = await self.desk.api.ask(session.caller, KeyRoutes.admin_create_key, {}, org_id=org_id)
        return await self._key(request, session, key, title="New key")

    @shown
    async def set_plan(self, request: Request, org_id: str) -> Response:
        """Change the plan of an organisation."""
        session, form = await self.desk.posted(request)
        cursor = form.get("cursor", "")[:300]
        try:
            await self.desk.api.ask(session.caller, KeyRoutes.admin_set_plan, plan_of(form), org_id=org_id)
        except Invalid as error:
            refused = PlanForm(org_id, form, wrong_fields(error))
            return await self._list(request, session, cursor, refused)
        return self.desk.to(request, f"/organisations?cursor={cursor}" if cursor else "/organisations")

    @shown
    async def delete(self, request: Request, org_id: str) -> Response:
        """Delete an organisation."""
        session, _ = await self.desk.posted(request)
        try:
            await self.desk.api.ask(session.caller, KeyRoutes.admin_delete_org, org_id=org_id)
        except Conflict as error:
            return await self._list(request, session, "", said=error.message)
        return self.desk.to(request, "/organisations")

    @shown
    async def act(self, request: Request, org_id: str) -> Response:
        """Act for an organisation from now on."""
        session, _ = await self.desk.posted(request)
        found = parse_id(org_id)
        if found is None:
            raise NotFound("No organisation has this id.")
        await self.desk.sessions.act_for(session, found)
        return self.desk.to(request, "/events")

    async def _list(
        self,
        request: Request,
        session: Session,
        cursor: str,
        refused: PlanForm | None = None,
        said: str = "",
    ) -> Response:
        page: dict[str, str | None] = {"limit": _PAGE, "cursor": cursor or None}
        found = await self.desk.api.ask(session.caller, KeyRoutes.admin_list_orgs, **page)
        use = await self.desk.api.ask(session.caller, StatisticsRoutes.admin_list_use, **page)
        by_id = {each.id: each for each in use.data}
        return await self.desk.page(
            request,
            session,
            "organisations.html",
            409 if said else 200 if refused is None else 422,
            rows=[(each, by_id.get(each.id)) for each in found.data],
            accepted=sum(each.accepted for each in use.data),
            since=use.since,
            cursor=cursor,
            next_cursor=found.next_cursor,
            plans=_PLANS,
            refused=refused,
            said=said,
        )

    async def _new(self, request: Request, session: Session, form: Form, wrong: Form) -> Response:
        status = 422 if wrong else 200
        return await self.desk.page(
            request, session, "new_organisation.html", status, plans=_PLANS, form=form, wrong=wrong
        )

    async def _key(self, request: Request, session: Session, key: NewApiKey, *, title: str) -> Response:
        may = word_of(key.scopes)
        return await self.desk.page(
            request, session, "key.html", made=key, may=may, title=title, back="organisations"
        )


def plan_of(form: Form) -> dict[str, Any]:
    """Return the plan in a form. A quota that is no number stays a text, which the API refuses."""
    quota = form.get("requests_per_minute", "").strip().replace(",", "")
    number: int | str | None = int(quota) if quota.isdecimal() and len(quota) < 20 else quota or None
    return {"plan": form.get("plan", ""), "requests_per_minute": number}


_PLANS: Final = {
    plan: f"{plan.capitalize()}: {quota:,} requests a minute" if quota else plan.capitalize()
    for plan, quota in PLAN_QUOTAS.items()
}

ROUTES = (
    page_route("GET", "/organisations", OrganisationPages.organisations),
    page_route("GET", "/organisations/new", OrganisationPages.new_organisation),
    page_route("POST", "/organisations/new", OrganisationPages.create_organisation),
    page_route("POST", "/organisations/{org_id}/keys", OrganisationPages.create_key),
    page_route("POST", "/organisations/{org_id}/plan", OrganisationPages.set_plan),
    page_route("POST", "/organisations/{org_id}/delete", OrganisationPages.delete),
    page_route("POST", "/organisations/{org_id}/act", OrganisationPages.act),
)
