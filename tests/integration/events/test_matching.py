"""What accept writes for each kind of subscription: lanes, ordering keys, filters; and whom it wakes."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Callable
from typing import Any
from uuid import UUID

import httpx
import pytest

from harness import Node, RedisServer, Tenant, Tenants, eventually
from triggers.domain import Accepted, EventId, LaneId, NewEvent, OrgId
from triggers.errors import DatabaseUnavailable, NotFound
from triggers.events import matching as judging
from triggers.events import matching_store as judging_store
from triggers.events import store as event_store
from triggers.events.group_commit import Acceptor, WaitingLimits
from triggers.postgres.clock import DatabaseClock
from triggers.postgres.database import Database

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


# ---- keys in the payload ---------------------------------------------------------------------------


async def test_the_key_that_a_pointer_finds(client: httpx.AsyncClient, subscriptions: Subscriptions) -> None:
    push = await subscriptions.push(ordering="key", ordering_pointer="/customer/id")
    plain = await subscriptions.push(ordering="key")
    await post(client, {"customer": {"id": "c1"}}, ordering_key="of the event")
    await post(client, {"customer": {"id": 17}})
    text = b'{"type": "a", "payload": {"customer": {"id": 1.50}}}'
    assert (
        await client.post("/v1/events", content=text, headers={"content-type": "application/json"})
    ).is_success
    await post(client, {"customer": {"id": "x" * 300}})
    alone = [await post(client, payload) for payload in ({"customer": {}}, 7)]
    keys = [row["ordering_key"] for row in await subscriptions.owed(push)]
    assert keys == ["c1", "17", "1.50", hashlib.sha256(b"x" * 300).hexdigest(), *alone]
    assert [row["ordering_key"] for row in await subscriptions.owed(plain)] == ["of the event", *[""] * 5]


# ---- filters ---------------------------------------------------------------------------------------


async def test_filters_are_judged_for_push_and_inbox(
    client: httpx.AsyncClient, subscriptions: Subscriptions
) -> None:
    push = await subscriptions.push(filter="payload.n > 10")
    inbox = await subscriptions.inbox("large", filter='payload.n > 20 && event.type == "order.created"')
    both = await subscriptions.push(filter="payload.n > 10", ordering="key", ordering_pointer="/n")
    every = await subscriptions.push()
    ids = {n: await post(client, {"n": n}) for n in (5, 15, 25)}
    other = await post(client, {"n": 30}, type="order.deleted")
    assert await subscriptions.owed_ids(push) == [ids[15], ids[25], other]
    assert await subscriptions.owed_ids(inbox) == [ids[25]]
    assert [row["ordering_key"] for row in await subscriptions.owed(both)] == ["15", "25", "30"]
    assert await subscriptions.owed_ids(every) == [*ids.values(), other]


async def test_a_batch_is_judged_in_its_order(
    client: httpx.AsyncClient, subscriptions: Subscriptions
) -> None:
    push = await subscriptions.push(filter="payload % 2 == 0", ordering="key", ordering_pointer="")
    # First contact: all of it comes back once, is judged and stored.
    answer = await client.post("/v1/events/batch", json=[{"type": "a", "payload": n} for n in range(1000)])
    results = answer.json()["results"]
    assert {result["status"] for result in results} == {201}
    rows = await subscriptions.owed(push)
    assert [row["ordering_key"] for row in rows] == [str(n) for n in range(0, 1000, 2)]
    assert [str(row["event_id"]) for row in rows] == [result["id"] for result in results[::2]]


async def test_duplicates_are_told_while_rules_are_learned(
    client: httpx.AsyncClient, subscriptions: Subscriptions
) -> None:
    push = await subscriptions.push(filter="payload == 1")
    batch = [{"type": "a", "payload": n, "dedup_id": "d"} for n in (1, 1, 2)]
    answer = await client.post("/v1/events/batch", json=batch)
    assert [result["status"] for result in answer.json()["results"]] == [201, 200, 409]
    assert len(await subscriptions.owed(push)) == 1


async def test_a_filter_that_comes_just_before_the_statement(
    node: Node,
    client: httpx.AsyncClient,
    subscriptions: Subscriptions,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Judged with one set of subscriptions, stored with another, for several rounds."""
    push = await subscriptions.push(filter="payload == 0")
    await post(client, -1)
    accept, changes = event_store.accept, iter(range(1, 4))

    async def changing(*args: Any, **more: Any) -> event_store.Receipt:
        if (n := next(changes, None)) is not None:
            await subscriptions.change(push, filter=f"payload == {n}")
        return await accept(*args, **more)

    monkeypatch.setattr(event_store, "accept", changing)
    ids = await asyncio.gather(*[post(client, n) for n in range(4)])
    assert await subscriptions.owed_ids(push) == [ids[3]]


async def test_rules_that_never_stand_still_are_a_503(
    client: httpx.AsyncClient,
    subscriptions: Subscriptions,
    tenants: Tenants,
    node: Node,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    push = await subscriptions.push(filter="payload == 0")
    accept, still = event_store.accept, False

    async def changing(*args: Any, **more: Any) -> event_store.Receipt:
        if not still:
            await subscriptions.change(push, filter="payload == 1")
        return await accept(*args, **more)

    monkeypatch.setattr(event_store, "accept", changing)
    body = {"type": "a", "payload": 1}
    async with node.client(await tenants.make()) as other:
        refused, neighbour = await asyncio.gather(
            client.post("/v1/events", json=body), other.post("/v1/events", json=body)
        )
    assert (refused.status_code, "retry-after" in refused.headers) == (503, True)
    assert neighbour.status_code == 201
    still = True
    await post(client, 1)
    assert node.acceptor.waiting == (0, 0)


async def test_a_filter_that_fails_is_a_match_and_is_recorded(
    client: httpx.AsyncClient, subscriptions: Subscriptions, database: Database
) -> None:
    push = await subscriptions.push(filter="payload.user.age > 17")
    well = await subscriptions.push(filter="!has(payload.user)")
    ids = [await post(client, {"no": "user"}) for _ in range(3)]
    assert await subscriptions.owed_ids(push) == await subscriptions.owed_ids(well) == ids

    async def recorded() -> Any:
        return await database.row(
            "select filter_error, filter_error_at from subscriptions where id = $1 and filter_error > ''",
            push,
        )

    first = await eventually(recorded)
    assert "user" in first["filter_error"]
    assert not await database.fetch(
        "select from subscriptions where id = $1 and filter_error is not null", well
    )
    await post(client, {"no": "user"})
    assert await recorded() == first  # not once per event


async def test_a_plain_organisation_costs_no_other_statement(
    node: Node, client: httpx.AsyncClient, subscriptions: Subscriptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    push = await subscriptions.push(ordering="key")

    async def never(*_: Any) -> Any:
        raise AssertionError

    monkeypatch.setattr(event_store, "resolve", never)
    monkeypatch.setattr(judging_store, "rules", never)
    await asyncio.gather(*[post(client, n) for n in range(100)])
    assert len(await subscriptions.owed(push)) == 100
    assert not node.acceptor._judging._known


async def test_the_last_filter_gone_is_learned_too(
    client: httpx.AsyncClient, subscriptions: Subscriptions
) -> None:
    push = await subscriptions.push(filter="false")
    await post(client, 1)
    await subscriptions.change(push, filter=None)
    event_id = await post(client, 2)
    assert await subscriptions.owed_ids(push) == [event_id]


async def test_forgotten_rules_are_read_again(
    make_node: Callable[..., Any],
    tenants: Tenants,
    database: Database,
    clock: DatabaseClock,
    monkeypatch: Any,
) -> None:
    monkeypatch.setattr(judging, "MAX_RULES", 3)
    node: Node = await make_node()
    made = [await tenants.make() for _ in range(4)]
    each = [Subscriptions(database, clock, tenant) for tenant in made]
    pushes = [await one.push(filter="payload > 1") for one in each]
    expected: list[list[str]] = [[] for _ in made]
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(node.client(tenant)) for tenant in made]
        for n in (1, 2, 3):
            ids = await asyncio.gather(*[post(client, n) for client in clients])
            for found, event_id in zip(expected, ids, strict=True):
                found.extend([event_id] if n > 1 else [])
    assert [await one.owed_ids(push) for one, push in zip(each, pushes, strict=True)] == expected
    assert node.acceptor._judging._size <= 3


async def test_rules_that_cannot_be_read_are_a_503(
    client: httpx.AsyncClient, subscriptions: Subscriptions, monkeypatch: pytest.MonkeyPatch, node: Node
) -> None:
    await subscriptions.push(filter="payload > 1")

    async def unreachable(*_: Any) -> Any:
        raise DatabaseUnavailable

    with monkeypatch.context() as patched:
        patched.setattr(judging_store, "rules", unreachable)
        assert (await client.post("/v1/events", json={"type": "a", "payload": 1})).status_code == 503
    assert node.acceptor.waiting == (0, 0)
    await post(client, 1)


async def test_an_organisation_that_is_gone_gets_no_201(
    node: Node, clock: DatabaseClock, database: Database
) -> None:
    event = NewEvent(org_id=OrgId(clock.mint()), id=EventId(clock.mint()), type="a", payload=b"1")
    assert isinstance(await node.acceptor.accept(event), NotFound)


async def test_stop_waits_for_what_is_judged_again(
    database: Database, clock: DatabaseClock, tenant: Tenant, subscriptions: Subscriptions
) -> None:
    push = await subscriptions.push(filter="payload > 1")
    acceptor = Acceptor(
        database, clock, dedup_window=60, limits=WaitingLimits(100, 10**6), committed=lambda *_: None
    )
    await acceptor.start()
    events = [
        NewEvent(org_id=tenant.id, id=EventId(clock.mint()), type="a", payload=b"%d" % n) for n in range(4)
    ]
    outcomes = [acceptor.accept(event) for event in events]
    await acceptor.stop()
    assert [outcome.result() for outcome in outcomes] == [Accepted(event.id, False) for event in events]
    assert await subscriptions.owed_ids(push) == [str(event.id) for event in events[2:]]


async def test_an_explanation_judges_by_todays_filter(
    client: httpx.AsyncClient, subscriptions: Subscriptions
) -> None:
    made = {
        "matches": await subscriptions.push(filter="payload.n > 1"),
        "misses": await subscriptions.push(filter="payload.n > 100"),
        "fails": await subscriptions.push(filter="payload.m > 1"),
        "changes": await subscriptions.push(filter="payload.n > 1"),
        "has none": await subscriptions.push(),
        "other type": await subscriptions.push(
            all_types=False, type_names=["b"], event_types=["b"], filter="payload.n > 1"
        ),
    }
    event_id = await post(client, {"n": 5})
    await subscriptions.change(made["changes"], filter="payload.n > 100")
    answer = await client.get(f"/v1/events/{event_id}", params={"explain": ""})
    said = {each["subscription_id"]: (each["matched"], each["why"]) for each in answer.json()["explanations"]}
    told = {name: said[str(subscription_id)] for name, subscription_id in made.items()}
    assert {name: matched for name, (matched, _) in told.items()} == {
        "matches": True,
        "misses": False,
        "fails": True,
        "changes": True,
        "has none": True,
        "other type": False,
    }
    assert told["matches"][1].endswith("; the current filter matches it")
    assert told["misses"][1] == "the current filter does not match it"
    assert "the current filter fails on it, which counts as a match: " in told["fails"][1]
    assert told["changes"][1].endswith("; the current filter does not match it")
    assert "filter" not in told["has none"][1] + told["other type"][1]
