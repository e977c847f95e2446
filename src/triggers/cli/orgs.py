"""`triggers orgs`: organisations, over the API or in the database of this machine."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from triggers.cli.access import Access, Beside, with_access
from triggers.cli.completion import names_of
from triggers.cli.naming import choose, find
from triggers.cli.nouns import Noun, one_of
from triggers.cli.service import members, segment
from triggers.cli.session import CommandSession, with_session
from triggers.cli.tables import ColumnKind, TableColumn
from triggers.domain import Plan, parse_id
from triggers.errors import OperatorError
from triggers.terminal import inert

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

    def delete(self, org_id: str) -> bytes:
        """Delete an organisation."""
        return self._session.call("DELETE", f"{ORGANISATION.path}/{segment(org_id)}")


def _one_called(text: str, listed: list[bytes]) -> dict[str, Any]:
    """The organisation with this name, this id or this ending of its id.

    Raises:
        OperatorError: there is none, or several.
    """
    found = [members(each) for each in listed]
    chosen = choose(ORGANISATION, text, found)
    return next(each for each in found if each["id"] == chosen)


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
    name: Annotated[
        str, typer.Argument(help="Name of the organisation.", autocompletion=names_of(ORGANISATION))
    ],
    plan: Annotated[Plan, typer.Argument(help="The new plan.")],
    requests_per_minute: Quota = None,
) -> None:
    """Change the plan of an organisation. Running nodes apply it within a second.

    \b
    Example:
      triggers orgs set-plan acme enterprise --requests-per-minute 50000
    """
    access.show(_organisations(access).set_plan(name, plan, requests_per_minute))


@orgs.command("delete")
@with_access()
def delete(
    access: Access,
    organisation: one_of(ORGANISATION),  # type: ignore[valid-type]
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Delete without asking for confirmation.")] = False,
) -> None:
    """Delete an organisation with its keys, events, subscriptions and inboxes. This cannot be undone.

    Its keys are refused within a second, and its undelivered events are not delivered any more. Its rows are
    deleted in the background. The organisation of the API key, and the last one that has a key with the scope
    admin, cannot be deleted.

    \b
    Example:
      triggers orgs delete acme
    """
    place = _organisations(access)
    # A whole id is not looked for, so that a command that was interrupted can be repeated.
    is_id = parse_id(organisation) is not None
    found = {"id": organisation, "name": organisation} if is_id else _one_called(organisation, place.listed())
    if not yes:
        _confirm(found["name"])
    access.show(place.delete(found["id"]))


def _confirm(name: str) -> None:
    if not sys.stdin.isatty():
        raise OperatorError("An organisation is deleted for good. To confirm that, add --yes.")
    question = f"Delete the organisation {inert(name)} with all its events, subscriptions, inboxes and keys?"
    if not typer.confirm(question, err=True):
        raise typer.Exit(1)


def add_to(app: typer.Typer) -> None:
    """Register these commands."""
    app.add_typer(orgs, name="orgs")
