"""Lists of deliveries and attempts, with reasons and next times; retry and cancel."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest

from harness import Node, Tenant, Tenants
from triggers.deliveries import store as delivery_store
from triggers.deliveries.ending import follow
from triggers.domain import DeliveryStatus, LaneId
from triggers.postgres.clock import DatabaseClock
from triggers.postgres.database import Database

UNSETTLED = ("pending", "leased")


class Owed:
    """Subscriptions of one organisation and rows that say what they are owed, made as a test likes them."""

    def __init__(self, database: Database, clock: DatabaseClock, tenant: Tenant) -> None:
        self.database = database
        self.clock = clock
        self.org_id = tenant.id

    async def subscription(self, **columns: Any) -> UUID:
        row = {
            "org_id": self.org_id,
            "id": self.clock.mint(),
            "kind": "push",
            "all_types": False,
            "lane_group": 7,
            "target_url": "https://example.com/",
            "format": "standard",
            "signature": "v1",
            "secrets": b"",
        } | columns
        await self._insert("subscriptions", row, "status_at, created_at", "now(), now()")
        return row["id"]

    async def inbox(self, key: str) -> UUID:
        push_only = dict.fromkeys(("lane_group", "target_url", "format", "signature", "secrets"))
        return await self.subscription(kind="inbox", key=key, **push_only)

    async def event(self, event_type: str = "order.created") -> UUID:
        row = {"org_id": self.org_id, "id": self.clock.mint(), "type": event_type, "payload": b"{}"}
        await self._insert("events", row)
        return row["id"]

    async def delivery(
        self,
        subscription_id: UUID,
        event_id: UUID,
        status: str = "pending",
        *,
        due_in: float = 0,
        **columns: Any,
    ) -> str:
        """One generation; returns the delivery's name."""
        row = {
            "org_id": self.org_id,
            "subscription_id": subscription_id,
            "event_id": event_id,
            "generation": 0,
            "status": status,
        } | columns
        if status in UNSETTLED:
            row |= {"payload_size": 2, "lease_id": self.clock.mint() if status == "leased" else None}
            times = f"now() + interval '{due_in} seconds', now()"
            await self._insert("deliveries", row, "due_at, accepted_at", times)
        else:
            row |= {"lease_count": 0}
            await self._insert("settled_deliveries", row, "accepted_at, settled_at", "now(), now()")
        return f"{event_id}.{subscription_id}"

    async def attempt(self, subscription_id: UUID, event_id: UUID, **columns: Any) -> UUID:
        row = {
            "org_id": self.org_id,
            "subscription_id": subscription_id,
            "id": self.clock.mint(),
            "event_id": event_id,
            "generation": 0,
            "attempt": 1,
            "outcome": "retry",
            "reason": "http_500",
            "duration_ms": 12,
            "worker_id": UUID(int=1),
        } | columns
        await self._insert("attempts", row)
        return row["id"]

    async def _insert(self, table: str, row: dict[str, Any], more: str = "", values: str = "") -> None:
        names = ", ".join(row) + (f", {more}" if more else "")
        places = ", ".join(f"${n}" for n in range(1, len(row) + 1)) + (f", {values}" if values else "")
        await self.database.fetch(f"insert into {table} ({names}) values ({places})", *row.values())


@pytest.fixture
def owed(database: Database, clock: DatabaseClock, tenant: Tenant) -> Owed:
    return Owed(database, clock, tenant)


async def pages(
    client: httpx.AsyncClient, path: str, **parameters: Any
) -> AsyncIterator[list[dict[str, Any]]]:
    """Every page of a list, to its end."""
    cursor: dict[str, str] = {}
    while True:
        answer = await client.get(path, params=parameters | cursor)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        assert len(page["data"]) <= parameters.get("limit", 100)
        yield page["data"]
        if page["next_cursor"] is None:
            return
        cursor = {"cursor": page["next_cursor"]}


async def whole(client: httpx.AsyncClient, path: str, **parameters: Any) -> list[dict[str, Any]]:
    return [item async for page in pages(client, path, **parameters) for item in page]


# ---- lists -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
async def test_pages_of_any_size_make_the_whole_list(
    client: httpx.AsyncClient, owed: Owed, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Bounds small enough to be met: of subscriptions looked at, and of rows looked through."""
    monkeypatch.setattr(delivery_store, "_SUBSCRIPTIONS_A_PAGE", 2)
    monkeypatch.setattr(delivery_store, "_SCAN_LIMIT", 9)
    monkeypatch.setattr(delivery_store, "_REPLAYED_AT_ONCE", 2)
    chance = random.Random(seed)
    push = [await owed.subscription() for _ in range(4)]
    inboxes = [await owed.inbox(f"inbox {n}") for n in range(2)]
    events = [await owed.event() for _ in range(12)]
    expected: dict[str, list[tuple[UUID, UUID, int]]] = {status: [] for status in DeliveryStatus}
    for subscription in [*push, *inboxes]:
        words = ["pending", "dead", "cancelled", "expired"]
        words += ["delivered"] if subscription in push else ["leased", "acknowledged"]
        ended = [word for word in words if word not in UNSETTLED]
        for event in events:
            latest = chance.choice([0, 1, 1, 1, 3]) - 1
            for generation in range(latest + 1):
                status = chance.choice(words if generation == latest else ended)
                await owed.delivery(subscription, event, status, due_in=60, generation=generation)
                if generation == latest:
                    expected[status].append((subscription, event, generation))
    kinds = {"push": push, "inbox": inboxes, None: [*push, *inboxes]}
    for status, all_of_it in expected.items():
        all_of_it.sort(reverse=True)
        for only, kind in (
            (None, None),
            (None, chance.choice(["push", "inbox"])),
            (chance.choice(push), None),
            (inboxes[0], chance.choice(["push", "inbox"])),
        ):
            wanted = [each for each in all_of_it if only in (None, each[0]) and each[0] in kinds[kind]]
            limit = chance.choice([1, 2, 3, 7, 100])
            parameters = ({"subscription_id": str(only)} if only else {}) | ({"kind": kind} if kind else {})
            found = await whole(client, "/v1/deliveries", status=status, limit=limit, **parameters)
            names = [(UUID(d["subscription_id"]), UUID(d["event_id"]), d["generation"]) for d in found]
            assert names == wanted, (status, only, kind, limit)
            assert {d["status"] for d in found} <= {status}


async def test_a_page_says_what_it_lists(client: httpx.AsyncClient, owed: Owed) -> None:
    subscription, event = await owed.subscription(), await owed.event("a.b")
    await owed.delivery(subscription, event, "dead", reason="http_500 (exhausted)", attempts=9, generation=2)
    [found] = await whole(client, "/v1/deliveries", status="dead")
    assert found["id"] == f"{event}.{subscription}"
    assert (found["event_type"], found["kind"], found["generation"]) == ("a.b", "push", 2)
    assert (found["reason"], found["attempts"]) == ("http_500 (exhausted)", 9)
    assert found["settled_at"] is not None
    assert (found["due_at"], found["waiting_for"], found["next_at"]) == (None, None, None)


async def test_what_is_undelivered_says_why_and_when_next(client: httpx.AsyncClient, owed: Owed) -> None:
    probe_at = (await owed.database.fetch("select now() + interval '1 h' as at"))[0]["at"]
    active, paused = await owed.subscription(), await owed.subscription(status="paused")
    broken, ordered = await owed.subscription(probe_at=probe_at), await owed.subscription(ordering="key")
    inbox = await owed.inbox("mine")
    event, later = await owed.event(), await owed.event()
    due = await owed.delivery(active, event)
    retry = await owed.delivery(active, later, due_in=60, reason="timeout", attempts=2)
    held = [
        await owed.delivery(paused, event),
        await owed.delivery(broken, event, reason="http_503"),
        await owed.delivery(ordered, event, due_in=60, ordering_key="k"),
        await owed.delivery(ordered, later, ordering_key="k"),
        await owed.delivery(inbox, event),
        await owed.delivery(inbox, later, due_in=60),
    ]
    found = {each["id"]: each for each in await whole(client, "/v1/deliveries")}
    assert found[due]["waiting_for"] == "its_turn"
    assert (found[retry]["waiting_for"], found[retry]["reason"], found[retry]["attempts"]) == (
        "retry_time",
        "timeout",
        2,
    )
    assert found[retry]["next_at"] == found[retry]["due_at"]
    assert [found[each]["waiting_for"] for each in held] == [
        "subscription_paused",
        "failing_endpoint",
        "retry_time",
        "earlier_of_its_key",
        "consumer",
        "delay",
    ]
    assert [found[held[n]]["next_at"] for n in (0, 3)] == [None, None]
    assert found[held[1]]["next_at"] > found[held[1]]["due_at"]
    leased = await owed.delivery(inbox, await owed.event(), "leased", due_in=60)
    [shown] = await whole(client, "/v1/deliveries", status="leased")
    assert (shown["id"], shown["waiting_for"]) == (leased, "consumer")


@pytest.mark.parametrize("limit", [1, 3, 100])
async def test_attempts_newest_first(client: httpx.AsyncClient, owed: Owed, limit: int) -> None:
    subscriptions = [await owed.subscription() for _ in range(2)]
    events = [await owed.event() for _ in range(3)]
    made: list[tuple[UUID, UUID, UUID]] = []
    for number in range(4):
        for subscription in subscriptions:
            for event in events:
                attempt = await owed.attempt(subscription, event, attempt=number + 1)
                made.insert(0, (attempt, subscription, event))
    for subscription in subscriptions:
        found = await whole(client, f"/v1/subscriptions/{subscription}/attempts", limit=limit)
        assert [each["id"] for each in found] == [str(a) for a, s, _ in made if s == subscription]
    for event in events:
        found = await whole(client, f"/v1/events/{event}/attempts", limit=limit)
        assert [each["id"] for each in found] == [str(a) for a, _, e in made if e == event]
        one = str(subscriptions[0])
        found = await whole(client, f"/v1/events/{event}/attempts", limit=limit, subscription_id=one)
        assert [each["id"] for each in found] == [str(a) for a, s, e in made if (str(s), e) == (one, event)]


async def test_an_attempt_says_what_came_back(client: httpx.AsyncClient, owed: Owed) -> None:
    subscription, event = await owed.subscription(), await owed.event()
    retry_at = (await owed.database.fetch("select now() + interval '5 s' as at"))[0]["at"]
    await owed.attempt(
        subscription, event, attempt=3, generation=1, status_code=503, response="later", retry_at=retry_at
    )
    [found] = await whole(client, f"/v1/subscriptions/{subscription}/attempts")
    assert found["event_id"] == str(event)
    wanted = {"attempt": 3, "generation": 1, "outcome": "retry", "reason": "http_500", "status_code": 503}
    assert wanted.items() <= found.items()
    assert (found["response"], found["duration_ms"]) == ("later", 12)
    assert found["began_at"] < found["retry_at"]


async def test_an_event_shows_attempts_reason_and_next_time(client: httpx.AsyncClient, owed: Owed) -> None:
    subscription, event = await owed.subscription(), await owed.event()
    await owed.delivery(subscription, event, "dead", attempts=9, reason="gone")
    await owed.delivery(subscription, event, generation=1, due_in=60, attempts=2, reason="timeout")
    [first, second] = (await client.get(f"/v1/events/{event}")).json()["deliveries"]
    assert (first["status"], first["attempts"], first["reason"]) == ("dead", 9, "gone")
    assert (second["status"], second["attempts"], second["reason"]) == ("pending", 2, "timeout")
    assert second["due_at"] is not None


async def test_lists_refuse_what_they_did_not_give(client: httpx.AsyncClient) -> None:
    for parameters in (
        {"cursor": "x"},
        {"cursor": "A" * 47 + "."},
        {"cursor": "A" * 48 + "=="},
        {"cursor": "_" * 48},
        {"status": "lost"},
        {"limit": 0},
    ):
        answer = await client.get("/v1/deliveries", params=parameters)
        assert answer.status_code == 422, parameters
    unknown = await client.get("/v1/deliveries", params={"subscription_id": "nobody"})
    assert unknown.json() == {"data": [], "next_cursor": None}


# ---- retry -----------------------------------------------------------------------------------------


async def mend(client: httpx.AsyncClient, delivery: str, what: str, status: int = 200) -> dict[str, Any]:
    answer = await client.post(f"/v1/deliveries/{delivery}/{what}")
    assert answer.status_code == status, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_a_pending_one_is_due_now(node: Node, client: httpx.AsyncClient, owed: Owed) -> None:
    subscription, event = await owed.subscription(), await owed.event()
    delivery = await owed.delivery(subscription, event, due_in=3600, attempts=3, reason="timeout")
    hints: list[LaneId] = []
    node.wakeup.listen_for_lanes(hints.extend)
    found = await mend(client, delivery, "retry")
    assert (found["status"], found["generation"], found["attempts"]) == ("pending", 0, 3)
    assert found["waiting_for"] == "its_turn"
    assert hints == [(owed.org_id, subscription)]
    await mend(client, delivery, "retry")
    again = (await client.get(f"/v1/deliveries/{delivery}")).json()
    assert again["due_at"] == found["due_at"], "what is due already keeps its place"


@pytest.mark.parametrize("status", ["dead", "cancelled", "expired"])
async def test_what_ended_badly_is_owed_once_more(client: httpx.AsyncClient, owed: Owed, status: str) -> None:
    subscription, event = await owed.subscription(ordering="key"), await owed.event()
    await owed.delivery(subscription, event, "dead")
    delivery = await owed.delivery(subscription, event, status, generation=1)
    answers = await asyncio.gather(*[mend(client, delivery, "retry") for _ in range(5)])
    for found in answers:
        assert (found["status"], found["generation"], found["attempts"]) == ("pending", 2, 0)
        assert [(each["generation"], each["status"]) for each in found["earlier"]] == [
            (1, status),
            (0, "dead"),
        ]
    [row] = await owed.database.fetch("select * from deliveries")
    assert (row["lane_group"], row["ordering_key"], row["payload_size"]) == (7, "", 2)


@pytest.mark.parametrize("status", ["dead", "cancelled", "expired"])
async def test_what_was_replayed_is_no_longer_among_what_ended_badly(
    client: httpx.AsyncClient, owed: Owed, status: str
) -> None:
    subscription = await owed.subscription()
    kept = await owed.delivery(subscription, await owed.event(), status)
    for outcome in ("pending", "delivered", status):
        event = await owed.event()
        delivery = await owed.delivery(subscription, event, status)
        if outcome == "pending":
            await mend(client, delivery, "retry")
        else:
            await owed.delivery(subscription, event, outcome, generation=1)
    listed = await whole(client, "/v1/deliveries", status=status)
    assert [(each["id"], each["generation"]) for each in listed] == [(delivery, 1), (kept, 0)]
    assert len(await whole(client, "/v1/deliveries", status="pending")) == 1
    assert len(await whole(client, "/v1/deliveries", status="delivered")) == 1


async def test_a_dead_letter_shows_where_it_went_and_what_was_answered(
    client: httpx.AsyncClient, owed: Owed
) -> None:
    """The URL and the last attempt, which `triggers.delivery.dead` leaves out. An inbox has neither."""
    subscription = await owed.subscription(target_url="https://example.com/secret?token=1")
    event = await owed.event()
    delivery = await owed.delivery(subscription, event, "dead", attempts=2)
    other = await owed.subscription()
    for attempt, response in ((1, "first"), (2, "second")):
        await owed.attempt(subscription, event, attempt=attempt, status_code=500, response=response)
    await owed.attempt(other, event, response="another subscription's")
    found = (await client.get(f"/v1/deliveries/{delivery}")).json()
    assert found["target_url"] == "https://example.com/secret?token=1"
    last = found["last_attempt"]
    assert (last["attempt"], last["status_code"], last["response"]) == (2, 500, "second")
    message = await owed.delivery(await owed.inbox("mine"), event)
    found = (await client.get(f"/v1/deliveries/{message}")).json()
    assert (found["target_url"], found["last_attempt"]) == (None, None)


async def test_what_is_cancelled_keeps_the_time_of_its_first_attempt(
    client: httpx.AsyncClient, owed: Owed
) -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    subscription, ending = await owed.subscription(), await owed.subscription(status="disabled")
    event = await owed.event()
    delivery = await owed.delivery(subscription, event, first_attempt_at=moment, due_in=60)
    ended = await owed.delivery(ending, event, first_attempt_at=moment, due_in=60)
    await mend(client, delivery, "cancel")
    await follow(owed.database, 10)
    for each in (delivery, ended):
        found = (await client.get(f"/v1/deliveries/{each}")).json()
        assert (found["status"], found["first_attempt_at"]) == ("cancelled", "2026-01-02T03:04:05.000Z")


async def test_what_cannot_be_retried(client: httpx.AsyncClient, owed: Owed) -> None:
    subscription, inbox = await owed.subscription(), await owed.inbox("mine")
    disabled = await owed.subscription(status="disabled")
    event = await owed.event()
    for delivery in (
        await owed.delivery(subscription, event, "delivered"),
        await owed.delivery(inbox, event, "leased", due_in=60),
        await owed.delivery(disabled, event, "dead"),
        await owed.delivery(subscription, owed.clock.mint(), "dead"),  # its event is no longer kept
    ):
        await mend(client, delivery, "retry", 409)
    for delivery in (f"{event}.{event}", f"{event}", "x.y", f"{event}.{subscription}.0"):
        await mend(client, delivery, "retry", 404)
        assert (await client.get(f"/v1/deliveries/{delivery}")).status_code == 404


async def test_retry_of_a_message(client: httpx.AsyncClient, owed: Owed) -> None:
    inbox, event = await owed.inbox("mine"), await owed.event()
    delivery = await owed.delivery(inbox, event, "expired")
    await mend(client, delivery, "retry")
    lease = (await client.post("/v1/inboxes/mine/messages/lease")).json()
    assert [message["id"] for message in lease["results"]] == [str(event)]


# ---- cancel ----------------------------------------------------------------------------------------


async def test_a_cancelled_one_is_settled_and_its_lane_told(client: httpx.AsyncClient, owed: Owed) -> None:
    subscription, event = await owed.subscription(), await owed.event()
    delivery = await owed.delivery(subscription, event, attempts=2, reason="timeout")
    [before] = await owed.database.fetch(
        "select changed_at, now() as now from subscriptions where kind = 'push'"
    )
    found = await mend(client, delivery, "cancel")
    assert (found["status"], found["reason"], found["attempts"]) == ("cancelled", "cancelled by request", 2)
    assert await owed.database.fetch("select 1 from deliveries") == []
    [after] = await owed.database.fetch("select changed_at from subscriptions where kind = 'push'")
    assert after["changed_at"] > before["now"] - timedelta(seconds=1)
    assert after["changed_at"] > before["changed_at"]
    assert await mend(client, delivery, "cancel") == found, "twice is once"
    assert (await mend(client, delivery, "retry"))["generation"] == 1


async def test_what_is_settled_is_not_cancelled(client: httpx.AsyncClient, owed: Owed) -> None:
    subscription, event = await owed.subscription(), await owed.event()
    for status in ("delivered", "dead"):
        delivery = await owed.delivery(subscription, event, status, generation=len(status))
        await mend(client, delivery, "cancel", 409)
        await owed.database.fetch("delete from settled_deliveries")
    await mend(client, f"{event}.{subscription}", "cancel", 404)


async def test_a_cancel_takes_a_message_from_its_holder(client: httpx.AsyncClient, owed: Owed) -> None:
    inbox, event = await owed.inbox("mine"), await owed.event()
    delivery = await owed.delivery(inbox, event)
    lease = (await client.post("/v1/inboxes/mine/messages/lease")).json()
    await mend(client, delivery, "cancel")
    acked = await client.post("/v1/inboxes/mine/messages/ack", json={"lease_id": lease["lease_id"]})
    assert (acked.status_code, acked.json()["type"]) == (409, "/problems/lease-over")
    assert (await client.get(f"/v1/deliveries/{delivery}")).json()["status"] == "cancelled"


async def test_another_organisation_sees_and_mends_nothing(
    node: Node, owed: Owed, tenants: Tenants, tenant: Tenant
) -> None:
    subscription, event = await owed.subscription(), await owed.event()
    delivery = await owed.delivery(subscription, event, due_in=60)
    stranger = await tenants.make()
    async with node.client(stranger) as foreign:
        for what in ("retry", "cancel"):
            await mend(foreign, delivery, what, 404)
        assert await whole(foreign, "/v1/deliveries", subscription_id=str(subscription)) == []
    async with node.client(tenant) as own:
        assert (await own.get(f"/v1/deliveries/{delivery}")).json()["waiting_for"] == "retry_time"


async def test_lists_are_read_by_an_index(owed: Owed) -> None:
    """In the generic form that a busy node uses."""
    subscription, events = await owed.subscription(), [owed.clock.mint() for _ in range(20_000)]
    await owed.database.fetch(
        "insert into settled_deliveries (org_id, subscription_id, event_id, generation, status, lease_count,"
        " accepted_at, settled_at) select $1, $2, id, 0,"
        " case when place % 400 = 0 then 'dead' else 'delivered' end, 0, now(), now()"
        " from unnest($3::uuid[]) with ordinality as e (id, place)",
        owed.org_id,
        subscription,
        events,
    )
    await owed.database.fetch("analyze settled_deliveries")
    place = f"'{owed.org_id}', '{subscription}'"
    last, first = UUID(int=(1 << 128) - 1), UUID(int=0)
    async with owed.database.connection() as connection:
        for status in DeliveryStatus:
            await connection.execute("set plan_cache_mode = force_generic_plan; set enable_seqscan = off")
            for statement, values in (
                (delivery_store._OF_STATUS[status], f"{place}, '{last}', 5, 5, '{first}', null"),
                (delivery_store._WITH_STATUS[status], f"'{owed.org_id}', '{last}', 5, null"),
            ):
                await connection.execute(f"prepare asked as {statement}")
                rows = await connection.fetch(f"explain (costs off) execute asked({values})")
                await connection.execute("deallocate asked")
                plan = "\n".join(row[0] for row in rows)
                assert "Seq Scan" not in plan, plan
                if status in delivery_store.UNHAPPY:
                    assert "subscription_id_status" in plan, plan
        await connection.execute("reset plan_cache_mode; reset enable_seqscan")
