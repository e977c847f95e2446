"""What a user with ten clients does: ingest, look into the inbox, acknowledge."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench import load
from bench.findings import Findings, Row
from bench.processes import Service, place

CLIENTS = 10


def run(*, quick: bool) -> Findings:
    """70 % ingest, 20 % inbox, 10 % ack for ten seconds; then a hundred requests to each route."""
    found = Findings(
        f"mixed: {CLIENTS} clients, 70 % ingest, 20 % inbox, 10 % ack; then 100 requests to each"
    )
    with place() as home, Service(home) as service:
        key = service.organisation()
        for each in _run(service, key, "mixed", 0, 4 if quick else 10):
            found.rows.append(_row(f"mixed: {each['kind']}", each))
        ids = Path(home, "ids")
        events = [{"type": "order.paid", "payload": {"order": number}} for number in range(200)]
        accepted = service.must("POST", "/v1/events/batch", events, key)["results"]
        ids.write_text("".join(f"{each['id']}\n" for each in accepted))
        for kind in ("ingest", "inbox", "ack", "events"):
            each = _run(service, key, kind, 100 // CLIENTS, 5, ids)[0]
            found.rows.append(_row(f"100 × {_ROUTES[kind]}", each))
    found.notes.append("timed in wrk; 100 × are the first of their kind on a service that has just been busy")
    return found


_ROUTES = {
    "ingest": "POST /v1/events",
    "inbox": "GET /v1/inbox",
    "ack": "POST /v1/ack",
    "events": "GET /v1/events",
}


def _run(service: Service, key: str, kind: str, each: int, seconds: float, *more: Path) -> list[Any]:
    arguments = [key, kind, kind, str(each), *map(str, more)]
    return load.run(
        "mixed.lua", service.url, *arguments, seconds=seconds, connections=CLIENTS, threads=CLIENTS
    )


def _row(name: str, each: dict[str, Any]) -> Row:
    return {
        "": name,
        "requests": each["requests"],
        "P50 ms": each["p50"],
        "P95 ms": each["p95"],
        "P99 ms": each["p99"],
    }
