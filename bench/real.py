"""329 payloads that GitHub sends, 10 KB on average, one by one."""

from __future__ import annotations

import gzip
import statistics
from pathlib import Path

from bench import accept, database
from bench.findings import Findings, Ratio, Row
from bench.processes import ROOT, Service, noop, place

PAYLOADS = ROOT / "tests/data/github-webhooks.jsonl.gz"


def run(*, quick: bool) -> Findings:
    """Beside the same bytes sent to the no-op app, and to a lone caller on one connection."""
    rounds, seconds = (2, 3) if quick else (3, 8)
    found = Findings("real: 329 GitHub payloads one by one")
    with place() as home, noop() as bare, Service(home) as service:
        lines = Path(home, "lines")
        lines.write_bytes(gzip.decompress(PAYLOADS.read_bytes()))
        turns: list[tuple[Row, ...]] = [
            (
                accept.measure_noop(*bare, service.key, seconds, lines=lines),
                accept.measure(service, seconds, lines=lines),
                accept.measure(service, seconds, lines=lines, connections=1),
            )
            for _ in range(rounds)
        ]
        names = ("no-op app, 64 connections", "POST /v1/events, 64 connections", "the same, 1 connection")
        medians = [accept.median(list(rows)) for rows in zip(*turns, strict=True)]
        found.rows = [{"": name, **row} for name, row in zip(names, medians, strict=True)]
        ratios = [turn[1]["per second"] / turn[0]["per second"] for turn in turns]
        found.ratios.append(Ratio("ratio to the no-op app", statistics.median(ratios)))
        sizes = [len(line) for line in lines.read_bytes().splitlines()]
        found.notes.append(
            f"{len(sizes)} bodies of {min(sizes):,} to {max(sizes):,} bytes,"
            f" {statistics.mean(sizes):,.0f} on average"
        )
        found.facts = {"rounds": turns, "durability": database.durability(service)}
    return found
