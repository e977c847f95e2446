"""How long another organisation's new event takes while one has a mountain of work that goes nowhere."""

from __future__ import annotations

import socket

import uvloop

from bench.findings import Findings
from bench.probe import Probe, Taken
from bench.processes import Service, fill, place, wait_for
from bench.pushing import OPEN, subscribe, subscribe_all, without_inbox
from bench.receiver import receiver

RATE = 20


def run(*, quick: bool) -> Findings:
    """A slow endpoint behind a backlog, then a thousand hosts that take connections and never answer."""
    backlog, hosts, seconds = (20_000, 100, 5) if quick else (200_000, 1000, 20)
    found = Findings(f"neighbours: B posts {RATE} events/s while A has {backlog:,} deliveries due")
    with place() as home, receiver() as nginx, Service(home, **OPEN) as service, _silent() as port:
        quiet = uvloop.run(_probe(service, seconds))
        found.rows.append({"": "A has nothing", **quiet.row()})

        key = without_inbox(service)
        slow = subscribe(service, key, nginx.url + "/slow")
        service.must("POST", f"/v1/subscriptions/{slow}/pause", key=key)
        fill(service, key, backlog)
        before = nginx.received()
        service.must("POST", f"/v1/subscriptions/{slow}/resume", key=key)
        wait_for(lambda: nginx.received() > before, 30, "delivery to the slow endpoint")
        taken = uvloop.run(_probe(service, seconds))
        found.rows.append({"": "A's endpoint takes 1 to 2 s", **taken.row()})
        found.below("slow endpoint: P99 ms", taken.row()["received P99 ms"], 250)
        service.must("DELETE", f"/v1/subscriptions/{slow}", key=key)

        key = without_inbox(service)
        subscribe_all(
            service,
            (
                (key, {"target_url": f"http://127.1.{host // 250}.{host % 250 + 1}:{port.getsockname()[1]}/"})
                for host in range(hosts)
            ),
        )
        fill(service, key, backlog // hosts)
        taken = uvloop.run(_probe(service, seconds))
        found.rows.append({"": f"A has {hosts:,} hosts that never answer", **taken.row()})
        found.below("hanging hosts: P99 ms", taken.row()["received P99 ms"], 250)
    return found


def _silent() -> socket.socket:
    """Takes connections on every loopback address, and nobody reads from them."""
    listening = socket.socket()
    listening.bind(("", 0))
    listening.listen(4096)
    return listening


async def _probe(service: Service, seconds: float) -> Taken:
    """An organisation that is new each time."""
    async with Probe() as probe:
        key = service.organisation()
        subscribe(service, key, probe.url, format="raw")
        await probe.send(service.port, key, rate=RATE, seconds=1)
        return await probe.send(service.port, key, rate=RATE, seconds=seconds)
