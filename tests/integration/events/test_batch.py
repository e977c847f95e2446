"""`POST /v1/events/batch`: every item has the outcome that it alone would have had."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import structlog
from prometheus_client import REGISTRY

from harness import Node, Tenant, Tenants, eventually
from triggers.domain import MAX_BATCH_BYTES, MAX_EVENT_BYTES, Plan
from triggers.events.waiting_event import WaitingEvent
from triggers.postgres.database import Database

NDJSON = {"content-type": "application/x-ndjson"}
JSON = {"content-type": "application/json"}


async def post(client: httpx.AsyncClient, content: bytes, headers: dict[str, str]) -> list[dict[str, Any]]:
    answer = await client.post("/v1/events/batch", content=content, headers=headers)
    results: list[dict[str, Any]] = answer.json()["results"]
    assert answer.status_code == whole_status([result["status"] for result in results]), answer.text
    assert [result["index"] for result in results] == list(range(len(results)))
    return results


def whole_status(statuses: list[int]) -> int:
    """The status of a batch whose events have these statuses."""
    accepted = sum(status in (200, 201) for status in statuses)
    if accepted:
        return 200 if accepted == len(statuses) else 207
    several = set(statuses)
    return (several or {200}).pop() if len(several) < 2 else 422


async def count(database: Database, table: str, condition: str = "true") -> int:
    row = await database.row(f"select count(*) from {table} where {condition}")
    assert row is not None
    found: int = row[0]
    return found


def event(**members: Any) -> bytes:
    return json.dumps({"type": "a", "payload": 1} | members).encode()


async def test_a_batch_is_one_request_whatever_became_of_its_items(
    make_node: Callable[..., Any], tenant: Tenant
) -> None:
    running: Node = await make_node(log_accepted=True)
    counted = REGISTRY.get_sample_value("triggers_accept_seconds_count") or 0.0
    async with running.client(tenant) as client:
        with structlog.testing.capture_logs() as lines:
            await post(client, b"[%b]" % b",".join([event(dedup_id="d"), event(dedup_id="d"), b"1"]), JSON)
    assert [line["path"] for line in lines if line["event"] == "request"] == ["/v1/events/batch"]
    assert REGISTRY.get_sample_value("triggers_accept_seconds_count") == counted + 1


# An item, the status it has alone, and the slug of its problem. Duplicates come after what they repeat.
ITEMS: list[tuple[bytes, int, str | None]] = [
    (event(dedup_id="d"), 201, None),
    (event(dedup_id="d"), 200, None),
    (event(dedup_id="d", payload=2), 409, "dedup-conflict"),
    (event(dedup_id="d"), 200, None),
    (event(), 201, None),
    (event(type=""), 422, "invalid"),
    (event(surprise=1), 422, "invalid"),
    (b'{"type":"a","payload":{"n":1,"n":2}}', 400, "malformed-body"),
    (b'{"type":"a","payload":"\\ud800"}', 400, "malformed-body"),
    (b'{"type":"a","payload":"\xff"}', 400, "malformed-body"),
    (b'{"type":"a","payload":%b}' % (b"[" * 200 + b"]" * 200), 400, "malformed-body"),
    (b"1", 422, "invalid"),
    (b"null", 422, "invalid"),
    (event(payload="x" * MAX_EVENT_BYTES), 413, "too-large"),
    (event(payload="\x00"), 201, None),
    (event(type="triggers.mine"), 422, "invalid"),
]


def as_array(items: list[bytes]) -> bytes:
    return b"[" + b" ,\n".join(items) + b"]"


async def test_each_item_is_judged_alone(node: Node, tenants: Tenants, database: Database) -> None:
    for body, headers in (
        (as_array([item for item, _, _ in ITEMS]), JSON),
        (b"\n".join(item for item, _, _ in ITEMS), NDJSON),
        (b"\r\n\r\n".join(item for item, _, _ in ITEMS) + b"\r\n", NDJSON),
        (gzip.compress(b"\n".join(item for item, _, _ in ITEMS)), NDJSON | {"content-encoding": "gzip"}),
        (
            b"".join(gzip.compress(item + b"\n") for item, _, _ in ITEMS),
            NDJSON | {"content-encoding": "gzip"},
        ),
    ):
        tenant = await tenants.make()
        async with node.client(tenant) as client:
            results = await post(client, body, headers)
            assert [result["status"] for result in results] == [status for _, status, _ in ITEMS]
            for result, (item, status, slug) in zip(results, ITEMS, strict=True):
                if slug is None:
                    assert set(result) == {"index", "status", "id"}
                    continue
                assert set(result) == {"index", "status", "problem"}
                assert result["problem"]["type"] == f"/problems/{slug}", item[:60]
                assert result["problem"]["status"] == status
                alone = await client.post("/v1/events", content=item, headers=JSON)
                assert alone.status_code == status, item[:60]
                problem = alone.json()
                if status != 413:  # where the one speaks of the body, the other of the item
                    assert problem | {"request_id": ""} == result["problem"] | {"request_id": ""}
            assert len({results[0]["id"], results[1]["id"], results[3]["id"]}) == 1
            assert results[2]["problem"]["original_id"] == results[0]["id"]
        accepted = sum(status == 201 for _, status, _ in ITEMS)
        assert await count(database, "events", f"org_id = '{tenant.id}'") == accepted
        assert await count(database, "deliveries", f"org_id = '{tenant.id}'") == accepted


FINE, TAKEN = event(dedup_id="d"), event(dedup_id="d", payload=2)
EMPTY, BROKEN = event(type=""), b'{"type":"a","payload":"\xff"}'


@pytest.mark.parametrize(
    ("items", "status", "slug"),
    [
        ([], 200, None),
        ([FINE, FINE], 200, None),
        ([event()], 200, None),
        ([FINE, EMPTY], 207, None),
        ([EMPTY, BROKEN, event()], 207, None),
        ([EMPTY], 422, "invalid"),
        ([BROKEN, BROKEN], 400, "malformed-body"),
        ([TAKEN, TAKEN], 409, "dedup-conflict"),
        ([event(payload="x" * MAX_EVENT_BYTES)], 413, "too-large"),
        ([EMPTY, BROKEN, TAKEN], 422, "batch-refused"),
    ],
)
async def test_the_status_says_what_became_of_all_items(
    client: httpx.AsyncClient, items: list[bytes], status: int, slug: str | None
) -> None:
    assert (await client.post("/v1/events", content=FINE, headers=JSON)).status_code == 201
    for body, headers in ((as_array(items), JSON), (b"\n".join(items), NDJSON)):
        answer = await client.post("/v1/events/batch", content=body, headers=headers)
        assert answer.status_code == status, answer.text
        members = answer.json()
        assert [result["index"] for result in members["results"]] == list(range(len(items)))
        assert "retry-after" not in answer.headers
        if slug is None:
            assert answer.headers["content-type"] == "application/json"
            assert set(members) == {"results"}
            continue
        assert answer.headers["content-type"] == "application/problem+json"
        assert members["type"] == f"/problems/{slug}"
        assert members["status"] == status
        assert members["request_id"] == answer.headers["x-request-id"]


async def test_a_batch_is_counted_by_its_items(client: httpx.AsyncClient) -> None:
    def rejected() -> float:
        return REGISTRY.get_sample_value("triggers_events_total", {"result": "rejected"}) or 0

    before = rejected()
    for items in ([FINE, EMPTY], [EMPTY, BROKEN]):
        await client.post("/v1/events/batch", content=as_array(items), headers=JSON)
    await eventually(lambda: rejected() - before >= 3)
    assert rejected() - before == 3


async def test_a_batch_that_cannot_be_stored_now_says_when_to_send_it_again(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The waiting room is full, but invalid events are recognised without storing them."""
    monkeypatch.setattr(WaitingEvent, "take_memory", lambda *_: False)
    for items, status, slug in (
        ([event(), event()], 503, "overloaded"),
        ([event(), EMPTY], 422, "batch-refused"),
    ):
        answer = await client.post("/v1/events/batch", content=as_array(items), headers=JSON)
        assert answer.status_code == status
        assert answer.json()["type"] == f"/problems/{slug}"
        assert answer.json()["results"][0]["problem"]["type"] == "/problems/overloaded"
        assert answer.headers.get_list("retry-after") == ["1"]


async def test_a_batch_that_is_refused_before_its_body_is_read_has_no_results(
    node: Node, tenants: Tenants
) -> None:
    tenant = await tenants.make(plan=Plan.FREE)
    async with node.client(tenant) as client:
        await client.post("/v1/events/batch", json=[{"type": "a", "payload": n} for n in range(150)])
    for status, code in ((429, b"rate-limited"), (503, b"disk-full")):
        reader, writer = await asyncio.open_connection(*node.url.removeprefix("http://").split(":"))
        head = f"POST /v1/events/batch HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {tenant.key}\r\n"
        writer.write(f"{head}content-type: application/json\r\ncontent-length: 1000\r\n\r\n".encode())
        answer = await asyncio.wait_for(reader.readuntil(b"}"), 10)  # although no byte of the body was sent
        writer.close()
        assert answer.startswith(b"HTTP/1.1 %d " % status)
        assert b"\r\nretry-after: " in answer.lower()
        assert b'"code":"%b"' % code in answer
        assert b"results" not in answer
        node.health.disk_full = True
        tenant = await tenants.make()


async def test_a_batch_that_is_wrong_as_such_stores_nothing(
    client: httpx.AsyncClient, database: Database
) -> None:
    fine = event()
    large = b"\n".join([event(payload="x" * 250_000)] * 21)
    assert len(large) > MAX_BATCH_BYTES
    for content, headers, status in (
        (b"[" + fine, JSON, 400),
        (b"[" + fine + b",]", JSON, 400),
        (b"[" + fine + b"] x", JSON, 400),
        (fine, JSON, 400),
        (b"", JSON, 400),
        (b"[" + b"[" * 100_000, JSON, 400),
        (as_array([fine] * 1001), JSON, 413),
        (b"\n".join([fine] * 1001), NDJSON, 413),
        (large, NDJSON, 413),
        (gzip.compress(large), NDJSON | {"content-encoding": "gzip"}, 413),
        (as_array([fine]), {"content-type": "text/csv"}, 415),
        (as_array([fine]), JSON | {"content-encoding": "zstd"}, 415),
        (as_array([fine]), JSON | {"authorization": "Bearer no"}, 401),
    ):
        answer = await client.post("/v1/events/batch", content=content, headers=headers)
        assert answer.status_code == status, (content[:40], headers, answer.text[:200])
        assert answer.headers["content-type"] == "application/problem+json"
    assert await count(database, "events") == 0


async def test_a_batch_up_to_its_limits(client: httpx.AsyncClient, database: Database) -> None:
    assert await post(client, b"[]", JSON) == []
    assert await post(client, b"\n \n", NDJSON) == []
    results = await post(client, as_array([event(payload=n) for n in range(1000)]), JSON)
    assert {result["status"] for result in results} == {201}
    assert sorted(result["id"] for result in results) == [result["id"] for result in results]
    assert await count(database, "deliveries") == 1000
    items = [event(payload="x" * (MAX_EVENT_BYTES - len(event(payload=""))))] * 19
    results = await post(client, b"\n".join(items), NDJSON)
    assert {result["status"] for result in results} == {201}


async def test_bytes_are_kept(client: httpx.AsyncClient) -> None:
    payloads = [
        b'{ "a" : 1.0 }',
        b"1e400",
        b'["\\u003a", ":" ]',
        b'"\xef\xbf\xbe"',
        b"12345678901234567890123",
    ]
    items = [b'{"type":"a","payload": %b }' % payload for payload in payloads]
    for body, headers in ((as_array(items), JSON), (b"\n".join(items), NDJSON)):
        for result, payload in zip(await post(client, body, headers), payloads, strict=True):
            assert (await client.get(f"/v1/events/{result['id']}/payload")).content == payload


async def test_each_item_counts_against_the_quota(node: Node, tenants: Tenants, database: Database) -> None:
    async with node.client(await tenants.make(plan=Plan.FREE)) as client:
        answer = await client.post("/v1/events/batch", json=[{"type": "a", "payload": n} for n in range(150)])
        statuses = [result["status"] for result in answer.json()["results"]]
        granted = statuses.count(201)
        assert 100 <= granted <= 102
        assert statuses == [201] * granted + [429] * (150 - granted)
        assert answer.status_code == 207
        problem = answer.json()["results"][-1]["problem"]
        assert problem["type"] == "/problems/rate-limited"
        assert str(problem["retry_after"]) == answer.headers["retry-after"]
        assert answer.headers["ratelimit"].startswith('"plan";r=0;')
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        refused = await client.post("/v1/events/batch", json=[])
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
    assert await count(database, "events") == granted


async def test_an_idempotency_key_names_each_item_without_a_dedup_id(client: httpx.AsyncClient) -> None:
    items = [event(), event(dedup_id="mine"), EMPTY, event(payload=3)]
    for body, headers in ((as_array(items), JSON), (b"\n\n".join(items), NDJSON)):
        results = await post(client, body, headers | {"idempotency-key": '"k"'})
        accepted = 201 if headers is JSON else 200
        assert [result["status"] for result in results] == [accepted, accepted, 422, accepted]
    events = (await client.get("/v1/events", params={"order": "asc"})).json()["events"]
    assert [each["dedup_id"] for each in events] == ["k/0", "mine", "k/3"]

    for key, statuses in (("x" * 253, [201, 200, 422, 201]), ("x" * 254, [422, 200, 422, 422]), ("", None)):
        answer = await client.post(
            "/v1/events/batch", content=as_array(items), headers=JSON | {"idempotency-key": key}
        )
        results = answer.json()["results"]
        assert [result["status"] for result in results] == (statuses or [422, 200, 422, 422])
        for result in results:
            if result["status"] == 422 and result["index"] != 2:
                assert result["problem"]["errors"][0]["pointer"] == "Idempotency-Key"


async def test_a_poisoned_event_spoils_only_itself(
    client: httpx.AsyncClient, database: Database, logs: list[Any]
) -> None:
    """What PostgreSQL alone refuses is found by halving the batch; here a CHECK stands for the unforeseen."""
    await database.fetch("alter table events add constraint poison check (type <> 'poison')")
    rng = random.Random(1)
    for size in (1, 2, 3, 64, 1000):
        guilty = {rng.randrange(size) for _ in range(3)}
        items = [event(type="poison" if n in guilty else "fine", dedup_id=f"{size}-{n}") for n in range(size)]
        results = await post(client, as_array(items), JSON)
        assert {result["index"] for result in results if result["status"] == 422} == guilty
        assert {result["status"] for result in results} <= {201, 422}
    refused = [line for line in logs if line["event"] == "event_refused_by_database"]
    assert refused
    # An innocent event that shared the dedup_id of a guilty one is stored in its place.
    shared = [
        event(type="poison", dedup_id="d"),
        event(type="fine", dedup_id="d"),
        event(type="fine", dedup_id="d"),
    ]
    results = await post(client, as_array(shared), JSON)
    assert [result["status"] for result in results] == [422, 201, 200]
    assert results[1]["id"] == results[2]["id"]
    assert await count(database, "events", "type = 'poison'") == 0
    assert (
        await count(database, "events")
        == await count(database, "deliveries")
        == await count(database, "dedup")
    )


async def test_a_flush_makes_a_bounded_number_of_deliveries(
    node: Node, client: httpx.AsyncClient, tenant: Tenant, tenants: Tenants, database: Database
) -> None:
    await database.fetch(
        "insert into subscriptions (org_id, id, kind, key, status_at, created_at, all_types)"
        " select $1, gen_random_uuid(), 'inbox', 'inbox ' || n, now(), now(), true"
        " from generate_series(1, 499) n",
        tenant.id,
    )
    await database.fetch("update organisations set subscription_count = 500 where id = $1", tenant.id)
    async with node.client(await tenants.make()) as neighbour:
        crowd, lone = await asyncio.gather(
            post(client, as_array([event(payload=n, dedup_id=str(n)) for n in range(100)]), JSON),
            neighbour.post("/v1/events", json={"type": "a", "payload": 1}),
        )
    assert {result["status"] for result in crowd} == {201}
    assert lone.status_code == 201
    assert await count(database, "deliveries") == 50_001
    row = await database.row(
        "select max(n) from (select count(*) as n from deliveries group by accepted_at) as per_transaction"
    )
    assert row is not None
    assert row[0] <= 20_000
