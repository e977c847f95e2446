"""Named inboxes: their settings, their states, what they collect, and how they end."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from harness import Node, Tenant, Tenants, eventually, node_settings
from triggers.deliveries import ending
from triggers.domain import first_id_at
from triggers.errors import DatabaseUnavailable
from triggers.events import store as event_store
from triggers.fairness.room import Room
from triggers.inboxes import lease_queue
from triggers.inboxes import store as inbox_store
from triggers.node.health import Health
from triggers.node.housekeeping import EXPIRY_CHUNK, Housekeeping
from triggers.postgres import partitions
from triggers.postgres.clock import DatabaseClock
from triggers.postgres.database import Database


async def send(client: httpx.AsyncClient, *types: str) -> list[str]:
    body = [{"type": each, "payload": {}} for each in types]
    return [result["id"] for result in (await client.post("/v1/events/batch", json=body)).json()["results"]]


async def lease(client: httpx.AsyncClient, inbox: str, **body: Any) -> Any:
    answer = await client.post(f"/v1/inboxes/{inbox}/messages/lease", json=body)
    assert answer.status_code in (200, 201), answer.text
    return answer.json()


async def types_in(client: httpx.AsyncClient, inbox: str) -> list[str]:
    messages = (await client.get(f"/v1/inboxes/{inbox}/messages")).json()["data"]
    return [message["message_attributes"]["event_type"] for message in messages]


def ids_of(found: Any) -> list[str]:
    return [each["id"] for each in found]


async def test_made_shown_listed_changed(client: httpx.AsyncClient) -> None:
    made = await client.post(
        "/v1/inboxes", json={"key": "jobs", "event_types": ["a", "b.*", "a"], "max_leases": 3}
    )
    assert made.status_code == 201
    inbox = made.json()
    assert inbox == {
        "id": inbox["id"],
        "key": "jobs",
        "status": "active",
        "paused_reason": None,
        "event_types": ["a", "b.*"],
        "filter": None,
        "filter_error": None,
        "filter_error_at": None,
        "notification_url": None,
        "notification_url_unicode": None,
        "notifications": None,
        "max_leases": 3,
        "default_lease_seconds": 300,
        "retention_seconds": None,
        "expires_at": None,
        "created_at": inbox["created_at"],
        "status_at": inbox["created_at"],
    }
    for name in ("jobs", inbox["id"]):
        assert (await client.get(f"/v1/inboxes/{name}")).json() == inbox
    taken = await client.post("/v1/inboxes", json={"key": "jobs"})
    assert (taken.status_code, taken.json()["type"]) == (409, "/problems/name-taken")
    default = (await client.get("/v1/inboxes/default")).json()
    assert default["retention_seconds"] == 7 * 86_400
    listed = (await client.get("/v1/inboxes")).json()
    assert (listed["data"], listed["next_cursor"]) == ([default, inbox], None)
    page = (await client.get("/v1/inboxes", params={"limit": 1})).json()
    assert page["data"] == [default]
    assert (await client.get("/v1/inboxes", params={"cursor": page["next_cursor"]})).json()["data"] == [inbox]
    assert (await client.get("/v1/inboxes", params={"key": "jobs"})).json()["data"] == [inbox]
    assert (await client.get("/v1/inboxes", params={"status": "paused"})).json()["data"] == []
    changed = await client.patch("/v1/inboxes/jobs", json={"event_types": ["c"]})
    assert changed.json() == inbox | {"event_types": ["c"]}
    assert (await client.patch("/v1/inboxes/jobs", json={})).json() == changed.json()
    assert (await client.patch("/v1/inboxes/jobs", json={"event_types": None})).json()["event_types"] is None


async def test_what_an_inbox_cannot_be(client: httpx.AsyncClient) -> None:
    for body, pointer in (
        ({}, "/key"),
        ({"key": ""}, "/key"),
        ({"key": "x" * 101}, "/key"),
        ({"key": "a\nb"}, "/key"),
        ({"key": "a\u0000b"}, "/key"),
        ({"key": 1}, "/key"),
        ({"key": "a/b"}, "/key"),
        ({"key": "/"}, "/key"),
        ({"key": "."}, "/key"),
        ({"key": ".."}, "/key"),
        ({"key": str(uuid.uuid4())}, "/key"),
        ({"key": str(uuid.uuid4()).upper()}, "/key"),
        ({"key": "k", "event_types": []}, "/event_types"),
        ({"key": "k", "event_types": ["x"] * 101}, "/event_types"),
        ({"key": "k", "event_types": ["a", "b*"]}, "/event_types/1"),
        ({"key": "k", "event_types": ["a.*.b"]}, "/event_types/0"),
        ({"key": "k", "event_types": [""]}, "/event_types/0"),
        ({"key": "k", "event_types": ["a", 1]}, "/event_types/1"),
        ({"key": "k", "max_leases": 0}, "/max_leases"),
        ({"key": "k", "filter": "1"}, "/filter"),
        ({"key": "k", "notification_url": "ftp://example.com"}, "/notification_url"),
        ({"key": "k", "surprise": 1}, "/surprise"),
    ):
        for method in ("POST", "PUT"):
            answer = await client.request(method, "/v1/inboxes", json=body)
            assert answer.status_code == 422, (method, body, answer.text)
            assert [error["pointer"] for error in answer.json()["errors"]] == [pointer], (body, answer.text)
    assert (await client.post("/v1/inboxes", content=b"[")).status_code == 400
    assert (await client.post("/v1/inboxes", json=[])).status_code == 422
    for path in ("%00", "%ff", "%ed%a0%80", "a%0ab", "x" * 3000, "nowhere", str(uuid.uuid4())):
        answer = await client.get(f"/v1/inboxes/{path}")
        assert answer.status_code == 404, (path, answer.text)
    assert (await client.get("/v1/inboxes?key=%00")).status_code == 422


async def test_every_key_that_is_taken_names_its_inbox(client: httpx.AsyncClient) -> None:
    for key in ("...", ".a", "a%2Fb", "a?b#c", "a\\b", " a ", "{inbox}", "é😀", "messages", "0" * 32):
        made = await client.post("/v1/inboxes", json={"key": key})
        assert made.status_code == 201, made.text
        path = f"/v1/inboxes/{quote(key, safe='')}"
        assert (await client.get(path)).json() == made.json(), key
        assert (await client.post(f"{path}/messages/lease")).status_code == 200, key


async def test_an_inbox_whose_key_was_taken_before_goes_on_by_its_id(
    client: httpx.AsyncClient, database: Database
) -> None:
    made = (await client.post("/v1/inboxes", json={"key": "old"})).json()
    default = (await client.get("/v1/inboxes/default")).json()
    for key in ("a/b", default["id"]):
        await database.fetch("update subscriptions set key = $1 where id = $2", key, uuid.UUID(made["id"]))
        assert (await client.get(f"/v1/inboxes/{made['id']}")).json() == made | {"key": key}
        changed = await client.patch(f"/v1/inboxes/{made['id']}", json={"event_types": None})
        assert changed.status_code == 200
        assert (await client.get("/v1/inboxes", params={"key": key})).json()["data"] == [changed.json()]
    assert (await client.get(f"/v1/inboxes/{default['id']}")).json() == default
    assert (await client.put("/v1/inboxes", json={"key": default["id"]})).status_code == 422


async def test_ensuring(client: httpx.AsyncClient) -> None:
    wish = {"key": "jobs", "event_types": ["b", "a", "a"], "max_leases": 2}
    made = await client.put("/v1/inboxes", json=wish)
    assert made.status_code == 201
    for same in (wish, wish | {"event_types": ["a", "b"]}):
        again = await client.put("/v1/inboxes", json=same)
        assert (again.status_code, again.json()) == (200, made.json()), same
    for other in ({"key": "jobs"}, wish | {"max_leases": 3}, wish | {"event_types": ["a"]}):
        assert (await client.put("/v1/inboxes", json=other)).status_code == 409, other
    assert (await client.put("/v1/inboxes", json={"key": "default"})).status_code == 200


@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_made_by_twenty_at_once(client: httpx.AsyncClient, database: Database, method: str) -> None:
    answers = await asyncio.gather(
        *[client.request(method, "/v1/inboxes", json={"key": "jobs"}) for _ in range(20)]
    )
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses == ([201] + [409] * 19 if method == "POST" else [200] * 19 + [201])
    row = await database.row(
        "select subscription_count, (select count(*) from subscriptions) from organisations"
    )
    assert row is not None
    assert tuple(row) == (2, 2)


async def test_an_organisation_has_a_bound_on_subscriptions(
    client: httpx.AsyncClient, database: Database
) -> None:
    await database.fetch("update organisations set max_subscriptions = 3")
    answers = await asyncio.gather(*[client.post("/v1/inboxes", json={"key": f"{n}"}) for n in range(9)])
    assert sorted(answer.status_code for answer in answers) == [201] * 2 + [409] * 7
    made = next(answer.json()["id"] for answer in answers if answer.status_code == 201)
    assert (await client.delete(f"/v1/inboxes/{made}")).status_code == 202
    assert (await client.post("/v1/inboxes", json={"key": "again"})).status_code == 201


@pytest.mark.parametrize(
    ("bound", "statements"), [(20_000, {"accept_all"}), (12, {"accept_all", "accept_some"})]
)
async def test_types_choose_what_is_collected(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, bound: int, statements: set[str]
) -> None:
    """Whichever way an event is stored: twelve names are fewer than it would be compared with."""
    used: set[str] = set()

    class Noting(dict[str, str]):
        def __getitem__(self, name: str) -> str:
            if name.startswith("accept_"):
                used.add(name)
            return super().__getitem__(name)

    monkeypatch.setattr(event_store, "_SQL", Noting(event_store._SQL))
    monkeypatch.setattr(event_store, "FLUSH_DELIVERIES", bound)
    sent = ["order", "order.", "order.paid", "order.paid.late", "orders.paid", "Order.paid", "ö.x", "a%b_c"]
    wishes: dict[str, list[str] | None] = {
        "all": None,
        "star": ["*"],
        "exact": ["order.paid"],
        "prefix": ["order.*"],
        "deep": ["order.paid.*"],
        "two": ["order", "ö.*"],
        "sql": ["a%b_c", "%"],
        "both": ["order.*", "order.paid", "*"],
    }
    for key, wish in wishes.items():
        body = {"key": key} | ({"event_types": wish} if wish else {})
        assert (await client.post("/v1/inboxes", json=body)).status_code == 201
    ids = await send(client, *sent)
    expected = {
        "all": sent,
        "star": sent,
        "exact": ["order.paid"],
        "prefix": ["order.", "order.paid", "order.paid.late"],
        "deep": ["order.paid.late"],
        "two": ["order", "ö.x"],
        "sql": ["a%b_c"],
        "both": sent,
    }
    for key, types in expected.items():
        assert await types_in(client, key) == types, key

    await client.patch("/v1/inboxes/exact", json={"event_types": ["order"]})
    await send(client, "order", "order.paid")
    assert await types_in(client, "exact") == ["order.paid", "order"]

    explained = (await client.get(f"/v1/events/{ids[2]}?explain")).json()
    assert len(explained["deliveries"]) == 6
    why = {each["key"]: (each["matched"], each["why"]) for each in explained["explanations"]}
    assert {key: matched for key, (matched, _) in why.items()} == {
        key: "order.paid" in types for key, types in expected.items()
    } | {"default": True}
    assert why["deep"][1] == "order.paid matches none of order.paid.*"
    await client.post("/v1/inboxes", json={"key": "young"})
    explained = (await client.get(f"/v1/events/{ids[2]}?explain")).json()["explanations"]
    young = next(each for each in explained if each["key"] == "young")
    assert (young["matched"], young["why"]) == (False, "the subscription was created after the event")
    assert "explanations" not in (await client.get(f"/v1/events/{ids[2]}")).json()
    assert used == statements


async def test_worn_messages_go_to_quarantine_and_come_back(
    client: httpx.AsyncClient, database: Database
) -> None:
    await client.post("/v1/inboxes", json={"key": "jobs", "max_leases": 2})
    messages = "/v1/inboxes/jobs/messages"
    ids = await send(client, *["a"] * 5)
    for _ in range(2):
        held = await lease(client, "jobs")
        assert ids_of(held["results"]) == ids
        await client.post(f"{messages}/release", json={"lease_id": held["lease_id"]})
    fresh = await send(client, "b")
    held = await lease(client, "jobs", lease_limit=2)
    assert ids_of(held["results"]) == fresh, "the worn are put aside, and do not stand in the way"
    page = (await client.get(messages, params={"status": "quarantined"})).json()["data"]
    assert ids_of(page) == ids
    assert page[0]["status"] == "quarantined"
    assert page[0]["message_attributes"] == {
        "lease_count": 2,
        "event_type": "a",
        "error_message": "leased as often as max_leases allows",
        "possible_duplicate_data": True,
    }
    shown = (await client.get(f"/v1/events/{ids[0]}")).json()["deliveries"]
    assert {(delivery["key"], delivery["status"]) for delivery in shown} == {
        ("default", "pending"),
        ("jobs", "dead"),
    }

    ghosts = [str(uuid.uuid4()), fresh[0], "x"]
    body = {"message_ids": [ids[2], *ghosts]}
    redriven = await client.post(f"{messages}/redrive", json=body)
    assert redriven.status_code == 200
    assert redriven.json() == {"results": [{"id": ids[2], "status": "available"}], "next_cursor": None}
    assert (await client.post(f"{messages}/redrive", json=body)).json()["results"] == []
    answers = await asyncio.gather(*[client.post(f"{messages}/redrive") for _ in range(5)])
    assert sorted(each for answer in answers for each in ids_of(answer.json()["results"])) == sorted(
        {*ids} - {ids[2]}
    )
    assert (await client.get(messages, params={"status": "quarantined"})).json()["data"] == []
    again = await lease(client, "jobs", lease_limit=10)
    assert sorted(ids_of(again["results"])) == sorted(ids)
    assert {message["message_attributes"]["lease_count"] for message in again["results"]} == {1}
    assert (
        len((await client.post(f"{messages}/ack", json={"lease_id": again["lease_id"]})).json()["results"])
        == 5
    )
    shown = (await client.get(f"/v1/events/{ids[0]}")).json()["deliveries"]
    jobs = [(each["generation"], each["status"]) for each in shown if each["key"] == "jobs"]
    assert jobs == [(0, "dead"), (1, "acknowledged")]


async def quarantine(database: Database) -> None:
    """Settle all that is owed as dead."""
    await database.fetch(
        "with gone as (delete from deliveries returning *)"
        " insert into settled_deliveries (org_id, subscription_id, event_id, generation, status, reason,"
        " lease_count, accepted_at, settled_at)"
        " select org_id, subscription_id, event_id, generation, 'dead', 'as told', 2, accepted_at, now()"
        " from gone"
    )


async def test_redriving_by_cursor(client: httpx.AsyncClient, database: Database) -> None:
    messages = "/v1/inboxes/default/messages"
    ids = [each for _ in range(3) for each in await send(client, *["a"] * 500)]
    await quarantine(database)
    first = (await client.post(f"{messages}/redrive")).json()
    assert ids_of(first["results"]) == ids[:1000]
    rest = (await client.post(f"{messages}/redrive", json={"cursor": first["next_cursor"]})).json()
    assert (ids_of(rest["results"]), rest["next_cursor"]) == (ids[1000:], None)
    for body in ({"cursor": "x"}, {"cursor": first["next_cursor"], "message_ids": ids[:1]}):
        assert (await client.post(f"{messages}/redrive", json=body)).status_code == 422


async def test_paused(client: httpx.AsyncClient) -> None:
    before = await send(client, "a", "a", "a")
    paused = await client.post("/v1/inboxes/default/pause")
    assert (paused.status_code, paused.json()["status"]) == (200, "paused")
    assert paused.json()["paused_reason"] == "paused by request"
    assert (await client.post("/v1/inboxes/default/pause")).status_code == 409
    after = await send(client, "b")
    held = await lease(client, "default", lease_limit=2)
    assert ids_of(held["results"]) == before[:2]
    assert held["inbox_attributes"] == {"status": "paused", "paused_reason": "paused by request"}
    rest = await lease(client, "default", wait_seconds=20)
    assert ids_of(rest["results"]) == before[2:]
    assert (await lease(client, "default"))["results"] == [], "what is leased may still come back: no 409 yet"
    await client.post("/v1/inboxes/default/messages/release", json={"lease_id": rest["lease_id"]})
    rest = await lease(client, "default")
    assert ids_of(rest["results"]) == before[2:]
    for each in (held, rest):
        acked = await client.post("/v1/inboxes/default/messages/ack", json={"lease_id": each["lease_id"]})
        assert acked.status_code == 201
    drained = await client.post("/v1/inboxes/default/messages/lease", json={"wait_seconds": 20})
    assert (drained.status_code, drained.json()["type"]) == (409, "/problems/inbox-paused")
    assert ids_of((await client.get("/v1/inbox")).json()["events"]) == after
    resumed = await client.post("/v1/inboxes/default/resume")
    assert (resumed.status_code, resumed.json()["status"], resumed.json()["paused_reason"]) == (
        200,
        "active",
        None,
    )
    assert (await client.post("/v1/inboxes/default/resume")).status_code == 409
    assert ids_of((await lease(client, "default"))["results"]) == after


async def poll(client: httpx.AsyncClient) -> httpx.Response:
    """A long poll that ends well before its time, or not at all."""
    asking = client.post("/v1/inboxes/default/messages/lease", json={"wait_seconds": 20})
    return await asyncio.wait_for(asking, 10)


async def test_who_waits_is_answered_as_the_inbox_is_now(node: Node, client: httpx.AsyncClient) -> None:
    """As many wait as look at a time, and as many behind them."""
    polls = [asyncio.create_task(poll(client)) for _ in range(2 * lease_queue.AT_ONCE)]
    await eventually(lambda: sum(map(len, node.wakeup._waiters.values())) == lease_queue.AT_ONCE)
    assert (await client.post("/v1/inboxes/default/pause")).status_code == 200
    for answer in await asyncio.gather(*polls):
        assert (answer.status_code, answer.json()["type"]) == (409, "/problems/inbox-paused")
    await client.post("/v1/inboxes/default/resume")

    ids = await send(client, "a")
    held = await lease(client, "default")
    polling = asyncio.create_task(poll(client))
    await eventually(lambda: node.wakeup._waiters)
    await client.post("/v1/inboxes/default/pause")
    answer = await polling
    assert (answer.status_code, answer.json()["results"]) == (200, []), "what is held may come back"
    assert answer.json()["inbox_attributes"] == {"status": "paused", "paused_reason": "paused by request"}
    await client.post("/v1/inboxes/default/resume")
    await client.post("/v1/inboxes/default/messages/ack", json={"lease_id": held["lease_id"]})
    assert ids_of(held["results"]) == ids

    polling = asyncio.create_task(poll(client))
    await eventually(lambda: node.wakeup._waiters)
    assert (await client.delete("/v1/inboxes/default")).status_code == 202
    answer = await polling
    assert (answer.status_code, answer.json()["detail"]) == (409, "The inbox is being deleted.")


async def test_an_organisation_leaves_waiting_places_to_others(
    node: Node, client: httpx.AsyncClient, tenants: Tenants
) -> None:
    """Requests beyond the share of an organisation are refused at once."""
    queue = next(
        route.handler.__self__._queue for route in _table(node) if route.path.endswith("/messages/lease")
    )
    queue._room = room = Room(4)
    ask = {"wait_seconds": 20}
    waiting = [
        asyncio.create_task(client.post("/v1/inboxes/default/messages/lease", json=ask)) for _ in range(2)
    ]
    await eventually(lambda: room.taken == 2)
    refused = await client.post("/v1/inboxes/default/messages/lease", json=ask)
    assert (refused.status_code, refused.json()["type"]) == (503, "/problems/overloaded")
    assert int(refused.headers["retry-after"]) > 0
    async with node.client(await tenants.make()) as neighbour:
        other = asyncio.create_task(neighbour.post("/v1/inboxes/default/messages/lease", json=ask))
        await eventually(lambda: room.taken == 3)
        await neighbour.post("/v1/events", json={"type": "a", "payload": 1})
        assert (await other).status_code == 201
    await client.post("/v1/events", json={"type": "a", "payload": 1})
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    await eventually(lambda: room.taken == 0)


def _table(node: Node) -> Any:
    app: Any = node.server.config.app
    return app.routes


async def test_a_pause_that_nobody_told_of_is_found(
    node: Node, client: httpx.AsyncClient, database: Database
) -> None:
    """On another node, without Redis. What comes after the pause waits for the resume."""
    polling = asyncio.create_task(poll(client))
    await eventually(lambda: node.wakeup._waiters)
    await database.fetch("update subscriptions set status = 'paused', status_at = now()")
    assert (await polling).status_code == 409
    ids = await send(client, "a")
    assert (await poll(client)).status_code == 409
    await client.post("/v1/inboxes/default/resume")
    assert ids_of((await poll(client)).json()["results"]) == ids


async def test_deleted_and_made_again(node: Node, client: httpx.AsyncClient, database: Database) -> None:
    old = await send(client, "a", "b")
    held = await lease(client, "default", lease_limit=1)
    gone = await client.delete("/v1/inboxes/default")
    assert (gone.status_code, gone.json()["status"]) == (202, "deleting")
    inbox_id = gone.json()["id"]
    for path in ("/v1/inboxes/default", "/v1/inbox"):
        assert (await client.get(path)).status_code == 404
    assert (await client.get(f"/v1/inboxes/{inbox_id}")).json()["status"] == "deleting"
    for answer in (
        await client.delete(f"/v1/inboxes/{inbox_id}"),
        await client.patch(f"/v1/inboxes/{inbox_id}", json={"event_types": ["x"]}),
        await client.post(f"/v1/inboxes/{inbox_id}/pause"),
        await client.post(f"/v1/inboxes/{inbox_id}/messages/lease"),
        await client.post(f"/v1/inboxes/{inbox_id}/messages/redrive"),
    ):
        assert answer.status_code == 409, answer.text
    switched_off = await client.get("/v1/inbox")
    assert "was deleted" in switched_off.json()["detail"]
    for ids in ([*old, "nonsense"], []):
        acked = await client.post("/v1/ack", json={"event_ids": ids})
        assert acked.status_code == 200, "always"
        assert acked.json() == {
            "acknowledged": 0,
            "already_acknowledged": 0,
            "failed": len(ids),
            "results": [{"id": each, "status": "failed"} for each in ids],
        }
    (unseen,) = await send(client, "c")
    assert (await client.get(f"/v1/events/{unseen}")).json()["deliveries"] == []

    assert (await client.put("/v1/inboxes", json={"key": "default"})).status_code == 201
    fresh = (await client.get("/v1/inboxes/default")).json()
    assert fresh["id"] != inbox_id
    assert fresh["retention_seconds"] == 7 * 86_400
    (seen,) = await send(client, "d")
    assert ids_of((await client.get("/v1/inbox")).json()["events"]) == [seen]
    late = await client.post("/v1/inboxes/default/messages/ack", json={"lease_id": held["lease_id"]})
    assert late.status_code == 409

    assert await ending.follow(database, 1000) + await ending.follow(database, 1000) <= 2
    await eventually(lambda: _states_are(client, old[0], "cancelled"))
    await database.fetch(
        "update subscriptions set status_at = now() - interval '1 minute' where status = 'deleting'"
    )
    await ending.follow(database, 1000)
    assert (await client.get(f"/v1/inboxes/{inbox_id}")).status_code == 404
    shown = (await client.get(f"/v1/events/{old[0]}")).json()["deliveries"]
    assert [(each["status"], each["reason"]) for each in shown] == [("cancelled", "subscription deleted")]


async def _states_are(client: httpx.AsyncClient, event_id: str, status: str) -> bool:
    shown = (await client.get(f"/v1/events/{event_id}")).json()["deliveries"]
    return {each["status"] for each in shown} == {status}


async def test_the_unread_of_default_inboxes_expire_with_the_retention(
    client: httpx.AsyncClient, database: Database, clock: DatabaseClock, tenant: Tenant, tenants: Tenants
) -> None:
    await client.post("/v1/inboxes", json={"key": "forever"})
    other = await tenants.make()
    now = datetime.now(UTC)
    ages = [timedelta(days=d) for d in (1, 2, 4, 6.99)] + [timedelta(days=7, minutes=1)]
    async with database.connection() as connection:
        for org_id in (tenant.id, other.id):
            for age in ages:
                await connection.execute(
                    "insert into deliveries"
                    " (org_id, subscription_id, event_id, due_at, accepted_at, payload_size)"
                    " select $1, id, $2, now() - $3::interval, now() - $3::interval, 1"
                    " from subscriptions where org_id = $1",
                    org_id,
                    first_id_at(now - age),
                    age,
                )
        # The oldest of the second organisation is held by somebody.
        await connection.execute(
            "update deliveries set status = 'leased', lease_id = gen_random_uuid(),"
            " due_at = now() + interval '1 hour' where org_id = $1 and event_id = $2",
            other.id,
            first_id_at(now - ages[-1]),
        )
    first = (uuid.UUID(int=0), uuid.UUID(int=0))
    assert await inbox_store.expire_messages(database, first, 1000, timedelta(days=7)) == (1, None)
    assert await inbox_store.expire_messages(database, first, 1000, timedelta(days=3)) == (4, None)
    left = await database.fetch(
        "select s.org_id, s.key, array_agg(d.event_id order by d.event_id desc) as ids"
        " from deliveries d join subscriptions s on s.id = d.subscription_id group by 1, 2"
    )
    ids = [first_id_at(now - age) for age in ages]
    assert {(row["org_id"], row["key"]): row["ids"] for row in left} == {
        (tenant.id, "default"): ids[:2],
        (tenant.id, "forever"): ids,
        (other.id, "default"): [*ids[:2], ids[4]],
    }
    settled = await database.fetch("select status, reason from settled_deliveries")
    assert {tuple(row) for row in settled} == {("expired", "unread for the inbox's retention")}


async def old_messages(database: Database, each: int) -> None:
    """Messages a week old, so many in every inbox."""
    old = datetime.now(UTC) - timedelta(days=7, minutes=2)
    await database.fetch(
        "insert into deliveries (org_id, subscription_id, event_id, due_at, accepted_at, payload_size)"
        " select s.org_id, s.id, ($1::text || to_char(n, 'FM0000'))::uuid, now(), now() - interval '8 days',"
        " 1 from subscriptions s, generate_series(1, $2) n",
        str(first_id_at(old))[:-4],
        each,
    )


async def number_owed(database: Database) -> int:
    row = await database.row("select count(*) from deliveries")
    assert row is not None
    number: int = row[0]
    return number


async def test_the_retention_is_that_of_the_node_that_serves(
    database: Database, database_url: str, tenant: Tenant
) -> None:
    """Of organisations that there are already, too, whoever made them."""
    await old_messages(database, 1)
    for days, left in ((30, 1), (2, 0)):
        settings = node_settings(inbox_retention=days * 86_400)
        async with Node(settings, database_url, data_dir=None) as node, node.client(tenant) as client:
            shown = (await client.get("/v1/inboxes/default")).json()
            assert shown["retention_seconds"] == days * 86_400
            await node._housekeeping._expire_messages()
            assert await number_owed(database) == left


async def test_expiry_goes_in_bounded_chunks_over_all_inboxes(database: Database, tenants: Tenants) -> None:
    """The bound is one of the statement: it holds however many inboxes have something to expire."""
    made = [await tenants.make() for _ in range(7)]
    inboxes = {tenant.id: tenant for tenant in made}
    await database.fetch("update subscriptions set key = 'kept' where org_id = $1", made[3].id)
    await old_messages(database, 6)
    start: tuple[uuid.UUID, uuid.UUID] | None = (uuid.UUID(int=0), uuid.UUID(int=0))
    chunks = []
    while start is not None:
        expired, start = await inbox_store.expire_messages(database, start, 10, timedelta(days=7))
        chunks.append(expired)
    assert (max(chunks), sum(chunks)) == (10, 36)
    assert len(chunks) <= 5, "what is done with is not gone through again"
    left = await database.fetch("select org_id, count(*) from deliveries group by 1")
    assert {inboxes[row[0]].name: row[1] for row in left} == {made[3].name: 6}


@pytest.mark.parametrize("limit", [1, 2, 3])
async def test_expiry_goes_on_over_inboxes_that_have_nothing(
    database: Database, tenants: Tenants, limit: int
) -> None:
    for _ in range(5):
        await tenants.make()
    last = await tenants.make()
    await old_messages(database, 1)
    await database.fetch("delete from deliveries where org_id <> $1", last.id)
    start: tuple[uuid.UUID, uuid.UUID] | None = (uuid.UUID(int=0), uuid.UUID(int=0))
    total = 0
    for _ in range(10):
        if start is not None:
            expired, start = await inbox_store.expire_messages(database, start, limit, timedelta(days=7))
            total += expired
    assert (total, start) == (1, None)


async def test_expiry_that_fails_tries_less_and_gets_on(
    database: Database, tenants: Tenants, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was too much for one statement would be too much again, for ever and on every node."""
    for _ in range(4):
        await tenants.make()
    await old_messages(database, 25)
    expire, tried = inbox_store.expire_messages, []

    async def slow(
        database: Database, start: tuple[uuid.UUID, uuid.UUID], limit: int, retention: timedelta
    ) -> tuple[int, tuple[uuid.UUID, uuid.UUID] | None]:
        tried.append(limit)
        if limit > 10:
            raise DatabaseUnavailable
        return await expire(database, start, limit, retention)

    monkeypatch.setattr(inbox_store, "expire_messages", slow)
    duties = Housekeeping(
        database, Health(database), data_dir=None, min_free_mib=0, inbox_retention=7 * 86_400
    )
    for _ in range(1_000):
        try:
            if not await duties._expire_messages():
                break
        except DatabaseUnavailable:
            continue
    assert await number_owed(database) == 0
    assert tried[0] == EXPIRY_CHUNK


async def test_dedup_rows_are_swept_once_they_have_run_out(
    client: httpx.AsyncClient, database: Database
) -> None:
    for number in range(5):
        await client.post("/v1/events", json={"type": "a", "payload": 1, "dedup_id": f"{number}"})
    await database.fetch("update dedup set expires_at = now() where dedup_id < '3'")
    assert await event_store.sweep_dedup(database, 2) == 2
    assert await event_store.sweep_dedup(database, 2) == 1
    left = await database.fetch("select dedup_id from dedup order by dedup_id")
    assert [row["dedup_id"] for row in left] == ["3", "4"]


async def test_partitions_are_made_ahead_and_once(database: Database, database_url: str) -> None:
    async with database.connection() as connection:
        names = await connection.fetch(
            "select relname as name from pg_class where relispartition and relkind = 'r'"
        )
        for parent, width, _ in partitions.PARTITIONED:
            made = sorted(row["name"] for row in names if row["name"].startswith(f"{parent}_p"))
            assert made[-1] >= f"{parent}_p{datetime.now(UTC) + width:%Y%m%d}"
        for row in names:
            await connection.execute(f"drop table {row['name']}")
    async with _two(database_url) as (first, second):
        made_by = await asyncio.gather(
            partitions.ensure(first), partitions.ensure(second), return_exceptions=True
        )
        again = await partitions.ensure(first)
        assert not [each for each in made_by if isinstance(each, BaseException)]
        assert again == []


@asynccontextmanager
async def _two(url: str) -> AsyncIterator[tuple[Any, Any]]:
    database = Database(url, pool_size=2)
    first, second = await database.connect(15), await database.connect(15)
    try:
        yield first, second
    finally:
        await first.close()
        await second.close()
