"""Trying a subscription: samples as they would be delivered, a filter's dry run, a test delivery."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from delivering import Subscribe, Workers
from harness import Node, Tenant, Tenants, eventually
from receiving import Receiver
from triggers.postgres.clock import DatabaseClock
from triggers.postgres.database import Database
from triggers.previews import delivery_tests
from triggers.previews import routes as trials


async def send(client: httpx.AsyncClient, event_type: str, payload: str = "{}", **fields: str) -> str:
    rest = "".join(f',"{name}":"{value}"' for name, value in fields.items())
    body = f'{{"type":"{event_type}","payload":{payload}{rest}}}'
    answer = await client.post("/v1/events", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 201, answer.text
    event_id: str = answer.json()["id"]
    return event_id


async def subscribe(client: httpx.AsyncClient, **fields: Any) -> str:
    answer = await client.post(
        "/v1/subscriptions", json={"target_url": "https://receiver.example/", **fields}
    )
    assert answer.status_code == 201, answer.text
    subscription_id: str = answer.json()["id"]
    return subscription_id


# ---- samples -------------------------------------------------------------------------------------


async def test_samples_are_a_bare_array_of_bodies_newest_first(client: httpx.AsyncClient) -> None:
    first = await send(client, "order.created", '{"n": 1.0e0}')
    await send(client, "other", "2")
    last = await send(client, "order.paid", "3", occurred_at="2026-01-02T03:04:05+01:00")
    answer = await client.get("/v1/samples", params={"type": "order.*"})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("application/json")
    assert b'"data":{"n": 1.0e0}}' in answer.content
    samples = answer.json()
    assert [sample["id"] for sample in samples] == [last, first]
    assert samples[0] == {
        "id": last,
        "type": "order.paid",
        "timestamp": "2026-01-02T02:04:05.000Z",
        "data": 3,
    }
    assert [s["id"] for s in (await client.get("/v1/samples?type=order.paid")).json()] == [last]
    assert len((await client.get("/v1/samples")).json()) == 3
    assert (await client.get("/v1/samples?format=raw&limit=1")).json() == [3]
    assert (await client.get("/v1/samples?format=cloudevents")).json()[0]["specversion"] == "1.0"


async def test_no_samples_are_an_empty_array(node: Node, client: httpx.AsyncClient, tenants: Tenants) -> None:
    async with node.client(await tenants.make()) as other:
        await send(other, "order.created")
    assert (await client.get("/v1/samples?type=order.created")).json() == []
    assert (await client.get("/v1/samples?type=a*b")).status_code == 422


async def test_a_rare_type_is_found_beyond_a_slice(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trials, "SLICE", 5)
    rare = await send(client, "rare")
    for _ in range(12):
        await send(client, "common")
    assert [s["id"] for s in (await client.get("/v1/samples?type=rare")).json()] == [rare]


# ---- dry run -------------------------------------------------------------------------------------


async def test_a_dry_run_says_what_would_match(client: httpx.AsyncClient) -> None:
    small = await send(client, "order.created", '{"total": 5}')
    large = await send(client, "order.created", '{"total": 500}')
    broken = await send(client, "order.created", '{"sum": 500}')
    for _ in range(3):
        await send(client, "other", '{"total": 500}')
    body = {"event_types": ["order.*"], "filter": "payload.total > 100", "last": 3}
    answer = await client.post("/v1/subscriptions/dry-run", json=body)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert (found["judged"], found["matched"], found["failed"], found["complete"]) == (3, 2, 1, True)
    assert [match["id"] for match in found["matches"]] == [broken, large]
    assert found["matches"][0]["filter_error"]
    assert found["matches"][1]["filter_error"] is None
    by_type = (await client.post("/v1/hooks/dry-run", json={"event_types": ["order.*"], "last": 2})).json()
    assert [match["id"] for match in by_type["matches"]] == [broken, large]
    assert (by_type["judged"], by_type["complete"]) == (2, True)
    assert small not in str(by_type)
    for types, matched, without_filter in (["order.*"], 2, 3), (["nothing"], 0, 0), (None, 5, 6):
        body = {"event_types": types, "filter": "payload.total > 100", "last": 50, "among": "all"}
        found = (await client.post("/v1/subscriptions/dry-run", json=body)).json()
        assert (found["judged"], found["matched"]) == (6, matched), types
        found = (await client.post("/v1/subscriptions/dry-run", json={**body, "filter": None})).json()
        assert (found["judged"], found["matched"]) == (6, without_filter), types


@pytest.mark.parametrize(
    "body", [{"filter": "payload."}, {"last": 1001}, {"last": 0}, {"types": []}, {"event_types": []}]
)
async def test_a_dry_run_of_nonsense(client: httpx.AsyncClient, body: dict[str, Any]) -> None:
    assert (await client.post("/v1/subscriptions/dry-run", json=body)).status_code == 422


async def test_a_dry_run_stops_when_it_took_enough(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(5):
        await send(client, "a", '"' + "x" * 1000 + '"')
    monkeypatch.setattr(trials, "DRY_RUN_BYTES", 2100)
    found = (await client.post("/v1/subscriptions/dry-run", json={"filter": "size(payload) > 1"})).json()
    assert (found["judged"], found["matched"], found["complete"]) == (2, 2, False)


async def test_a_dry_run_looks_through_so_many_events_and_no_more(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trials, "SLICE", 2)
    monkeypatch.setattr(trials, "MAX_SCANNED", 4)
    await send(client, "rare")
    for _ in range(3):
        await send(client, "often")
    body = {"event_types": ["rare"], "last": 2}
    assert (await client.post("/v1/subscriptions/dry-run", json=body)).json()["judged"] == 1
    await send(client, "often")
    found = (await client.post("/v1/subscriptions/dry-run", json=body)).json()
    assert (found["judged"], found["complete"]) == (0, False)


async def test_a_dry_run_goes_on_over_pages(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(5):
        await send(client, "a", '"' + "x" * 1000 + '"')
    monkeypatch.setattr(trials, "MAX_PAGE_BYTES", 1500)
    found = (await client.post("/v1/subscriptions/dry-run", json={"filter": "size(payload) > 1"})).json()
    assert (found["judged"], found["matched"], found["complete"]) == (5, 5, True)


# ---- the test delivery ---------------------------------------------------------------------------


async def attempt(
    database: Database, clock: DatabaseClock, tenant: Tenant, subscription_id: str, outcome: str
) -> None:
    """What the worker would record of the one delivery that is owed."""

    async def owed() -> Any:
        return await database.row(
            "select event_id from deliveries where org_id = $1 and subscription_id = $2",
            tenant.id,
            UUID(subscription_id),
        )

    row = await eventually(owed)
    await database.fetch(
        "insert into attempts (org_id, subscription_id, id, event_id, generation, attempt, outcome, reason,"
        " status_code, response, duration_ms, worker_id)"
        " values ($1, $2, $3, $4, 0, 1, $5, $5, 500, 'no', 7, $6)",
        tenant.id,
        UUID(subscription_id),
        clock.mint(),
        row["event_id"],
        outcome,
        uuid4(),
    )


@pytest.mark.parametrize("ordering", ["none", "key"])
async def test_a_test_answers_with_its_first_attempt(
    client: httpx.AsyncClient, tenant: Tenant, database: Database, clock: DatabaseClock, ordering: str
) -> None:
    subscription_id = await subscribe(client, ordering=ordering)
    other = await subscribe(client, event_types=["triggers.*"])
    asked = asyncio.create_task(client.post(f"/v1/subscriptions/{subscription_id}/test"))
    await attempt(database, clock, tenant, subscription_id, "retry")
    answer = await asked
    assert answer.status_code == 200
    found = answer.json()
    assert found["delivery_id"] == f"{found['event_id']}.{subscription_id}"
    assert (found["attempt"]["outcome"], found["attempt"]["status_code"]) == ("retry", 500)
    assert abs(datetime.fromisoformat(found["attempt"]["began_at"]) - datetime.now(UTC)).seconds < 30
    event = (await client.get(f"/v1/events/{found['event_id']}")).json()
    assert event["type"] == "triggers.test"
    assert [d["subscription_id"] for d in event["deliveries"]] == [subscription_id]
    row = await database.row(
        "select lane_group, ordering_key from deliveries where event_id = $1", UUID(found["event_id"])
    )
    assert row is not None
    assert row["lane_group"] == UUID(subscription_id).bytes[-1] & 63
    assert row["ordering_key"] == (found["event_id"] if ordering == "key" else None)
    assert other


async def test_a_test_that_nobody_carries_out_is_202(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery_tests, "TEST_WAIT_SECONDS", 0.3)
    subscription_id = await subscribe(client)
    answer = await client.post(f"/v1/hooks/{subscription_id}/test")
    assert (answer.status_code, answer.json()["attempt"]) == (202, None)


async def test_a_test_while_paused_waits_for_nobody(client: httpx.AsyncClient) -> None:
    subscription_id = await subscribe(client)
    await client.post(f"/v1/subscriptions/{subscription_id}/pause")
    answer = await asyncio.wait_for(client.post(f"/v1/subscriptions/{subscription_id}/test"), 5)
    assert answer.status_code == 202


async def test_a_test_tests_what_was_changed_a_moment_ago(
    client: httpx.AsyncClient, receiver: Receiver, subscribed: Subscribe, workers: Workers
) -> None:
    await workers.start()
    subscription = await subscribed(f"{receiver.url}/old")
    path = f"/v1/subscriptions/{subscription.id}"
    assert (await client.post(f"{path}/test")).status_code == 200
    await client.patch(path, json={"target_url": f"{receiver.url}/new"})
    assert (await client.post(f"{path}/test")).status_code == 200
    assert [hook.path[-4:] for hook in receiver.hooks] == ["/old", "/new"]


async def test_the_type_of_samples_is_called_as_the_caller_does(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/samples", params={"type": "a*b"})
    assert [error["pointer"] for error in answer.json()["errors"]] == ["type"]
