"""Outages of PostgreSQL during which nobody dies, and the death of a worker during which PostgreSQL lives."""

from __future__ import annotations

import asyncio
import base64
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from itertools import chain
from typing import NamedTuple

import uvloop

from bench import database
from bench.cluster import Cluster, cluster
from bench.findings import Findings, Row
from bench.probe import Probe, percentile
from bench.processes import Service, fill, place
from bench.pushing import OPEN, subscribe, without_inbox
from bench.receiver import Receiver, receiver

OUTAGE_SECONDS = 8
LANES = 10
LANE_RATE = 20
"""Deliveries a second that each lane may make: together what one of two workers makes with ease."""
PROBES = 8
PROBE_RATE = 5
FULL_RATE = 0.9 * LANES * LANE_RATE
"""A window of a second is not exact."""
PATIENCE_SECONDS = 60


def run(*, quick: bool) -> Findings:
    """PostgreSQL frozen, then stopped at once and started again; then one of two workers is killed."""
    outages = 1 if quick else 4
    found = Findings(
        f"outage: {LANES} lanes of {LANE_RATE}/s, two workers; PostgreSQL gone {OUTAGE_SECONDS} s at a time"
    )
    for kind in OUTAGES:
        with _world(outages) as world:
            _go_through(found, world, kind, outages)
    with _world(1) as world:
        before = world.meter.steady()
        world.workers[0].kill()
        seconds = world.meter.seconds_until_full()
        found.rows.append({"": "worker killed", "rate before": before, "seconds to full rate": seconds})
        found.below("worker killed: seconds to full rate", seconds, 6)
    found.notes.append(f"full rate: {FULL_RATE:g} deliveries/s for a second; rate before: of three seconds")
    found.notes.append("answer → delivery: events of eight other lanes, of which some are refused meanwhile")
    return found


def _go_through(found: Findings, world: World, kind: str, outages: int) -> None:
    """So many outages one after the other, and what became of deliveries and workers."""
    registered = _registered(world.service)
    delays: list[float] = []
    for number in range(1, outages + 1):
        row, more = uvloop.run(_one(world, kind))
        delays += more
        found.rows.append({"": f"{kind}, {number}", **row})
        found.below(f"{kind}, {number}: seconds to full rate", row["seconds to full rate"], 5)
    declared_dead = _registered(world.service) - registered
    found.rows.append({"": f"{kind}, all", **_percentiles(delays), "declared dead": declared_dead})
    found.below(f"{kind}: workers declared dead", declared_dead, 1)


async def _one(world: World, kind: str) -> tuple[Row, list[float]]:
    """One outage while probes are posted; what it did, and the milliseconds of each accepted probe."""
    async with AsyncExitStack() as stack:
        probes = [await stack.enter_async_context(Probe()) for _ in range(PROBES)]
        keys = await asyncio.to_thread(_subscribe_probes, world.service, [probe.url for probe in probes])
        posting = asyncio.gather(
            *[
                probe.try_send(
                    world.service.port,
                    key,
                    rate=PROBE_RATE,
                    seconds=OUTAGE_SECONDS + 10,
                    patience_seconds=PATIENCE_SECONDS,
                )
                for probe, key in zip(probes, keys, strict=True)
            ]
        )
        before, seconds = await asyncio.to_thread(_break, world, OUTAGES[kind])
        taken = await posting
    delays = list(chain.from_iterable(each.after_answer for each in taken))
    row = {"rate before": before, "seconds to full rate": seconds, **_percentiles(delays)}
    return {**row, "refused": sum(each.lost for each in taken)}, delays


def _break(world: World, outage: Outage) -> tuple[float, float]:
    """The rate before, and how many seconds after PostgreSQL's return it was reached again."""
    before = world.meter.steady()
    outage.begin(world.postgres)
    try:
        time.sleep(OUTAGE_SECONDS)
    finally:
        outage.finish(world.postgres)
    return before, world.meter.seconds_until_full()


def _subscribe_probes(service: Service, urls: list[str]) -> list[str]:
    keys = [without_inbox(service) for _ in urls]
    for key, url in zip(keys, urls, strict=True):
        subscribe(service, key, url, format="raw")
    return keys


def _percentiles(delays: list[float]) -> Row:
    shares = {"P50": 0.5, "P99": 0.99}
    return {f"answer → delivery {name} s": percentile(delays, share) / 1000 for name, share in shares.items()}


def _registered(service: Service) -> int:
    """How many workers ever registered: one that was declared dead and lives does so again."""
    return int(database.value(service, "select count(*) from workers"))


# ---- the world -----------------------------------------------------------------------------------


class Outage(NamedTuple):
    """How PostgreSQL goes and comes back."""

    begin: Callable[[Cluster], None]
    finish: Callable[[Cluster], None]


OUTAGES = {
    "frozen": Outage(Cluster.freeze, Cluster.thaw),
    "stopped at once": Outage(lambda postgres: postgres.stop(immediate=True), Cluster.start),
}


class World(NamedTuple):
    """A PostgreSQL, an API, two workers, and a backlog that moves."""

    postgres: Cluster
    service: Service
    workers: list[subprocess.Popen[bytes]]
    meter: Meter


@contextmanager
def _world(outages: int) -> Iterator[World]:
    """With a backlog that lasts for so many outages."""
    with ExitStack() as stack:
        home = stack.enter_context(place())
        nginx = stack.enter_context(receiver())
        postgres = stack.enter_context(cluster(home))
        secret = base64.b64encode(bytes(32)).decode()
        service = Service(home, database_url=postgres.url, secret_keys=secret, **OPEN)
        stack.enter_context(service)
        workers = [stack.enter_context(service.worker()) for _ in range(2)]
        key = without_inbox(service)
        for _ in range(LANES):
            subscribe(service, key, nginx.url + "/hook", rate_limit=LANE_RATE)
        fill(service, key, LANE_RATE * (30 + 100 * outages))
        meter = stack.enter_context(Meter(nginx))
        yield World(postgres, service, workers, meter)


class Meter:
    """Looks at the receiver's counter twenty times a second, in a thread of its own."""

    def __init__(self, nginx: Receiver) -> None:
        self._nginx = nginx
        self._looks: deque[tuple[float, int]] = deque(maxlen=200)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Meter:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(0.05):
            self._looks.append((time.monotonic(), self._nginx.received()))

    def _rate(self, seconds: float, since: float) -> float:
        """Deliveries a second over the last so many seconds; 0 unless all of them lie after `since`."""
        looks = list(self._looks)
        earlier = [look for look in looks if since <= look[0] <= looks[-1][0] - seconds]
        if not earlier:
            return 0.0
        return (looks[-1][1] - earlier[-1][1]) / (looks[-1][0] - earlier[-1][0])

    def steady(self) -> float:
        """The rate of three seconds, once it is full or was waited for long enough."""
        began = time.monotonic()
        while (rate := self._rate(3, began)) < FULL_RATE and time.monotonic() - began < PATIENCE_SECONDS:
            time.sleep(0.02)
        return rate

    def seconds_until_full(self) -> float:
        """Seconds from now until a second of full rate begins, or as long as it was waited for."""
        began = time.monotonic()
        while self._rate(1, began) < FULL_RATE:
            if time.monotonic() - began > PATIENCE_SECONDS:
                return PATIENCE_SECONDS
            time.sleep(0.02)
        return time.monotonic() - began - 1
