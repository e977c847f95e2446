"""POST /v1/events with key, dedup_id and default inbox, beside a no-op app under the same server."""

from __future__ import annotations

import statistics
import time
from typing import Any

import psutil

from bench import database, load
from bench.findings import Findings, Ratio, Row
from bench.processes import BenchError, Service, cpu_seconds, noop, place


def run(*, quick: bool) -> Findings:
    """Turn by turn, so that a busy machine is busy for both."""
    rounds, seconds = (3, 3) if quick else (5, 8)
    found = Findings("accept: POST /v1/events one by one, 64 connections")
    with place() as home, noop() as plain, noop("ours") as ours, Service(home) as service:
        for warm in (plain[0], ours[0], service.url):
            load.post(warm + "/v1/events", service.key, seconds=1)
        turns: list[tuple[Row, Row, Row]] = []
        for _ in range(rounds):
            bare = measure_noop(*plain, service.key, seconds)
            dressed = measure_noop(*ours, service.key, seconds)
            turns.append((bare, dressed, measure(service, seconds)))
        columns = list(zip(*turns, strict=True))
        names = ("no-op app, uvicorn as it comes", "no-op app, uvicorn as we run it", "POST /v1/events")
        found.rows = [{"": name, **median(list(rows))} for name, rows in zip(names, columns, strict=True)]
        ratios = [[turn[2]["per second"] / turn[base]["per second"] for turn in turns] for base in (0, 1)]
        found.at_least("ratio to the no-op app", statistics.median(ratios[0]), 0.38)
        found.ratios.append(Ratio("ratio to the no-op app as we run it", statistics.median(ratios[1])))
        found.below("P99 ms", found.rows[2]["P99 ms"], 15)
        durable = database.durability(service)
        found.notes.append("each event durable before its 201: " + describe(durable))
        found.facts = {"durability": durable, "ratios": ratios, "rounds": turns}
    return found


def measure_noop(url: str, process: psutil.Process, key: str, seconds: float, **options: Any) -> Row:
    """One round against the no-op app."""
    before = cpu_seconds(process)
    done = load.post(url + "/v1/events", key, seconds=seconds, **options)
    return {**done.row(), "api µs": (cpu_seconds(process) - before) / done.requests * 1e6}


def measure(service: Service, seconds: float, key: str | None = None, **options: Any) -> Row:
    """One round against the service; what it answered must be what it stored."""
    key = key or service.key
    before, cpu = stored(service), service.cpu()
    done = load.post(service.url + "/v1/events", key, seconds=seconds, **options)
    used = service.cpu().since(cpu)
    count = stored(service) - before
    check_stored(count + done.repeated, done.requests, options.get("connections", 64))
    per = used.per(count)
    return {**done.row(), "api µs": per["api µs"], "postgres µs": per["postgres µs"]}


def median(rows: list[Row]) -> Row:
    """Column by column."""
    return {name: statistics.median(row[name] for row in rows) for name in rows[0]}


def describe(durable: dict[str, str]) -> str:
    """PostgreSQL's own words, in a line."""
    return ", ".join(f"{name} {value}" for name, value in durable.items())


def stored(service: Service) -> int:
    """How many events stand in the log, once those that were in flight when the load ended do too."""
    count = -1
    while count != (count := int(database.value(service, "select count(*) from events"))):
        time.sleep(0.2)
    return count


def check_stored(count: int, answered: int, in_flight: int) -> None:
    """Raise unless what is stored is what was answered, give or take what was in flight at the end."""
    if not answered <= count <= answered + in_flight:
        raise BenchError(f"{answered} events were answered, but {count} are stored.")
