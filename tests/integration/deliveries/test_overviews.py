"""The subscriptions with undelivered events, and the deliveries of one event."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import httpx
import pytest

from console_scene import furnish
from console_scene_undelivered import bury
from harness import Node, Tenant, Tenants
from triggers.deliveries.undelivered import MOST_COUNTED
from triggers.domain import Scope
from triggers.postgres.clock import DatabaseClock
from triggers.postgres.database import Database


async def undelivered(client: httpx.AsyncClient, **parameters: Any) -> dict[str, dict[str, Any]]:
    answer = await client.get("/v1/undelivered", params=parameters)
    assert answer.status_code == 200, answer.text
    return {each["name"]: each for each in answer.json()["data"]}


async def test_the_worst_come_first_with_counts_and_the_last_reason(
    node: Node, database: Database, clock: DatabaseClock, tenant: Tenant, tenants: Tenants
) -> None:
    scene = await furnish(database, clock, tenant)
    async with node.client(tenant) as client:
        found = await undelivered(client)
        assert list(found) == ["billing", "audit log", "warehouse"]
        billing, audit, warehouse = found.values()
        assert (billing["dead"], billing["pending"], billing["last_status_code"]) == (1, 1, 503)
        assert billing["failing_since"] is not None
        assert (audit["dead"], audit["pending"], audit["oldest_pending"]) == (1, 0, None)
        assert audit["last_reason"] == "refused (exhausted)"
        assert (warehouse["status"], warehouse["dead"], warehouse["pending"]) == ("paused", 0, 2)

        first = (await client.get("/v1/undelivered", params={"limit": 2})).json()
        rest = await undelivered(client, limit=2, cursor=first["next_cursor"])
        assert list(rest) == ["warehouse"]
        assert list(await undelivered(client, subscription_id=str(scene.audit))) == ["audit log"]
        assert await undelivered(client, subscription_id="nothing") == {}
        answer = await client.get("/v1/undelivered", params={"cursor": "_" * 22})
        assert answer.status_code == 422

        # What was sent again is no longer dead.
        for row in await database.fetch(
            "select event_id from settled_deliveries where subscription_id = $1 and status = 'dead'",
            scene.audit,
        ):
            again = await client.post(f"/v1/deliveries/{row['event_id']}.{scene.audit}/retry")
            assert again.status_code == 200
        assert (await undelivered(client))["audit log"]["dead"] == 0
    async with node.client(await tenants.make()) as stranger:
        assert await undelivered(stranger) == {}
        assert await undelivered(stranger, subscription_id=str(scene.audit)) == {}


async def test_counts_end_at_a_limit(
    node: Node, database: Database, clock: DatabaseClock, tenant: Tenant
) -> None:
    scene = await furnish(database, clock, tenant)
    await bury(database, tenant, scene.audit, MOST_COUNTED + 5)
    async with node.client(tenant) as client:
        audit = (await undelivered(client))["audit log"]
    assert (audit["dead"], audit["dead_exact"], audit["pending_exact"]) == (MOST_COUNTED, False, True)


async def test_an_inbox_can_be_shown_with_its_numbers(node: Node, database: Database, tenant: Tenant) -> None:
    async with node.client(tenant) as client:
        for number in range(5):
            await client.post("/v1/events", json={"type": "a", "payload": number})
        messages = "/v1/inboxes/default/messages"
        lease = (await client.post(f"{messages}/lease", json={"lease_limit": 3})).json()
        body = {"lease_id": lease["lease_id"], "message_ids": [lease["results"][0]["id"]], "reason": "x"}
        await client.post(f"{messages}/reject", json=body)
        one = (await client.get("/v1/inboxes/default", params={"backlog": ""})).json()["backlog"]
        (listed,) = (await client.get("/v1/inboxes", params={"backlog": ""})).json()["data"]
        assert one == listed["backlog"]
        assert (one["messages"], one["leased"], one["quarantined"]) == (4, 2, 1)
        assert one["messages_exact"]
        assert one["oldest_message"] is not None
        assert "backlog" not in (await client.get("/v1/inboxes/default")).json()


async def test_all_deliveries_of_an_event_in_one_answer(
    node: Node, database: Database, clock: DatabaseClock, tenant: Tenant, tenants: Tenants
) -> None:
    scene = await furnish(database, clock, tenant)
    path = f"/v1/events/{scene.failing}/deliveries"
    async with node.client(tenant) as client:
        answer = (await client.get(path)).json()
        assert answer["total"] == len(answer["data"]) == 5
        assert answer["unsent"] == 1
        states = {each["name"]: (each["status"], each["waiting_for"]) for each in answer["data"]}
        assert states == {
            "billing": ("pending", "retry_time"),
            "warehouse": ("pending", "subscription_paused"),
            "default": ("pending", "consumer"),
            "audit log": ("delivered", None),
            "CRM": ("delivered", None),
        }
        for each in answer["data"]:
            alone = (await client.get(f"/v1/deliveries/{each['id']}")).json()
            same = each.keys() & alone.keys()
            assert {name: each[name] for name in same} == {name: alone[name] for name in same}
        short = (await client.get(path, params={"limit": 1})).json()
        assert (len(short["data"]), short["total"], short["unsent"]) == (1, 5, 1)
        assert (await client.get("/v1/events/nothing/deliveries")).status_code == 404

        # Only the latest generation is listed.
        await client.post(f"/v1/deliveries/{scene.dead}.{scene.billing}/retry")
        again = (await client.get(f"/v1/events/{scene.dead}/deliveries")).json()
        billing = [each for each in again["data"] if each["name"] == "billing"]
        assert [(each["generation"], each["status"]) for each in billing] == [(1, "pending")]
    async with node.client(await tenants.make()) as stranger:
        assert (await stranger.get(path)).status_code == 404
    async with node.client(await tenants.key_of(tenant.id, tenant.name, [Scope.INBOX])) as consumer:
        assert (await consumer.get(path)).status_code == 403


async def test_an_event_without_deliveries(node: Node, database: Database, tenant: Tenant) -> None:
    async with node.client(tenant) as client:
        event_id = (await client.post("/v1/events", json={"type": "a", "payload": 1})).json()["id"]
        await database.fetch("delete from deliveries where event_id = $1", UUID(event_id))
        answer = (await client.get(f"/v1/events/{event_id}/deliveries")).json()
    assert answer == {"data": [], "total": 0, "unsent": 1}


@pytest.mark.parametrize("status", ["dead", "pending"])
async def test_deliveries_of_a_time_range(
    node: Node, database: Database, clock: DatabaseClock, tenant: Tenant, status: str
) -> None:
    scene = await furnish(database, clock, tenant)
    event_id = scene.dead if status == "dead" else scene.failing
    async with node.client(tenant) as client:
        at = (await client.get(f"/v1/events/{event_id}")).json()["created_at"]
        asked = {"status": status, "subscription_id": str(scene.billing)}

        async def listed(**bounds: str) -> list[str]:
            answer = await client.get("/v1/deliveries", params=asked | bounds)
            assert answer.status_code == 200, answer.text
            return [each["event_id"] for each in answer.json()["data"]]

        assert await listed() == [str(event_id)]
        assert await listed(since=at) == [str(event_id)]
        assert await listed(until=at) == []
        later = "2999-01-01T00:00:00Z"
        assert await listed(since=later) == []
        assert await listed(since=at, until=later) == [str(event_id)]
        wrong = await client.get("/v1/deliveries", params=asked | {"since": "yesterday"})
        assert wrong.status_code == 422
