"""`triggers subscriptions` and `triggers secrets`, called as a user calls them, against a running node."""

from __future__ import annotations

import asyncio
import base64
from typing import Any
from uuid import UUID

import msgspec
import pytest
from typer.testing import CliRunner

from harness import SECRET_KEYS, Node, Tenant
from triggers.cli import app
from triggers.errors import OperatorError
from triggers.postgres.database import Database
from triggers.secrets.key_ring import KeyRing
from triggers.subscriptions.rules import open_headers

URL = "https://receiver.example/hook"


@pytest.fixture
def run(node: Node, tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a command and returns what it printed, a JSON document a line."""
    monkeypatch.setenv("TRIGGERS_URL", node.url)
    monkeypatch.setenv("TRIGGERS_API_KEY", tenant.key)

    async def call(*arguments: str) -> list[Any]:
        result = await asyncio.to_thread(CliRunner().invoke, app, ["subscriptions", *arguments, "--json"])
        if result.exception is not None:
            raise result.exception
        return [msgspec.json.decode(line) for line in result.stdout.splitlines()]

    return call


async def test_a_subscriptions_life(run: Any) -> None:
    (made,) = await run(
        *("create", URL, "--type", "order.*", "--type", "a", "--filter", "payload.a > 1", "--name", "shop"),
        *("--header", "X-A: 1", "--header", "Authorization: Bearer a:b", "--rate-limit", "2.5"),
        *("--retry-delay", "500ms", "--retry-delay", "1m", "--retry-deadline", "2d", "--signature", "v1a"),
    )
    assert made["secret"].startswith("whsk_")
    assert (made["event_types"], made["filter"], made["name"]) == (["order.*", "a"], "payload.a > 1", "shop")
    assert made["header_names"] == ["X-A", "Authorization"]
    assert (made["rate_limit"], made["retry"]) == (2.5, {"delays": [0.5, 60], "deadline": 172_800})
    subscription = made["id"]
    assert [each["id"] for each in await run("list")] == [subscription]
    assert (await run("show", "shop"))[0]["name"] == "shop"
    (changed,) = await run("change", "shop", "--name", "x", "--clear", "filter", "--clear", "rate-limit")
    assert (changed["name"], changed["filter"], changed["rate_limit"]) == ("x", None, None)
    assert changed["event_types"] == made["event_types"]
    assert (await run("pause", subscription[-8:]))[0]["status"] == "paused"
    assert await run("list", "--status", "active") == []
    assert (await run("resume", subscription))[0]["status"] == "active"
    (rotated,) = await run("rotate-secret", subscription, "--overlap", "0s")
    assert (rotated["secret"] != made["secret"], rotated["old_secret_ends_at"]) == (True, None)
    disabled = (await run("disable", subscription, "--reason", "done"))[0]
    assert (disabled["status"], disabled["status_reason"]) == ("disabled", "done")
    assert (await run("enable", subscription))[0]["missed_since"] == disabled["status_at"]
    for _ in range(2):
        assert await run("delete", subscription) == [{"id": subscription, "status": "deleted"}]
    with pytest.raises(OperatorError, match="404"):
        await run("show", subscription)


async def test_a_key_makes_it_only_once(run: Any) -> None:
    (made,) = await run("create", URL, "--subscription-key", "k")
    (again,) = await run("create", URL, "--subscription-key", "k")
    assert (again["id"], "secret" in again) == (made["id"], False)


@pytest.mark.parametrize(
    "arguments",
    [
        ("create", URL, "--header", "nothing"),
        ("create", URL, "--retry-delay", "soon"),
        ("create", "http://10.0.0.1/"),
        ("change", "x", "--name", "a", "--clear", "name"),
        ("change", "x"),
    ],
)
async def test_what_cannot_be_is_said(run: Any, arguments: tuple[str, ...]) -> None:
    with pytest.raises(OperatorError):
        await run(*arguments)


async def test_secrets_are_sealed_anew(
    run: Any, tenant: Tenant, database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (made,) = await run("create", URL, "--header", "X-A: 1")
    new = base64.b64encode(b"n" * 32).decode()
    monkeypatch.setenv("TRIGGERS_SECRET_KEYS", f"{new},{SECRET_KEYS}")
    monkeypatch.setenv("TRIGGERS_DATABASE_URL", database_url)
    for count in (1, 0):
        result = await asyncio.to_thread(CliRunner().invoke, app, ["secrets", "rotate"])
        assert result.exception is None
        assert f"secrets of {count} subscription" in result.stdout
    row = await database.row("select headers from subscriptions where id = $1", UUID(made["id"]))
    assert row is not None
    ring = KeyRing.from_setting(new)
    assert open_headers(ring, tenant.id, UUID(made["id"]), row["headers"]) == {"X-A": "1"}
