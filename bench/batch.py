"""Batches of 500 events, beside the same rows put into the same tables by nothing but an INSERT … unnest."""

from __future__ import annotations

import statistics
import time
from datetime import UTC, datetime
from uuid import UUID, uuid4

import asyncpg

from bench import accept, database, load
from bench.findings import Findings, Ratio, Row
from bench.processes import Service, place
from triggers.postgres.clock import DatabaseClock

EVENTS = 500
CONNECTIONS = 8
_PAYLOAD = (
    b'{"order":12345,"amount":129900,"currency":"EUR","customer":"cus_8f14e45f",'
    b'"items":[{"sku":"A-1","quantity":2},{"sku":"B-7","quantity":1}]}'
)
_INSERT = """
with sent as (
    select * from unnest($1::uuid[], $2::uuid[], $3::text[], $4::bytea[], $5::bytea[], $6::text[])
        as b (org_id, id, type, payload, fingerprint, dedup_id)
), known as (
    insert into dedup (org_id, dedup_id, event_id, fingerprint, expires_at)
    select org_id, dedup_id, id, fingerprint, now() + interval '1 day' from sent
), logged as (
    insert into events (org_id, id, type, payload, dedup_id)
    select org_id, id, type, payload, dedup_id from sent
)
insert into deliveries (org_id, subscription_id, event_id, due_at, accepted_at, payload_size)
select org_id, $7::uuid, id, now(), now(), octet_length(payload) from sent
"""


def run(*, quick: bool) -> Findings:
    """In turn, on one PostgreSQL: through the API, and by one connection that only inserts."""
    rounds, seconds = (2, 3) if quick else (4, 8)
    found = Findings(f"batch: {EVENTS} events a request, {CONNECTIONS} connections")
    with place() as home, Service(home) as service:
        turns = [(measure(service, seconds), insert(service, seconds)) for _ in range(rounds)]
        ours, bare = (accept.median(list(rows)) for rows in zip(*turns, strict=True))
        found.rows = [{"": "POST /v1/events/batch", **ours}, {"": "INSERT … unnest alone", **bare}]
        ratios = [mine["events per second"] / floor["events per second"] for mine, floor in turns]
        found.ratios.append(Ratio("ratio to the inserts alone", statistics.median(ratios)))
        found.notes.append("wanted: 40,000 events/s, or what the machine's own inserts make of it")
        found.facts = {"rounds": turns, "durability": database.durability(service)}
    return found


def measure(service: Service, seconds: float) -> Row:
    """One round of requests; what they hold must be stored."""
    before, cpu = accept.stored(service), service.cpu()
    done = load.post(
        service.url + "/v1/events/batch",
        service.key,
        seconds=seconds,
        connections=CONNECTIONS,
        events=EVENTS,
    )
    used = service.cpu().since(cpu)
    count = accept.stored(service) - before
    accept.check_stored(count, done.requests * EVENTS, CONNECTIONS * EVENTS)
    per = used.per(count)
    row = {"events per second": done.requests * EVENTS / done.seconds, **done.row()}
    del row["per second"]
    return {**row, "api µs": per["api µs"], "postgres µs": per["postgres µs"]}


def insert(service: Service, seconds: float) -> Row:
    """Insert the same rows over one connection for so long."""
    org, subscription, clock = uuid4(), uuid4(), DatabaseClock()
    clock.learn(datetime.now(UTC), time.monotonic())

    async def use(connection: asyncpg.Connection) -> tuple[int, float]:
        began = time.monotonic()
        rows = 0
        while time.monotonic() - began < seconds:
            ids: list[UUID] = [clock.mint() for _ in range(EVENTS)]
            await connection.execute(
                _INSERT,
                [org] * EVENTS,
                ids,
                ["order.paid"] * EVENTS,
                [_PAYLOAD] * EVENTS,
                [each.bytes * 2 for each in ids],
                [f"1-1-{rows + place}" for place in range(EVENTS)],
                subscription,
            )
            rows += EVENTS
        return rows, time.monotonic() - began

    cpu = service.cpu()
    rows, took = database.with_connection(service, use)
    used = service.cpu().since(cpu)
    return {"events per second": rows / took, "postgres µs": used.per(rows)["postgres µs"]}
