"""`triggers routes`: every URL that the API answers."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer
from rich.table import Table

from triggers.cli import tables


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("routes")(routes)


def routes(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List every URL of the API.

    Each URL has its method, the scope that a key needs, and the room (source folder) of its code. The scope
    is `public` if no key is needed, and `any key` if any valid key is enough.
    """
    from triggers.node.routes import listed  # noqa: PLC0415 - slow to import, and no other command needs it

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
        typer.echo(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
        return
    table = Table("METHOD", "PATH", "SCOPE", "ROOM", box=None)
    for row in found:
        table.add_row(*row.values())
    tables.show(table)
