"""`triggers bench` against a real node: every profile in a short form, and the organisations it may use."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import sys
import xml.etree.ElementTree as ET
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result

from delivering import Workers
from harness import Node, Tenant, Tenants, eventually
from triggers.bench_client.size import WARM_UP_REQUESTS
from triggers.cli import app
from triggers.domain import TENANT_SCOPES, OrgId, Plan, Scope
from triggers.keys import store as api_keys
from triggers.postgres.clock import DatabaseClock
from triggers.postgres.database import Database

SHORT = ("--seconds", "0.4", "--requests", "20", "--rate", "50", "--messages", "120")
EVENT_COUNT = "select count(*) from events where org_id = $1"
THEIR_KEY = "zap_test_benchmark_key_for_load_testing_purposes_only_12345"
THEIR_HASH = "b56a97e2a1baafad83204376d8f87b8df7b4c6f2abb4d788fd4758c37d964d69"


class Bench:
    """Runs `triggers bench …` in a thread, while the node answers from the test's loop."""

    def __init__(self, node: Node) -> None:
        self._url = node.url

    async def run(self, key: str, *arguments: str) -> Result:
        environment = {"TRIGGERS_URL": self._url, "TRIGGERS_API_KEY": key}
        return await asyncio.to_thread(
            CliRunner().invoke, app, ["bench", *arguments, *SHORT], env=environment
        )

    async def report(self, key: str, *arguments: str) -> dict[str, Any]:
        done = await self.run(key, *arguments, "--json")
        assert done.exit_code == 0, (done.output, done.exception)
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    async def refusal(self, key: str, *arguments: str) -> str:
        done = await self.run(key, *arguments)
        assert done.exit_code == 1
        return str(done.exception)


@pytest.fixture
def bench(node: Node) -> Bench:
    return Bench(node)


@pytest.fixture
async def admin(tenants: Tenants) -> Tenant:
    return await tenants.make(scopes=[Scope.ADMIN], name="operator")


@pytest.fixture
async def workers(database_url: str) -> AsyncIterator[Workers]:
    async with Workers(database_url) as started:
        yield started


def requests_of(report: dict[str, Any]) -> dict[str, int]:
    assert report["missed"] == []
    assert all(row["errors"] == {} and row["p50_ms"] > 0 for row in report["rows"])
    found: dict[str, int] = {}
    for row in report["rows"]:
        found[row["endpoint"]] = found.get(row["endpoint"], 0) + row["requests"]
    return found


async def test_quick_measures_each_endpoint_and_then_the_mix(
    bench: Bench, tenant: Tenant, database: Database, tmp_path: Path
) -> None:
    chart = tmp_path / "chart.svg"
    report = await bench.report(tenant.key, "quick", "--svg", str(chart))
    counts = requests_of(report)
    alone = {r["endpoint"]: r["requests"] for r in report["rows"] if r["phase"] == "20 each"}
    assert alone == {"POST /events": 20, "GET /inbox": 20, "POST /ack": 20}
    assert report["generator_per_second"] > 0
    # What was counted is what is stored, apart from the warm-up, and only what was sent is acknowledged.
    assert (await database.row(EVENT_COUNT, tenant.id))[0] == counts["POST /events"] + WARM_UP_REQUESTS
    acknowledged = "select count(*) from settled_deliveries where org_id = $1 and status = 'acknowledged'"
    assert (await database.row(acknowledged, tenant.id))[0] == counts["POST /ack"] + WARM_UP_REQUESTS
    assert ET.parse(chart).getroot().tag.endswith("svg")  # noqa: S314 - of our own making


@pytest.mark.parametrize("profile", ["heavy", "open"])
async def test_events_are_sent_as_fast_as_possible_or_at_a_rate(
    bench: Bench, tenant: Tenant, database: Database, profile: str
) -> None:
    counts = requests_of(await bench.report(tenant.key, profile))
    assert counts["POST /events"] == 20 if profile == "open" else counts["POST /events"] >= 64 + 256
    assert (await database.row(EVENT_COUNT, tenant.id))[0] == counts["POST /events"]


async def test_deliver_times_each_event_until_its_receiver_has_it(
    bench: Bench, tenant: Tenant, workers: Workers, node: Node
) -> None:
    await workers.start()
    assert requests_of(await bench.report(tenant.key, "deliver")) == {
        "POST /events": 20,
        "sent → received": 20,
    }
    async with node.client(tenant) as client:
        assert (await client.get("/v1/subscriptions")).json()["data"] == []


async def test_lease_empties_an_inbox_of_its_own(bench: Bench, tenant: Tenant, node: Node) -> None:
    counts = requests_of(await bench.report(tenant.key, "lease", "--lease-limit", "10"))
    assert counts["lease messages"] == counts["acknowledge a lease"] >= 12
    async with node.client(tenant) as client:
        inboxes = (await client.get("/v1/inboxes")).json()["data"]
    assert [each["key"] for each in inboxes if each["status"] == "active"] == ["default"]


async def test_a_missed_threshold_is_exit_code_one(bench: Bench, tenant: Tenant) -> None:
    done = await bench.run(tenant.key, "open", "--p95-ms", "0.001")
    assert done.exit_code == 1
    assert "POST /events: P95 was" in done.stderr
    assert "generator alone" in done.stdout
    refused = await bench.run(tenant.key, "open", "--this-organisation-is-disposable", "--p95-ms", "60000")
    assert refused.exit_code == 0, refused.output


async def test_an_organisation_that_is_in_use_is_refused(
    bench: Bench, tenants: Tenants, tenant: Tenant, node: Node, database: Database
) -> None:
    async with node.client(tenant) as client:
        await client.put("/v1/inboxes", json={"key": "theirs", "event_types": ["*"]})
        assert "the inbox theirs" in await bench.refusal(tenant.key, "open")
        await client.put("/v1/subscriptions", json={"key": "hook", "target_url": "https://example.com/"})
        assert "the subscription hook" in await bench.refusal(tenant.key, "open")
        assert (await database.row(EVENT_COUNT, tenant.id))[0] == 0
        await client.post("/v1/events", json={"type": "a", "data": 1})
    assert "has events" in await bench.refusal(tenant.key, "open")
    assert (await database.row(EVENT_COUNT, tenant.id))[0] == 1
    await bench.report(tenant.key, "open", "--this-organisation-is-disposable")
    blind = await tenants.make(scopes=[Scope.EVENTS_WRITE])
    assert "may not read /v1/events" in await bench.refusal(blind.key, "open")
    small = await tenants.make(plan=Plan.FREE)
    assert "allows 100 requests per minute" in await bench.refusal(small.key, "quick")
    assert (await database.row(EVENT_COUNT, small.id))[0] == 0
    assert "401" in await bench.refusal("zap_test_wrong", "open")


async def test_an_admin_key_makes_an_organisation_that_is_deleted(
    bench: Bench, admin: Tenant, node: Node, database: Database
) -> None:
    done = await bench.run(admin.key, "open")
    assert done.exit_code == 0, done.output
    assert "bench-" not in done.stderr
    await _is_deleted(node, admin, database)
    assert (await database.row(EVENT_COUNT, admin.id))[0] == 0
    await database.fetch("update deleted_organisations set due_at = now()")
    events = "select from events limit 1"
    await eventually(lambda: _none(database, events), 20)


@pytest.mark.parametrize(("end", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
async def test_an_interrupt_removes_what_was_made(
    admin: Tenant, node: Node, database: Database, end: signal.Signals, code: int
) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "triggers", "bench", "open", "--seconds", "600", "--rate", "20"),
        *("--url", node.url, "--key", admin.key),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "TERM": "dumb"},
    )
    try:
        any_event = (
            "select exists (select from events e join organisations o on o.id = e.org_id"
            " where o.name like 'bench-%')"
        )

        async def sends() -> bool:
            return bool((await database.row(any_event))[0])

        await eventually(sends, 30)
        process.send_signal(end)
        _, said = await asyncio.wait_for(process.communicate(), 30)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == code, said
    assert b"Traceback" not in said
    assert b"The organisation bench-" not in said
    await _is_deleted(node, admin, database)


async def test_the_requests_of_the_script_work_unchanged(
    node: Node, tenants: Tenants, database: Database, clock: DatabaseClock
) -> None:
    """Its paths without a version, `data`, `X-API-Key`, and its key, imported by prefix and hash."""
    assert hashlib.sha256(THEIR_KEY.encode()).hexdigest() == THEIR_HASH
    org = OrgId((await tenants.make(name="Benchmark Test Org")).id)
    await api_keys.import_hash(
        database, clock, org, api_keys.ForeignKey("zap_test_ben", THEIR_HASH, TENANT_SCOPES)
    )
    async with httpx.AsyncClient(base_url=node.url, headers={"X-API-Key": THEIR_KEY}) as client:
        sent = await client.post("/events", json={"type": "user.created", "data": {"user_id": 1}})
        assert sent.status_code == 201, sent.text
        listed = (await client.get("/inbox")).json()["events"]
        assert [(each["id"], each["payload"]) for each in listed] == [(sent.json()["id"], {"user_id": 1})]
        done = await client.post("/ack", json={"event_ids": [sent.json()["id"]]})
        assert (done.status_code, done.json()["acknowledged"]) == (200, 1)
        assert (await client.get("/inbox")).json()["events"] == []
    report = await Bench(node).report(THEIR_KEY, "quick", "--this-organisation-is-disposable")
    assert requests_of(report)["GET /inbox"] >= 20


async def _is_deleted(node: Node, admin: Tenant, database: Database) -> None:
    async with node.client(admin) as client:
        found = (await client.get("/v1/admin/orgs")).json()["data"]
    assert [each["name"] for each in found] == ["operator"]
    (deleted,) = await database.fetch("select name from deleted_organisations")
    assert deleted["name"].startswith("bench-")


async def _none(database: Database, rows: str) -> bool:
    return await database.fetch(rows) == []
