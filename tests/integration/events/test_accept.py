"""`POST /v1/events`, to the letter, on a real PostgreSQL."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import re
import zlib
from collections.abc import Callable
from typing import Any
from uuid import UUID

import httpx
import pytest

from harness import Node, Tenant, Tenants, eventually
from triggers.domain import MAX_EVENT_BYTES, Plan, Scope
from triggers.postgres.database import Database

JSON = {"content-type": "application/json"}

# What must come back as it was sent: spaces, digits, escapes, order, repeated values, odd characters.
PAYLOADS = [
    b"null",
    b"0",
    b"-0.0",
    b"1e400",
    b"123456789012345678901234567890",
    b"0.10000000000000000555",
    b"1.230e-5",
    b'"\\u0000\\u0041\\/"',
    '"\ufffe\U0001ffff \u2028"'.encode(),
    b"[ ]",
    b'{"z":1,  "a"\t:[1 ,2],\r\n "\\u00e9":"\xc3\xa9", "":{ }}',
    b'{"a":"' + b"x" * 100_000 + b'"}',
    b"9" * 5_000,
    b"[" * 100 + b"]" * 100,
]


def envelope(payload: bytes, event_type: str = "order.paid") -> bytes:
    return b'{"type":"%b","payload":%b}' % (event_type.encode(), payload)


async def count(database: Database, table: str) -> int:
    row = await database.row(f"select count(*) from {table}")
    assert row is not None
    found: int = row[0]
    return found


async def test_an_accepted_event_is_stored_owed_and_named(
    client: httpx.AsyncClient, tenant: Tenant, database: Database
) -> None:
    sent = {
        "type": "order.paid",
        "payload": {"n": 1},
        "dedup_id": "d1",
        "source": "shop",
        "subject": "42",
        "ordering_key": "42",
        "occurred_at": "2024-02-29T23:59:59.999+02:00",
    }
    answer = await client.post("/v1/events", json=sent)
    assert answer.status_code == 201
    body = answer.json()
    assert answer.headers["location"] == f"/v1/events/{body['id']}"
    assert answer.headers["content-type"] == "application/json"
    assert UUID(body["id"]).version == 7
    assert body == {
        "id": body["id"],
        "type": "order.paid",
        "dedup_id": "d1",
        "status": "accepted",
        "duplicate": False,
        "created_at": body["created_at"],
    }
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", body["created_at"])
    shown = (await client.get(answer.headers["location"])).json()
    assert {
        name: shown[name] for name in ("type", "payload", "dedup_id", "source", "subject", "ordering_key")
    } == {name: sent[name] for name in ("type", "payload", "dedup_id", "source", "subject", "ordering_key")}
    assert shown["occurred_at"] == "2024-02-29T21:59:59.999Z"
    assert shown["created_at"] == body["created_at"]
    assert [(d["key"], d["status"], d["generation"]) for d in shown["deliveries"]] == [
        ("default", "pending", 0)
    ]
    row = await database.row("select org_id, accepted_at, due_at <= now() as due from deliveries")
    assert row is not None
    assert row["org_id"] == tenant.id
    assert row["due"]


@pytest.mark.parametrize("path", ["/v1/events", "/events"])
async def test_bytes_come_back_as_they_were_sent(client: httpx.AsyncClient, path: str) -> None:
    ids = []
    for payload in PAYLOADS:
        answer = await client.post(path, content=envelope(payload), headers=JSON)
        assert answer.status_code == 201, answer.text
        ids.append(answer.json()["id"])
    for event_id, payload in zip(ids, PAYLOADS, strict=True):
        alone = await client.get(f"/v1/events/{event_id}/payload")
        assert alone.content == payload
        assert alone.headers["content-type"].startswith("application/json")
        assert b'"payload":%b,' % payload in (await client.get(f"/v1/events/{event_id}")).content
    listed = (await client.get("/v1/inbox")).content
    leased = await client.post("/v1/inboxes/default/messages/lease", json={"lease_limit": 1000})
    assert leased.status_code == 201
    for payload in PAYLOADS:
        assert b'"payload":%b,' % payload in listed
        assert b'"payload":%b}' % payload in leased.content


async def test_the_same_dedup_id_is_one_event(client: httpx.AsyncClient, database: Database) -> None:
    async def post(event_type: str, payload: bytes, dedup_id: str = "d") -> httpx.Response:
        body = b'{"type":"%b","payload":%b,"dedup_id":"%b"}' % (
            event_type.encode(),
            payload,
            dedup_id.encode(),
        )
        return await client.post("/v1/events", content=body, headers=JSON)

    first = await post("a", b'{"n":1}')
    again = await post("a", b'{"n":1}')
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json() | {"duplicate": True}
    assert again.headers["location"] == first.headers["location"]
    for other in (await post("b", b'{"n":1}'), await post("a", b'{"n": 1}'), await post("a", b'{"n":1.0}')):
        assert other.status_code == 409
        assert other.json()["original_id"] == first.json()["id"]
        assert other.json()["type"] == "/problems/dedup-conflict"
    assert (await post("a", b'{"n":1}', "D")).status_code == 201
    assert await count(database, "events") == await count(database, "deliveries") == 2

    await database.fetch("update dedup set expires_at = now() where dedup_id = 'd'")
    fresh = await post("b", b"2")
    assert fresh.status_code == 201, "an expired dedup_id names nothing"
    assert fresh.json()["id"] != first.json()["id"]
    assert (await post("a", b'{"n":1}')).json()["original_id"] == fresh.json()["id"]


async def test_the_window_is_the_setting(
    make_node: Callable[..., Any], tenant: Tenant, database: Database
) -> None:
    node: Node = await make_node(dedup_window=90.0)
    async with node.client(tenant) as client:
        await client.post("/v1/events", json={"type": "a", "payload": 1, "dedup_id": "d"})
    row = await database.row("select expires_at - now() as left from dedup")
    assert row is not None
    assert 80 < row["left"].total_seconds() <= 90


@pytest.mark.parametrize("same", [True, False])
async def test_two_hundred_at_once_with_one_dedup_id(
    node: Node, tenants: Tenants, database: Database, same: bool
) -> None:
    mine, theirs = await tenants.make(), await tenants.make()
    async with node.client(mine) as client, node.client(theirs) as other_client:

        async def post(number: int) -> httpx.Response:
            body = {"type": "a", "payload": 0 if same else number, "dedup_id": "d"}
            return await client.post("/v1/events", json=body)

        answers = await asyncio.gather(*[post(number) for number in range(200)])
        other = await other_client.post("/v1/events", json={"type": "b", "payload": "x", "dedup_id": "d"})
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses == ([200] * 199 + [201] if same else [201] + [409] * 199)
    winner = next(answer.json()["id"] for answer in answers if answer.status_code == 201)
    named = {answer.json().get("original_id") or answer.json()["id"] for answer in answers}
    assert named == {winner}
    assert other.status_code == 201
    assert await count(database, "events") == await count(database, "deliveries") == 2


def _deep(levels: int) -> bytes:
    return envelope(b"[" * (levels - 1) + b"]" * (levels - 1))


# body, headers, status, slug
REFUSED: list[tuple[bytes, dict[str, str], int, str]] = [
    (b"", {}, 400, "malformed-body"),
    (b"{", {}, 400, "malformed-body"),
    (envelope(b"NaN"), {}, 400, "malformed-body"),
    (envelope(b"Infinity"), {}, 400, "malformed-body"),
    (envelope(b'{"a":1,"a":2}'), {}, 400, "malformed-body"),
    (envelope(b'{"a":1,"\\u0061":2}'), {}, 400, "malformed-body"),
    (b'{"type":"a","payload":1,"type":"b"}', {}, 400, "malformed-body"),
    (envelope(b'"\\ud800"'), {}, 400, "malformed-body"),
    (envelope(b'"\xff"'), {}, 400, "malformed-body"),
    (envelope(b'"\xed\xa0\x80"'), {}, 400, "malformed-body"),
    (b"\xef\xbb\xbf" + envelope(b"1"), {}, 400, "malformed-body"),
    (envelope(b"1").decode().encode("utf-16"), {}, 400, "malformed-body"),
    (_deep(129), {}, 400, "malformed-body"),
    (_deep(100_000), {}, 400, "malformed-body"),
    (envelope(b"1") + b" x", {}, 400, "malformed-body"),
    (envelope(b"'1'"), {}, 400, "malformed-body"),
    (b"1", {}, 422, "invalid"),
    (b"[]", {}, 422, "invalid"),
    (b"{}", {}, 422, "invalid"),
    (b'{"type":"a"}', {}, 422, "invalid"),
    (b'{"type":"a","payload":1,"surprise":1}', {}, 422, "invalid"),
    (envelope(b'"' + b"x" * MAX_EVENT_BYTES + b'"'), {}, 413, "too-large"),
    (envelope(b"1"), {"content-type": "text/plain"}, 415, "unsupported-media-type"),
    (envelope(b"1"), {"content-type": "application/x-ndjson"}, 415, "unsupported-media-type"),
    (envelope(b"1"), {"content-type": "application/x-www-form-urlencoded"}, 415, "unsupported-media-type"),
    (envelope(b"1"), {"content-encoding": "br"}, 415, "unsupported-media-type"),
    (zlib.compress(envelope(b"1")), {"content-encoding": "deflate"}, 415, "unsupported-media-type"),
    (envelope(b"1"), {"content-encoding": "gzip"}, 415, "unsupported-media-type"),
    (
        gzip.compress(gzip.compress(envelope(b"1"))),
        {"content-encoding": "gzip, gzip"},
        415,
        "unsupported-media-type",
    ),
    (gzip.compress(envelope(b"1"))[:-3], {"content-encoding": "gzip"}, 415, "unsupported-media-type"),
    (gzip.compress(b" " * 50_000_000), {"content-encoding": "gzip"}, 413, "too-large"),
    (envelope(b"1"), {"authorization": ""}, 401, "unauthenticated"),
    (envelope(b"1"), {"authorization": "Bearer zap_test_nobody"}, 401, "unauthenticated"),
    (envelope(b"1"), {"authorization": "Basic dXNlcjpwYXNz"}, 401, "unauthenticated"),
]


async def test_what_is_refused(client: httpx.AsyncClient, database: Database) -> None:
    for content, headers, status, slug in REFUSED:
        answer = await client.post("/v1/events", content=content, headers=JSON | headers)
        case = (content[:60], headers, answer.text)
        assert answer.status_code == status, case
        problem = answer.json()
        assert answer.headers["content-type"] == "application/problem+json"
        assert problem["type"] == f"/problems/{slug}", case
        assert problem["status"] == status
        assert problem["request_id"] == answer.headers["x-request-id"]
        assert set(problem) >= {"type", "title", "status", "detail"}
        assert ("errors" in problem) == (status == 422), case
        assert ("www-authenticate" in answer.headers) == (status == 401), case
    assert await count(database, "events") == 0
    assert (await client.post("/v1/events", json={"type": "a", "payload": 1})).status_code == 201


async def test_a_key_without_the_scope_is_refused(node: Node, tenants: Tenants) -> None:
    reader = await tenants.make(scopes=[Scope.EVENTS_READ])
    async with node.client(reader) as client:
        for path in ("/v1/events", "/events", "/v1/events/batch"):
            answer = await client.post(path, json={"type": "a", "payload": 1})
            assert (answer.status_code, answer.json()["scope"]) == (403, "events:write")


async def test_the_largest_event_that_fits(client: httpx.AsyncClient) -> None:
    frame = len(envelope(b'""'))
    fits = envelope(b'"%b"' % (b"x" * (MAX_EVENT_BYTES - frame)))
    assert len(fits) == MAX_EVENT_BYTES
    assert (await client.post("/v1/events", content=fits, headers=JSON)).status_code == 201
    assert (await client.post("/v1/events", content=fits + b" ", headers=JSON)).status_code == 413
    zipped = JSON | {"content-encoding": "gzip"}
    assert (await client.post("/v1/events", content=gzip.compress(fits), headers=zipped)).status_code == 201
    assert (
        await client.post("/v1/events", content=gzip.compress(fits + b" "), headers=zipped)
    ).status_code == 413


async def test_names_without_a_version_answer_the_same(node: Node, tenants: Tenants) -> None:
    def shape(answer: httpx.Response) -> Any:
        body = answer.json()
        return (
            answer.status_code,
            sorted(body) if isinstance(body, dict) else body,
            answer.headers.get("allow"),
        )

    outcomes = []
    for prefix in ("/v1", ""):
        tenant = await tenants.make()
        async with node.client(tenant) as client:
            posted = await client.post(f"{prefix}/events", json={"type": "a", "payload": 1, "dedup_id": "d"})
            ids = {"event_ids": [posted.json()["id"]]}
            outcomes.append(
                [
                    shape(answer)
                    for answer in (
                        posted,
                        await client.post(
                            f"{prefix}/events", json={"type": "a", "payload": 1, "dedup_id": "d"}
                        ),
                        await client.post(
                            f"{prefix}/events", json={"type": "a", "payload": 2, "dedup_id": "d"}
                        ),
                        await client.post(f"{prefix}/events", json={"type": "", "payload": 2}),
                        await client.get(f"{prefix}/events"),
                        await client.get(f"{prefix}/inbox"),
                        await client.get(f"{prefix}/inbox", params={"limit": 0}),
                        await client.post(f"{prefix}/ack", json=ids),
                        await client.post(f"{prefix}/inbox/ack", json=ids),
                        await client.post(f"{prefix}/ack", json={}),
                        await client.put(f"{prefix}/events", json={}),
                        await client.delete(f"{prefix}/inbox"),
                        await client.get(f"{prefix}/events", headers={"authorization": ""}),
                    )
                ]
            )
    assert outcomes[0] == outcomes[1]
    assert [status for status, _, _ in outcomes[0]] == [
        201,
        200,
        409,
        422,
        200,
        200,
        422,
        200,
        200,
        422,
        405,
        405,
        401,
    ]


async def test_a_body_without_a_length_is_cut_off_at_the_limit(node: Node, tenant: Tenant) -> None:
    """The answer comes while the sender is still sending: nothing is collected beyond the limit."""
    compressor = zlib.compressobj(wbits=31)
    trailing = gzip.compress(envelope(b"1"))
    empty_blocks = compressor.compress(b"") + compressor.flush(zlib.Z_FULL_FLUSH)
    endless = {
        "plain": ("", b"", b" " * 16_384),
        "gzip that inflates to nothing": (
            "content-encoding: gzip\r\n",
            empty_blocks,
            empty_blocks[-5:] * 3_000,
        ),
        "bytes behind the gzip": ("content-encoding: gzip\r\n", trailing, b"x" * 16_384),
    }
    for path in ("/v1/events", "/v1/events/batch"):
        for name, (header, first, piece) in endless.items():
            reader, writer = await asyncio.open_connection(*node.url.removeprefix("http://").split(":"))
            writer.write(
                f"POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {tenant.key}\r\n{header}"
                "content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n".encode()
            )
            sent = 0
            answered = asyncio.ensure_future(reader.readline())
            while not answered.done() and sent < 30_000_000:
                chunk = piece if sent else first or piece
                writer.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
                sent += len(chunk)
                with contextlib.suppress(ConnectionError):
                    await writer.drain()
                await asyncio.sleep(0)
            assert sent < 30_000_000, (path, name)
            assert b" 41" in await answered, (path, name)  # 413, or 415 where the gzip is at fault
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


async def test_every_answer_names_its_request(client: httpx.AsyncClient) -> None:
    given = {
        "a": "a",
        "A-b_c.9": "A-b_c.9",
        "x" * 64: "x" * 64,
        "x" * 65: None,
        "a b": None,
        "é": None,
        "": None,
    }
    for path, method in (
        ("/v1/events", "POST"),
        ("/v1/events", "GET"),
        ("/nowhere", "GET"),
        ("/livez", "GET"),
    ):
        seen = set()
        for sent, expected in given.items():
            answer = await client.request(method, path, headers={"x-request-id": sent.encode()})
            got = answer.headers["x-request-id"]
            assert got == expected if expected else re.fullmatch(r"[A-Za-z0-9._-]{1,64}", got)
            seen.add(got)
        assert len(seen) == len(given)


async def test_quota_is_told_and_kept(node: Node, tenants: Tenants) -> None:
    async with node.client(await tenants.make(plan=Plan.FREE)) as client:
        first = await client.post("/v1/events", json={"type": "a", "payload": 1})
        assert first.headers["ratelimit-policy"] == '"plan";q=100;w=60'
        assert first.headers["ratelimit"] == '"plan";r=99;t=1'
        refused = await client.post("/v1/events", json={"type": "", "payload": 1})
        assert refused.headers["ratelimit"].startswith('"plan";r=98;')
        answers = await asyncio.gather(*[client.get("/v1/org") for _ in range(110)])
        statuses = [answer.status_code for answer in answers]
        # What comes back while the test runs is one request in 0.6 s.
        assert 98 <= statuses.count(200) <= 108
        assert statuses.count(200) + statuses.count(429) == 110
        refused = next(answer for answer in answers if answer.status_code == 429)
        assert refused.json()["type"] == "/problems/rate-limited"
        assert refused.headers["ratelimit"].startswith('"plan";r=0;')
        assert refused.headers["retry-after"] == "1"
        async with node.client(await tenants.make(plan=Plan.FREE)) as neighbour:
            assert (await neighbour.get("/v1/org")).status_code == 200
    async with node.client(await tenants.make(plan=Plan.ENTERPRISE)) as client:
        assert "ratelimit" not in (await client.post("/v1/events", json={"type": "a", "payload": 1})).headers
    async with node.client(await tenants.make(plan=Plan.ENTERPRISE, requests_per_minute=7)) as client:
        assert (await client.get("/v1/org")).headers["ratelimit-policy"] == '"plan";q=7;w=60'


async def test_a_full_disk_refuses_events_and_nothing_else(node: Node, client: httpx.AsyncClient) -> None:
    posted = await client.post("/v1/events", json={"type": "a", "payload": 1})
    node.health.disk_full = True
    refused = await client.post("/v1/events", json={"type": "a", "payload": 1})
    assert (refused.status_code, refused.json()["type"]) == (503, "/problems/disk-full")
    assert int(refused.headers["retry-after"]) > 0
    assert len((await client.get("/v1/inbox")).json()["events"]) == 1
    acked = await client.post("/v1/ack", json={"event_ids": [posted.json()["id"]]})
    assert acked.json()["acknowledged"] == 1
    node.health.disk_full = False
    assert (await client.post("/v1/events", json={"type": "a", "payload": 1})).status_code == 201


@pytest.mark.parametrize("bound", [{"max_waiting_events": 20}, {"max_waiting_bytes": 20_000}])
async def test_overload_is_a_503_and_loses_nothing(
    make_node: Callable[..., Any], tenant: Tenant, database: Database, bound: dict[str, int]
) -> None:
    node: Node = await make_node(**bound)
    async with node.client(tenant) as client:
        # The rows that a flush needs are locked, so everything waits.
        async with database.connection() as connection, connection.transaction():
            await connection.execute("lock table events in exclusive mode")
            body = {"type": "a", "payload": "x" * 1_000}
            posts = [asyncio.ensure_future(client.post("/v1/events", json=body)) for _ in range(120)]
            await eventually(lambda: sum(post.done() for post in posts) >= 60)
        answers = await asyncio.gather(*posts)
    statuses = [answer.status_code for answer in answers]
    assert set(statuses) == {201, 503}
    refused = [answer for answer in answers if answer.status_code == 503]
    # The flush that waits for the lock may itself give up, on a slow machine.
    assert "/problems/overloaded" in {answer.json()["type"] for answer in refused}
    assert all(int(answer.headers["retry-after"]) > 0 for answer in refused)
    assert await count(database, "events") == statuses.count(201)


async def test_a_lost_database_is_a_503(
    node: Node, client: httpx.AsyncClient, postgres: Any, database: Database, database_url: str
) -> None:
    assert (await client.post("/v1/events", json={"type": "a", "payload": 1})).status_code == 201
    name = re.search(r"/(test_\w+)\?", database_url)
    assert name
    await postgres.run(f"alter database {name[1]} allow_connections false", user="postgres")
    await postgres.disconnect(name[1])
    refused = await client.post("/v1/events", json={"type": "a", "payload": 2})
    assert refused.status_code == 503, refused.text
    assert int(refused.headers["retry-after"]) > 0
    ready = await client.get("/readyz")
    assert (ready.status_code, ready.json()["status"]) == (503, "not ready")
    assert (await client.get("/livez")).status_code == 200
    await postgres.run(f"alter database {name[1]} allow_connections true", user="postgres")

    async def accepted() -> bool:
        return (await client.post("/v1/events", json={"type": "a", "payload": 2})).status_code == 201

    await eventually(accepted)


async def test_what_is_refused_is_logged_without_keys_and_payloads(
    client: httpx.AsyncClient, tenant: Tenant, logs: list[Any]
) -> None:
    secret = "s3cret-content"
    await client.post("/v1/events", json={"type": "a", "payload": secret})
    await client.post("/v1/events", json={"type": "", "payload": secret})
    await client.post("/v1/events", content=b'{"type":"a","payload":"s3cret-content"', headers=JSON)
    await client.post(
        "/v1/events",
        json={"type": "a", "payload": 1},
        headers={"authorization": "Bearer " + tenant.key + "x"},
    )
    await client.get("/v1/inbox")
    lines = [line for line in logs if line["event"] == "request"]
    assert [line["status"] for line in lines] == [422, 400, 401, 200]
    assert all(line["request_id"] and line["client"] == "127.0.0.1" for line in lines)
    assert lines[0]["org_id"] == str(tenant.id)
    text = json.dumps(logs, default=str)
    assert secret not in text
    assert tenant.key not in text


async def test_an_idempotency_key_is_the_dedup_id_of_an_event_without_one(client: httpx.AsyncClient) -> None:
    async def post(key: bytes, **members: Any) -> httpx.Response:
        content = json.dumps({"type": "a", "payload": 1} | members).encode()
        return await client.post(
            "/v1/events",
            content=content,
            headers={"content-type": "application/json", "idempotency-key": key},
        )

    first = await post(b"k-1")
    assert (first.status_code, first.json()["dedup_id"]) == (201, "k-1")
    for again in (b"k-1", b'"k-1"'):
        answer = await post(again)
        assert (answer.status_code, answer.json()["id"]) == (200, first.json()["id"])
    assert (await post(b"k-1", payload=2)).json()["original_id"] == first.json()["id"]
    assert (await post(b"k-1", dedup_id="mine")).json()["dedup_id"] == "mine"
    assert (await post(b"", dedup_id="mine")).status_code == 200, "it is not read"
    assert (await post(b'"a \\"b\\" \\\\"')).json()["dedup_id"] == 'a "b" \\'
    assert (await post("ä".encode())).json()["dedup_id"] == "ä"
    assert (await post(b"x" * 255)).status_code == 201
    large = await post(b"large", payload="x" * 100_000)
    assert (large.status_code, large.json()["dedup_id"]) == (201, "large")
    for wrong in (b"", b'""', b"x" * 256, b"\xff", b"\xc2\x85"):
        answer = await post(wrong)
        assert answer.status_code == 422, wrong
        assert [each["pointer"] for each in answer.json()["errors"]] == ["Idempotency-Key"]


async def test_an_idempotency_key_is_ignored_elsewhere(client: httpx.AsyncClient) -> None:
    for _ in range(2):
        answer = await client.post("/v1/keys", json={"scopes": ["inbox"]}, headers={"idempotency-key": "k"})
        assert answer.status_code == 201
