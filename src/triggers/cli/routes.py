"""`triggers routes`: every URL that the API answers."""

from __future__ import annotations

import typer

from triggers.cli.session import Json, Wide, json_of
from triggers.cli.tables import TableColumn, TableLook, print_json, show_table

_ROUTES = (
    TableColumn("method", "method"),
    TableColumn("path", "path"),
    TableColumn("scope", "scope"),
    TableColumn("room", "room"),
)


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("routes")(routes)


def routes(as_json: Json = False, wide: Wide = False) -> None:
    """List every URL of the API.

    Each URL has its method, the scope that a key needs, and the room (source folder) of its code. The scope
    is `public` if no key is needed, and `any key` if any valid key is enough.

    \b
    Example:
      triggers routes
    """
    from triggers.node.routes import listed

    found = [
        {
            "method": route.method,
            "path": path,
            "scope": " or ".join(route.scopes) or str(route.scope or "any key"),
            "room": room,
        }
        for room, route in listed()
        for path in route.paths
    ]
    if as_json:
        for row in found:
            print_json(json_of(row))
    else:
        show_table(_ROUTES, found, TableLook(wide))
