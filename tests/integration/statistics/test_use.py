"""The use of the service by organisation, for operators."""

from __future__ import annotations

from console_scene_access import furnish_access
from harness import Node, Tenant
from triggers.postgres.clock import DatabaseClock
from triggers.postgres.database import Database


async def test_use_is_counted_per_organisation_and_cut(
    node: Node, database: Database, clock: DatabaseClock, tenant: Tenant
) -> None:
    scene = await furnish_access(node, database, clock, tenant)
    async with node.client(scene.operator) as client:
        found = (await client.get("/v1/admin/use")).json()
        by_id = {each["id"]: each for each in found["data"]}
        orgs = (await client.get("/v1/admin/orgs")).json()["data"]
        assert [each["id"] for each in found["data"]] == [each["id"] for each in orgs]
        first, second, _ = (by_id[str(other.id)] for other in scene.others)
        assert (first["accepted"], first["backlog"], first["backlog_is_cut"]) == (12_400, 100_000, True)
        assert (second["accepted"], second["backlog"], second["backlog_is_cut"]) == (49_600, 0, False)
        assert by_id[str(tenant.id)]["accepted"] == 0
        assert (first["subscriptions"], first["max_subscriptions"]) == (1, 1_000)
        pages: list[str] = []
        cursor = None
        while True:
            query = {"limit": 2} | ({"cursor": cursor} if cursor else {})
            page = (await client.get("/v1/admin/use", params=query)).json()
            pages += [each["id"] for each in page["data"]]
            cursor = page["next_cursor"]
            if cursor is None:
                break
        assert pages == list(by_id)
        assert (await client.get("/v1/admin/use?limit=201")).status_code == 422
    await database.fetch("delete from statistics_minutes")
    async with node.client(scene.operator) as client:
        unsampled = (await client.get("/v1/admin/use")).json()["data"]
        assert {each["backlog"] for each in unsampled} <= {None, 0}, "the node may have sampled again"
    async with node.client(tenant) as client:
        assert (await client.get("/v1/admin/use")).status_code == 403
