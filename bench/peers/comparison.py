"""The comparison: the same loads on each peer, in turns, each with servers of its own."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import uvloop

from bench import load
from bench.findings import Findings, Row
from bench.peers import peer
from bench.peers.convoy import Convoy
from bench.peers.hook0 import Hook0
from bench.peers.outpost import Outpost
from bench.peers.svix import Svix
from bench.peers.triggers import Triggers
from bench.probe import Probe, Taken
from bench.processes import BenchError, place
from bench.receiver import Receiver, receiver

PEERS: Sequence[peer.Peer] = (Triggers(), Svix(), Outpost(), Convoy(), Hook0())
CONNECTIONS = 64
RATE = 300
PATIENCE_SECONDS = 60


def run(*, quick: bool, peers: Sequence[peer.Peer] = PEERS) -> Findings:
    """Measure each peer whose programs are there, and say of the others what is missing."""
    found = Findings(f"peers: {CONNECTIONS} connections; sent → received at {RATE}/s")
    for each in peers:
        if absent := peer.missing(each):
            found.notes.append(f"{each.name} was not measured: {absent}")
            continue
        try:
            row, durable = measure(each, 1 if quick else 15)
        except BenchError as error:
            found.notes.append(f"{each.name} failed: {error}")
            continue
        found.rows.append(row)
        found.facts[each.name] = durable
        settings = ", ".join(f"{name} {value}" for name, value in durable.items())
        found.notes.append(f"{each.name} {each.promise}. {settings}")
    found.page = markdown(found.rows)
    return found


def measure(each: peer.Peer, seconds: float) -> tuple[Row, dict[str, str]]:
    """Accept; accept and deliver; sent → received; memory. Its stores answer how they write."""
    with place() as home, receiver() as nginx, each.start(home) as running:
        row = {
            "": each.name,
            **_accept(running, seconds),
            **_deliver(running, nginx, seconds),
            **_latency(running, seconds),
            "memory MiB": sum(peer.memory_mib(running).values()),
        }
        return row, dict(uvloop.run(running.durability()))


def markdown(rows: Sequence[Row]) -> str:
    """The rows as a table for the documentation."""
    if not rows:
        return ""
    lines = ["| " + " | ".join(rows[0]) + " |", "|---" * len(rows[0]) + "|"]
    for row in rows:
        texts = [f"{value:,.0f}" if abs(value) >= 20 else f"{value:.1f}" for value in list(row.values())[1:]]
        lines.append("| " + " | ".join([str(row[""]), *texts]) + " |")
    return "\n".join(lines)


def _post(running: peer.Running, tenant: peer.Tenant, seconds: float) -> load.Load:
    done: dict[str, Any] = load.run(
        "peer.lua",
        f"http://127.0.0.1:{running.port}{tenant.path}",
        seconds=seconds,
        connections=CONNECTIONS,
        environment={
            "HEADERS": "\n".join(f"{name}: {value}" for name, value in tenant.headers.items()),
            "BODY": tenant.body,
        },
    )[0]
    return load.Load(**done)


def _accept(running: peer.Running, seconds: float) -> Row:
    tenant = running.tenant(None)
    _post(running, tenant, 1)
    before = peer.cpu(running)
    done = _post(running, tenant, seconds)
    return {
        "accepted/s": done.rate,
        "P99 ms": done.p99,
        "CPU µs an event": _spent(running, before) / done.requests * 1e6,
    }


def _deliver(running: peer.Running, nginx: Receiver, seconds: float) -> Row:
    """CPU until the last one has arrived, by event; the rate is that of the arrivals until then."""
    tenant = running.tenant(nginx.url + "/hook")
    before, cpu = nginx.received(), peer.cpu(running)
    began = time.monotonic()
    done = _post(running, tenant, seconds)
    ends = time.monotonic() + PATIENCE_SECONDS
    arrived, last = nginx.received() - before, time.monotonic()
    while arrived < done.requests and time.monotonic() < ends:
        time.sleep(0.1)
        if (now := nginx.received() - before) > arrived:
            arrived, last = now, time.monotonic()
    spent = _spent(running, cpu)
    return {
        "accepted while delivering/s": done.rate,
        "delivered/s": arrived / (last - began),
        "delivered %": 100 * min(1.0, arrived / done.requests),
        "CPU µs a delivery": spent / max(arrived, 1) * 1e6,
    }


def _latency(running: peer.Running, seconds: float) -> Row:
    """A tenant of its own; what is left over of the load before is part of what a peer has to bear."""
    taken = uvloop.run(_probe(running, seconds))
    row = taken.row()
    return {
        "received P50 ms": row["received P50 ms"],
        "received P99 ms": row["received P99 ms"],
        "lost": float(taken.lost),
    }


async def _probe(running: peer.Running, seconds: float) -> Taken:
    tenant: peer.Tenant | None = None

    def request(number: int, _: str) -> bytes:
        assert tenant is not None
        body = tenant.body.replace(peer.NUMBER, str(number))
        lines = [f"POST {tenant.path} HTTP/1.1", "host: bench", f"content-length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in tenant.headers.items()]
        return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()

    async with Probe(request, running.accepted) as probe:
        tenant = running.tenant(probe.url)
        await probe.try_send(running.port, "", rate=100, seconds=2)
        return await probe.try_send(running.port, "", rate=RATE, seconds=seconds)


def _spent(running: peer.Running, before: dict[str, float]) -> float:
    return sum(peer.cpu(running).values()) - sum(before.values())
