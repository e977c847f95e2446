"""From sent to received, in an open loop: 300 and 1,000 events a second, each delivered at once."""

from __future__ import annotations

import uvloop

from bench.findings import Findings
from bench.probe import Probe, Taken
from bench.processes import Service, place
from bench.pushing import OPEN, subscribe

WANTED = {300: (5, 15), 1000: (8, 40)}
"""P50 and P99 in ms, by rate."""


def run(*, quick: bool) -> Findings:
    """One subscription, default inbox beside it."""
    found = Findings("latency: sent → received, open loop")
    with place() as home, Service(home, **OPEN) as service:
        for rate, taken in uvloop.run(_measure(service, 4 if quick else 15)).items():
            row = taken.row()
            found.rows.append({"": f"{rate:,} events/s", **row})
            found.below(f"{rate:,}/s P50 ms", row["received P50 ms"], WANTED[rate][0])
            found.below(f"{rate:,}/s P99 ms", row["received P99 ms"], WANTED[rate][1])
    found.notes.append("timed from the moment each was to be sent; sender and receiver share a clock")
    return found


async def _measure(service: Service, seconds: float) -> dict[int, Taken]:
    async with Probe() as probe:
        subscribe(service, service.key, probe.url, format="raw")
        await probe.send(service.port, service.key, rate=100, seconds=2)
        return {
            rate: await probe.send(service.port, service.key, rate=rate, seconds=seconds) for rate in WANTED
        }
