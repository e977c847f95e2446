"""The default inbox: look, lease, acknowledge; and what a lease is worth."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import httpx
import pytest

from harness import Node, Tenant, Tenants, eventually, is_waited_for
from triggers.domain import MAX_PAGE_BYTES
from triggers.inboxes import lease_queue, settlement_store
from triggers.postgres.database import Database
from triggers.postgres.embedded_cluster import SUPERUSER

MESSAGES = "/v1/inboxes/default/messages"


async def send(client: httpx.AsyncClient, *payloads: Any, event_type: str = "a") -> list[str]:
    """Accept events; return their ids."""
    body = [{"type": event_type, "payload": payload} for payload in payloads]
    results = (await client.post("/v1/events/batch", json=body)).json()["results"]
    assert {result["status"] for result in results} == {201}
    return [result["id"] for result in results]


async def lease(client: httpx.AsyncClient, path: str = MESSAGES, **body: Any) -> Any:
    answer = await client.post(f"{path}/lease", json=body)
    assert answer.status_code == (201 if answer.json()["results"] else 200), answer.text
    return answer.json()


def ids_of(found: Any) -> list[str]:
    return [each["id"] for each in found]


async def end_leases(database: Database) -> None:
    """Let every lease end now, by the only clock that counts."""
    await database.fetch("update deliveries set due_at = now() where status = 'leased'")


async def rows(database: Database) -> list[Any]:
    return await database.fetch("select to_jsonb(d) from deliveries d order by event_id")


async def test_looking_changes_nothing(client: httpx.AsyncClient, database: Database) -> None:
    ids = await send(client, *range(5))
    await lease(client, lease_limit=2)
    before = await rows(database)
    for parameters in ({}, {"order": "desc"}, {"status": "available"}, {"status": "leased"}, {"limit": 1}):
        first = await client.get("/v1/inbox", params=parameters)
        assert (await client.get("/v1/inbox", params=parameters)).text == first.text
    assert await rows(database) == before
    listed = (await client.get("/v1/inbox")).json()
    assert ids_of(listed["events"]) == ids
    assert [event["payload"] for event in listed["events"]] == list(range(5))
    assert [event["delivery_status"] for event in listed["events"]] == ["leased"] * 2 + ["available"] * 3
    assert [event["lease_count"] for event in listed["events"]] == [1, 1, 0, 0, 0]
    assert listed["next_cursor"] is None
    for parameters, expected in (
        ({"order": "desc"}, ids[::-1]),
        ({"status": "leased"}, ids[:2]),
        ({"status": "available"}, ids[2:]),
        ({"status": "quarantined"}, []),
        ({"status": "available", "order": "desc", "limit": 2}, ids[:2:-1]),
    ):
        assert ids_of((await client.get("/v1/inbox", params=parameters)).json()["events"]) == expected
    for bad in (
        {"limit": 0},
        {"limit": 1001},
        {"limit": "x"},
        {"status": "acked"},
        {"order": "up"},
        {"cursor": "!"},
    ):
        answer = await client.get("/v1/inbox", params=bad)
        assert (answer.status_code, answer.json()["type"]) == (422, "/problems/invalid"), bad
        assert [error["pointer"] for error in answer.json()["errors"]] == list(bad)


async def test_acknowledging_is_idempotent_and_says_what_it_did(
    client: httpx.AsyncClient, database: Database
) -> None:
    first, second, third = await send(client, 1, 2, 3)
    ghost = str(uuid.uuid4())
    answer = await client.post("/v1/ack", json={"event_ids": [second, ghost, "no id", first]})
    assert answer.status_code == 200
    assert answer.json() == {
        "acknowledged": 2,
        "already_acknowledged": 0,
        "failed": 2,
        "results": [
            {"id": second, "status": "acknowledged"},
            {"id": ghost, "status": "failed"},
            {"id": "no id", "status": "failed"},
            {"id": first, "status": "acknowledged"},
        ],
    }
    again = (await client.post("/v1/inbox/ack", json={"event_ids": [first, third, second]})).json()
    assert [result["status"] for result in again["results"]] == [
        "already_acknowledged",
        "acknowledged",
        "already_acknowledged",
    ]
    assert (await client.get("/v1/inbox")).json()["events"] == []
    settled = await database.fetch("select status, reason from settled_deliveries")
    assert [tuple(row) for row in settled] == [("acknowledged", None)] * 3
    shown = (await client.get(f"/v1/events/{first}")).json()["deliveries"]
    assert [(delivery["status"], delivery["due_at"]) for delivery in shown] == [("acknowledged", None)]
    for bad in (
        {},
        {"event_ids": "x"},
        {"event_ids": [1]},
        {"event_ids": ["x"] * 1001},
        {"event_ids": [], "a": 1},
    ):
        assert (await client.post("/v1/ack", json=bad)).status_code == 422, bad
    assert (await client.post("/v1/ack", content=b"{")).status_code == 400
    assert (await client.post("/v1/ack", json={"event_ids": []})).json()["results"] == []


async def test_acknowledged_by_a_hundred_at_once(node: Node, client: httpx.AsyncClient) -> None:
    (event_id,) = await send(client, 1)
    answers = await asyncio.gather(
        *[client.post("/v1/ack", json={"event_ids": [event_id]}) for _ in range(100)]
    )
    statuses = [answer.json()["results"][0]["status"] for answer in answers]
    assert sorted(statuses) == ["acknowledged"] + ["already_acknowledged"] * 99


async def test_acknowledging_settles_leased_messages_too(client: httpx.AsyncClient) -> None:
    first, second = await send(client, 1, 2)
    held = await lease(client)
    assert (await client.post("/v1/ack", json={"event_ids": [first]})).json()["acknowledged"] == 1
    late = await client.post(f"{MESSAGES}/ack", json={"lease_id": held["lease_id"], "message_ids": [first]})
    assert (late.status_code, late.json()) == (200, {"acked_id": held["lease_id"], "results": []})
    rest = await client.post(f"{MESSAGES}/ack", json={"lease_id": held["lease_id"]})
    assert (rest.status_code, ids_of(rest.json()["results"])) == (201, [second])


async def test_a_lease_in_full(client: httpx.AsyncClient, database: Database) -> None:
    ids = await send(client, *range(12), event_type="order.paid")
    held = await lease(client)
    assert set(held) == {"lease_id", "leased_until", "results", "inbox_attributes"}
    assert held["inbox_attributes"] == {"status": "active", "paused_reason": None}
    assert ids_of(held["results"]) == ids[:10], "oldest first, ten unless asked otherwise"
    assert held["results"][3] == {
        "id": ids[3],
        "created_at": held["results"][3]["created_at"],
        "status": "leased",
        "payload": 3,
        "message_attributes": {
            "lease_count": 1,
            "event_type": "order.paid",
            "error_message": None,
            "possible_duplicate_data": False,
        },
    }
    row = await database.row("select now(), max(due_at) from deliveries where status = 'leased'")
    assert row is not None
    assert 290 < (row[1] - row[0]).total_seconds() <= 300
    assert abs((datetime.fromisoformat(held["leased_until"]) - row[1]).total_seconds()) < 0.002
    assert ids_of((await lease(client))["results"]) == ids[10:]
    empty = await client.post(f"{MESSAGES}/lease")
    assert empty.status_code == 200
    assert empty.json() == {
        "lease_id": None,
        "leased_until": None,
        "results": [],
        "inbox_attributes": {"status": "active", "paused_reason": None},
    }
    listed = (await client.get(MESSAGES)).json()["data"]
    assert ids_of(listed) == ids
    assert all(
        set(m) == {"id", "created_at", "status", "message_attributes", "lease_id", "leased_until", "consumer"}
        for m in listed
    )
    for bad in (
        {"lease_seconds": 0},
        {"lease_seconds": 3601},
        {"lease_limit": 0},
        {"lease_limit": 1001},
        {"wait_seconds": 61},
        {"wait_seconds": -1},
        {"lease_id": "x"},
        {"surprise": 1},
    ):
        answer = await client.post(f"{MESSAGES}/lease", json=bad)
        assert answer.status_code == 422, bad
        assert answer.json()["errors"][0]["pointer"] == f"/{next(iter(bad))}", answer.text


async def test_a_lease_ends_by_the_databases_clock(client: httpx.AsyncClient, database: Database) -> None:
    ids = await send(client, 1, 2)
    held = await lease(client)
    await end_leases(database)
    listed = (await client.get("/v1/inbox")).json()["events"]
    assert [event["delivery_status"] for event in listed] == ["available"] * 2
    stale = {"lease_id": held["lease_id"]}
    for verb in ("ack", "release", "extend"):
        answer = await client.post(f"{MESSAGES}/{verb}", json=stale)
        assert (answer.status_code, answer.json()["type"]) == (409, "/problems/lease-over")
    again = await lease(client)
    assert again["lease_id"] != held["lease_id"]
    assert ids_of(again["results"]) == ids
    attributes = again["results"][0]["message_attributes"]
    assert (attributes["lease_count"], attributes["possible_duplicate_data"]) == (2, True)
    for verb in ("ack", "release", "extend"):
        assert (await client.post(f"{MESSAGES}/{verb}", json=stale)).status_code == 409
    assert len(await rows(database)) == 2
    assert (await client.post(f"{MESSAGES}/ack", json={"lease_id": again["lease_id"]})).status_code == 201


async def test_two_hundred_consumers_and_no_message_twice(
    node: Node, client: httpx.AsyncClient, database: Database
) -> None:
    sent = await send(client, *range(1000))
    async with asyncio.TaskGroup() as group:
        leases = [group.create_task(lease(client, lease_limit=1 + n % 10)) for n in range(200)]
    taken = [message["id"] for task in leases for message in task.result()["results"]]
    assert len(taken) == len(set(taken))
    while rest := (await lease(client, lease_limit=100))["results"]:
        taken += ids_of(rest)
    assert sorted(taken) == sorted(sent)
    one = next(task.result() for task in leases if len(task.result()["results"]) > 1)
    other = next(t.result() for t in leases if t.result()["results"] and t.result() is not one)
    foreign = {"lease_id": one["lease_id"], "message_ids": ids_of(other["results"])}
    assert (await client.post(f"{MESSAGES}/ack", json=foreign)).status_code == 409
    acked = await asyncio.gather(
        *[
            client.post(f"{MESSAGES}/ack", json={"lease_id": task.result()["lease_id"]})
            for task in leases
            if task.result()["results"]
        ]
    )
    settled = [message["id"] for answer in acked for message in answer.json()["results"]]
    assert len(settled) == len(set(settled))


async def test_a_lease_may_be_asked_for_again(client: httpx.AsyncClient) -> None:
    ids = await send(client, *range(6))
    chosen = str(uuid.uuid4())
    answers = await asyncio.gather(*[lease(client, lease_id=chosen, lease_limit=4) for _ in range(10)])
    assert all(answer == answers[0] for answer in answers)
    assert (answers[0]["lease_id"], ids_of(answers[0]["results"])) == (chosen, ids[:4])
    await client.post(f"{MESSAGES}/ack", json={"lease_id": chosen, "message_ids": ids[:3]})
    assert ids_of((await lease(client, lease_id=chosen))["results"]) == [ids[3]]
    assert (await lease(client, lease_id=chosen.upper()))["lease_id"] == chosen


async def test_a_lease_lasts_as_long_as_it_is_extended(client: httpx.AsyncClient, database: Database) -> None:
    await send(client, 1, 2)
    held = await lease(client, lease_seconds=10)
    body = {"lease_id": held["lease_id"], "lease_seconds": 1000}
    answer = await client.post(f"{MESSAGES}/extend", json=body)
    assert answer.status_code == 201
    assert answer.json()["lease_id"] == held["lease_id"]
    moved = datetime.fromisoformat(answer.json()["leased_until"]) - datetime.fromisoformat(
        held["leased_until"]
    )
    assert 980 < moved.total_seconds() < 1000
    assert (
        len(await database.fetch("select from deliveries where due_at > now() + interval '990 seconds'")) == 2
    )


async def test_what_is_released_is_there_again(client: httpx.AsyncClient, database: Database) -> None:
    ids = await send(client, *range(4))
    held = await lease(client)
    some = {"lease_id": held["lease_id"], "message_ids": [ids[1], str(uuid.uuid4()), "x"]}
    answer = await client.post(f"{MESSAGES}/release", json=some)
    assert answer.status_code == 201
    assert answer.json() == {
        "released_id": held["lease_id"],
        "results": [{"id": ids[1], "status": "available"}],
        "not_settled": [
            {"id": some["message_ids"][1], "reason": "not_in_lease"},
            {"id": "x", "reason": "not_in_lease"},
        ],
    }
    again = await lease(client)
    assert ids_of(again["results"]) == [ids[1]]
    assert again["results"][0]["message_attributes"]["lease_count"] == 2, "a release refunds nothing"
    later = {"lease_id": held["lease_id"], "delay_seconds": 3600}
    assert len((await client.post(f"{MESSAGES}/release", json=later)).json()["results"]) == 3
    assert (await lease(client))["results"] == []
    row = await database.row("select count(*) from deliveries where due_at > now() + interval '3590 seconds'")
    assert row is not None
    assert row[0] == 3
    for bad in ({"delay_seconds": -1}, {"delay_seconds": 86_401}, {"message_ids": ["x"] * 1001}):
        assert (await client.post(f"{MESSAGES}/release", json=some | bad)).status_code == 422, bad


async def test_pages_and_leases_end_at_eight_mebibytes(client: httpx.AsyncClient, database: Database) -> None:
    size = 200_000
    fit = MAX_PAGE_BYTES // (size + 2)
    ids: list[str] = []
    for _ in range(3):
        ids += await send(client, *["x" * size] * 20)
    for path in ("/v1/inbox", MESSAGES):
        name = "events" if path == "/v1/inbox" else "data"
        found: list[str] = []
        cursor = None
        while True:
            page = (
                await client.get(path, params={"limit": 1000} | ({"cursor": cursor} if cursor else {}))
            ).json()
            assert 1 <= len(page[name]) <= fit
            found += ids_of(page[name])
            if (cursor := page["next_cursor"]) is None:
                break
        assert found == ids
    held = await lease(client, lease_limit=1000)
    assert len(held["results"]) == fit
    assert len((await lease(client, lease_limit=1000))["results"]) == 60 - fit
    await database.fetch("update subscriptions set max_leases = 1")
    await end_leases(database)
    assert (await lease(client, lease_limit=1000))["results"] == []
    quarantined = await client.get("/v1/inbox", params={"status": "quarantined", "limit": 1000})
    assert len(quarantined.content) < MAX_PAGE_BYTES * 1.01
    assert quarantined.json()["next_cursor"] is not None


async def test_pages_joined_are_the_list(client: httpx.AsyncClient, database: Database) -> None:
    ids = await send(client, *range(23))
    await lease(client, lease_limit=9)
    for path, name in (("/v1/inbox", "events"), (MESSAGES, "data"), ("/v1/events", "events")):
        for extra in ({}, {"order": "desc"}, {"status": "leased"}, {"status": "available"}, {"type": "a"}):
            if (path == MESSAGES and "order" in extra) or ("status" in extra) == (path == "/v1/events"):
                continue
            whole = ids_of((await client.get(path, params=extra)).json()[name])
            for limit in (1, 4, 23, 24):
                joined: list[str] = []
                cursor = None
                while True:
                    parameters = extra | {"limit": limit} | ({"cursor": cursor} if cursor else {})
                    page = (await client.get(path, params=parameters)).json()
                    assert len(page[name]) <= limit
                    joined += ids_of(page[name])
                    if (cursor := page["next_cursor"]) is None:
                        break
                assert joined == whole, (path, extra, limit)
            assert len(whole) in (9, 14, 23)
    assert ids_of((await client.get("/v1/events")).json()["events"]) == ids[::-1]


# ---- long polls -----------------------------------------------------------------------------------


async def waiting(node: Node, number: int = 1) -> None:
    """Until so many long polls wait for a hint."""
    await eventually(lambda: sum(map(len, node.wakeup._waiters.values())) == number)


async def test_a_long_poll_wakes_with_the_event(
    node: Node, client: httpx.AsyncClient, monkeypatch: Any
) -> None:
    monkeypatch.setattr(lease_queue, "POLL_SECONDS", 60)  # nothing but the hint can wake it
    loop = asyncio.get_running_loop()
    delays = []
    for number in range(5):
        polling = asyncio.create_task(lease(client, wait_seconds=20))
        await waiting(node)
        ids = await send(client, number)
        accepted = loop.time()
        held = await polling
        delays.append(loop.time() - accepted)
        assert ids_of(held["results"]) == ids
        await waiting(node, 0)
    assert sorted(delays)[2] < 0.1


async def test_a_long_poll_waits_no_longer_than_asked(client: httpx.AsyncClient) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert (await lease(client, wait_seconds=0.3))["results"] == []
    assert 0.3 <= loop.time() - began < 3


async def test_no_wake_up_is_lost_between_looking_and_listening(
    node: Node, client: httpx.AsyncClient, monkeypatch: Any
) -> None:
    """An accept that commits after the first look, before the poll listens, is found at once."""
    monkeypatch.setattr(lease_queue, "POLL_SECONDS", 60)
    looked = 0
    look: Callable[..., Any] = lease_queue.LeaseQueue._claim

    async def look_then_accept(*values: Any) -> Any:
        nonlocal looked
        found = await look(*values)
        looked += 1
        if looked == 1:
            await send(client, 1)
        return found

    monkeypatch.setattr(lease_queue.LeaseQueue, "_claim", look_then_accept)
    async with asyncio.timeout(10):
        assert len((await lease(client, wait_seconds=20))["results"]) == 1
    assert looked == 2


async def test_one_event_wakes_one_of_many(node: Node, client: httpx.AsyncClient) -> None:
    polls = [asyncio.create_task(lease(client, wait_seconds=20, lease_limit=1)) for _ in range(10)]
    await waiting(node, lease_queue.AT_ONCE)
    ids = await send(client, *range(10))
    held = [ids_of((await poll)["results"]) for poll in polls]
    assert sorted(each for found in held for each in found) == sorted(ids)
    assert {len(found) for found in held} == {1}


async def test_a_client_that_leaves_a_long_poll_takes_nothing_with_it(
    node: Node, client: httpx.AsyncClient, database: Database
) -> None:
    polls = [asyncio.create_task(lease(client, wait_seconds=20)) for _ in range(5)]
    await waiting(node, lease_queue.AT_ONCE)
    for poll in polls:
        poll.cancel()
    await asyncio.gather(*polls, return_exceptions=True)
    ids = await send(client, 1)
    await waiting(node, 0)
    row = await database.row("select count(*) from deliveries where status = 'leased'")
    assert row is not None
    assert row[0] == 0
    assert ids_of((await lease(client))["results"]) == ids


async def asks_raw(
    node: Node, tenant: Tenant, **body: Any
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection that has sent a lease request. The caller can half-close it."""
    text = json.dumps(body)
    reader, writer = await asyncio.open_connection(*node.url.removeprefix("http://").split(":"))
    head = f"POST {MESSAGES}/lease HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {tenant.key}\r\n"
    writer.write(f"{head}content-length: {len(text)}\r\n\r\n{text}".encode())
    return reader, writer


async def told(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Any:
    """The status and the body of the last answer on a connection."""
    head, _, body = (await asyncio.wait_for(reader.read(), 10)).partition(b"\r\n\r\n")
    writer.close()
    return int(head.split()[1]), json.loads(body)


async def lease_counts(client: httpx.AsyncClient) -> list[tuple[str, int]]:
    """The status and the lease count of each message."""
    found = (await client.get("/v1/inbox")).json()["events"]
    return [(each["delivery_status"], each["lease_count"]) for each in found]


async def test_the_end_of_what_a_caller_sends_ends_its_long_poll(
    node: Node, tenant: Tenant, client: httpx.AsyncClient, monkeypatch: Any
) -> None:
    monkeypatch.setattr(lease_queue, "POLL_SECONDS", 60)
    polls = [await asks_raw(node, tenant, wait_seconds=20) for _ in range(lease_queue.AT_ONCE + 2)]
    await waiting(node, lease_queue.AT_ONCE)  # the others wait in line
    for _, writer in reversed(polls):
        writer.write_eof()
    for poll in polls:
        status, body = await told(*poll)
        assert (status, body["lease_id"], body["results"]) == (200, None, [])
    await waiting(node, 0)
    ids = await send(client, 1)
    assert await lease_counts(client) == [("available", 0)]
    assert ids_of((await lease(client))["results"]) == ids


async def test_a_long_poll_whose_caller_sends_nothing_more_leases_nothing(
    node: Node, tenant: Tenant, client: httpx.AsyncClient
) -> None:
    """Nothing is leased even if there are messages, because the caller has probably left."""
    await send(client, 1)
    reader, writer = await asks_raw(node, tenant, wait_seconds=20)
    writer.write_eof()
    status, body = await told(reader, writer)
    assert (status, body["results"]) == (200, [])
    assert [status for status, _ in await lease_counts(client)] == ["available"]


@asynccontextmanager
async def claims_held_up(database: Database, lease_id: uuid.UUID) -> AsyncIterator[Callable[[int], Any]]:
    """Hold up claims for this lease until the end. Gives a function that waits for so many of them."""
    async with database.connection() as connection, connection.transaction():
        key = (lease_id.int >> 64) - (1 << 63)
        await connection.execute("select pg_advisory_xact_lock($1)", key)

        async def claims() -> Any:
            row = await database.row(
                "select count(*) from pg_locks where locktype='advisory' and not granted"
            )
            return row and row[0]

        async def under_way(number: int) -> None:
            async def so_many() -> bool:
                return bool(await claims() == number)

            await eventually(so_many)

        yield under_way


async def half_close(node: Node, writer: asyncio.StreamWriter) -> None:
    """Send nothing more on a connection, and wait until the node knows it."""
    ours = writer.get_extra_info("sockname")
    connections: list[Any] = list(node.server.server_state.connections)
    (served,) = [each for each in connections if each.transport.get_extra_info("peername") == ours]
    writer.write_eof()
    await eventually(lambda: served.is_half_closed)


async def test_a_claim_under_way_is_undone_if_the_caller_sends_nothing_more(
    node: Node, tenant: Tenant, client: httpx.AsyncClient, database: Database
) -> None:
    await send(client, 1)
    lease_id = uuid.uuid4()
    async with claims_held_up(database, lease_id) as under_way:
        reader, writer = await asks_raw(node, tenant, wait_seconds=20, lease_id=str(lease_id))
        await under_way(1)
        await half_close(node, writer)
    status, body = await told(reader, writer)
    assert (status, body["results"]) == (200, [])
    assert await lease_counts(client) == [("available", 0)]


async def test_a_claim_under_way_whose_lease_nobody_else_can_know_is_released(
    node: Node, tenant: Tenant, client: httpx.AsyncClient, database: Database
) -> None:
    """The caller chose no id for the lease, so the claim is committed before it is released."""
    await send(client, 1)
    async with database.connection() as holding, holding.transaction():
        await holding.execute("lock table deliveries in access exclusive mode")
        reader, writer = await asks_raw(node, tenant, wait_seconds=20)
        await eventually(lambda: is_waited_for(holding))
        await half_close(node, writer)
    status, body = await told(reader, writer)
    assert (status, body["results"]) == (200, [])
    assert await lease_counts(client) == [("available", 0)], (
        "nobody has seen the message, so it does not count"
    )
    (message,) = (await client.get("/v1/inboxes/default/messages")).json()["data"]
    assert message["message_attributes"]["possible_duplicate_data"], "it was leased, and released"


async def test_the_end_of_what_a_caller_sends_does_not_end_a_lease_that_it_has(
    node: Node, tenant: Tenant, client: httpx.AsyncClient, database: Database
) -> None:
    """The first request was answered with the lease. The second one only repeats it."""
    await send(client, 1)
    lease_id = uuid.uuid4()
    first = await lease(client, lease_id=str(lease_id))
    async with claims_held_up(database, lease_id) as under_way:
        reader, writer = await asks_raw(node, tenant, wait_seconds=20, lease_id=str(lease_id))
        await under_way(1)
        await half_close(node, writer)
    status, body = await told(reader, writer)
    assert (status, body["results"]) == (201, first["results"])
    assert await lease_counts(client) == [("leased", 1)]


async def test_the_end_of_what_a_caller_sends_does_not_end_a_lease_that_a_repetition_was_answered_with(
    node: Node, tenant: Tenant, client: httpx.AsyncClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await send(client, 1)
    lease_id = uuid.uuid4()
    async with claims_held_up(database, lease_id) as under_way:
        reader, writer = await asks_raw(node, tenant, wait_seconds=20, lease_id=str(lease_id))
        await under_way(1)
        repeated = asyncio.create_task(lease(client, lease_id=str(lease_id)))
        await under_way(2)
        await half_close(node, writer)
        release = settlement_store.release

        async def release_after_the_answer(*values: Any) -> Any:
            await asyncio.wait({repeated})
            return await release(*values)

        monkeypatch.setattr(settlement_store, "release", release_after_the_answer)
    assert len((await repeated)["results"]) == 1
    status, body = await told(reader, writer)
    assert (status, body["results"]) == (200, [])
    assert await lease_counts(client) == [("leased", 1)], "the repetition has the lease"


async def test_a_lease_without_a_wait_is_given_to_a_caller_that_sends_nothing_more(
    node: Node, tenant: Tenant, client: httpx.AsyncClient
) -> None:
    ids = await send(client, 1, 2)
    for body, expected in (({"lease_limit": 1}, ids[:1]), ({"wait_seconds": 0}, ids[1:])):
        reader, writer = await asks_raw(node, tenant, **body)
        writer.write_eof()
        status, answer = await told(reader, writer)
        assert (status, ids_of(answer["results"])) == (201, expected)
    assert await lease_counts(client) == [("leased", 1)] * 2


async def test_long_polls_end_when_the_node_stops(
    make_node: Callable[..., Any], tenants: Tenants, tenant: Tenant
) -> None:
    node: Node = await make_node()
    async with node.client(tenant) as client:
        polling = asyncio.create_task(client.post(f"{MESSAGES}/lease", json={"wait_seconds": 20}))
        await waiting(node)
        node.health.stopping = True
        async with asyncio.timeout(5):
            assert (await polling).status_code == 200


async def test_an_id_that_is_named_twice_is_acknowledged_once(client: httpx.AsyncClient) -> None:
    event_id = (await client.post("/v1/events", json={"type": "a", "payload": 1})).json()["id"]
    answer = (await client.post("/v1/ack", json={"event_ids": [event_id, event_id.upper()]})).json()
    assert (answer["acknowledged"], answer["already_acknowledged"]) == (1, 1)
    assert [result["status"] for result in answer["results"]] == ["acknowledged", "already_acknowledged"]


async def test_who_gives_way_in_a_deadlock_is_served_all_the_same(
    client: httpx.AsyncClient, database: Database, postgres: Any
) -> None:
    first, second = await send(client, 1, 2)
    await postgres.run("grant set on parameter deadlock_timeout to triggers", user=SUPERUSER)

    async def waits_for_a_lock() -> bool:
        row = await database.row(
            "select exists (select from pg_stat_activity"
            " where wait_event_type = 'Lock' and datname = current_database())"
        )
        return row is not None and row[0]

    touch = "update deliveries set due_at = due_at where event_id = $1"
    async with database.connection() as other, other.transaction():
        await other.execute("set local deadlock_timeout = '1min'")  # so that this one does not give way
        await other.execute(touch, uuid.UUID(second))
        acking = asyncio.create_task(client.post("/v1/ack", json={"event_ids": [first, second]}))
        await eventually(waits_for_a_lock)
        await other.execute(touch, uuid.UUID(first))
    answer = await acking
    assert (answer.status_code, answer.json()["acknowledged"]) == (200, 2), answer.text
