"""More of the scene of the console: many dead deliveries, a job, and an inbox with leases."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from console_scene import Scene, furnish
from harness import Node, Tenant
from triggers.postgres.clock import DatabaseClock
from triggers.postgres.database import Database

DEAD = 60
HOSTILE_CONSUMER = "<b>worker</b> \u202e7"


class UndeliveredScene(NamedTuple):
    """Ids of what there is to look at. `inbox` has messages of every kind; `lease` holds two of them."""

    scene: Scene
    inbox: str
    lease: str
    job: str


async def furnish_undelivered(
    node: Node, database: Database, clock: DatabaseClock, tenant: Tenant
) -> UndeliveredScene:
    """Make the scene."""
    scene = await furnish(database, clock, tenant)
    await bury(database, tenant, scene.audit, DEAD)
    async with node.client(tenant) as client:
        made = await client.post("/v1/inboxes", json={"key": "fulfilment", "event_types": ["parcel.*"]})
        inbox = made.json()["id"]
        for number in range(7):
            sent = {"type": "parcel.packed", "payload": {"n": number}}
            assert (await client.post("/v1/events", json=sent)).status_code == 201
        await database.fetch("delete from deliveries where subscription_id = $1", scene.audit)
        messages = f"/v1/inboxes/{inbox}/messages"
        worn = await client.post(f"{messages}/lease", json={"lease_limit": 1})
        rejected = {"lease_id": worn.json()["lease_id"], "reason": "<i>no address</i>"}
        assert (await client.post(f"{messages}/reject", json=rejected)).status_code == 201
        asked = {"lease_limit": 2, "lease_seconds": 900, "consumer": HOSTILE_CONSUMER}
        lease = (await client.post(f"{messages}/lease", json=asked)).json()["lease_id"]
        planned = {"subscription_id": str(scene.audit), "event_types": ["nothing"], "rate": 1}
        job = (await client.post("/v1/replays", json=planned)).json()["id"]
    return UndeliveredScene(scene, inbox, lease, job)


async def bury(database: Database, tenant: Tenant, to: UUID, number: int) -> None:
    """Store events of the last hour whose deliveries are dead."""
    await database.fetch(
        "with aged as (select (lpad(to_hex((extract(epoch from now() - n * interval '40 s') * 1000)::bigint),"
        "  12, '0') || '7000' || '8000' || lpad(to_hex(n), 12, '0'))::uuid as id, n"
        " from generate_series(1, $2::int) n),"
        " stored as (insert into events (org_id, id, type, payload)"
        " select $1, id, 'report.ready', '{}' from aged)"
        " insert into settled_deliveries (org_id, subscription_id, event_id, generation, status, reason,"
        " lease_count, attempts, accepted_at, settled_at)"
        " select $1, $3, id, 0, 'dead', 'unavailable (exhausted)', 0, 9, now() - n * interval '40 s', now()"
        " from aged",
        tenant.id,
        number,
        to,
    )
