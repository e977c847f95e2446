"""Real webhook payloads through both ways in, and out again by two consumers that compete."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec

from .processes import Service
from .wire import Client, InboxItem, whole_inbox

CORPUS = Path(__file__).parents[1] / "data" / "github-webhooks.jsonl.gz"


class Line(msgspec.Struct):
    type: str
    payload: msgspec.Raw


class Lease(msgspec.Struct):
    lease_id: str | None
    results: list[InboxItem]


def corpus() -> list[tuple[bytes, str, str]]:
    """Each line as it is posted, its type, and the SHA-256 of its payload's bytes."""
    lines = gzip.decompress(CORPUS.read_bytes()).splitlines()
    read = [(line, msgspec.json.decode(line, type=Line)) for line in lines]
    assert len(read) == 329
    return [(line, each.type, digest(each.payload)) for line, each in read]


def digest(payload: bytes | msgspec.Raw) -> str:
    return hashlib.sha256(bytes(payload)).hexdigest()


async def post_singly(client: Client, lines: list[bytes]) -> list[str]:
    ids = []
    for line in lines:
        answer = await client.post("/v1/events", line)
        assert answer.status == 201, answer
        assert answer.headers["location"] == f"/v1/events/{answer.json['id']}"
        ids.append(answer.json["id"])
    return ids


async def post_in_batches(client: Client, lines: list[bytes]) -> list[str]:
    """Half as an array, half as lines."""
    middle = len(lines) // 2
    array = b"[" + b",\n".join(lines[:middle]) + b"]"
    answers = [
        await client.call("POST", "/v1/events/batch", array),
        await client.call("POST", "/v1/events/batch", b"\n".join(lines[middle:]), "application/x-ndjson"),
    ]
    ids = []
    for answer in answers:
        assert answer.status == 200, answer
        results = answer.json["results"]
        assert [each["index"] for each in results] == list(range(len(results)))
        assert {each["status"] for each in results} == {201}
        ids += [each["id"] for each in results]
    return ids


async def consume(client: Client, seen: list[InboxItem], turns: Counter[int], number: int) -> None:
    """Lease and acknowledge until nothing is left."""
    path = "/v1/inboxes/default/messages"
    while True:
        answer = await client.post(f"{path}/lease", {"lease_limit": 10, "lease_seconds": 60})
        lease = msgspec.json.decode(answer.body, type=Lease)
        if lease.lease_id is None:
            assert answer.status == 200
            return
        assert answer.status == 201
        seen += lease.results
        turns[number] += 1
        acked = await client.post(f"{path}/ack", {"lease_id": lease.lease_id})
        assert acked.status == 201
        assert {each["id"] for each in acked.json["results"]} == {each.id for each in lease.results}


async def check_way(service: Service, post: Any) -> None:
    sent = corpus()
    key = service.tenant()
    async with service.client(key) as client, service.client(key) as other:
        ids = await post(client, [line for line, _, _ in sent])
        expected = {event_id: (kind, sha) for event_id, (_, kind, sha) in zip(ids, sent, strict=True)}
        assert len(expected) == 329

        listed = await whole_inbox(client, limit=100)
        assert [each.id for each in listed] == sorted(ids)
        assert {each.id: (each.type, digest(each.payload)) for each in listed} == expected
        for event_id, (_, sha) in expected.items():
            answer = await client.get(f"/v1/events/{event_id}/payload")
            assert digest(answer.body) == sha

        seen: list[InboxItem] = []
        turns: Counter[int] = Counter()
        await asyncio.gather(consume(client, seen, turns, 1), consume(other, seen, turns, 2))
        assert len(seen) == 329, "none twice"
        assert {each.id: digest(each.payload) for each in seen} == {
            i: sha for i, (_, sha) in expected.items()
        }
        assert min(turns[1], turns[2]) > 3, "both consumers took part"

        assert await whole_inbox(client) == []
        again = await client.post("/v1/ack", {"event_ids": ids})
        assert again.json["already_acknowledged"] == 329


async def test_single_posts(shared: Service) -> None:
    await check_way(shared, post_singly)


async def test_batches(shared: Service) -> None:
    await check_way(shared, post_in_batches)
