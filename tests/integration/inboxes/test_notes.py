"""Notes of consumers: kept with the delivery, shown by the API and the console, and no attempts."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from harness import Node, Tenant
from integration.console.test_pages import signed_in
from triggers.postgres.database import Database

HOSTILE = '<script>alert(1)</script>\x1b[2J\u202e{{ 7*7 }}\x00"\r\n'


async def send(client: httpx.AsyncClient) -> str:
    answer = await client.post("/v1/events", json={"type": "order.paid", "payload": 1})
    assert answer.status_code == 201
    return str(answer.json()["id"])


async def settle(client: httpx.AsyncClient, verb: str, **body: Any) -> httpx.Response:
    """Lease one message of the default inbox, and settle it."""
    leased = await client.post("/v1/inboxes/default/messages/lease", json={"lease_limit": 1})
    assert leased.status_code == 201
    return await client.post(
        f"/v1/inboxes/default/messages/{verb}", json={"lease_id": leased.json()["lease_id"], **body}
    )


async def note_of(client: httpx.AsyncClient, event_id: str) -> Any:
    """The note in each of the answers that show deliveries, which must be the same."""
    event = (await client.get(f"/v1/events/{event_id}")).json()
    (seen,) = event["deliveries"]
    place = f"{event_id}.{seen['subscription_id']}"
    (row,) = (await client.get(f"/v1/events/{event_id}/deliveries")).json()["data"]
    detail = (await client.get(f"/v1/deliveries/{place}")).json()
    listed = (await client.get("/v1/deliveries", params={"status": seen["status"]})).json()["data"]
    notes = [seen["note"], row["note"], detail["note"], *(e["note"] for e in listed if e["id"] == place)]
    assert len(notes) == 4
    assert all(each == notes[0] for each in notes)
    assert (detail["attempts"], detail["last_attempt"]) == (0, None)
    return notes[0]


async def test_a_note_is_kept_through_the_states_of_a_delivery(
    client: httpx.AsyncClient, database: Database
) -> None:
    event_id = await send(client)
    assert await note_of(client, event_id) is None
    first = {"status_code": 503, "duration_ms": 20, "text": "later"}
    assert (await settle(client, "release", note=first)).status_code == 201
    found = await note_of(client, event_id)
    assert {name: found[name] for name in first} == first
    assert found["reported_at"]
    assert (await settle(client, "release")).status_code == 201  # says nothing, and takes nothing back
    assert await note_of(client, event_id) == found
    assert (await settle(client, "ack", note={"status_code": 204})).status_code == 201
    last = await note_of(client, event_id)
    assert (last["status_code"], last["duration_ms"], last["text"]) == (204, None, None)
    attempts = (await client.get(f"/v1/events/{event_id}/attempts")).json()
    assert attempts["data"] == []
    row = await database.row("select count(*) from deliveries where note is not null")
    assert row is not None
    assert row[0] == 0


@pytest.mark.parametrize("end", ["reject", "ack", "cancel", "max_leases"])
async def test_the_note_of_a_release_is_kept_however_the_delivery_ends(
    client: httpx.AsyncClient, database: Database, end: str
) -> None:
    if end == "max_leases":
        await database.fetch("update subscriptions set max_leases = 1 where kind = 'inbox'")
    event_id = await send(client)
    assert (await settle(client, "release", note={"text": "broken"})).status_code == 201
    match end:
        case "reject":
            assert (await settle(client, "reject", reason="no use")).status_code == 201
        case "ack":
            assert (await client.post("/v1/ack", json={"event_ids": [event_id]})).status_code == 200
        case "cancel":
            (seen,) = (await client.get(f"/v1/events/{event_id}")).json()["deliveries"]
            place = f"{event_id}.{seen['subscription_id']}"
            assert (await client.post(f"/v1/deliveries/{place}/cancel")).status_code == 200
        case _:
            leased = await client.post("/v1/inboxes/default/messages/lease", json={})
            assert leased.json()["lease_id"] is None
    assert (await note_of(client, event_id))["text"] == "broken"


@pytest.mark.parametrize(
    ("note", "pointer"),
    [
        ({"text": "é" * 513}, "/note/text"),
        ({"text": "a" * 1025}, "/note/text"),
        ({"status_code": 99}, "/note/status_code"),
        ({"status_code": 600}, "/note/status_code"),
        ({"duration_ms": -1}, "/note/duration_ms"),
        ({"other": 1}, "/note"),
        ("words", "/note"),
    ],
)
async def test_a_wrong_note_is_refused_and_settles_nothing(
    client: httpx.AsyncClient, note: Any, pointer: str
) -> None:
    await send(client)
    for verb, more in (("ack", {}), ("release", {}), ("reject", {"reason": "x"})):
        leased = await client.post("/v1/inboxes/default/messages/lease", json={})
        lease_id = leased.json()["lease_id"]
        answer = await client.post(
            f"/v1/inboxes/default/messages/{verb}", json={"lease_id": lease_id, "note": note, **more}
        )
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["pointer"].startswith(pointer)
        held = await client.post("/v1/inboxes/default/messages/revoke", json={"lease_id": lease_id})
        assert len(held.json()["results"]) == 1


async def test_the_console_shows_a_hostile_note_as_text_apart_from_attempts(
    node: Node, tenant: Tenant, client: httpx.AsyncClient
) -> None:
    event_id = await send(client)
    note = {"status_code": 500, "duration_ms": 1500, "text": HOSTILE}
    assert (await settle(client, "reject", reason="hostile", note=note)).status_code == 201
    assert (await note_of(client, event_id))["text"] == HOSTILE
    async with signed_in(node, tenant) as browsing:
        page = (await browsing.get(f"/console/events/{event_id}")).text
    said = page[page.index("Reported by the consumer") :][:1500]
    assert "status 500" in said
    assert "after 1.5 s" in said
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in said
    assert "<script>alert" not in page
    assert not {"\x1b", "\x00", "\u202e"} & set(page)
    assert 'class="tries"' not in page


async def test_the_console_says_when_an_inbox_expires(
    node: Node, tenant: Tenant, client: httpx.AsyncClient
) -> None:
    made = await client.post("/v1/inboxes", json={"key": "brief", "expires_in_seconds": 120})
    async with signed_in(node, tenant) as browsing:
        page = (await browsing.get(f"/console/inboxes/{made.json()['id']}")).text
        assert "unless its consumer renews it. Then it is deleted, and its messages are cancelled." in page
        assert "expires <time" in (await browsing.get("/console/inboxes")).text
