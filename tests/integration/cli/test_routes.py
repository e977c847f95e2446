"""`triggers routes` names what the API answers."""

from __future__ import annotations

import re

import msgspec
from typer.testing import CliRunner

from triggers.cli import app
from triggers.node.routes import ROUTES


def test_it_names_every_url_with_its_scope_and_room() -> None:
    printed = CliRunner().invoke(app, ["routes", "--json"])
    assert printed.exit_code == 0
    rows = [msgspec.json.decode(line) for line in printed.output.splitlines()]
    assert {(row["method"], row["path"]) for row in rows} == {
        (route.method, path) for route in ROUTES for path in route.paths
    }
    assert {"method": "POST", "path": "/v1/events", "scope": "events:write", "room": "events"} in rows
    assert {"method": "GET", "path": "/v1/org", "scope": "any key", "room": "keys"} in rows
    assert {"method": "GET", "path": "/livez", "scope": "public", "room": "node"} in rows

    table = CliRunner().invoke(app, ["routes"]).output.splitlines()
    assert len(table) == 1 + len(rows)
    assert re.split(r"\s{2,}", table[0].strip()) == ["method", "path", "scope", "room"]
