"""Statistics: what is accepted and delivered is counted once, by whoever does it, and for nobody else."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from delivering import NEVER_AGAIN, Subscribe, Workers, post, store_many
from harness import Node, Tenant, Tenants, eventually
from receiving import FAILED, OK, Receiver
from triggers.domain import rfc3339
from triggers.fairness.pace import at_once
from triggers.postgres import partitions
from triggers.postgres.clock import DatabaseClock
from triggers.postgres.database import Database
from triggers.statistics import duties, store
from triggers.statistics.duties import Flush, Upkeep
from triggers.statistics.tally import WHOLE, Tally

MINUTE = timedelta(minutes=1)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flushes follow one another quickly."""
    monkeypatch.setattr(duties, "FLUSH_SECONDS", 0.05)


async def stats(client: httpx.AsyncClient, **query: str) -> Any:
    answer = await client.get("/v1/stats", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def has_totals(client: httpx.AsyncClient, expected: dict[str, int | None], **query: str) -> bool:
    totals = (await stats(client, **query))["totals"]
    return {name: totals[name] for name in expected} == expected


def totals(client: httpx.AsyncClient, subscription: Any = None, **expected: int | None) -> Callable[[], Any]:
    """The condition that these totals are shown."""
    query = {} if subscription is None else {"subscription": str(subscription)}
    return partial(has_totals, client, expected, **query)


async def test_accepted_events_and_duplicates_are_counted(client: httpx.AsyncClient) -> None:
    for number in (1, 2, 3):
        await client.post("/v1/events", json={"type": "a", "payload": number, "dedup_id": f"{number}"})
    for number in (1, 2):
        answer = await client.post(
            "/v1/events", json={"type": "a", "payload": number, "dedup_id": f"{number}"}
        )
        assert answer.status_code == 200
    batch = [{"type": "a", "payload": 1, "dedup_id": "same"}] * 5
    await client.post("/v1/events/batch", json=[*batch, {"type": "a", "payload": 1}, {"type": ""}])
    conflict = await client.post("/v1/events", json={"type": "a", "payload": 9, "dedup_id": "1"})
    assert conflict.status_code == 409
    await eventually(totals(client, accepted=5, duplicate=6, delivered=0, failed=0, dead=0))


async def test_deliveries_are_counted_for_their_subscription(
    client: httpx.AsyncClient, subscribed: Subscribe, workers: Workers, receiver: Receiver
) -> None:
    good = await subscribed(receiver.url, event_types=["good"])
    bad = await subscribed(receiver.url + "/bad", event_types=["bad"], delays=NEVER_AGAIN)
    gone = await subscribed(receiver.url + "/gone", event_types=["gone"], delays=[])
    receiver.answer = lambda hook: OK if hook.path == "/hook" else FAILED
    await workers.start()
    await post(client, [{"type": "good"}] * 5 + [{"type": "bad"}] * 3 + [{"type": "gone"}] * 2)
    await eventually(totals(client, accepted=10, delivered=5, failed=5, dead=2), 20)
    await eventually(totals(client, good.id, accepted=None, duplicate=None, delivered=5, failed=0, dead=0))
    await eventually(totals(client, bad.id, delivered=0, failed=3, dead=0))
    await eventually(totals(client, gone.id, delivered=0, failed=2, dead=2))
    found = await stats(client)
    assert found["totals"]["lag_p50_seconds"] <= found["totals"]["lag_p95_seconds"]
    assert [(each["subscription_id"], each["failed"], each["dead"]) for each in found["worst"]] == [
        (str(gone.id), 2, 2),
        (str(bad.id), 3, 0),
    ]
    assert len(found["points"]) == 60
    assert sum(point["delivered"] for point in found["points"]) == 5
    for chosen, number in (("24h", 96), ("14d", 336)):
        found = await stats(client, range=chosen)
        assert len(found["points"]) == number
        assert sum(point["delivered"] for point in found["points"]) == 5
        assert found["points"][0]["at"] == found["since"]
        assert len(found["worst"]) == 2


async def test_two_processes_are_summed(
    make_node: Callable[..., Any],
    database: Database,
    clock: DatabaseClock,
    tenant: Tenant,
    subscribed: Subscribe,
    workers: Workers,
    receiver: Receiver,
) -> None:
    nodes: list[Node] = [await make_node(), await make_node()]
    to = await subscribed(receiver.url)
    for node in nodes:
        async with node.client(tenant) as client:
            await post(client, [{}] * 7)
    first = await workers.start()
    async with nodes[0].client(tenant) as client:
        await eventually(totals(client, accepted=14, delivered=14), 20)
        await first.stop()
        await workers.start()
        await store_many(database, clock, tenant, to.id, 10)
        await eventually(totals(client, accepted=14, delivered=24), 20)
        await eventually(totals(client, to.id, delivered=24))
    rows = await database.fetch(
        "select distinct process_id from statistics_minutes where process_id <> $1", WHOLE
    )
    assert len(rows) == 4


async def test_organisations_are_never_mixed(
    node: Node, tenants: Tenants, database: Database, clock: DatabaseClock
) -> None:
    mine, other = await tenants.make(), await tenants.make()
    async with node.client(mine) as client, node.client(other) as others:
        await post(client, [{}] * 3)
        await post(others, [{}] * 4)
        answer = await others.post("/v1/subscriptions", json={"target_url": "https://example.com/"})
        theirs = UUID(answer.json()["id"])
        tally = Tally(clock.now)
        tally.counted()[other.id, theirs].failed += 9
        await Flush(database, tally).write()
        await eventually(totals(client, accepted=3, failed=0))
        await eventually(totals(others, accepted=4, failed=9))
        assert (await stats(client))["worst"] == []
        assert [each["subscription_id"] for each in (await stats(others))["worst"]] == [str(theirs)]
        for unknown in (str(theirs), str(uuid4()), "x"):
            refused = await client.get("/v1/stats", params={"subscription": unknown})
            assert refused.status_code == 404, "as if there were none"
        assert (await client.get("/v1/stats", params={"range": "1y"})).status_code == 422


async def test_a_flush_that_is_repeated_changes_nothing(
    database: Database, clock: DatabaseClock, tenant: Tenant, node: Node
) -> None:
    """Whether the first write was committed is not known, so the same rows are written again."""
    tally = Tally(clock.now)
    tally.counted()[tenant.id, uuid4()].delivered += 5
    process_id = uuid4()
    rows, _ = at_once(tally.next_rows())
    for _ in range(3):
        await store.write(database, process_id, rows)
    async with node.client(tenant) as client:
        await eventually(totals(client, delivered=5))
        await store.write(database, uuid4(), rows)
        await eventually(totals(client, delivered=10))


async def test_what_is_counted_is_written_at_the_end(
    database: Database, tenant: Tenant, make_node: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duties, "FLUSH_SECONDS", 3_600)
    first: Node = await make_node()
    async with first.client(tenant) as client:
        await post(client, [{}] * 3)
    row = await database.row("select coalesce(sum(accepted), 0) from statistics_minutes")
    assert row is not None
    assert row[0] == 0
    await first._statistics.finish()
    row = await database.row("select sum(accepted) from statistics_minutes")
    assert row is not None
    assert row[0] == 3


# ---- hours, backlogs and retention -----------------------------------------------------------------


async def insert_minute(database: Database, org_id: UUID, began_at: datetime, **more: Any) -> None:
    values = {
        "subscription_id": WHOLE,
        "process_id": uuid4(),
        "delivered": 1,
        "lag": [0, 1, *[0] * 14],
        **more,
    }
    await database.fetch(
        "insert into statistics_minutes (org_id, subscription_id, began_at, process_id, delivered, lag)"
        " values ($1, $2, $3, $4, $5, $6)",
        org_id,
        values["subscription_id"],
        began_at,
        values["process_id"],
        values["delivered"],
        values["lag"],
    )


def hours_ago(number: int) -> datetime:
    return datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=number)


async def test_hours_are_made_once_and_are_read_instead_of_their_minutes(
    database: Database, tenant: Tenant, node: Node
) -> None:
    for hour in (5, 4, 1, 0):
        for minute in range(3):
            at = hours_ago(hour) + timedelta(minutes=minute)
            await insert_minute(database, tenant.id, at)
            await insert_minute(database, tenant.id, at, delivered=2)
    await node.background.stop()  # so that this test does what the duties do
    await database.fetch("delete from statistics_progress")
    upkeep = Upkeep(database)
    made = 0
    while await upkeep.make_hour():
        made += 1
    assert made in (4, 5), "the current hour and perhaps the one before are not made yet"
    rows = await database.fetch("select * from statistics_hours order by began_at")
    assert [(row["began_at"], row["delivered"], row["lag"][1]) for row in rows[:2]] == [
        (hours_ago(5), 9, 6),
        (hours_ago(4), 9, 6),
    ]
    async with node.client(tenant) as client:
        for chosen in ("14d", "24h"):
            found = await stats(client, range=chosen)
            assert found["totals"]["delivered"] == 36
            assert found["totals"]["lag_p95_seconds"] == pytest.approx(0.0078, rel=0.01)
        points = [point["delivered"] for point in (await stats(client, range="14d"))["points"]]
        assert points[-6:] == [9, 9, 0, 0, 9, 9]
        await database.fetch("delete from statistics_minutes where began_at < $1", hours_ago(1))
        points = [point["delivered"] for point in (await stats(client, range="14d"))["points"]]
        assert points[-6:] == [9, 9, 0, 0, 9, 9]


async def test_the_backlog_of_each_organisation_is_sampled_by_one_node(
    database: Database,
    clock: DatabaseClock,
    tenants: Tenants,
    node: Node,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(store, "ORGANISATIONS_AT_ONCE", 2)
    monkeypatch.setattr(store, "MOST_WAITING", 10)
    some = [await tenants.make() for _ in range(5)]
    for number, each in enumerate(some):
        await store_many(database, clock, each, uuid4(), 3 * number)
    await node.background.stop()  # so that this test does what the duties do
    await database.fetch("delete from statistics_progress")
    await database.fetch("delete from statistics_minutes")
    one, other = Upkeep(database), Upkeep(database)
    assert await one.sample() is True
    assert await other.sample() is False, "the minute is taken"
    while await one.sample():
        pass
    assert await one.sample() is False
    for each, expected in zip(some, (0, 3, 6, 9, 10), strict=True):
        async with node.client(each) as client:
            found = [point["backlog"] for point in (await stats(client))["points"]]
            assert [backlog for backlog in found if backlog is not None] == [expected]
            found = [point["backlog"] for point in (await stats(client, range="24h"))["points"]]
            assert [backlog for backlog in found if backlog is not None] == [expected]


async def test_old_partitions_are_dropped(database: Database, tenant: Tenant) -> None:
    now = datetime.now(UTC)
    async with database.connection() as connection:
        for table, days in (("statistics_minutes", range(2, 6)), ("statistics_hours", range(2, 40))):
            for back in days:
                day = (now - timedelta(days=back)).replace(hour=0, minute=0, second=0, microsecond=0)
                await connection.execute(
                    f"create table {table}_p{day:%Y%m%d} partition of {table}"
                    f" for values from ('{day}') to ('{day + timedelta(days=1)}')"
                )
    # The oldest minutes are kept until their hours are made.
    await database.fetch("insert into statistics_progress values ('hours', $1)", now - timedelta(days=4))
    upkeep = Upkeep(database)
    await upkeep.drop_old()
    assert await days_of(database, "statistics_minutes") == [4, 3, 2, 1, 0, -1, -2]
    assert await days_of(database, "statistics_hours") == [*range(30, -3, -1)]
    await database.fetch("update statistics_progress set done_until = $1", now)
    await upkeep.drop_old()
    assert await days_of(database, "statistics_minutes") == [2, 1, 0, -1, -2]
    async with database.connection() as connection:
        assert await partitions.ensure(connection) == []


async def days_of(database: Database, table: str) -> list[int]:
    """How many days ago each partition began."""
    rows = await database.fetch(
        "select relname from pg_class where relispartition and relkind = 'r' and relname like $1 || '_p%'"
        " order by relname",
        table,
    )
    today = datetime.now(UTC).date()
    return [
        (today - datetime.strptime(row["relname"][-8:], "%Y%m%d").replace(tzinfo=UTC).date()).days
        for row in rows
    ]


# ---- gaps, and pages of subscriptions --------------------------------------------------------------


async def test_a_time_in_which_nothing_was_written_is_a_gap(
    database: Database, tenant: Tenant, node: Node
) -> None:
    await node.background.stop()  # so that no sample is taken meanwhile
    await database.fetch("delete from statistics_minutes")
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    for minute in (*range(20, 60), *range(3, 12)):
        await database.fetch(
            "insert into statistics_minutes (org_id, subscription_id, began_at, process_id, backlog)"
            " values ($1, $1, $2, $1, 0)",
            WHOLE,
            now - timedelta(minutes=minute),
        )
    await insert_minute(database, tenant.id, now - timedelta(minutes=2))
    await insert_minute(database, tenant.id, now - timedelta(minutes=15))
    async with node.client(tenant) as client:
        expected = [{"since": rfc3339(now - 19 * MINUTE), "until": rfc3339(now - 15 * MINUTE)}]
        expected += [{"since": rfc3339(now - 14 * MINUTE), "until": rfc3339(now - 11 * MINUTE)}]
        found = await stats(client)
        assert [each for each in found["gaps"] if each["since"] > found["since"]] == expected
        to = (await client.post("/v1/subscriptions", json={"target_url": "https://example.com/"})).json()
        found = await stats(client, subscription=to["id"])
        assert rfc3339(now - 19 * MINUTE) in [each["since"] for each in found["gaps"]]
        assert {point["backlog"] for point in found["points"]} == {None}


async def test_a_page_of_subscriptions_has_their_numbers_by_hour(
    database: Database, tenants: Tenants, node: Node
) -> None:
    mine, other = await tenants.make(), await tenants.make()
    async with node.client(mine) as client, node.client(other) as others:
        ids = [
            (await client.post("/v1/subscriptions", json={"target_url": "https://example.com/"})).json()["id"]
            for _ in range(3)
        ]
        for hour, delivered in ((24, 100), (23, 1), (5, 2), (5, 3), (0, 4)):
            for org_id in (mine.id, other.id):
                await insert_minute(
                    database, org_id, hours_ago(hour), subscription_id=UUID(ids[1]), delivered=delivered
                )
        await node.background.stop()
        await database.fetch("delete from statistics_progress")
        while await Upkeep(database).make_hour():
            pass
        await database.fetch("delete from statistics_minutes where began_at < $1", hours_ago(3))
        page = (await client.get("/v1/stats/subscriptions", params={"limit": "2"})).json()
        assert [each["subscription_id"] for each in page["data"]] == ids[:2]
        assert page["data"][0]["delivered"] == [0] * 24
        assert page["data"][1]["delivered"] == [1, *[0] * 17, 5, *[0] * 4, 4]
        assert page["since"] == rfc3339(hours_ago(23))
        rest = await client.get("/v1/stats/subscriptions", params={"cursor": page["next_cursor"]})
        assert [each["subscription_id"] for each in rest.json()["data"]] == ids[2:]
        listed = await client.get("/v1/subscriptions", params={"limit": "2"})
        assert listed.json()["next_cursor"] == page["next_cursor"], "the same page has the same cursor"
        assert (await others.get("/v1/stats/subscriptions")).json()["data"] == []
        refused = await client.get("/v1/stats/subscriptions", params={"limit": "201"})
        assert refused.status_code == 422
