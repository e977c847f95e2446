"""`triggers console`: makes a link that signs a person in to the console."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from triggers.cli.options import DATABASE_SETTINGS, run_async, with_settings
from triggers.cli.service import DEFAULT_URL, Url, ask, open_client
from triggers.cli.session import Json, json_of
from triggers.cli.tables import print_json
from triggers.domain import OrgId
from triggers.errors import OperatorError
from triggers.node.settings import FIRST_ORGANISATION, Settings


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("console")(with_settings(*DATABASE_SETTINGS)(console))


def console(
    settings: Settings,
    key: Annotated[
        str | None,
        typer.Option("--key", envvar="TRIGGERS_API_KEY", help="API key whose scopes the session gets."),
    ] = None,
    url: Url = DEFAULT_URL,
    org: Annotated[
        str, typer.Option("--org", help="Name of the organisation, if no API key is given.")
    ] = FIRST_ORGANISATION,
    print_only: Annotated[
        bool, typer.Option("--print", help="Only print the link, and do not open a browser.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Open the console in a browser, and sign in.

    The link is printed too. It is valid for a minute, and can be used once. Without an API key, the command
    uses the private database of a `triggers serve` on this machine. There it uses the API key named
    `console`, which is created at the first use, with all scopes except admin and act.

    \b
    Example:
      triggers console
    """
    link = run_async(_link_beside(settings, url, org)) if key is None else _link_for(key, url)
    if as_json:
        print_json(json_of({"url": link}))
        return
    typer.echo(link)
    if not print_only and sys.stdout.isatty():
        typer.launch(link)


def _link_for(key: str, url: str) -> str:
    with open_client(url, key) as client:
        return str(ask(client, "POST", "/v1/console/links")["url"])


async def _link_beside(settings: Settings, url: str, org: str) -> str:
    """Return a link to the service that uses the private database on this machine."""
    from triggers.keys import organisations
    from triggers.node.resources import open_database
    from triggers.sessions.routes import LINK_SECONDS
    from triggers.sessions.sessions import link_url
    from triggers.sessions.store import insert_console_link

    if settings.database_url:
        raise OperatorError(
            "Set TRIGGERS_API_KEY or --key. The API key can be left out only on a machine with a private"
            " database, and without TRIGGERS_DATABASE_URL."
        )
    if settings.console == "off":
        raise OperatorError("TRIGGERS_CONSOLE is off, so the service has no console.")
    async with open_database(settings) as (database, clock):
        found = await organisations.by_name(database, org)
        link = await insert_console_link(database, clock, OrgId(found.id), LINK_SECONDS)
    return link_url(settings.public_url or url, link.token)
