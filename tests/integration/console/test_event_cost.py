"""The page of an event takes as many statements for fifty deliveries as for one."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from console_scene import furnish
from harness import Node, Tenant
from integration.console.test_pages import signed_in
from triggers.fairness.room import acting_for
from triggers.postgres.clock import DatabaseClock
from triggers.postgres.database import Database

MOST = 10


async def test_the_number_of_statements_does_not_grow_with_deliveries(
    node: Node, database: Database, clock: DatabaseClock, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = await furnish(database, clock, tenant)
    async with node.client(tenant) as client:
        answer = await client.post("/v1/events", json={"type": "nobody", "payload": 1})
        alone = UUID(answer.json()["id"])
    await database.fetch(
        "insert into subscriptions (org_id, id, kind, lane_group, target_url, format, signature, secrets,"
        " name, all_types, type_names, status_at, created_at)"
        " select org_id, gen_random_uuid(), kind, lane_group, target_url, format, signature, secrets,"
        " 'copy ' || n, false, '{}', now(), now() from subscriptions, generate_series(1, 50) n where id = $1",
        scene.billing,
    )
    await database.fetch(
        "insert into deliveries (org_id, subscription_id, event_id, due_at, accepted_at,"
        " payload_size, lane_group)"
        " select s.org_id, s.id, $2, now() + interval '1 h', now(), 2, s.lane_group from subscriptions s"
        " where s.org_id = $1 and s.name like 'copy %'",
        tenant.id,
        scene.failing,
    )
    statements: list[str] = []
    original = Database._fetch, Database.row

    async def fetch(self: Database, statement: str, values: Any) -> Any:
        if acting_for.get() == tenant.id:
            statements.append(statement)
        return await original[0](self, statement, values)

    async def row(self: Database, statement: str, *values: Any) -> Any:
        if acting_for.get() == tenant.id:
            statements.append(statement)
        return await original[1](self, statement, *values)

    monkeypatch.setattr(Database, "_fetch", fetch)
    monkeypatch.setattr(Database, "row", row)
    async with signed_in(node, tenant) as client:
        counts = {}
        for event_id in (alone, scene.failing):
            await client.get(f"/console/events/{event_id}")  # looks up the session
            statements.clear()
            answer = await client.get(f"/console/events/{event_id}")
            assert answer.status_code == 200
            counts[event_id] = len(statements)
    assert answer.text.count("copy ") >= 50, "the page has all deliveries"
    assert 0 < counts[alone] <= MOST
    assert counts[scene.failing] == counts[alone]
