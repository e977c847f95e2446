"""Messages a second that consumers lease and acknowledge, from a full inbox."""

from __future__ import annotations

import asyncpg

from bench import database, load
from bench.findings import Findings, Row
from bench.processes import BenchError, Service, fill, place

CONSUMERS = 8


def run(*, quick: bool) -> Findings:
    """Each consumer leases, acknowledges what it holds, and leases again."""
    messages, seconds = (20_000, 3) if quick else (100_000, 6)
    found = Findings(f"inbox: {CONSUMERS} consumers lease and acknowledge, from {messages:,} messages")
    with place() as home, Service(home) as service:
        for limit in (10, 100, 1000):
            key = service.organisation()
            fill(service, key, messages)
            found.rows.append({"": f"{limit:,} a lease", **measure(service, key, limit, seconds)})
    found.notes.append("counted and timed in the database, by what is acknowledged")
    return found


def measure(service: Service, key: str, limit: int, seconds: float) -> Row:
    """One round on an organisation of its own."""

    async def settled(connection: asyncpg.Connection) -> tuple[int, float]:
        row = await connection.fetchrow(
            "select count(*), extract(epoch from max(settled_at) - min(settled_at)) from settled_deliveries"
            " where org_id = (select org_id from api_keys where prefix = $1)",
            key[:12],
        )
        return row[0], float(row[1] or 0)

    cpu = service.cpu()
    done = load.run(
        "lease.lua",
        service.url,
        key,
        str(limit),
        seconds=seconds,
        connections=CONSUMERS,
        threads=CONSUMERS,
    )[0]
    used = service.cpu().since(cpu)
    count, took = database.with_connection(service, settled)
    if not count or not took:
        raise BenchError("Nothing was acknowledged.")
    per = used.per(count)
    return {
        "messages per second": count / took,
        "messages": count,
        "P50 ms": done["p50"],
        "P99 ms": done["p99"],
        "api µs": per["api µs"],
        "postgres µs": per["postgres µs"],
    }
