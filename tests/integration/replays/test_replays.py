"""Looking back: backfills and replays make exactly what is owed, whatever dies or comes in between."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest

from harness import Node, Tenant, Tenants, eventually
from triggers.domain import created_at, first_id_at
from triggers.inboxes import store as inbox_store
from triggers.postgres.clock import DatabaseClock
from triggers.postgres.database import Database, Row
from triggers.replays import job as replaying
from triggers.replays import store as replay_store
from triggers.secrets.signing_secrets import generate_secret
from triggers.subscriptions import store as subscription_store
from triggers.subscriptions.rules import PushSettings
from triggers.subscriptions.store import NewSubscription

FIRST = UUID(int=0)
_numbers = itertools.count(1)


class World:
    """One organisation on a node, its subscriptions and what they are owed."""

    def __init__(self, node: Node, client: httpx.AsyncClient, tenant: Tenant) -> None:
        self.node = node
        self.client = client
        self.tenant = tenant
        self.database = node.database

    async def subscribe(self, *, start: UUID | None = None, **settings: Any) -> UUID:
        """A push subscription whose changes lie far back, as those of most do."""
        new = NewSubscription(
            PushSettings(target_url="https://example.com/", **settings),
            "v1",
            generate_secret("v1"),
            start=start,
        )
        made = await subscription_store.create(
            self.database, self.node.clock, self.node.key_ring, self.tenant.id, new
        )
        await self.database.fetch(
            "update subscriptions set created_at = long_ago, status_at = long_ago, changed_at = long_ago"
            " from (select now() - interval '1 h' as long_ago) past where id = $1",
            made.id,
        )
        return made.id

    async def post(self, payload: Any = None, **envelope: Any) -> UUID:
        body = {"type": "order.created", "payload": payload, **envelope}
        answer = await self.client.post("/v1/events", json=body)
        assert answer.status_code == 201, answer.text
        return UUID(answer.json()["id"])

    async def post_many(self, number: int, **envelope: Any) -> list[UUID]:
        batch = [{"type": "order.created", "payload": n, **envelope} for n in range(number)]
        answer = await self.client.post("/v1/events/batch", json=batch)
        return [UUID(result["id"]) for result in answer.json()["results"]]

    async def settle(self, subscription_id: UUID, status: str = "delivered") -> None:
        """Settle all that is owed."""
        await self.database.fetch(
            "with gone as (delete from deliveries where subscription_id = $1 returning *)"
            " insert into settled_deliveries (org_id, subscription_id, event_id, generation, status, reason,"
            " lease_count, attempts, accepted_at, settled_at)"
            " select org_id, subscription_id, event_id, generation, $2, 'as told', 0, 1, accepted_at, now()"
            " from gone",
            subscription_id,
            status,
        )

    async def owed(self, subscription_id: UUID) -> list[Row]:
        """In the order in which a lane that keeps order sends them."""
        return await self.database.fetch(
            "select * from deliveries where subscription_id = $1"
            " order by ordering_key, accepted_at, event_id, generation",
            subscription_id,
        )

    async def every_generation(self, subscription_id: UUID) -> Counter[tuple[UUID, int]]:
        rows = await self.database.fetch(
            "select event_id, generation from deliveries where subscription_id = $1"
            " union all select event_id, generation from settled_deliveries where subscription_id = $1",
            subscription_id,
        )
        return Counter((row["event_id"], row["generation"]) for row in rows)

    async def replay(self, subscription_id: UUID, status: int = 201, **body: Any) -> dict[str, Any]:
        answer = await self.client.post(
            "/v1/replays", json={"subscription_id": str(subscription_id), "rate": 10_000, **body}
        )
        assert answer.status_code == status, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def done(self, replay: dict[str, Any], status: str = "done") -> dict[str, Any]:
        async def ended() -> dict[str, Any] | None:
            found: dict[str, Any] = (await self.client.get(f"/v1/replays/{replay['id']}")).json()
            return found if found["status"] == status else None

        found: dict[str, Any] = await eventually(ended, 10)
        return found

    async def hurry(self) -> None:
        """Let jobs that wait for accepts to end begin: the test knows that none is under way."""
        await self.database.fetch(
            "update replays set not_before = now() where status in ('running', 'acting')"
        )


@pytest.fixture
async def world(node: Node, client: httpx.AsyncClient, tenant: Tenant) -> World:
    return World(node, client, tenant)


@pytest.fixture
async def still(node: Node, client: httpx.AsyncClient, tenant: Tenant) -> World:
    """One whose node does not run the duty: the test makes the chunks."""
    await node.background.stop()
    return World(node, client, tenant)


async def test_the_dead_are_replayed(world: World) -> None:
    subscription = await world.subscribe()
    dead = await world.post_many(20)
    await world.settle(subscription, "dead")
    well = await world.post_many(5)
    await world.settle(subscription)
    replay = await world.replay(subscription)
    assert (replay["planned"], replay["planned_exact"], replay["only"]) == (20, True, "dead")
    ended = await world.done(replay)
    assert (ended["made"], ended["progress"]) == (20, 1.0)
    owed = await world.owed(subscription)
    assert sorted(row["event_id"] for row in owed) == sorted(dead)
    assert {row["generation"] for row in owed} == {1}
    assert well


# ---- what is chosen --------------------------------------------------------------------------------


async def test_all_is_what_is_asked_for_now_but_not_what_is_still_pending(world: World) -> None:
    missed = await world.post_many(3)
    subscription = await world.subscribe(event_types=["order.*"])
    again = await world.post_many(3)
    await world.settle(subscription)
    pending = await world.post_many(3)
    await world.post(type="invoice.paid")
    replay = await world.replay(subscription, only="all")
    assert replay["planned"] == 6
    await world.done(replay)
    found = await world.every_generation(subscription)
    assert found == Counter(
        [(each, 1) for each in missed]
        + [(each, n) for each in again for n in (0, 1)]
        + [(each, 0) for each in pending]
    )


async def test_a_range_of_time_and_types(world: World) -> None:
    subscription = await world.subscribe()
    await world.post()
    await asyncio.sleep(0.01)  # ids are times to the millisecond
    first = await world.post()
    await world.post(type="invoice.paid")
    last = await world.post()
    await asyncio.sleep(0.01)
    end = await world.post()
    await world.settle(subscription, "cancelled")
    replay = await world.replay(
        subscription,
        since=created_at(first).isoformat(),
        until=created_at(end).isoformat(),
        event_types=["order.*"],
    )
    assert replay["planned"] == 2
    await world.done(replay)
    assert [row["event_id"] for row in await world.owed(subscription)] == [first, last]


async def test_only_the_latest_generation_counts(world: World) -> None:
    subscription = await world.subscribe()
    event = await world.post()
    await world.settle(subscription, "dead")
    await world.done(await world.replay(subscription))
    await world.settle(subscription)
    replay = await world.replay(subscription)
    assert replay["planned"] == 0
    assert (await world.done(replay))["made"] == 0
    assert await world.every_generation(subscription) == Counter([(event, 0), (event, 1)])


async def test_a_plan_makes_nothing(world: World) -> None:
    subscription = await world.subscribe()
    await world.post_many(40)
    await world.settle(subscription, "expired")
    plan = await world.replay(subscription, status=200, plan_only=True, rate=10)
    assert (plan["id"], plan["status"], plan["planned"], plan["planned_seconds"]) == (
        None,
        "planned",
        40,
        4.0,
    )
    assert (await world.client.get("/v1/replays")).json() == {"data": [], "next_cursor": None}
    assert await world.owed(subscription) == []


async def test_a_plan_beyond_its_sample_is_an_estimate(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replaying, "PLAN_EVENTS", 50)
    subscription = await world.subscribe()
    for _ in range(10):
        await world.post_many(10)
        await asyncio.sleep(0.02)
    await world.settle(subscription)
    plan = await world.replay(subscription, status=200, plan_only=True, only="all")
    assert not plan["planned_exact"]
    assert 50 < plan["planned"] < 500


async def test_payload_filters_choose(world: World, database: Database) -> None:
    small, large, odd = (
        await world.post({"n": 1}),
        await world.post({"n": 9}),
        await world.post("no n at all"),
    )
    subscription = await world.subscribe(filter="payload.n > 5")
    replay = await world.replay(subscription, only="all")
    assert (replay["planned"], replay["planned_exact"]) == (2, True)
    await world.done(replay)
    owed = [row["event_id"] for row in await world.owed(subscription)]
    assert owed == [large, odd], "what a filter fails on counts as a match"
    assert small not in owed

    async def recorded() -> Any:
        row = await database.row("select filter_error from subscriptions where id = $1", subscription)
        return row is not None and row[0]

    assert await eventually(recorded)


async def test_keys_are_those_that_accept_stores(world: World) -> None:
    """Accept's own deliveries, of twins of the subscriptions that look back, say what is right."""
    settings: list[dict[str, Any]] = [
        {"ordering": "none"},
        {"ordering": "key"},
        {"ordering": "key", "ordering_key": "/customer/id"},
    ]
    live = [await world.subscribe(**each) for each in settings]
    for number, payload in enumerate([{"customer": {"id": "a"}}, {"customer": {"id": 7.50}}, {}, [], "x"]):
        await world.post(payload, **({"ordering_key": f"key {number}"} if number % 2 else {}))
    late = [await world.subscribe(**each) for each in settings]
    for subscription in late:
        await world.done(await world.replay(subscription, only="all"))

    async def keys(subscription: UUID) -> dict[UUID, str | None]:
        return {row["event_id"]: row["ordering_key"] for row in await world.owed(subscription)}

    assert [await keys(each) for each in late] == [await keys(each) for each in live]
    assert len(await keys(late[2])) == 5


async def test_a_replay_joins_the_end_and_a_backfill_goes_before(still: World) -> None:
    past = await still.post_many(3)
    subscription = await still.subscribe(ordering="key", start=FIRST)
    live = await still.post_many(3)
    await still.hurry()
    await run_all(still.database)
    assert [row["event_id"] for row in await still.owed(subscription)] == past + live
    await still.settle(subscription)
    newer = await still.post_many(2)
    await still.replay(subscription, only="all", until=created_at(newer[0]).isoformat())
    await run_all(still.database)
    assert [row["event_id"] for row in await still.owed(subscription)] == newer + past + live


async def test_an_inbox_is_replayed_and_keeps_what_it_got(world: World) -> None:
    """Messages older than the retention are young again: what it keeps is judged by when it got them."""
    inbox = UUID((await world.client.get("/v1/inboxes/default")).json()["id"])
    await world.database.fetch(
        "update subscriptions set created_at = long_ago, status_at = long_ago, changed_at = long_ago"
        " from (select now() - interval '1 h' as long_ago) past where id = $1",
        inbox,
    )
    events = [UUID(int=first_id_at(datetime.now(UTC) - timedelta(days=2)).int + n) for n in range(3)]
    await world.database.fetch(
        "insert into events (org_id, id, type, payload)"
        " select $1, id, 'a', '1' from unnest($2::uuid[]) as e (id)",
        world.tenant.id,
        events,
    )
    await world.done(await world.replay(inbox, only="all"))
    nothing = (UUID(int=0), UUID(int=0))
    assert (await inbox_store.expire_messages(world.database, nothing, 100, timedelta(days=1)))[0] == 0
    listed = (await world.client.get("/v1/inbox")).json()["events"]
    assert [event["id"] for event in listed] == [str(each) for each in events]
    await world.database.fetch("update deliveries set accepted_at = now() - interval '2 days'")
    assert (await inbox_store.expire_messages(world.database, nothing, 100, timedelta(days=1)))[0] == 3


async def test_all_that_is_kept_may_be_asked_for_by_any_time_in_the_past(world: World) -> None:
    subscription = await world.subscribe()
    await world.post_many(2)
    await world.settle(subscription, "dead")
    replay = await world.replay(subscription, since="1960-01-01T00:00:00Z", plan_only=True, status=200)
    assert (replay["planned"], replay["since"]) == (2, "1970-01-01T00:00:00.000Z")


async def test_what_cannot_be_replayed(world: World, tenants: Tenants) -> None:
    subscription = await world.subscribe()
    stranger = await tenants.make()
    async with world.node.client(stranger) as foreign:
        for asked in (str(subscription), "00000000-0000-7000-8000-000000000000", "nonsense"):
            answer = await foreign.post("/v1/replays", json={"subscription_id": asked})
            assert answer.status_code == 422
            assert answer.json()["errors"] == [
                {"pointer": "/subscription_id", "detail": "No subscription has this id."}
            ]
    for body in (
        {"since": "2026-01-02T00:00:00Z", "until": "2026-01-01T00:00:00Z"},
        {"since": "yesterday"},
        {"event_types": ["a*b"]},
        {"rate": 0},
        {"only": "some"},
        {"unknown": 1},
    ):
        await world.replay(subscription, status=422, **body)
    await world.database.fetch("update subscriptions set status = 'disabled' where id = $1", subscription)
    await world.replay(subscription, status=409)


# ---- how it runs -----------------------------------------------------------------------------------


async def run_all(database: Database) -> int:
    """Give every job its chunks until there is nothing to do."""
    chunks = 0
    while await database.row("select 1 from replays where status = 'running'"):
        for job in await replay_store.waiting(database, 20):
            chunks += await replaying.run_chunk(database, job) is not None
        await asyncio.sleep(0.01)
    return chunks


async def test_a_chunk_is_no_more_than_the_rate_allows(still: World) -> None:
    subscription = await still.subscribe()
    await still.post_many(30)
    await still.settle(subscription, "dead")
    await still.replay(subscription, rate=10)
    [job] = await replay_store.waiting(still.database, 10)
    chunk = await replaying.run_chunk(still.database, job)
    assert chunk is not None
    assert chunk.made == 3
    # Time that passed unused is made up for, but no more than a second of it.
    await still.database.fetch("update replays set not_before = now() - interval '1 h'")
    made = []
    while chunk := await replaying.run_chunk(still.database, job):
        made.append(chunk.made)
    assert 9 <= sum(made) <= 15
    assert await replay_store.waiting(still.database, 10) == []


async def test_after_a_change_it_waits_for_the_accepts_that_did_not_see_it(still: World) -> None:
    await still.post()
    subscription = await still.subscribe()
    await still.database.fetch("update subscriptions set changed_at = now() where id = $1", subscription)
    waiting = await still.replay(subscription, only="all", rate=1)
    assert waiting["planned_seconds"] > 9
    assert await replay_store.waiting(still.database, 10) == []
    long_ago = created_at(first_id_at(datetime.now(UTC) - timedelta(hours=1))).isoformat()
    for at_once in ({"only": "dead"}, {"only": "all", "until": long_ago}):
        replay = await still.replay(subscription, **at_once)
        [job] = await replay_store.waiting(still.database, 10)
        assert str(job.id) == replay["id"]
        await still.client.delete(f"/v1/replays/{replay['id']}")


async def test_cancelling_ends_it_and_keeps_what_it_made(still: World) -> None:
    subscription = await still.subscribe()
    await still.post_many(10)
    await still.settle(subscription, "dead")
    replay = await still.replay(subscription, rate=4)
    [job] = await replay_store.waiting(still.database, 10)
    await replaying.run_chunk(still.database, job)
    first = await still.client.delete(f"/v1/replays/{replay['id']}")
    second = await still.client.delete(f"/v1/replays/{replay['id']}")
    assert first.status_code == second.status_code == 200
    assert first.json() == second.json()
    assert (first.json()["status"], first.json()["made"]) == ("cancelled", 1)
    await still.hurry()
    assert await replaying.run_chunk(still.database, job) is None
    assert len(await still.owed(subscription)) == 1
    assert (await still.client.delete(f"/v1/replays/{job.subscription_id}")).status_code == 404


async def test_it_ends_with_its_subscription(still: World) -> None:
    subscription = await still.subscribe()
    await still.post_many(3)
    await still.settle(subscription, "dead")
    replay = await still.replay(subscription)
    await still.database.fetch("update subscriptions set status = 'disabled' where id = $1", subscription)
    await run_all(still.database)
    ended = await still.done(replay, "cancelled")
    assert ended["reason"] == "The subscription is disabled."
    assert await still.owed(subscription) == []


@pytest.mark.parametrize("ordering", ["none", "key"])
async def test_what_is_live_stands_behind_a_bounded_number(
    still: World, monkeypatch: pytest.MonkeyPatch, ordering: str
) -> None:
    monkeypatch.setattr(replaying, "BACKLOG", 20)
    subscription = await still.subscribe(ordering=ordering)
    await still.post_many(50)
    await still.settle(subscription, "dead")
    await still.post_many(20)
    replay = await still.replay(subscription)
    [job] = await replay_store.waiting(still.database, 10)
    chunk = await replaying.run_chunk(still.database, job)
    found = (await still.client.get(f"/v1/replays/{replay['id']}")).json()
    if ordering == "key":  # it may all stand behind one blocked key
        assert (chunk is not None and chunk.made, found["status"]) == (50, "done")
        return
    assert (chunk, found["reason"]) == (None, "Waiting because 20 deliveries are already due.")
    await still.settle(subscription)
    await run_all(still.database)
    assert (await still.done(replay))["made"] == 50


async def test_each_organisation_has_a_job_in_the_next_round(
    database: Database, clock: DatabaseClock, tenants: Tenants
) -> None:
    """One organisation has twenty jobs that wait longest. Two others have one job each."""
    orgs = [await tenants.make() for _ in range(3)]
    for org, jobs in zip(orgs, (20, 1, 1), strict=True):
        for _ in range(jobs):
            await database.fetch(
                "insert into replays (org_id, id, kind, subscription_id, status, only_dead, first_id, end_id,"
                " position, rate, plan_exact, created_at, updated_at, not_before)"
                " values ($1, $2, 'replay', $2, 'running', false, $2, $2, $2, 1, true, now(), now(), now())",
                org.id,
                clock.mint(),
            )
    found = [job.org_id for job in await replay_store.waiting(database, 5)]
    assert found == [orgs[0].id, orgs[1].id, orgs[2].id, orgs[0].id, orgs[0].id]


async def test_killed_in_any_chunk_it_misses_nothing_and_repeats_nothing(
    still: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replaying, "CHUNK_DELIVERIES", 7)
    monkeypatch.setattr(replaying, "SCAN", 11)
    wanted = [await still.post(n) for n in range(60)]
    subscription = await still.subscribe(start=FIRST, filter="payload % 3 != 0")
    await still.hurry()
    killed = 0
    for delay in itertools.count():
        waiting = await replay_store.waiting(still.database, 1)
        if not waiting:
            break
        task = asyncio.create_task(replaying.run_chunk(still.database, waiting[0]))
        await asyncio.sleep(0.0005 * (delay % 12))  # sooner or later than it takes
        killed += task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await still.hurry()
    assert killed > 3
    assert await still.every_generation(subscription) == Counter(
        (each, 0) for n, each in enumerate(wanted) if n % 3
    )


async def test_two_nodes_share_a_job_and_make_each_delivery_once(
    still: World, make_node: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replaying, "CHUNK_DELIVERIES", 5)
    other: Node = await make_node()
    await other.background.stop()
    subscription = await still.subscribe()
    events = await still.post_many(200)
    await still.settle(subscription, "dead")
    replay = await still.replay(subscription)
    work = await asyncio.gather(*[run_all(each.database) for each in (still.node, other) for _ in range(2)])
    assert sum(work) == 41, "forty chunks of five, and one that finds the end"
    assert (await still.done(replay))["made"] == 200
    assert await still.every_generation(subscription) == Counter((each, n) for each in events for n in (0, 1))


async def test_whoever_makes_a_generation_makes_it_alone(world: World) -> None:
    """Retries and replays of the same deliveries race with their ends."""
    subscription = await world.subscribe()
    events = await world.post_many(10)
    stop = False

    async def end() -> None:
        while not stop:
            await world.settle(subscription, "dead")  # a generation made twice would violate its key
            await asyncio.sleep(0.002)

    async def retry(event: UUID) -> None:
        for _ in range(10):
            answer = await world.client.post(f"/v1/deliveries/{event}.{subscription}/retry")
            assert answer.status_code == 200, answer.text

    ending = asyncio.create_task(end())
    replays = [await world.replay(subscription) for _ in range(5)]
    await asyncio.gather(*[retry(event) for event in events for _ in range(2)])
    for replay in replays:
        await world.done(replay)
    stop = True
    await ending
    found = await world.every_generation(subscription)
    assert set(found.values()) == {1}
    for event in events:
        numbers = sorted(generation for each, generation in found if each == event)
        assert numbers == list(range(len(numbers)))
        assert len(numbers) > 5


async def test_a_subscription_that_starts_in_the_past_gets_each_event_once(world: World) -> None:
    """Made while events come in, and while what it is owed is delivered."""
    before = await world.post_many(100)
    posted: list[UUID] = []
    subscription: UUID | None = None
    stop = False

    async def post() -> None:
        while not stop:
            posted.append(await world.post())
            await asyncio.sleep(0.01)

    async def deliver() -> None:
        while not stop:
            if subscription is not None:
                await world.settle(subscription)
            await asyncio.sleep(0.05)

    tasks = [asyncio.create_task(work) for work in (post(), post(), post(), post(), deliver())]
    await eventually(lambda: len(posted) > 20)
    subscription = await world.subscribe(start=FIRST)
    made_at = len(posted)

    async def done() -> Any:
        rows = await world.database.fetch("select status from replays")
        return [row["status"] for row in rows] == ["done"]

    await eventually(done, 20)  # it begins when no accept is under way that began before it
    stop = True
    await asyncio.gather(*tasks)
    assert len(posted) > made_at + 100
    assert await world.every_generation(subscription) == Counter((each, 0) for each in [*before, *posted])


async def test_the_list_of_replays(world: World) -> None:
    one, two = await world.subscribe(), await world.subscribe(start=FIRST)
    made = [(await world.done(await world.replay(one)))["id"] for _ in range(5)]

    async def listed(**parameters: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        cursor: dict[str, str] = {}
        while True:
            answer = await world.client.get("/v1/replays", params={"limit": 2} | parameters | cursor)
            page = answer.json()
            found += page["data"]
            if page["next_cursor"] is None:
                return found
            cursor = {"cursor": page["next_cursor"]}

    assert [each["id"] for each in await listed(subscription_id=str(one))] == made[::-1]
    [backfill] = await listed(subscription_id=str(two))
    assert (backfill["kind"], backfill["status"], backfill["planned"]) == ("backfill", "running", None)
    assert len(await listed()) == 6
    assert [each["id"] for each in await listed(status="running")] == [backfill["id"]]


async def test_jobs_of_an_organisation_are_bounded(still: World) -> None:
    subscription = await still.subscribe()
    for _ in range(replay_store.MAX_RUNNING):
        await still.replay(subscription)
    await still.replay(subscription, status=409)
