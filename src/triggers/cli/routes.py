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
    """Print every URL with its method, the scope that a key needs for it, and the room that answers it.

    The scope is `public` where no key is needed, and `any key` where any valid key will do.
    """
    from triggers.node.routes import listed  # noqa: PLC0415 - slow to import, and no other command needs it

    found = [
        {
            "method": route.method,
            "path": path,
            "scope": str(route.scope or "any key"),
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
