"""`triggers replay`, `deliveries` and `attempts` against a running node."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result

from harness import Node, Tenant
from triggers.cli import app, replays
from triggers.postgres.database import Database


class Terminal:
    """Runs commands in a thread, for the node answers from the test's loop."""

    def __init__(self, node: Node, tenant: Tenant) -> None:
        self._environment = {"TRIGGERS_URL": node.url, "TRIGGERS_API_KEY": tenant.key, "COLUMNS": "300"}

    async def run(self, *arguments: str, **options: Any) -> Result:
        return await asyncio.to_thread(
            CliRunner().invoke, app, list(arguments), env=self._environment, **options
        )


@pytest.fixture
def terminal(node: Node, tenant: Tenant) -> Terminal:
    return Terminal(node, tenant)


@pytest.fixture
async def dead(client: httpx.AsyncClient, database: Database) -> str:
    """A subscription to which three deliveries are dead; its id."""
    made = await client.post("/v1/subscriptions", json={"target_url": "https://example.com/"})
    for number in range(3):
        await client.post("/v1/events", json={"type": "order.created", "payload": number})
    await database.fetch(
        "with gone as (delete from deliveries where lane_group is not null returning *)"
        " insert into settled_deliveries (org_id, subscription_id, event_id, generation, status, reason,"
        " lease_count, attempts, accepted_at, settled_at)"
        " select org_id, subscription_id, event_id, 0, 'dead', 'timeout (exhausted)', 0, 9, now(), now()"
        " from gone"
    )
    found: str = made.json()["id"]
    return found


async def test_replay_shows_the_plan_asks_and_waits(terminal: Terminal, dead: str) -> None:
    refused = await terminal.run("replay", dead, input="n\n")
    assert refused.exit_code == 1
    assert "3 undelivered events" in refused.output
    assert "none" in (await terminal.run("replays", "list")).output
    done = await terminal.run("replay", dead, input="y\n")
    assert done.exit_code == 0, done.output
    assert "done: 3 deliveries created" in done.output
    nothing = await terminal.run("replay", dead, "--yes")
    assert nothing.exit_code == 0
    assert "0 undelivered events" in nothing.output
    listed = (await terminal.run("replays", "list", "--subscription", dead)).output
    assert "replay dead" in listed
    assert "100%" in listed
    [replay] = (await terminal.run("replays", "list", "--json")).output.splitlines()
    assert json.loads(replay)["made"] == 3


@pytest.mark.parametrize(
    ("action", "plan", "done"),
    [("retry", "retry 3 pending deliveries", "made due"), ("cancel", "cancel 3 pending", "cancelled")],
)
async def test_pending_deliveries_are_retried_or_cancelled(
    terminal: Terminal, client: httpx.AsyncClient, database: Database, action: str, plan: str, done: str
) -> None:
    made = await client.post("/v1/subscriptions", json={"target_url": "https://example.com/"})
    subscription: str = made.json()["id"]
    for number in range(3):
        await client.post("/v1/events", json={"type": "order.created", "payload": number})
    await database.fetch("update deliveries set due_at = now() + interval '1 h' where lane_group is not null")
    found = await terminal.run("replay", subscription, "--action", action, input="y\n")
    assert found.exit_code == 0, found.output
    assert plan in found.output
    assert f"3 deliveries {done}" in found.output
    row = await database.row(
        "select count(*) filter (where due_at <= now()) from deliveries where lane_group is not null"
    )
    settled = await database.row("select count(*) from settled_deliveries where status = 'cancelled'")
    assert row is not None
    assert settled is not None
    assert (row[0], settled[0]) == ((3, 0) if action == "retry" else (0, 3))
    listed = (await terminal.run("replays", "list", "--subscription", subscription)).output
    assert action in listed


async def test_an_interrupt_leaves_it_running(
    terminal: Terminal, dead: str, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(replays.time, "sleep", interrupt)
    left = await terminal.run("replay", dead, "--yes", "--rate", "1")
    assert left.exit_code == 130
    [replay] = (await client.get("/v1/replays")).json()["data"]
    assert replay["status"] == "running"
    assert f"triggers replays cancel {replay['id']}" in left.output
    cancelled = await terminal.run("replays", "cancel", replay["id"])
    assert re.search(r"status +cancelled\n", cancelled.output)
    watched = await terminal.run("replays", "watch", replay["id"])
    assert watched.exit_code != 0
    assert "cancelled by request" in str(watched.exception)


async def test_deliveries_are_listed_and_mended(
    terminal: Terminal, dead: str, client: httpx.AsyncClient
) -> None:
    listed = await terminal.run("deliveries", "list", "--status", "dead", "--subscription", dead)
    names = re.findall(rf"[0-9a-f-]{{36}}\.{dead}", listed.output)
    assert len(names) == 3
    assert "timeout (exhausted)" in listed.output
    one = names[0]
    assert (await terminal.run("deliveries", "retry", one)).output == f"{one} pending\n"
    assert "its turn" in (await terminal.run("deliveries", "list", "--subscription", dead)).output
    assert (await terminal.run("deliveries", "cancel", one)).output == f"{one} cancelled\n"
    short = await terminal.run("deliveries", "list", "--status", "dead", "--limit", "1")
    assert short.output.count(f".{dead}") == 1
    for_scripts = await terminal.run("deliveries", "list", "--status", "dead", "--json")
    answered = (await client.get("/v1/deliveries", params={"status": "dead"})).json()["data"]
    assert [json.loads(line) for line in for_scripts.output.splitlines()] == answered


async def test_push_is_listed_unless_something_else_is_asked_for(
    terminal: Terminal, client: httpx.AsyncClient
) -> None:
    hook = await client.post("/v1/subscriptions", json={"target_url": "https://receiver.example/"})
    subscription = hook.json()["id"]
    sent = await client.post("/v1/events", json={"type": "new", "payload": 1})
    [inbox] = (await client.get("/v1/inboxes")).json()["data"]

    async def listed(*arguments: str) -> set[str]:
        found = await terminal.run("deliveries", "list", "--json", *arguments)
        rows = [json.loads(line) for line in found.output.splitlines()]
        return {row["kind"] for row in rows if row["event_id"] == sent.json()["id"]}

    assert await listed() == {"push"}
    assert await listed("--kind", "inbox") == {"inbox"}
    assert await listed("--kind", "all") == {"push", "inbox"}
    assert await listed("--subscription", inbox["id"]) == {"inbox"}
    assert await listed("--subscription", subscription) == {"push"}
    await client.post("/v1/ack", json={"event_ids": [sent.json()["id"]]})
    assert await listed("--status", "acknowledged") == {"inbox"}


async def test_attempts_are_listed(terminal: Terminal, dead: str, node: Node, tenant: Tenant) -> None:
    event = node.clock.mint()
    await node.database.fetch(
        "insert into attempts (org_id, subscription_id, id, event_id, generation, attempt, outcome, reason,"
        " status_code, duration_ms, worker_id)"
        " values ($1, $2, $3, $4, 0, 1, 'retry', 'http_error', 503, 12, $4)",
        tenant.id,
        dead,
        node.clock.mint(),
        event,
    )
    found = await terminal.run("attempts", "--subscription", dead)
    assert "http_error 503" in found.output
    [attempt] = (await terminal.run("attempts", "--subscription", dead, "--json")).output.splitlines()
    assert json.loads(attempt)["status_code"] == 503
    assert (await terminal.run("attempts")).exit_code != 0
