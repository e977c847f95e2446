"""What is asked of each peer: to accept, to deliver one by one in time, and to accept and deliver at once."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import uvloop

from bench import load
from bench.findings import Row
from bench.peers import peer
from bench.probe import Probe, Taken
from bench.processes import BenchError
from bench.receiver import Receiver

CONNECTIONS = 64
RATE = 300
PATIENCE_SECONDS = 60
LAST_ROWS_SECONDS = 20
"""Longer than any peer holds rows back: Outpost writes its log every 10 seconds."""
REST_SECONDS = 20
AT_REST = 0.1
"""CPU seconds in a second. The clocks of Erlang, Redis and PostgreSQL take less."""


class Loads:
    """The loads on one running peer. Each begins when the peer has nothing left to do."""

    def __init__(self, asked: peer.Peer, running: peer.Running, seconds: float) -> None:
        self._peer = asked
        self._running = running
        self._seconds = seconds
        self._lost = self._repeated = 0

    def accept(self) -> Row:
        """Events without a receiver. A peer that stores no such event does nothing that could be compared."""
        if not self._peer.stores_unmatched:
            return {}
        tenant = self._running.tenant(None)
        self._post(tenant, 1)
        self._rest()
        stored, cpu = self._stored(), self._cpu()
        done = self._post(tenant, self._seconds)
        self._rest()
        spent = self._cpu() - cpu
        if self._wait_for_stored(stored + done.requests) < stored + done.requests:
            raise BenchError(f"{done.requests} events were answered, {self._stored() - stored} are stored")
        return {"accepted/s": done.rate, "P99 ms": done.p99, "CPU µs an event": spent / done.requests * 1e6}

    def latency(self) -> Row:
        """A tenant of its own, at a rate that every peer can bear."""
        stored = self._stored()
        warm_up, taken = uvloop.run(self._probe())
        self._rest()
        # The next load counts rows from here, so none of these may be written later.
        wanted = stored + len(warm_up.after_answer) + len(taken.after_answer)
        self._lost += taken.lost + max(0, wanted - self._wait_for_stored(wanted))
        row = taken.row()
        return {name: row[name] for name in ("received P50 ms", "received P99 ms")}

    def deliver(self, nginx: Receiver) -> Row:
        """The rate is that of the arrivals until the last; the CPU time is that until the peer rests."""
        tenant = self._running.tenant(nginx.url + "/hook")
        stored, received, cpu = self._stored(), nginx.received(), self._cpu()
        began = time.monotonic()
        done = self._post(tenant, self._seconds)
        arrived, last = _arrivals(lambda: nginx.received() - received, done.requests)
        self._rest()
        spent = self._cpu() - cpu
        delivered = nginx.received() - received
        new = self._wait_for_stored(stored + max(done.requests, delivered)) - stored
        # wrk ends with up to 64 events in flight. They were not answered, so a peer may keep them or not.
        self._lost += max(0, done.requests - min(new, delivered))
        self._repeated += max(0, delivered - new)
        return {
            "accepted while delivering/s": done.rate,
            "delivered/s": arrived / (last - began),
            "CPU µs a delivery": spent / max(delivered, 1) * 1e6,
        }

    def faults(self) -> Row:
        """Events that were answered and are not stored or did not arrive, and those that arrived again."""
        return {"lost": float(self._lost), "repeated": float(self._repeated)}

    def durability(self) -> dict[str, str]:
        """What the stores say of how they write."""
        return dict(uvloop.run(self._running.durability()))

    def _post(self, tenant: peer.Tenant, seconds: float) -> load.Load:
        done: dict[str, Any] = load.run(
            "peer.lua",
            f"http://127.0.0.1:{self._running.port}{tenant.path}",
            seconds=seconds,
            connections=CONNECTIONS,
            environment={
                "HEADERS": "\n".join(f"{name}: {value}" for name, value in tenant.headers.items()),
                "BODY": tenant.body,
            },
        )[0]
        return load.Load(**done)

    async def _probe(self) -> tuple[Taken, Taken]:
        tenant: peer.Tenant | None = None

        def request(number: int, _: str) -> bytes:
            assert tenant is not None
            body = tenant.body.replace(peer.NUMBER, str(number))
            lines = [f"POST {tenant.path} HTTP/1.1", "host: bench", f"content-length: {len(body)}"]
            lines += [f"{name}: {value}" for name, value in tenant.headers.items()]
            return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()

        async with Probe(request, self._running.accepted) as probe:
            tenant = self._running.tenant(probe.url)
            warm_up = await probe.try_send(self._running.port, "", rate=100, seconds=2)
            return warm_up, await probe.try_send(self._running.port, "", rate=RATE, seconds=self._seconds)

    def _cpu(self) -> float:
        return sum(peer.cpu(self._running).values())

    def _rest(self) -> None:
        """Return once it has nothing left to do. Work that it put off is part of what an event costs."""
        ends = time.monotonic() + REST_SECONDS
        before = self._cpu()
        while time.monotonic() < ends:
            time.sleep(1)
            if (now := self._cpu()) - before < AT_REST:
                return
            before = now

    def _stored(self) -> int:
        return uvloop.run(peer.count(self._running.place, self._peer.events))

    def _wait_for_stored(self, wanted: int) -> int:
        """Events in its PostgreSQL, once they are so many or stay fewer."""
        ends = time.monotonic() + LAST_ROWS_SECONDS
        while (found := self._stored()) < wanted and time.monotonic() < ends:
            time.sleep(0.5)
        return found


def _arrivals(received: Callable[[], int], wanted: int) -> tuple[int, float]:
    """How many have arrived when all have or no more are waited for, and when the last of them was seen."""
    arrived, last = received(), time.monotonic()
    ends = last + PATIENCE_SECONDS
    while arrived < wanted and time.monotonic() < ends:
        time.sleep(0.1)
        if (now := received()) > arrived:
            arrived, last = now, time.monotonic()
    return arrived, last
