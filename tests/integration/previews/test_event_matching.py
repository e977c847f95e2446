"""What one event would match, and why a stored event was not sent to the others."""

from __future__ import annotations

import uuid
from typing import Any

import httpx
import pytest

from harness import Node, Tenant, Tenants
from triggers.postgres.database import Database
from triggers.previews import event_matching

DRY_RUN = "/v1/events/dry-run"


async def subscribe(client: httpx.AsyncClient, **fields: Any) -> str:
    body = {"target_url": "https://receiver.example/", **fields}
    answer = await client.post("/v1/subscriptions", json=body)
    assert answer.status_code == 201, answer.text
    subscription_id: str = answer.json()["id"]
    return subscription_id


async def dry_run(client: httpx.AsyncClient, event: dict[str, Any]) -> Any:
    answer = await client.post(DRY_RUN, json=event)
    assert answer.status_code == 200, answer.text
    return answer.json()


def reasons(found: Any) -> dict[str, str]:
    return {other["name"]: other["reason"] for other in found["others"]}


async def rows(database: Database, tenant: Tenant) -> int:
    found = await database.row(
        "select (select count(*) from events where org_id = $1)"
        " + (select count(*) from deliveries where org_id = $1)"
        " + (select count(*) from dedup where org_id = $1)",
        tenant.id,
    )
    assert found is not None
    number: int = found[0]
    return number


async def test_a_dry_run_says_where_an_event_would_go_and_why_not_elsewhere(
    client: httpx.AsyncClient, database: Database, tenant: Tenant
) -> None:
    await subscribe(client, name="all")
    await subscribe(client, key="large", filter="payload.total > 100")
    await subscribe(client, target_url="https://other.example/x", event_types=["order.paid"])
    await subscribe(client, name="broken", filter="payload.absent > 1")
    paused = await subscribe(client, name="paused", event_types=["order.*"])
    await client.post(f"/v1/subscriptions/{paused}/pause")
    ended = await subscribe(client, name="ended")
    await client.post(f"/v1/subscriptions/{ended}/disable")
    gone = await subscribe(client, name="gone")
    await client.delete(f"/v1/subscriptions/{gone}")
    await client.post("/v1/inboxes", json={"key": "mine", "event_types": ["user.*"]})

    event = {"type": "order.created", "payload": {"total": 5}, "dedup_id": "d"}
    found = await dry_run(client, event)
    assert {match["name"]: match["status"] for match in found["matches"]} == {
        "all": "active",
        "broken": "active",
        "paused": "paused",
        "default": "active",
    }
    assert [bool(m["filter_error"]) for m in found["matches"] if m["name"] == "broken"] == [True]
    assert reasons(found) == {
        "large": "filter",
        "other.example": "type",
        "ended": "disabled",
        "mine": "type",
    }
    assert (found["matched"], found["unmatched"], found["complete"]) == (4, 4, True)
    assert found["reasons"] == {"filter": 1, "type": 2, "disabled": 1}
    assert await rows(database, tenant) == 0
    failures = await database.row("select count(*) from subscriptions where filter_error is not null")
    assert failures is not None
    assert failures[0] == 0

    # It is what accept does.
    event_id = (await client.post("/v1/events", json=event)).json()["id"]
    sent = (await client.get(f"/v1/events/{event_id}")).json()["deliveries"]
    assert {each["subscription_id"] for each in sent} == {m["subscription_id"] for m in found["matches"]}


async def test_a_dry_run_takes_what_an_accept_takes(client: httpx.AsyncClient) -> None:
    await subscribe(client, name="from the shop", filter='event.source == "/shop"')
    cloud_event = {"specversion": "1.0", "id": "1", "source": "/shop", "type": "a"}
    structured = await client.post(
        DRY_RUN, json=cloud_event, headers={"content-type": "application/cloudevents+json"}
    )
    assert "from the shop" in str(structured.json()["matches"])
    headers = {f"ce-{name}": value for name, value in cloud_event.items()}
    binary = await client.post(DRY_RUN, json={"n": 1}, headers=headers)
    assert binary.json() == structured.json()
    plain = await dry_run(client, {"type": "a", "data": 1})
    assert reasons(plain) == {"from the shop": "filter"}
    for body, status in (("", 400), ("{}", 422), ('{"type": "triggers.x", "payload": 1}', 422)):
        answer = await client.post(DRY_RUN, content=body, headers={"content-type": "application/json"})
        assert answer.status_code == status, answer.text
    batch = {"content-type": "application/cloudevents-batch+json"}
    assert (await client.post(DRY_RUN, json=[cloud_event], headers=batch)).status_code == 415
    assert (await client.post(DRY_RUN, json={"type": "a", "payload": "x" * 300_000})).status_code == 413


async def test_an_answer_is_bounded_and_counts_the_rest(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_matching, "MAX_SHOWN", 2)
    monkeypatch.setattr(event_matching, "PAGE", 3)
    for number in range(4):
        await subscribe(client, name=f"yes {number}")
        await subscribe(client, name=f"no {number}", event_types=["b"], filter="payload == 1")
    found = await dry_run(client, {"type": "a", "payload": 1})
    assert (found["matched"], len(found["matches"])) == (5, 2)
    assert (found["unmatched"], len(found["others"]), found["reasons"]) == (4, 2, {"type": 4})
    assert found["complete"]
    monkeypatch.setattr(event_matching, "MAX_LOOKED_AT", 6)
    found = await dry_run(client, {"type": "a", "payload": 1})
    assert (found["matched"] + found["unmatched"], found["complete"]) == (6, False)
    monkeypatch.setattr(event_matching, "COMPILE_SECONDS", 0.0)
    await subscribe(client, name="with a filter", filter="payload == 1")
    monkeypatch.setattr(event_matching, "MAX_LOOKED_AT", 60)
    found = await dry_run(client, {"type": "a", "payload": 1})
    assert (found["matched"] + found["unmatched"], found["complete"]) == (9, False)


async def test_a_stored_event_says_where_it_was_not_sent_and_what_changed_since(
    client: httpx.AsyncClient, node: Node, tenants: Tenants
) -> None:
    await subscribe(client, name="all")
    await subscribe(client, name="small", filter="payload.total < 1")
    widened = await subscribe(client, name="widened", event_types=["other"])
    await subscribe(client, name="types", event_types=["other"])
    event = {"type": "order.created", "payload": {"total": 5}}
    event_id = (await client.post("/v1/events", json=event)).json()["id"]
    await client.patch(f"/v1/subscriptions/{widened}", json={"event_types": None})
    await subscribe(client, name="late")
    found = (await client.get(f"/v1/events/{event_id}/unmatched")).json()
    assert reasons(found) == {
        "small": "filter",
        "widened": "matches_now",
        "types": "type",
        "late": "created_later",
    }
    changed = {other["name"] for other in found["others"] if other["changed_since"]}
    assert changed == {"widened", "late"}
    assert (found["unmatched"], found["changed"], found["complete"]) == (4, 2, True)
    assert (await client.get(f"/v1/events/{uuid.uuid4()}/unmatched")).status_code == 404
    async with node.client(await tenants.make()) as stranger:
        assert (await stranger.get(f"/v1/events/{event_id}/unmatched")).status_code == 404
        assert (await dry_run(stranger, event))["matched"] == 1  # its own default inbox
