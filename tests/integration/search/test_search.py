"""One box finds what a person knows a part of, and only what the key may list."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import httpx
import pytest

from harness import Node, Tenant, Tenants
from triggers.domain import Scope
from triggers.search import store as search_store


async def found(client: httpx.AsyncClient, text: str) -> list[tuple[str, str, str]]:
    answer = await client.get("/v1/search", params={"q": text})
    assert answer.status_code == 200, answer.text
    return [(hit["kind"], hit["id"], hit["matched"]) for hit in answer.json()["data"]]


async def make(client: httpx.AsyncClient) -> dict[str, Any]:
    push = await client.post(
        "/v1/subscriptions", json={"target_url": "https://api.billing.example/x", "name": "Invoices"}
    )
    inbox = await client.post("/v1/inboxes", json={"key": "night-jobs"})
    event = await client.post(
        "/v1/events", json={"type": "order.paid", "payload": 1, "dedup_id": "d 1", "subject": "order/7"}
    )
    return {"push": push.json()["id"], "inbox": inbox.json()["id"], "event": event.json()["id"]}


async def test_each_thing_is_found_by_each_of_its_names(
    client: httpx.AsyncClient, node: Node, tenants: Tenants
) -> None:
    made = await make(client)
    event, push, inbox = made["event"], made["push"], made["inbox"]
    for text in (event, f" {event} "):
        assert await found(client, text) == [("event", event, "id")]
    assert await found(client, event[-8:].upper()) == [("event", event, "ending")]
    assert await found(client, "d 1") == [("event", event, "dedup_id")]
    assert await found(client, "order/7") == [("event", event, "subject")]
    assert await found(client, push) == [("subscription", push, "id")]
    assert await found(client, push[-8:]) == [("subscription", push, "ending")]
    assert await found(client, "invoices") == [("subscription", push, "name")]
    assert await found(client, "voice") == [("subscription", push, "part_of_name")]
    assert await found(client, "billing.example") == [("subscription", push, "host")]
    assert await found(client, "night-jobs") == [("inbox", inbox, "name")]
    for owner in (push, inbox):
        delivery = f"{event}.{owner}"
        assert await found(client, delivery) == [("delivery", delivery, "id")]
        assert await found(client, f"{event[-8:]}.{owner[-8:]}") == [("delivery", delivery, "ending")]
    for nothing in ("", " ", "x" * 255, str(uuid4()), f"{event}.{uuid4()}", "%", "_", "order/"):
        assert await found(client, nothing) == [], nothing
    for wrong in ("x" * 256, "a\0b"):
        assert (await client.get("/v1/search", params={"q": wrong})).status_code == 422
    async with node.client(await tenants.make()) as stranger:
        for text in (event, event[-8:], push, "d 1", "order/7", "invoices", f"{event}.{push}"):
            assert await found(stranger, text) == [], text


async def test_a_key_finds_only_what_it_may_list(
    client: httpx.AsyncClient, node: Node, tenant: Tenant, tenants: Tenants
) -> None:
    made = await make(client)
    texts = [made["event"], made["push"], made["inbox"], f"{made['event']}.{made['push']}"]
    expected = {
        Scope.EVENTS_READ: {"event"},
        Scope.SUBSCRIPTIONS: {"subscription", "delivery"},
        Scope.INBOX: {"inbox"},
        Scope.KEYS: set(),
    }
    for scope, kinds in expected.items():
        async with node.client(await tenants.key_of(tenant.id, tenant.name, {scope})) as limited:
            hits = [hit for text in texts for hit in await found(limited, text)]
        assert {kind for kind, _, _ in hits} == kinds


async def test_a_search_is_bounded_and_says_how_far_it_looked(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await make(client)
    for number in range(25):
        await client.post("/v1/inboxes", json={"key": f"many-{number}"})
    assert len(await found(client, "many")) == 20
    monkeypatch.setattr(search_store, "MAX_EVENTS", 3)
    for _ in range(3):
        await client.post("/v1/events", json={"type": "a", "payload": 1, "subject": "new"})
    assert await found(client, "order/7") == []
    assert await found(client, made["event"][-8:]) == []
    assert await found(client, made["event"]) == [("event", made["event"], "id")]
    assert len(await found(client, "new")) == 3
    assert (await client.get("/v1/search?q=new")).json()["looked_to"] is not None
