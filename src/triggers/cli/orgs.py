"""`triggers orgs`: organisations, over the API or in the database of this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from triggers.cli.access import Access, Beside, with_access
from triggers.cli.naming import find
from triggers.cli.nouns import Noun
from triggers.cli.service import segment
from triggers.cli.session import CommandSession, with_session
from triggers.cli.tables import ColumnKind, TableColumn
from triggers.domain import Plan

if TYPE_CHECKING:
    from triggers.cli.tenants import DatabaseOrganisations

orgs = typer.Typer(
    no_args_is_help=True,
    help="Manage organisations, the tenants of the service. With an API key of the scope admin, over the API;"
    " without an API key, in the database of this machine.",
)

ORGANISATION = Noun(
    "organisation",
    "organisations",
    "orgs",
    "/v1/admin/orgs",
    (
        TableColumn("organisation", "id", ColumnKind.ID),
        TableColumn("name", "name"),
        TableColumn("plan", "plan"),
        TableColumn("requests/min", "requests_per_minute", ColumnKind.NUMBER),
        TableColumn("created", "created_at", ColumnKind.TIME),
    ),
    names=("name",),
)
MANY = 1_000_000
"""More than any list has."""
Quota = Annotated[
    int | None, typer.Option("--requests-per-minute", help="Quota of the plan enterprise. Default: no limit.")
]


class ApiOrganisations:
    """Organisations over the API, which needs a key with the scope `admin`."""

    def __init__(self, session: CommandSession) -> None:
        self._session = session

    def listed(self) -> list[bytes]:
        """All organisations."""
        return list(self._session.items(ORGANISATION.path, MANY))

    def create(self, name: str, plan: Plan, requests_per_minute: int | None) -> bytes:
        """Create an organisation."""
        body = {"name": name, "plan": plan, "requests_per_minute": requests_per_minute}
        return self._session.call("POST", ORGANISATION.path, body)

    def set_plan(self, name: str, plan: Plan, requests_per_minute: int | None) -> bytes:
        """Change the plan of an organisation."""
        path = f"{ORGANISATION.path}/{segment(find(self._session, ORGANISATION, name))}/plan"
        return self._session.call("PUT", path, {"plan": plan, "requests_per_minute": requests_per_minute})


def _organisations(access: Access) -> ApiOrganisations | DatabaseOrganisations:
    if isinstance(access, Beside):
        from triggers.cli.tenants import DatabaseOrganisations

        return DatabaseOrganisations(access.settings)
    return ApiOrganisations(access)


@orgs.command("show")
@with_session()
def show(session: CommandSession) -> None:
    """Show the organisation of the API key, and the scopes of the key.

    \b
    Example:
      triggers orgs show
    """
    session.show(session.call("GET", "/v1/org"))


@orgs.command("list")
@with_access(lists=True)
def list_organisations(access: Access) -> None:
    """List the organisations.

    \b
    Example:
      triggers orgs list
    """
    access.show_list(ORGANISATION.columns, _organisations(access).listed())


@orgs.command("create")
@with_access()
def create(
    access: Access,
    name: Annotated[str, typer.Argument(help="Name of the organisation.")],
    plan: Annotated[Plan, typer.Option(help="Plan, which sets the requests per minute.")] = Plan.FREE,
    requests_per_minute: Quota = None,
) -> None:
    """Create an organisation with its default inbox.

    \b
    Example:
      triggers orgs create acme --plan pro
    """
    access.show(_organisations(access).create(name, plan, requests_per_minute))


@orgs.command("set-plan")
@with_access()
def set_plan(
    access: Access,
    name: Annotated[str, typer.Argument(help="Name of the organisation.")],
    plan: Annotated[Plan, typer.Argument(help="The new plan.")],
    requests_per_minute: Quota = None,
) -> None:
    """Change the plan of an organisation. Running nodes apply it within a second.

    \b
    Example:
      triggers orgs set-plan acme enterprise --requests-per-minute 50000
    """
    access.show(_organisations(access).set_plan(name, plan, requests_per_minute))


def add_to(app: typer.Typer) -> None:
    """Register these commands."""
    app.add_typer(orgs, name="orgs")
