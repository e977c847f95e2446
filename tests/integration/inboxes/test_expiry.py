"""Inboxes that expire: they are deleted as a caller deletes them, and are gone before the duty has come."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest

from harness import Tenant, eventually, is_waited_for
from triggers.domain import parse_time
from triggers.inboxes import changes as inbox_changes
from triggers.postgres.database import Database

URL = "https://receiver.example/notices"


async def make(client: httpx.AsyncClient, key: str = "brief", **fields: Any) -> dict[str, Any]:
    answer = await client.post("/v1/inboxes", json={"key": key, "expires_in_seconds": 600, **fields})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def send(client: httpx.AsyncClient) -> str:
    answer = await client.post("/v1/events", json={"type": "order.paid", "payload": 1})
    assert answer.status_code == 201
    return str(answer.json()["id"])


async def let_expire(database: Database, inbox: dict[str, Any]) -> None:
    await database.fetch("update subscriptions set expires_at = now() where id = $1", UUID(inbox["id"]))


def seconds_left(inbox: dict[str, Any]) -> float:
    return (parse_time(inbox["expires_at"]) - datetime.now(UTC)) / timedelta(seconds=1)


async def test_the_expiry_is_set_moved_and_removed(client: httpx.AsyncClient, database: Database) -> None:
    made = await make(client)
    assert 590 < seconds_left(made) <= 601
    forever = {"key": "other"}
    assert (await client.post("/v1/inboxes", json=forever)).json()["expires_at"] is None
    changed = (await client.patch("/v1/inboxes/brief", json={"expires_in_seconds": 30})).json()
    assert 20 < seconds_left(changed) <= 31
    same = {"key": "brief", "expires_in_seconds": 600}
    renewed = await client.put("/v1/inboxes", json=same)
    assert renewed.status_code == 200
    assert 590 < seconds_left(renewed.json()) <= 601
    for body in ({"key": "brief"}, {"key": "other", "expires_in_seconds": 60}):
        refused = await client.put("/v1/inboxes", json=body)
        assert (refused.status_code, "expires_in_seconds" in refused.json()["detail"]) == (409, True)
    untouched = (await client.patch("/v1/inboxes/brief", json={"event_types": ["a"]})).json()
    assert untouched["expires_at"] == renewed.json()["expires_at"]
    kept = (await client.patch("/v1/inboxes/brief", json={"expires_in_seconds": None})).json()
    assert kept["expires_at"] is None


@pytest.mark.parametrize("seconds", [29, 604_801, 30.5, "60", True, -1])
async def test_a_wrong_expiry_is_refused_by_name(client: httpx.AsyncClient, seconds: Any) -> None:
    body = {"key": "brief", "expires_in_seconds": seconds}
    answer = await client.post("/v1/inboxes", json=body)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/expires_in_seconds"


async def test_a_renewal_does_not_have_events_matched_anew(
    client: httpx.AsyncClient, tenant: Tenant, database: Database
) -> None:
    await make(client, filter="true")

    async def version() -> int:
        row = await database.row("select judging_version from organisations where id = $1", tenant.id)
        assert row is not None
        return int(row[0])

    before = await version()
    assert (await client.patch("/v1/inboxes/brief", json={"expires_in_seconds": 60})).status_code == 200
    assert await version() == before
    assert (await client.patch("/v1/inboxes/brief", json={"event_types": ["a"]})).status_code == 200
    assert await version() > before


async def test_an_expired_inbox_answers_as_a_deleted_one_before_it_is_swept(
    client: httpx.AsyncClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    expired, deleted = await make(client), await make(client, "deleted")
    event_id = await send(client)
    leased = await client.post("/v1/inboxes/brief/messages/lease", json={"lease_limit": 1})
    assert leased.status_code == 201
    assert (await client.delete("/v1/inboxes/deleted")).status_code == 202

    async def nothing(*_: object) -> list[Any]:
        return []

    monkeypatch.setattr(inbox_changes, "delete_expired", nothing)  # the duty comes later
    await let_expire(database, expired)
    other_id = await send(client)
    seen = [await _answers(client, each) for each in (expired, deleted)]
    assert seen[0] == seen[1]
    row = await database.row("select status from subscriptions where id = $1", UUID(expired["id"]))
    assert row is not None
    assert row["status"] == "active"
    for each, keys in ((other_id, ["default"]), (event_id, ["default", "brief", "deleted"])):
        shown = (await client.get(f"/v1/events/{each}")).json()
        assert [delivery["key"] for delivery in shown["deliveries"]] == keys


async def _answers(client: httpx.AsyncClient, inbox: dict[str, Any]) -> dict[str, Any]:
    """What an inbox answers, by its id and by its key."""
    listed = (await client.get("/v1/inboxes", params={"key": inbox["key"]})).json()["data"]
    found = {"listed": [each["status"] for each in listed]}
    active = await client.get("/v1/inboxes", params={"key": inbox["key"], "status": "active"})
    found["active"] = active.json()["data"]
    for name in ("id", "key"):
        path = f"/v1/inboxes/{inbox[name]}"
        one = await client.get(path)
        found[name] = [
            one.status_code,
            one.json()["status"],
            (await client.patch(path, json={"expires_in_seconds": 60})).status_code,
            (await client.post(f"{path}/pause")).status_code,
            (await client.post(f"{path}/messages/lease", json={})).status_code,
            (await client.delete(path)).status_code,
        ]
    return found


async def test_the_duty_deletes_an_expired_inbox_with_its_messages_and_notices(
    client: httpx.AsyncClient, tenant: Tenant, database: Database
) -> None:
    made = await make(client, notification_url=URL)
    event_id = await send(client)
    paused = await make(client, "paused")
    assert (await client.post("/v1/inboxes/paused/pause")).status_code == 200
    stays = await make(client, "stays")
    for each in (made, paused):
        await let_expire(database, each)

    async def are_gone() -> bool:
        rows = await database.fetch(
            "select status from subscriptions where id = any ($1::uuid[])",
            [UUID(made["id"]), UUID(paused["id"]), UUID(made["notifications"]["subscription_id"])],
        )
        return [row["status"] for row in rows] == ["deleting"] * 3

    await eventually(are_gone, 20)
    assert (await client.get("/v1/inboxes/brief")).status_code == 404
    assert (await client.get(f"/v1/inboxes/{stays['id']}")).json()["status"] == "active"

    async def is_cancelled() -> bool:
        deliveries = (await client.get(f"/v1/events/{event_id}")).json()["deliveries"]
        states = {each["key"]: each["status"] for each in deliveries if each["kind"] == "inbox"}
        return states == {"default": "pending", "brief": "cancelled"}

    await eventually(is_cancelled, 10)
    row = await database.row("select subscription_count from organisations where id = $1", tenant.id)
    assert row is not None
    assert row[0] == 2  # the default inbox, and the one that stays


async def test_the_key_of_an_expired_inbox_is_free_at_once(
    client: httpx.AsyncClient, tenant: Tenant, database: Database
) -> None:
    first = await make(client)
    await let_expire(database, first)
    second = await make(client)
    assert second["id"] != first["id"]
    assert (await client.get("/v1/inboxes/brief")).json()["id"] == second["id"]
    row = await database.row("select subscription_count from organisations where id = $1", tenant.id)
    assert row is not None
    assert row[0] == 2


async def test_a_put_makes_the_inbox_anew_if_it_expires_before_it_is_renewed(
    client: httpx.AsyncClient, tenant: Tenant, database: Database
) -> None:
    made = await make(client)
    async with database.connection() as holding, holding.transaction():
        await holding.execute("select from organisations where id = $1 for no key update", tenant.id)
        putting = asyncio.create_task(
            client.put("/v1/inboxes", json={"key": "brief", "expires_in_seconds": 600})
        )
        await eventually(lambda: is_waited_for(holding))
        # Before the transaction that waits began, because that judges by the time of its beginning.
        await database.fetch(
            "update subscriptions set expires_at = now() - interval '1 minute' where id = $1",
            UUID(made["id"]),
        )
    answer = await putting
    assert answer.status_code == 201, answer.text
    assert answer.json()["id"] != made["id"]
    assert seconds_left(answer.json()) > 590


async def test_nodes_that_sweep_at_the_same_time_delete_each_inbox_once(
    client: httpx.AsyncClient, tenant: Tenant, database: Database
) -> None:
    made = [await make(client, f"brief-{number}") for number in range(6)]
    # A node of the previous version takes an expired inbox for a push subscription, and disables it.
    await database.fetch(
        "update subscriptions set status = 'disabled', emptied_at = now() where id = $1", UUID(made[0]["id"])
    )
    async with database.connection() as holding, holding.transaction():
        await holding.execute("select from organisations where id = $1 for no key update", tenant.id)
        for each in made:
            await let_expire(database, each)
        sweeps = [asyncio.create_task(inbox_changes.delete_expired(database, 3)) for _ in range(4)]
        await eventually(lambda: is_waited_for(holding))
    deleted = [each for sweep in sweeps for each in await sweep]

    async def are_gone() -> bool:
        row = await database.row(
            "select count(*) from subscriptions"
            " where key like 'brief-%' and status = 'deleting' and emptied_at is null"
        )
        return row is not None and row[0] == 6

    await eventually(are_gone, 20)
    assert len(deleted) == len(set(deleted)) <= 6
    row = await database.row("select subscription_count from organisations where id = $1", tenant.id)
    assert row is not None
    assert row[0] == 1
