"""The whole road at once: 64 connections post while the worker delivers each event to nginx."""

from __future__ import annotations

import statistics
from typing import Any

from bench import accept, database, load
from bench.findings import Findings, Ratio, Row
from bench.processes import Service, noop, place, wait_for
from bench.pushing import OPEN, subscribe
from bench.receiver import Receiver, receiver


def run(*, quick: bool) -> Findings:
    """Closed loop, the default inbox beside the subscription, the no-op app in turn."""
    rounds, seconds = (2, 4) if quick else (3, 15)
    found = Findings("road: accepted and delivered at once, 64 connections")
    with place() as home, noop() as bare, receiver() as nginx, Service(home, **OPEN) as service:
        subscribe(service, service.key, nginx.url + "/hook")
        load.post(service.url + "/v1/events", service.key, seconds=2)
        turns = [
            (accept.measure_noop(*bare, service.key, seconds / 3), measure(service, nginx, seconds))
            for _ in range(rounds)
        ]
        found.facts = {"rounds": turns, "durability": database.durability(service)}
    floor, row = (accept.median(list(rows)) for rows in zip(*turns, strict=True))
    found.rows = [{"": "no-op app", **floor}, {"": "accepted and delivered", **row}]
    ratios = [both["delivered per second"] / alone["per second"] for alone, both in turns]
    found.at_least("ratio to the no-op app", statistics.median(ratios), 0.16)
    found.below("backlog at the end, in seconds", row["backlog seconds"], 1)
    total = row["api µs"] + row["worker µs"] + row["postgres µs"]
    found.ratios.append(Ratio("CPU ms per event, API and worker and PostgreSQL", total / 1000))
    found.notes.append("CPU by event that was both accepted and delivered; no-op row: the app itself")
    return found


def measure(service: Service, nginx: Receiver, seconds: float, **options: Any) -> Row:
    """One round; it ends with nothing left over for the next."""
    delivered, cpu, spent = nginx.received(), service.cpu(), nginx.cpu()
    done = load.post(service.url + "/v1/events", options.pop("key", service.key), seconds=seconds, **options)
    delivered = nginx.received() - delivered
    used = service.cpu().since(cpu)
    backlog = _due(service)
    wait_for(lambda: not _due(service), 60, "end of the backlog")
    rate = delivered / done.seconds
    return {
        **done.row(),
        "delivered per second": rate,
        "backlog": backlog,
        "backlog seconds": backlog / max(rate, 1),
        **used.per(delivered),
        "nginx µs": (nginx.cpu() - spent) / max(delivered, 1) * 1e6,
    }


def _due(service: Service) -> int:
    statement = "select count(*) from deliveries where lane_group is not null and due_at <= now()"
    return int(database.value(service, statement))
