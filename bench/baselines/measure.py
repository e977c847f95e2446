"""The load of the session: 100 requests per endpoint at 10 concurrent, then a mix for 10 seconds."""

from __future__ import annotations

import http.client
import itertools
import math
import os
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from bench import load
from bench.processes import BenchError

CLIENTS = 10
REQUESTS = 100
_runs = itertools.count(1)


class Target(NamedTuple):
    """An API: its port, the path that its routes are under, a key, and ids to acknowledge."""

    port: int
    under: str
    key: str
    ids: Sequence[str]


class Budget(NamedTuple):
    """Seconds at most: for the requests one by one, for each 100 requests, and for the mix.

    `fresh`: each load has an app of its own, because one that is left works on for half a minute.
    """

    alone: float
    ingest: float
    inbox: float
    ack: float
    mixed: float
    fresh: bool = False


BUDGET = Budget(alone=2, ingest=15, inbox=10, ack=10, mixed=10)
CROWDED_BUDGET = BUDGET._replace(ingest=10, inbox=8, ack=8, mixed=4)
"""For more than one organisation, which the session did not have, so that all of it fits in 15 minutes."""
SLOW_BUDGET = Budget(alone=5, ingest=30, inbox=5, ack=5, mixed=10, fresh=True)
"""For bcrypt: less than 60 seconds together."""
QUICK_BUDGET = Budget(alone=0.5, ingest=2, inbox=1, ack=1, mixed=1)


class Timed(NamedTuple):
    """What one load found: the number of answers, their rate, and P95 in ms; nothing if there was none."""

    answered: int
    per_second: float | None
    p95_ms: float | None


class Taken(NamedTuple):
    """All of it; `alone_ms` is the median of POST /events, one at a time."""

    alone_ms: float
    ingest: Timed
    inbox: Timed
    ack: Timed
    mixed: Timed


def post_alone(target: Target, seconds: float) -> float:
    """Median milliseconds of POST /events over one connection, each sent once the one before is answered."""
    connection = http.client.HTTPConnection("127.0.0.1", target.port, timeout=60)
    headers = {"X-API-Key": target.key, "Content-Type": "application/json"}
    run = f"alone-{os.getpid()}-{next(_runs)}"
    took: list[float] = []
    ends = time.monotonic() + seconds
    while not took or (time.monotonic() < ends and len(took) < 3 * REQUESTS):
        event = {"type": "order.paid", "payload": {"order": len(took)}, "dedup_id": f"{run}-{len(took)}"}
        began = time.perf_counter()
        connection.request("POST", f"{target.under}/events", msgspec.json.encode(event), headers)
        answer = connection.getresponse()
        body = answer.read()
        took.append((time.perf_counter() - began) * 1000)
        if answer.status != 201:
            raise BenchError(f"POST {target.under}/events: {answer.status} {body[:500]!r}")
    connection.close()
    rest = took[len(took) // 10 :]  # the first ones open connections
    return statistics.median(rest)


def requests(target: Target, kind: str, alone_ms: float, at_most_seconds: float, home: Path) -> Timed:
    """100 requests of a kind at 10 concurrent, or as many as are answered in time."""
    file = home / "ids"
    file.write_text("".join(f"{each}\n" for each in target.ids))
    needed = math.ceil(1 + REQUESTS * alone_ms / 1000 * 1.3)
    seconds = min(max(2, needed), at_most_seconds)
    return _run(target, kind, REQUESTS // CLIENTS, seconds, str(file))


def mixed(target: Target, seconds: float) -> Timed:
    """70 % POST /events, 20 % GET /inbox, 10 % POST /ack at 10 concurrent."""
    return _run(target, "mixed", 0, seconds)


def _run(target: Target, kind: str, each: int, seconds: float, *more: str) -> Timed:
    name = f"{kind}-{os.getpid()}-{next(_runs)}"
    found: list[dict[str, Any]] = load.run(
        "mixed.lua",
        f"http://127.0.0.1:{target.port}",
        *(target.key, name, kind, str(each), *more),
        seconds=seconds,
        connections=CLIENTS,
        threads=CLIENTS,
        environment={"UNDER": target.under},
    )
    together = found[-1]
    if not together["requests"]:
        return Timed(0, None, None)
    rate = together["requests"] / max(together["seconds"], 0.001)
    return Timed(together["requests"], rate, together["p95"])
