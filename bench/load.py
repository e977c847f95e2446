"""The load: wrk with a script, and what it measured. Nothing of it is Python."""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from bench.processes import BenchError, program

HERE = Path(__file__).parent
_runs = itertools.count(1)


class Load(NamedTuple):
    """A closed loop: so many connections, each sending again once it is answered. Times in ms.

    `repeated` counts the events that were sent with the dedup_id of an earlier one.
    """

    requests: int
    seconds: float
    p50: float
    p95: float
    p99: float
    longest: float
    refused: int
    broken: int
    repeated: int

    @property
    def rate(self) -> float:
        return self.requests / self.seconds

    def row(self) -> dict[str, float]:
        """Columns of a table."""
        return {"per second": self.rate, "P50 ms": self.p50, "P95 ms": self.p95, "P99 ms": self.p99}


def post(
    url: str,
    key: str,
    *,
    seconds: float,
    connections: int = 64,
    events: int = 1,
    lines: Path | None = None,
    repeat_every: int = 0,
) -> Load:
    """POST to a URL: requests of so many events each, or the lines of a file, one by one.

    Every `repeat_every`-th event (an even number; 0: none) repeats the dedup_id of an earlier one.

    Raises:
        BenchError: a request was refused or lost.
    """
    name = f"{os.getpid()}-{next(_runs)}"
    more = [name, str(events)] if lines is None else [name, "0", str(lines)]
    environment = {"REPEAT_EVERY": str(repeat_every)}
    found = run(
        "post.lua", url, key, *more, seconds=seconds, connections=connections, environment=environment
    )[0]
    return Load(**found)


def run(
    script: str,
    url: str,
    *arguments: str,
    seconds: float,
    connections: int,
    threads: int = 1,
    environment: Mapping[str, str] | None = None,
) -> list[Any]:
    """Run wrk with a script; return the values of the lines that it marks with RESULT."""
    done = subprocess.run(
        [
            program("wrk", "wrk"),
            f"-t{threads}",
            f"-c{connections}",
            f"-d{max(1, round(seconds))}s",
            "--timeout=10s",
            "-s",
            str(HERE / script),
            url,
            "--",
            *arguments,
        ],
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds + 60,
    )
    found = [
        msgspec.json.decode(line.removeprefix("RESULT "))
        for line in done.stdout.splitlines()
        if line.startswith("RESULT ")
    ]
    if done.returncode or not found:
        raise BenchError(f"wrk: {done.stdout}{done.stderr}")
    if any(each.get("refused", 0) + each.get("broken", 0) for each in found):
        raise BenchError(f"Requests were refused or lost: {found}")
    return found
