"""Who holds which lease of an inbox, and taking it away."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from harness import Node, Tenants
from triggers.inboxes import store as inbox_store
from triggers.postgres.database import Database

LEASES = "/v1/inboxes/default/leases"
MESSAGES = "/v1/inboxes/default/messages"


async def send(client: httpx.AsyncClient, number: int) -> list[str]:
    body = [{"type": "a", "payload": n} for n in range(number)]
    return [result["id"] for result in (await client.post("/v1/events/batch", json=body)).json()["results"]]


async def lease(client: httpx.AsyncClient, limit: int, **body: Any) -> str:
    answer = await client.post(f"{MESSAGES}/lease", json={"lease_limit": limit, **body})
    assert answer.status_code == 201, answer.text
    lease_id: str = answer.json()["lease_id"]
    return lease_id


async def leases(client: httpx.AsyncClient, **query: Any) -> Any:
    answer = await client.get(LEASES, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def settle(client: httpx.AsyncClient, verb: str, lease_id: str, **body: Any) -> int:
    answer = await client.post(f"{MESSAGES}/{verb}", json={"lease_id": lease_id, **body})
    if answer.status_code == 409:
        assert answer.json()["type"] == "/problems/lease-over"
    return answer.status_code


async def test_leases_are_listed_with_their_consumers(client: httpx.AsyncClient, database: Database) -> None:
    ids = await send(client, 6)
    first = await lease(client, 2, consumer="worker 1")
    second = await lease(client, 3, consumer="é" * 128)
    third = await lease(client, 1)
    found = await leases(client)
    assert [(each["lease_id"], each["messages"], each["consumer"]) for each in found["data"]] == [
        (first, 2, "worker 1"),
        (second, 3, "é" * 128),
        (third, 1, None),
    ]
    assert found["next_cursor"] is None
    messages = (await client.get(MESSAGES)).json()["data"]
    assert [(each["lease_id"], each["consumer"]) for each in messages][1:3] == [
        (first, "worker 1"),
        (second, "é" * 128),
    ]
    assert messages[0]["leased_until"] == found["data"][0]["leased_until"]

    # The name goes with the lease, however it ends.
    assert await settle(client, "release", first, message_ids=[ids[0]]) == 201
    assert await settle(client, "ack", first) == 201
    await database.fetch("update deliveries set due_at = now() where lease_id = $1", UUID(second))
    assert [each["lease_id"] for each in (await leases(client))["data"]] == [third]
    listed = (await client.get(MESSAGES)).json()["data"]
    assert [each["consumer"] for each in listed] == [None] * 5
    assert [each["lease_id"] for each in listed] == [None] * 4 + [third]
    again = await lease(client, 4)
    assert [each["consumer"] for each in (await leases(client))["data"]] == [None, None], again


@pytest.mark.parametrize("consumer", ["", "x" * 129, "a\nb", 5])
async def test_a_consumers_name_is_checked(client: httpx.AsyncClient, consumer: Any) -> None:
    answer = await client.post(f"{MESSAGES}/lease", json={"consumer": consumer})
    assert answer.status_code == 422
    assert "consumer" in answer.text


async def test_the_list_of_leases_is_paged_and_looks_at_so_many_messages(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await send(client, 12)
    made = [await lease(client, number) for number in (1, 2, 3, 4)]
    page = await leases(client, limit=3)
    assert [each["lease_id"] for each in page["data"]] == made[:3]
    page = await leases(client, limit=3, cursor=page["next_cursor"])
    assert ([each["lease_id"] for each in page["data"]], page["next_cursor"]) == (made[3:], None)

    monkeypatch.setattr(inbox_store, "_SCAN_LIMIT", 4)
    found, cursor, pages = [], None, 0
    while True:
        page = await leases(client, **({"cursor": cursor} if cursor else {}))
        found += [(each["lease_id"], each["messages"]) for each in page["data"]]
        cursor, pages = page["next_cursor"], pages + 1
        if cursor is None:
            break
    assert found == list(zip(made, (1, 2, 3, 4), strict=True))
    assert pages > 1


async def test_a_revoked_lease_settles_nothing_and_its_messages_come_back_at_once(
    client: httpx.AsyncClient, node: Node, tenants: Tenants
) -> None:
    ids = await send(client, 3)
    held = await lease(client, 3, consumer="stuck")
    assert await settle(client, "ack", held, message_ids=[ids[0]]) == 201
    waiting = asyncio.ensure_future(
        client.post(f"{MESSAGES}/lease", json={"wait_seconds": 20, "consumer": "next"})
    )
    async with node.client(await tenants.make()) as stranger:
        assert await settle(stranger, "revoke", held) == 409
    answer = await client.post(f"{MESSAGES}/revoke", json={"lease_id": held})
    assert (answer.status_code, answer.json()) == (
        200,
        {"revoked_id": held, "results": [{"id": each, "status": "available"} for each in ids[1:]]},
    )
    taken = (await waiting).json()
    assert [message["id"] for message in taken["results"]] == ids[1:]
    assert {message["message_attributes"]["lease_count"] for message in taken["results"]} == {2}
    for verb, more in (("ack", {}), ("release", {}), ("reject", {"reason": "x"}), ("extend", {})):
        assert await settle(client, verb, held, **more) == 409
    assert await settle(client, "revoke", held) == 409
    assert await settle(client, "revoke", str(uuid4())) == 409
    assert [each["consumer"] for each in (await leases(client))["data"]] == ["next"]
    assert await settle(client, "ack", taken["lease_id"]) == 201


async def attributes(client: httpx.AsyncClient) -> tuple[str, int, bool]:
    """The state of the only message: its status, its number of leases, and whether it may be a duplicate."""
    (message,) = (await client.get(MESSAGES)).json()["data"]
    found = message["message_attributes"]
    return message["status"], found["lease_count"], found["possible_duplicate_data"]


async def test_a_lease_that_does_not_count_uses_up_none_of_max_leases(client: httpx.AsyncClient) -> None:
    inbox = {"key": "jobs", "event_types": ["job"], "max_leases": 2}
    assert (await client.post("/v1/inboxes", json=inbox)).status_code == 201
    await client.post("/v1/events", json={"type": "job", "payload": 1})
    messages = "/v1/inboxes/jobs/messages"

    async def take_and_release(**more: Any) -> Any:
        taken = (await client.post(f"{messages}/lease", json={})).json()
        released = await client.post(f"{messages}/release", json={"lease_id": taken["lease_id"], **more})
        assert released.status_code == 201, released.text
        found = taken["results"][0]["message_attributes"]
        return found["lease_count"], found["possible_duplicate_data"]

    assert [await take_and_release(counted=False) for _ in range(4)] == [(1, False)] + [(1, True)] * 3
    (listed,) = (await client.get(messages)).json()["data"]
    assert listed["message_attributes"]["lease_count"] == 0
    assert listed["message_attributes"]["possible_duplicate_data"]
    assert [await take_and_release() for _ in range(2)] == [(1, True), (2, True)]
    assert (await client.post(f"{messages}/lease", json={})).json()["results"] == []
    (dead,) = (await client.get(messages, params={"status": "quarantined"})).json()["data"]
    assert dead["message_attributes"]["error_message"] == "leased as often as max_leases allows"


async def test_a_lease_is_taken_off_the_count_once(client: httpx.AsyncClient) -> None:
    await send(client, 1)
    held = await lease(client, 1)
    assert await settle(client, "release", held, counted=False) == 201
    assert await settle(client, "release", held, counted=False) == 409
    assert await settle(client, "release", str(uuid4()), counted=False) == 409
    assert await attributes(client) == ("available", 0, True)
    held = await lease(client, 1)
    assert await settle(client, "extend", held) == 201
    assert await attributes(client) == ("leased", 1, True)
    assert await settle(client, "ack", held) == 201
