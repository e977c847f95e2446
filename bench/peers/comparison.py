"""The comparison: each peer in turns, forwards and then backwards, each time with new servers of its own."""

from __future__ import annotations

from collections.abc import Sequence

from bench.accept import describe, median
from bench.findings import Findings, Row
from bench.peers import peer
from bench.peers.convoy import Convoy
from bench.peers.hook0 import Hook0
from bench.peers.loads import CONNECTIONS, RATE, Loads
from bench.peers.outpost import Outpost
from bench.peers.svix import Svix
from bench.peers.triggers import Triggers
from bench.processes import BenchError, place
from bench.receiver import receiver

PEERS: Sequence[peer.Peer] = (Triggers(), Svix(), Outpost(), Convoy(), Hook0())
SECONDS, QUICK_SECONDS = 10, 1


def run(*, quick: bool, peers: Sequence[peer.Peer] = PEERS) -> Findings:
    """Measure each peer whose programs are there, and say of the others what is missing."""
    found = Findings(f"peers: {CONNECTIONS} connections; sent → received at {RATE}/s")
    present = []
    for each in peers:
        if absent := peer.missing(each):
            found.notes.append(f"{each.name} was not measured: {absent}")
        else:
            present.append(each)
    rounds = _rounds(found, present, quick)
    found.rows = [{"": name, **median(rows)} for name, rows in rounds.items() if rows]
    found.facts["rounds"] = rounds
    found.page = markdown(found.rows)
    return found


def _rounds(found: Findings, peers: Sequence[peer.Peer], quick: bool) -> dict[str, list[Row]]:
    """Each peer twice, so that a machine that becomes slower does not favour the first one."""
    rounds: dict[str, list[Row]] = {each.name: [] for each in peers}
    turns = [*peers] if quick else [*peers, *reversed(peers)]
    failed: set[str] = set()
    for each in turns:
        if each.name in failed:
            continue
        try:
            row, durable = measure(each, QUICK_SECONDS if quick else SECONDS)
        except Exception as error:  # noqa: BLE001 - a peer that breaks must not cost the others their figures
            failed.add(each.name)
            kind = "" if isinstance(error, BenchError) else f"{type(error).__name__}: "
            found.notes.append(f"{each.name} failed: {kind}{error}")
            continue
        rounds[each.name].append(row)
        if each.name not in found.facts:
            found.facts[each.name] = durable
            found.notes.append(f"{each.name} {each.promise}. {describe(durable)}")
    return rounds


def measure(each: peer.Peer, seconds: float) -> tuple[Row, dict[str, str]]:
    """One round. The latency comes before the load that may leave a backlog."""
    with place() as home, receiver() as nginx, each.start(home) as running:
        loads = Loads(each, running, seconds)
        row = {
            **loads.accept(),
            **loads.latency(),
            **loads.deliver(nginx),
            **loads.faults(),
            "memory MiB": sum(peer.memory_mib(running).values()),
        }
        return row, loads.durability()


def markdown(rows: Sequence[Row]) -> str:
    """The rows as a table for the documentation."""
    if not rows:
        return ""
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = ["| " + " | ".join(names) + " |", "|---" * len(names) + "|"]
    for row in rows:
        texts = [_text(row.get(name)) for name in names[1:]]
        lines.append("| " + " | ".join([str(row[""]), *texts]) + " |")
    return "\n".join(lines)


def _text(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 20 else f"{value:.1f}"
