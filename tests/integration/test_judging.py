"""What accept writes for each kind of subscription: lanes, ordering keys, filters; and whom it wakes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import httpx
import pytest

from harness import Node, RedisServer, Tenant, eventually
from triggers.storage.clock import DatabaseClock
from triggers.storage.database import Database
from triggers.storage.lane_store import LaneId

PUSH = {
    "kind": "push",
    "lane_group": 7,
    "target_url": "https://example.com/",
    "format": "standard",
    "signature": "v1",
    "secrets": b"sealed",
}


class Subscriptions:
    """Makes and changes subscriptions of one organisation as the store does: each raises the version."""

    def __init__(self, database: Database, clock: DatabaseClock, tenant: Tenant) -> None:
        self._database = database
        self._clock = clock
        self.org_id = tenant.id

    async def push(self, **columns: Any) -> UUID:
        return await self.make(**(PUSH | columns))

    async def inbox(self, key: str, **columns: Any) -> UUID:
        return await self.make(kind="inbox", key=key, **columns)

    async def make(self, **columns: Any) -> UUID:
        subscription_id = self._clock.mint()
        row = {
            "org_id": self.org_id,
            "id": subscription_id,
            "all_types": "type_names" not in columns,
            **columns,
        }
        names = ", ".join(row)
        values = ", ".join(f"${n}" for n in range(1, len(row) + 1))
        async with self._database.connection() as connection, connection.transaction():
            await connection.execute(
                f"insert into subscriptions ({names}, status_at, created_at) values ({values}, now(), now())",
                *row.values(),
            )
            await connection.execute(
                "update organisations set subscription_count = subscription_count + 1 where id = $1",
                self.org_id,
            )
            if row.get("filter") or row.get("ordering_pointer"):
                await self._raise(connection)
        return subscription_id

    async def change(self, subscription_id: UUID, **columns: Any) -> None:
        sets = ", ".join(f"{name} = ${n}" for n, name in enumerate(columns, 2))
        async with self._database.connection() as connection, connection.transaction():
            await connection.execute(
                f"update subscriptions set {sets} where id = $1",
                subscription_id,
                *columns.values(),
            )
            await self._raise(connection)

    async def _raise(self, connection: Any) -> None:
        await connection.execute(
            "update organisations set judging_version = judging_version + 1 where id = $1", self.org_id
        )

    async def owed(self, subscription_id: UUID) -> list[Any]:
        """Its deliveries in the order of acceptance."""
        return await self._database.fetch(
            "select * from deliveries where subscription_id = $1 order by accepted_at, event_id",
            subscription_id,
        )

    async def owed_ids(self, subscription_id: UUID) -> list[str]:
        return [str(row["event_id"]) for row in await self.owed(subscription_id)]


@pytest.fixture
def subscriptions(database: Database, clock: DatabaseClock, tenant: Tenant) -> Subscriptions:
    return Subscriptions(database, clock, tenant)


async def post(client: httpx.AsyncClient, payload: Any = None, **envelope: Any) -> str:
    """Post an event; return its id."""
    answer = await client.post("/v1/events", json={"type": "order.created", "payload": payload, **envelope})
    assert answer.status_code == 201, answer.text
    found: str = answer.json()["id"]
    return found


# ---- lanes and keys --------------------------------------------------------------------------------


async def test_a_push_delivery_stands_in_its_lane(
    client: httpx.AsyncClient, subscriptions: Subscriptions
) -> None:
    push = await subscriptions.push(lane_group=42)
    inbox = await subscriptions.inbox("mine")
    event_id = await post(client, {"a": 1})
    [pushed], [pulled] = await subscriptions.owed(push), await subscriptions.owed(inbox)
    assert str(pushed["event_id"]) == str(pulled["event_id"]) == event_id
    assert (pushed["lane_group"], pushed["ordering_key"]) == (42, None)
    assert (pulled["lane_group"], pulled["ordering_key"]) == (None, None)


async def test_the_key_is_the_events_or_the_whole_subscription(
    client: httpx.AsyncClient, subscriptions: Subscriptions
) -> None:
    push = await subscriptions.push(ordering="key")
    await post(client, ordering_key="customer 1")
    await post(client)
    assert [row["ordering_key"] for row in await subscriptions.owed(push)] == ["customer 1", ""]


async def test_an_expired_subscription_matches_nothing(
    client: httpx.AsyncClient, subscriptions: Subscriptions, database: Database
) -> None:
    row = await database.row("select now() - interval '1 s', now() + interval '1 h'")
    assert row is not None
    gone, there = await subscriptions.push(expires_at=row[0]), await subscriptions.push(expires_at=row[1])
    event_id = await post(client)
    assert await subscriptions.owed_ids(there) == [event_id]
    assert await subscriptions.owed_ids(gone) == []


# ---- hints -----------------------------------------------------------------------------------------


async def test_hints_name_the_lanes_that_got_something(
    node: Node, client: httpx.AsyncClient, subscriptions: Subscriptions
) -> None:
    first, second = await subscriptions.push(), await subscriptions.push()
    await subscriptions.push(all_types=False, type_names=["other"])
    await subscriptions.push(status="disabled")
    hints: list[tuple[set[UUID], set[LaneId]]] = []
    node.wakeup.listen(lambda orgs, lanes: hints.append((orgs, set(lanes))))
    await post(client)
    org_id = subscriptions.org_id
    assert hints == [({org_id}, {(org_id, first), (org_id, second)})]


async def test_redis_carries_lanes_to_another_node(
    make_node: Callable[..., Any], redis_server: RedisServer, tenant: Tenant, subscriptions: Subscriptions
) -> None:
    push = await subscriptions.push()
    here: Node = await make_node(redis_url=redis_server.url)
    there: Node = await make_node(redis_url=redis_server.url)
    seen: list[LaneId] = []
    there.wakeup.listen_for_lanes(seen.extend)
    await eventually(lambda: there.health.redis and here.health.redis)
    async with here.client(tenant) as client:
        await post(client)
        await eventually(lambda: (tenant.id, push) in seen)
