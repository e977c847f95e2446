"""The answers to settling messages of a lease: now, again, too late, or in part."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest

from harness import Node, Tenant, eventually
from triggers.inboxes import settlement_store
from triggers.node.health import Health
from triggers.node.housekeeping import Housekeeping
from triggers.postgres.database import Database

MESSAGES = "/v1/inboxes/default/messages"
DAY = timedelta(hours=24)


async def send(client: httpx.AsyncClient, number: int) -> list[str]:
    body = [{"type": "a", "payload": n} for n in range(number)]
    return [result["id"] for result in (await client.post("/v1/events/batch", json=body)).json()["results"]]


async def lease(client: httpx.AsyncClient, path: str = MESSAGES, **body: Any) -> str:
    """Lease messages; return the id of the lease."""
    answer = await client.post(f"{path}/lease", json=body)
    assert answer.status_code == 201, answer.text
    lease_id: str = answer.json()["lease_id"]
    return lease_id


async def settle(
    client: httpx.AsyncClient, verb: str, lease_id: str, path: str = MESSAGES, **body: Any
) -> tuple[int, Any]:
    answer = await client.post(f"{path}/{verb}", json={"lease_id": lease_id, **body})
    if answer.status_code == 409:
        assert answer.json()["type"] == "/problems/lease-over"
    return answer.status_code, answer.json()


async def end_leases(database: Database) -> None:
    await database.fetch("update deliveries set due_at = now() where status = 'leased'")


def reasons_of(answer: Any) -> list[tuple[str, str]]:
    return [(each["id"], each["reason"]) for each in answer["not_settled"]]


# ---- the same request again -----------------------------------------------------------------------


@pytest.mark.parametrize("by_id", [False, True])
async def test_an_acknowledgement_can_be_repeated(
    client: httpx.AsyncClient, tenant: Tenant, make_node: Callable[..., Any], by_id: bool
) -> None:
    """The request can also be repeated on another node, and by many callers at once."""
    ids = await send(client, 3)
    held = await lease(client)
    body = {"message_ids": ids} if by_id else {}
    answers = await asyncio.gather(*[settle(client, "ack", held, **body) for _ in range(20)])
    first = (
        201,
        {
            "acked_id": held,
            "results": [{"id": each, "status": "acked"} for each in ids],
            "not_settled": [],
        },
    )
    again = (200, {"acked_id": held, "results": []})
    assert sorted(answers, key=lambda answer: -answer[0]) == [first] + [again] * 19
    other: Node = await make_node()
    async with other.client(tenant) as elsewhere:
        assert await settle(elsewhere, "ack", held, **body) == again


@pytest.mark.parametrize("by_id", [False, True])
async def test_of_an_acknowledged_lease_nothing_is_left_to_release_or_extend(
    client: httpx.AsyncClient, by_id: bool
) -> None:
    ids = await send(client, 2)
    held = await lease(client)
    body = {"message_ids": ids} if by_id else {}
    assert (await settle(client, "ack", held, **body))[0] == 201
    assert await settle(client, "release", held, **body) == (200, {"released_id": held, "results": []})
    assert await settle(client, "extend", held) == (200, {"lease_id": held, "leased_until": None})
    assert (await settle(client, "reject", held, reason="poison", **body))[0] == 409, "it is not quarantined"


async def test_a_lease_is_finished_by_its_last_message_however_that_is_acknowledged(
    client: httpx.AsyncClient,
) -> None:
    for ways in (("ack", "ack"), ("/v1/ack", "/v1/ack"), ("ack", "/v1/ack"), ("/v1/ack", "ack")):
        ids = await send(client, 2)
        held = await lease(client)
        for way, event_id in zip(ways, ids, strict=True):
            if way == "ack":
                status, answer = await settle(client, "ack", held, message_ids=[event_id])
                assert (status, answer["not_settled"]) == (201, [])
            else:
                assert (await client.post(way, json={"event_ids": [event_id]})).json()["acknowledged"] == 1
        again = (200, {"acked_id": held, "results": []})
        assert await settle(client, "ack", held) == again, ways
        assert await settle(client, "ack", held, message_ids=ids) == again, ways
    both = [await lease(client, lease_limit=2) for _ in range(2) if await send(client, 2)]
    listed = (await client.get(MESSAGES)).json()["data"]
    acked = await client.post("/v1/ack", json={"event_ids": [each["id"] for each in listed][:3]})
    assert acked.json()["acknowledged"] == 3
    assert (await settle(client, "ack", both[0]))[0] == 200
    assert (await settle(client, "ack", both[1]))[0] == 201, "one message was left"


@pytest.mark.parametrize("ways", [("ack", "ack"), ("/v1/ack", "/v1/ack"), ("ack", "/v1/ack")], ids=" ".join)
async def test_a_lease_is_finished_by_its_last_messages_although_two_requests_acknowledge_them(
    client: httpx.AsyncClient, database: Database, ways: tuple[str, str]
) -> None:
    """Neither of the two statements sees what the other one deletes."""
    ids = await send(client, 2)
    held = await lease(client)
    async with database.connection() as holding, holding.transaction():
        await holding.fetch("select from deliveries for update")
        acks = []
        for way, event_id in zip(ways, ids, strict=True):
            if way == "ack":
                work = client.post(f"{MESSAGES}/ack", json={"lease_id": held, "message_ids": [event_id]})
            else:
                work = client.post(way, json={"event_ids": [event_id]})
            acks.append(asyncio.create_task(work))

        async def both_wait() -> bool:
            row = await database.row(
                "select count(*) from pg_stat_activity"
                " where datname = current_database() and wait_event_type = 'Lock'"
            )
            return row is not None and row[0] == 2

        await eventually(both_wait)
    assert [(await ack).status_code for ack in acks] == [201 if way == "ack" else 200 for way in ways]
    assert await settle(client, "ack", held) == (200, {"acked_id": held, "results": []})


async def test_released_messages_do_not_make_a_late_acknowledgement_a_repeated_one(
    client: httpx.AsyncClient,
) -> None:
    ids = await send(client, 2)
    held = await lease(client)
    assert (await settle(client, "ack", held, message_ids=ids[:1]))[0] == 201
    assert (await settle(client, "release", held))[0] == 201
    assert (await settle(client, "ack", held))[0] == 409, "one of its messages is available"
    assert (await settle(client, "release", held))[0] == 409
    assert (await settle(client, "extend", held))[0] == 409


# ---- too late -------------------------------------------------------------------------------------


async def test_a_lease_that_has_ended_settles_nothing(client: httpx.AsyncClient, database: Database) -> None:
    ids = await send(client, 3)
    held = await lease(client)
    assert (await settle(client, "ack", held, message_ids=ids[:1]))[0] == 201
    await end_leases(database)
    bodies: dict[str, dict[str, Any]] = {"ack": {}, "release": {}, "reject": {"reason": "x"}, "extend": {}}
    stale = held
    for holder in ("nobody", "another consumer"):
        for verb, body in bodies.items():
            status, answer = await settle(client, verb, stale, **body)
            assert (status, "not_settled" in answer) == (409, False), (holder, verb)
            if verb != "extend":
                status, answer = await settle(client, verb, stale, message_ids=ids, **body)
                assert status == 409
                assert reasons_of(answer) == [
                    (ids[0], "already_acknowledged"),
                    (ids[1], "lease_over"),
                    (ids[2], "lease_over"),
                ], (holder, verb)
        held = await lease(client) if holder == "nobody" else held
    assert (await settle(client, "ack", held))[0] == 201
    assert await settle(client, "ack", stale, message_ids=ids) == (200, {"acked_id": stale, "results": []})
    assert (await settle(client, "ack", stale))[0] == 409, "not by this lease"
    assert (await settle(client, "ack", str(uuid.uuid4())))[0] == 409


async def test_acknowledged_by_id_after_the_end_of_a_lease(
    client: httpx.AsyncClient, database: Database
) -> None:
    """Another consumer may hold the other messages of the lease then, so the lease is not finished."""
    first, second = await send(client, 2)
    stale = await lease(client)
    await end_leases(database)
    await lease(client, lease_limit=1)
    assert (await client.post("/v1/ack", json={"event_ids": [second]})).json()["acknowledged"] == 1
    assert (await settle(client, "ack", stale))[0] == 409
    assert (await settle(client, "ack", stale, message_ids=[second]))[0] == 200
    status, answer = await settle(client, "ack", stale, message_ids=[first, second])
    assert (status, reasons_of(answer)) == (
        409,
        [(first, "lease_over"), (second, "already_acknowledged")],
    )


async def test_a_replayed_message_is_not_acknowledged(client: httpx.AsyncClient, database: Database) -> None:
    ids = await send(client, 1)
    held = await lease(client)
    assert (await settle(client, "ack", held, message_ids=ids))[0] == 201
    await database.fetch(
        "insert into deliveries"
        " (org_id, subscription_id, event_id, generation, due_at, accepted_at, payload_size)"
        " select org_id, subscription_id, event_id, 1, now(), now(), 1 from settled_deliveries"
    )
    status, answer = await settle(client, "ack", held, message_ids=ids)
    assert (status, reasons_of(answer)) == (409, [(ids[0], "lease_over")])
    younger = await lease(client)
    assert (await settle(client, "reject", younger, reason="poison"))[0] == 201
    status, answer = await settle(client, "ack", younger, message_ids=ids)
    assert (status, reasons_of(answer)) == (409, [(ids[0], "lease_over")]), "it is quarantined"


# ---- in part --------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["ack", "release", "reject"])
async def test_what_was_not_settled_is_named_with_the_reason(client: httpx.AsyncClient, verb: str) -> None:
    ids = await send(client, 4)
    held = await lease(client, lease_limit=3)
    ghost = str(uuid.uuid4())
    await client.post("/v1/ack", json={"event_ids": ids[:1]})
    body = {"message_ids": [ids[0], ids[1].upper(), ids[1], ids[3], ghost, "x", "x"]}
    status, answer = await settle(
        client, verb, held, **body, **({"reason": "poison"} if verb == "reject" else {})
    )
    state = {"ack": "acked", "release": "available", "reject": "quarantined"}[verb]
    assert (status, answer["results"]) == (201, [{"id": ids[1], "status": state}])
    assert reasons_of(answer) == [
        (ids[0], "already_acknowledged"),
        (ids[3], "not_in_lease"),
        (ghost, "not_in_lease"),
        ("x", "not_in_lease"),
    ]
    assert (await settle(client, "ack", held, message_ids=[]))[0] == 200
    status, answer = await settle(client, "ack", held, message_ids=[ids[3]])
    assert (status, reasons_of(answer)) == (409, [(ids[3], "not_in_lease")]), "the lease still holds another"
    assert [each["id"] for each in (await settle(client, "ack", held))[1]["results"]] == [ids[2]]


@pytest.mark.parametrize("verb", ["ack", "release", "reject", "extend"])
async def test_a_lease_id_is_a_uuid(client: httpx.AsyncClient, verb: str) -> None:
    for bad in ("x", "", 1, None, str(uuid.uuid4())[:-1]):
        body = {"lease_id": bad} | ({"reason": "x"} if verb == "reject" else {})
        answer = await client.post(f"{MESSAGES}/{verb}", json=body)
        assert answer.status_code == 422, (bad, answer.text)
        assert answer.json()["errors"][0]["pointer"] == "/lease_id"


# ---- ids that callers choose ----------------------------------------------------------------------


async def test_a_lease_id_that_is_chosen_again_is_a_new_lease(
    client: httpx.AsyncClient, database: Database
) -> None:
    chosen = str(uuid.uuid4())
    await send(client, 1)
    await lease(client, lease_id=chosen)
    assert [(await settle(client, "ack", chosen))[0] for _ in range(2)] == [201, 200]
    (await client.post(f"{MESSAGES}/lease", json={"lease_id": chosen})).raise_for_status()
    assert (await settle(client, "ack", chosen))[0] == 200, "no message was there for a new lease"
    await send(client, 1)
    await lease(client, lease_id=chosen)
    await end_leases(database)
    assert (await settle(client, "ack", chosen))[0] == 409


async def test_leases_of_two_inboxes_may_have_the_same_id(
    client: httpx.AsyncClient, database: Database
) -> None:
    await client.post("/v1/inboxes", json={"key": "other"})
    await send(client, 1)
    chosen, other = str(uuid.uuid4()), "/v1/inboxes/other/messages"
    for path in (MESSAGES, other):
        await lease(client, path, lease_id=chosen)
    assert (await settle(client, "ack", chosen))[0] == 201
    await end_leases(database)
    assert (await settle(client, "ack", chosen))[0] == 200
    assert (await settle(client, "ack", chosen, other))[0] == 409


# ---- how long a finished lease is remembered ------------------------------------------------------


async def test_finished_leases_are_forgotten_after_a_day(
    client: httpx.AsyncClient, database: Database
) -> None:
    held = []
    for age in (DAY * 1.01, DAY * 1.01, DAY * 0.99):
        await send(client, 1)
        held.append(await lease(client))
        assert (await settle(client, "ack", held[-1]))[0] == 201
        await database.fetch(
            "update finished_leases set ended_at = now() - $1::interval where lease_id = $2",
            age,
            uuid.UUID(held[-1]),
        )
    assert await settlement_store.sweep_finished(database, 1) == 1
    housekeeping = Housekeeping(
        database, Health(database), data_dir=None, min_free_mib=0, inbox_retention=7 * 86_400
    )
    duty = next(each for each in housekeeping.duties() if each.name == "finished leases sweep")
    assert await duty.work() is False
    assert [(await settle(client, "ack", each))[0] for each in held] == [409, 409, 200]


async def test_an_acknowledgement_costs_one_narrow_row(client: httpx.AsyncClient, database: Database) -> None:
    await send(client, 10)
    held = [await lease(client, lease_limit=5) for _ in range(2)]
    for lease_id in held:
        for _ in range(3):
            await settle(client, "ack", lease_id)
    rows = await database.fetch("select lease_id from finished_leases")
    assert {str(row["lease_id"]) for row in rows} == set(held)
    assert len(rows) == 2


# ---- rejecting ------------------------------------------------------------------------------------


async def test_a_rejected_message_is_quarantined_at_once(client: httpx.AsyncClient) -> None:
    ids = await send(client, 3)
    held = await lease(client)
    reason = "no such customer: é😀"
    assert await settle(client, "reject", held, message_ids=ids[:1], reason=reason) == (
        201,
        {
            "rejected_id": held,
            "results": [{"id": ids[0], "status": "quarantined"}],
            "not_settled": [],
        },
    )
    status, answer = await settle(client, "reject", held, message_ids=ids[:1], reason=reason)
    assert (status, reasons_of(answer)) == (409, [(ids[0], "not_in_lease")])
    assert len((await settle(client, "reject", held, reason="x" * 255))[1]["results"]) == 2
    assert (await settle(client, "ack", held))[0] == 409, "what is quarantined is not acknowledged"
    listed = (await client.get(MESSAGES, params={"status": "quarantined"})).json()["data"]
    assert [each["id"] for each in listed] == ids
    assert listed[0]["message_attributes"] == {
        "lease_count": 1,
        "event_type": "a",
        "error_message": reason,
        "possible_duplicate_data": False,
    }
    shown = (await client.get(f"/v1/events/{ids[0]}")).json()["deliveries"]
    assert [(each["status"], each["reason"]) for each in shown] == [("dead", reason)]
    assert (await client.get("/v1/inbox")).json()["events"] == []
    redriven = (await client.post(f"{MESSAGES}/redrive")).json()["results"]
    assert [each["id"] for each in redriven] == ids
    assert (await settle(client, "ack", await lease(client)))[0] == 201


async def test_a_rejection_has_a_reason(client: httpx.AsyncClient) -> None:
    await send(client, 1)
    held = await lease(client)
    for bad in ({}, {"reason": ""}, {"reason": "x" * 256}, {"reason": "a\u0000b"}, {"reason": None}):
        answer = await client.post(f"{MESSAGES}/reject", json={"lease_id": held, **bad})
        assert answer.status_code == 422, bad
        assert answer.json()["errors"][0]["pointer"] == "/reason"
    assert (await settle(client, "reject", held, reason="x"))[0] == 201


# ---- how long a lease is --------------------------------------------------------------------------


async def test_an_inbox_has_a_default_duration_of_its_leases(
    client: httpx.AsyncClient, database: Database
) -> None:
    async def seconds_left() -> float:
        row = await database.row("select extract(epoch from max(due_at) - now())::float from deliveries")
        assert row is not None
        return float(row[0])

    inbox = "/v1/inboxes/jobs"
    made = await client.post("/v1/inboxes", json={"key": "jobs", "default_lease_seconds": 1000})
    assert (made.status_code, made.json()["default_lease_seconds"]) == (201, 1000)
    assert (await client.get("/v1/inboxes/default")).json()["default_lease_seconds"] == 300
    same = {"key": "jobs", "default_lease_seconds": 1000}
    assert (await client.put("/v1/inboxes", json=same)).status_code == 200
    assert (await client.put("/v1/inboxes", json=same | {"default_lease_seconds": 60})).status_code == 409
    assert (await client.put("/v1/inboxes", json={"key": "default"})).status_code == 200

    await send(client, 1)
    held = await lease(client, f"{inbox}/messages")
    assert 990 < await seconds_left() <= 1000
    await settle(client, "extend", held, f"{inbox}/messages", lease_seconds=60)
    assert 50 < await seconds_left() <= 60
    await settle(client, "extend", held, f"{inbox}/messages")
    assert 990 < await seconds_left() <= 1000
    changed = await client.patch(inbox, json={"default_lease_seconds": 3600})
    assert changed.json() == made.json() | {"default_lease_seconds": 3600}
    assert (await client.patch(inbox, json={"event_types": None})).json() == changed.json()
    await settle(client, "release", held, f"{inbox}/messages")
    await lease(client, f"{inbox}/messages", wait_seconds=60)
    assert 3590 < await seconds_left() <= 3600
    for bad in (0, 3601, 1.5, "1"):
        for method, path, body in (
            ("POST", "/v1/inboxes", {"key": "k"}),
            ("PUT", "/v1/inboxes", {"key": "k"}),
            ("PATCH", inbox, {}),
        ):
            answer = await client.request(method, path, json=body | {"default_lease_seconds": bad})
            assert answer.status_code == 422, (method, bad)
            assert answer.json()["errors"][0]["pointer"] == "/default_lease_seconds"
