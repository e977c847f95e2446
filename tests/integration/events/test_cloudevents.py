"""Accepts and delivers CloudEvents, which the package of the CloudEvents project writes and reads."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import msgspec
import pytest
from cloudevents.core.base import BaseCloudEvent
from cloudevents.core.bindings.http import (
    HTTPMessage,
    from_structured_event,
    to_binary_event,
    to_structured_event,
)
from cloudevents.core.v1.event import CloudEvent

from delivering import Subscribe, Workers
from harness import Tenant, eventually
from receiving import Receiver
from triggers.postgres.database import Database

CORPUS = Path(__file__).parents[2] / "data" / "github-webhooks.jsonl.gz"
BATCHED = {"content-type": "application/cloudevents-batch+json"}
STRUCTURED = {"content-type": "application/cloudevents+json"}
LEAST = {"specversion": "1.0", "id": "1", "source": "/shop", "type": "order.paid"}
EXTENSIONS = {
    "dataschema": "https://shop.example/schema#1",
    "traceparent": "00-ab-cd-01",
    "region": "Zürich 1",
}


class Line(msgspec.Struct):
    type: str
    payload: msgspec.Raw


def corpus() -> list[Line]:
    lines = gzip.decompress(CORPUS.read_bytes()).splitlines()
    return [msgspec.json.decode(line, type=Line) for line in lines]


def event_of(number: int, line: Line) -> CloudEvent:
    """An event with every attribute and with extensions."""
    return CloudEvent(
        {
            "id": str(number),
            "source": "https://github.example/hooks",
            "type": line.type,
            "subject": f'repository "{number}" %20',
            "time": datetime(2026, 3, 1, 12, 0, number % 60, tzinfo=UTC),
            "datacontenttype": "application/json",
            "partitionkey": f"key {number}",
            **EXTENSIONS,
        },
        json.loads(bytes(line.payload)),
    )


async def send(client: httpx.AsyncClient, message: HTTPMessage) -> httpx.Response:
    return await client.post("/v1/events", content=message.body, headers=message.headers)


@pytest.mark.parametrize("write", [to_structured_event, to_binary_event])
async def test_events_of_the_package_are_stored_as_they_were_made(
    client: httpx.AsyncClient, tenant: Tenant, write: Any
) -> None:
    for number, line in enumerate(corpus()[::15]):
        event = event_of(number, line)
        answer = await send(client, write(event))
        assert answer.status_code == 201, answer.text
        assert answer.json()["dedup_id"] == f"https://github.example/hooks {number}"
        stored = (await client.get(answer.headers["location"])).json()
        assert (stored["type"], stored["source"]) == (line.type, "https://github.example/hooks")
        assert (stored["subject"], stored["ordering_key"]) == (event.get_subject(), f"key {number}")
        assert stored["occurred_at"] == f"2026-03-01T12:00:{number % 60:02}.000Z"
        assert stored["attributes"] == EXTENSIONS
        assert stored["payload"] == event.get_data()
        again = await send(client, write(event))
        assert (again.status_code, again.json()["id"]) == (200, stored["id"])


async def test_data_is_stored_to_the_byte(client: httpx.AsyncClient) -> None:
    data = b'{ "b": 1.0e2, "a": 12345678901234567890123, "\xc3\xa9": "\\u00e9" }'
    item = json.dumps(LEAST).encode()[:-1] + b',"data" : %b }' % data
    binary = {f"ce-{name}": value for name, value in LEAST.items()} | {"content-type": "application/json"}
    for path, body, headers in (
        ("/v1/events", item, STRUCTURED),
        ("/events", gzip.compress(item), STRUCTURED | {"content-encoding": "gzip"}),
        ("/v1/events", data, binary | {"ce-id": "2"}),
        ("/v1/events", item.replace(b'"1"', b'"3"').join((b"[", b"]")), BATCHED),
        ("/v1/events/batch", item.replace(b'"1"', b'"4"').join((b" [ ", b" ] ")), BATCHED),
    ):
        answer = await client.post(path, content=body, headers=headers)
        assert answer.status_code in (200, 201), answer.text
        members = answer.json()
        event_id = members["results"][0]["id"] if "results" in members else members["id"]
        assert (await client.get(f"/v1/events/{event_id}/payload")).content == data
    assert len((await client.get("/v1/events")).json()["events"]) == 4


@pytest.mark.parametrize("path", ["/v1/events", "/events", "/v1/events/batch"])
async def test_a_batch_is_answered_like_a_batch(client: httpx.AsyncClient, path: str) -> None:
    other = LEAST | {"id": "2"}
    for items, whole, statuses in (
        ([], 200, []),
        ([LEAST, other], 200, [201, 201]),
        ([LEAST, LEAST | {"data": 2}], 207, [200, 409]),
        (
            [LEAST, LEAST | {"specversion": "0.3"}, LEAST | {"data_base64": "AA=="}, 1],
            207,
            [200, 422, 415, 422],
        ),
        ([LEAST | {"specversion": "0.3"}], 422, [422]),
        ([LEAST | {"data": "x", "datacontenttype": "text/plain"}], 415, [415]),
        ([LEAST | {"data_base64": "AA=="}, {}], 422, [415, 422]),
    ):
        answer = await client.post(path, json=items, headers=BATCHED)
        assert answer.status_code == whole, answer.text
        assert [each["status"] for each in answer.json()["results"]] == statuses
    assert (await client.post(path, json=LEAST, headers=BATCHED)).status_code == 400
    assert (await client.post(path, json=[LEAST] * 1001, headers=BATCHED)).status_code == 413
    assert (
        await client.post(path, json=[LEAST], headers=BATCHED | {"authorization": "Bearer x"})
    ).status_code == 401


async def test_a_large_batch_may_have_the_size_of_a_batch(client: httpx.AsyncClient) -> None:
    items = [LEAST | {"id": str(number), "data": "x" * 200_000} for number in range(20)]
    answer = await client.post("/v1/events", json=items, headers=BATCHED)
    assert {each["status"] for each in answer.json()["results"]} == {201}


async def test_each_mode_is_refused_where_it_is_wrong(client: httpx.AsyncClient) -> None:
    marked = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": "t"}
    for path, headers, content, status in (
        ("/v1/events", {"content-type": "application/cloudevents+xml"}, b"<event/>", 415),
        ("/v1/events/batch", STRUCTURED, json.dumps(LEAST).encode(), 415),
        ("/v1/events", marked | {"content-type": "text/plain"}, b"x", 415),
        ("/v1/events", marked | {"ce-specversion": "0.3"}, b"", 422),
        ("/v1/events", {"ce-specversion": "1.0"}, b"", 422),
        ("/v1/events", marked | {"ce-long": "x" * 8192}, b"", 422),
        ("/v1/events", STRUCTURED, json.dumps(LEAST | {"data_base64": ""}).encode(), 415),
        ("/v1/events", STRUCTURED, b"{", 400),
        ("/v1/events", STRUCTURED, b"x" * 300_000, 413),
    ):
        answer = await client.post(path, content=content, headers=headers)
        assert answer.status_code == status, (headers, answer.text)
    # On the path of batches, and without `ce-specversion`, such headers are ignored.
    event = {"type": "a", "payload": 1}
    assert (await client.post("/v1/events/batch", json=[event], headers=marked)).status_code == 200
    assert (await client.post("/v1/events", json=event, headers={"ce-id": "1"})).json()["dedup_id"] is None


async def test_the_body_names_an_event_before_the_headers(client: httpx.AsyncClient) -> None:
    """A request with a structured event may also have `ce-` headers and an `Idempotency-Key`."""
    headers = STRUCTURED | {"ce-specversion": "1.0", "ce-id": "other", "idempotency-key": "key"}
    answer = await client.post("/v1/events", json=LEAST, headers=headers)
    assert answer.json()["dedup_id"] == "/shop 1"
    batch = await client.post("/v1/events", json=[LEAST], headers=BATCHED | {"idempotency-key": "key"})
    assert batch.json()["results"][0]["id"] == answer.json()["id"]


async def test_an_event_without_attributes_shows_none(client: httpx.AsyncClient) -> None:
    for headers, body in ((STRUCTURED, LEAST), ({}, {"type": "a", "payload": 1})):
        answer = await client.post("/v1/events", json=body, headers=headers)
        assert (await client.get(answer.headers["location"])).json()["attributes"] is None


async def test_attributes_count_in_the_size_of_a_delivery(
    client: httpx.AsyncClient, database: Database
) -> None:
    """A worker bounds its memory by this size, and keeps the attributes too."""
    body = LEAST | {"data": 1, "extension": "x" * 1_000}
    answer = await client.post("/v1/events", json=body, headers=STRUCTURED)
    row = await database.row(
        "select d.payload_size, octet_length(e.payload) as payload, octet_length(e.attributes) as attributes"
        " from deliveries d join events e on (e.org_id, e.id) = (d.org_id, d.event_id) where e.id = $1",
        UUID(answer.json()["id"]),
    )
    assert row is not None
    assert row["attributes"] > 1_000
    assert row["payload_size"] == row["payload"] + row["attributes"]


async def test_attributes_are_delivered_again_in_the_format_cloudevents(
    client: httpx.AsyncClient, receiver: Receiver, subscribed: Subscribe, workers: Workers
) -> None:
    await subscribed(receiver.url, format="cloudevents")
    lines = corpus()[::40]
    for number, line in enumerate(lines):
        await send(client, to_structured_event(event_of(number, line)))
    await client.post("/v1/events", json=LEAST | {"flag": True, "count": 3}, headers=STRUCTURED)
    await workers.start()
    await eventually(lambda: len(receiver.hooks) == len(lines) + 1, 20)
    samples = (await client.get("/v1/samples", params={"format": "cloudevents"})).json()
    delivered = {
        hook.id: from_structured_event(HTTPMessage(hook.headers, hook.body)) for hook in receiver.hooks
    }
    bodies = {hook.id: json.loads(hook.body) for hook in receiver.hooks}
    assert samples
    assert all(sample == bodies[sample["id"]] for sample in samples)
    by_subject: dict[str | None, BaseCloudEvent] = {
        event.get_subject(): event for event in delivered.values()
    }
    for number, line in enumerate(lines):
        sent = event_of(number, line)
        event = by_subject[sent.get_subject()]
        for name in ("source", "type", "subject", "time", "datacontenttype", *EXTENSIONS):
            assert event.get_attributes()[name] == sent.get_attributes()[name]
        assert event.get_data() == sent.get_data()
    bare = by_subject[None].get_attributes()
    assert (bare["flag"], bare["count"]) == (True, 3)
