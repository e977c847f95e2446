"""How long each page of the console takes on a service that holds millions of events."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

import httpx

from bench import database
from bench.findings import Findings, Row
from bench.probe import Probe, percentile
from bench.processes import BenchError, Service, place
from bench.pushing import OPEN, subscribe, without_inbox

READERS = 4
EVENTS_A_SECOND = 500
SUBSCRIPTIONS = 20
STATISTICS_SECONDS = 12
"""PostgreSQL adds the counts of an idle connection to its statistics after ten seconds."""
ASKED_FOR_ROWS = 10

_FURNISH: Final = (
    # An id of the last half hour, for event number n of so many.
    """
create function pg_temp.made_id(n bigint, events bigint) returns uuid language sql as $$
    select (
        lpad(to_hex((extract(epoch from now()) * 1000)::bigint - ((events - n) * 1800000 / events)), 12, '0')
        || '7' || substr(md5(n::text), 1, 3) || '8' || substr(md5(n::text), 4, 15)
    )::uuid
$$""",
    """
create temporary view owner as
select org_id, id, lane_group, row_number() over (partition by org_id order by id) - 1 as place
from subscriptions where kind = 'push'""",
)
_EVENTS: Final = """
insert into events (org_id, id, type, payload, subject)
select $1, pg_temp.made_id(n, $2), 'invoice.' || (array['created', 'paid', 'failed'])[1 + n % 3],
    convert_to('{"n":' || n || ',"text":"' || repeat('x', 150) || '"}', 'UTF8'), 'customer-' || n % 1000
from generate_series(1, $2::bigint) as n"""
_PENDING: Final = """
insert into deliveries (org_id, subscription_id, event_id, due_at, accepted_at, payload_size, lane_group,
    attempts, first_attempt_at, reason)
select $1, o.id, pg_temp.made_id(n, $2), now() + interval '6 h', now() - interval '20 min', 170, o.lane_group,
    4, now() - interval '15 min', 'unavailable'
from generate_series($3::bigint, $2::bigint, $3::bigint) as n
join owner o on o.org_id = $1 and o.place = n / $3 % $4"""
_DEAD: Final = """
insert into settled_deliveries (org_id, subscription_id, event_id, generation, status, reason, lease_count,
    attempts, accepted_at, first_attempt_at, settled_at)
select $1, o.id, pg_temp.made_id(n, $2), 0, 'dead', 'unavailable (exhausted)', 0,
    9, now() - interval '20 min', now() - interval '15 min', now()
from generate_series(1, $2::bigint, 10 * $3::bigint) as n
join owner o on o.org_id = $1 and o.place = n / (10 * $3) % $4"""


def run(*, quick: bool) -> Findings:
    """Open each page again and again, with four readers, beside 500 events a second."""
    events, undelivered, seconds = (50_000, 5_000, 2.0) if quick else (5_000_000, 500_000, 10.0)
    found = Findings(f"console: {events:,} events, {undelivered:,} undelivered; {READERS} readers")
    with place() as home, Service(home, **OPEN) as service:
        key = without_inbox(service)
        made = [
            subscribe(
                service, key, f"https://example.com/{n}", event_types=["invoice.*"], name=f"endpoint {n}"
            )
            for n in range(SUBSCRIPTIONS)
        ]
        _furnish(service, key, events, undelivered)
        pages = _pages(service, key, made[0])
        cookie = _signed_in(service, key)
        before = {
            name: {} if quick else _rows_looked_at(service, path, cookie) for name, path in pages.items()
        }
        taken = asyncio.run(_read(service, key, cookie, pages, seconds))
    for name, times in taken.items():
        found.rows.append({"": name, "opened": len(times), **_times(times), **before[name]})
    found.notes.append(
        "rows: read from tables and indexes for one page, as PostgreSQL counts them, before the load"
    )
    return found


def _furnish(service: Service, key: str, events: int, undelivered: int) -> None:
    async def fill(connection: Any) -> None:
        org_id = await connection.fetchval("select org_id from api_keys where prefix = $1", key[:12])
        await connection.execute("set synchronous_commit = off")
        each = events // undelivered
        for statement in _FURNISH:
            await connection.execute(statement)
        await connection.execute(_EVENTS, org_id, events)
        for statement in (_PENDING, _DEAD):
            await connection.execute(statement, org_id, events, each, SUBSCRIPTIONS, timeout=600)
        await connection.execute("vacuum analyze")

    database.with_connection(service, fill)


def _pages(service: Service, key: str, subscription: str) -> dict[str, str]:
    """The pages by name, with ids of what there is."""
    event = service.must("GET", "/v1/events?limit=1", key=key)["events"][0]["id"]
    pages = {
        "events": "events",
        "events of a type": "events?type=invoice.paid",
        "events, undelivered": "events?undelivered=true",
        "one event": f"events/{event}",
        "subscriptions": "subscriptions",
        "one subscription": f"subscriptions/{subscription}",
        "search": "search?q=customer-77",
        "overview": "overview",
        "undelivered": "undelivered",
        "inboxes": "inboxes",
        "access": "access",
    }
    return {name: f"/console/{path}" for name, path in pages.items()}


def _signed_in(service: Service, key: str) -> str:
    """The cookie of a session."""
    with httpx.Client(base_url=service.url, trust_env=False) as client:
        answer = client.post("/console/sign-in", data={"key": key}, headers={"origin": service.url})
        cookie = answer.headers.get("set-cookie")
    if cookie is None:
        raise BenchError(f"Signing in: {answer.status_code}")
    return str(cookie).partition(";")[0]


def _rows_looked_at(service: Service, path: str, cookie: str) -> Row:
    """Rows that PostgreSQL read for one page, less what the service reads meanwhile by itself."""

    def total() -> int:
        time.sleep(STATISTICS_SECONDS)
        statement = (
            "select tup_returned + tup_fetched from pg_stat_database where datname = current_database()"
        )
        return int(database.value(service, statement))

    first = total()
    second = total()
    with httpx.Client(base_url=service.url, trust_env=False, headers={"cookie": cookie}) as client:
        for _ in range(ASKED_FOR_ROWS):
            _check(client.get(path), path)
    third = total()
    return {"rows": max(0, third - second - (second - first)) // ASKED_FOR_ROWS}


async def _read(
    service: Service, key: str, cookie: str, pages: dict[str, str], seconds: float
) -> dict[str, list[float]]:
    taken: dict[str, list[float]] = {name: [] for name in pages}
    async with Probe() as probe:
        await asyncio.to_thread(subscribe, service, key, probe.url, event_types=["bench.probe"])
        sending = asyncio.create_task(
            probe.send(service.port, key, rate=EVENTS_A_SECOND, seconds=seconds * len(pages))
        )
        limits = httpx.Limits(max_connections=READERS)
        async with httpx.AsyncClient(
            base_url=service.url, trust_env=False, headers={"cookie": cookie}, limits=limits, timeout=60
        ) as client:
            for name, path in pages.items():
                until = time.perf_counter() + seconds
                await asyncio.gather(*[_reader(client, path, until, taken[name]) for _ in range(READERS)])
        await sending
    return taken


async def _reader(client: httpx.AsyncClient, path: str, until: float, taken: list[float]) -> None:
    while time.perf_counter() < until:
        began = time.perf_counter()
        _check(await client.get(path), path)
        taken.append((time.perf_counter() - began) * 1000)


def _check(answer: httpx.Response, path: str) -> None:
    if answer.status_code != 200:
        raise BenchError(f"{path}: {answer.status_code} {answer.headers.get('location', '')}")


def _times(taken: list[float]) -> Row:
    return {"P50 ms": percentile(taken, 0.5), "P95 ms": percentile(taken, 0.95), "longest ms": max(taken)}
