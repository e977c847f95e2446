"""The list of events by what a person remembers of them, and how far back a page looked."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import httpx
import pytest

from harness import Node, Tenant, Tenants
from triggers.events import listing
from triggers.postgres.database import Database


async def send(client: httpx.AsyncClient, event_type: str, **fields: Any) -> str:
    answer = await client.post("/v1/events", json={"type": event_type, "payload": 1, **fields})
    assert answer.status_code == 201, answer.text
    event_id: str = answer.json()["id"]
    return event_id


async def page(client: httpx.AsyncClient, **query: Any) -> Any:
    answer = await client.get("/v1/events", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def pages(client: httpx.AsyncClient, **query: Any) -> tuple[list[str], int]:
    """The ids on all pages, and the number of pages."""
    ids: list[str] = []
    for number in range(1, 100):
        found = await page(client, **query)
        ids += [event["id"] for event in found["events"]]
        if found["next_cursor"] is None:
            return ids, number
        query["cursor"] = found["next_cursor"]
    raise AssertionError("the list has no end")


def ids(found: Any) -> list[str]:
    return [event["id"] for event in found["events"]]


async def settle(database: Database, event_id: str, status: str, generation: int = 0) -> None:
    """End the delivery of an event to the default inbox, without a consumer."""
    await database.fetch(
        "with gone as (delete from deliveries where event_id = $1 and generation = $3 returning *)"
        " insert into settled_deliveries (org_id, subscription_id, event_id, generation, status, lease_count,"
        " accepted_at, settled_at)"
        " select org_id, subscription_id, event_id, generation, $2, 0, accepted_at, now() from gone",
        UUID(event_id),
        status,
        generation,
    )


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_events_are_found_by_type_subject_and_dedup_id(client: httpx.AsyncClient, order: str) -> None:
    made = [
        await send(client, "order.created", subject="7", dedup_id="a"),
        await send(client, "order.paid", subject="8", dedup_id="b"),
        await send(client, "user.created", subject="7", dedup_id="c"),
        await send(client, "orders"),
    ]

    async def numbers(**query: Any) -> list[int]:
        return sorted(map(made.index, ids(await page(client, order=order, **query))))

    assert await numbers(type="order.*") == [0, 1]
    assert await numbers(type="order.paid") == [1]
    assert await numbers(type="*") == [0, 1, 2, 3]
    assert await numbers(subject="7") == [0, 2]
    assert await numbers(dedup_id="b") == [1]
    assert await numbers(type="order.*", subject="7") == [0]
    assert await numbers(type="order.*", dedup_id="c") == []
    assert (await client.get("/v1/events", params={"subject": "a\0b"})).status_code == 422


async def test_a_page_says_how_far_it_looked(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await page(client) == {"events": [], "next_cursor": None, "looked_to": None}
    rare = await send(client, "rare", dedup_id="r")
    for _ in range(10):
        await send(client, "often")
    monkeypatch.setattr(listing, "MAX_LOOKED_AT", 4)
    first = await page(client, type="rare")
    assert (first["events"], first["next_cursor"] is None) == ([], False)
    fourth = (await page(client, limit=4))["events"][-1]
    assert first["looked_to"] == fourth["created_at"]
    assert await pages(client, type="rare") == ([rare], 3)
    assert await pages(client, type="rare", order="asc") == ([rare], 3)
    # A dedup_id that is remembered leads to its event at once.
    found = await page(client, dedup_id="r")
    assert (ids(found), found["next_cursor"]) == ([rare], None)


async def test_events_with_undelivered_deliveries(
    client: httpx.AsyncClient, node: Node, tenants: Tenants, database: Database
) -> None:
    made = {
        status: await send(client, "a", subject=status)
        for status in ("acknowledged", "dead", "cancelled", "expired", "pending", "leased")
    }
    for status in ("acknowledged", "dead", "cancelled", "expired"):
        await settle(database, made[status], status)
    assert (await client.post("/v1/inboxes/default/messages/lease")).status_code == 201
    expected = [made[status] for status in ("leased", "pending", "expired", "cancelled", "dead")]
    assert ids(await page(client, undelivered="")) == expected
    assert ids(await page(client, undelivered="", subject="dead")) == [made["dead"]]
    assert ids(await page(client, undelivered="", type="b.*")) == []
    assert (await pages(client, undelivered="", limit=2))[0] == expected
    assert (await client.get("/v1/events?undelivered=&order=asc")).status_code == 422
    async with node.client(await tenants.make()) as stranger:
        assert ids(await page(stranger, undelivered="")) == []

    # A dead letter that arrived as a later generation is delivered; one that is on its way is not.
    assert (await client.post("/v1/inboxes/default/messages/redrive")).status_code == 200
    assert ids(await page(client, undelivered="")) == expected
    await settle(database, made["dead"], "acknowledged", generation=1)
    assert ids(await page(client, undelivered="")) == expected[:-1]


async def test_pages_of_undelivered_events_miss_none_and_repeat_none(
    client: httpx.AsyncClient, tenant: Tenant, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many deliveries each event has, and however few of them a page reads."""
    for number in range(3):
        await client.post("/v1/inboxes", json={"key": f"inbox {number}"})
    sent = [await send(client, "a") for _ in range(30)]
    for event_id in sent[::4]:
        await settle(database, event_id, "acknowledged")
    for event_id in sent[1::4]:
        await settle(database, event_id, "dead")
    expected = [event_id for event_id in reversed(sent) if event_id not in sent[::4]]
    for rows, looked_at, limit in ((20_000, 20_000, 100), (1, 20_000, 100), (1, 7, 3), (20_000, 30, 4)):
        monkeypatch.setattr(listing, "UNDELIVERED_ROWS", rows)
        monkeypatch.setattr(listing, "MAX_LOOKED_AT", looked_at)
        assert (await pages(client, undelivered="", limit=limit))[0] == expected
