"""The service's two processes: whether they live, and how much memory is theirs alone."""

from __future__ import annotations

import re
import statistics
import time
from collections import Counter
from typing import Any

import msgspec
import psutil

from acceptance.processes import Service, wait_for

SETTLED_AFTER_SECONDS = 60.0
"""After so long whatever is filled once is full: what is used then is what the end is compared with."""
WINDOW_SECONDS = 20.0
MOST_GROWTH = 1.1
TRACE_LINES = 7
MORE_MIB = 4.0
"""So much more is no growth: pages of the allocator."""


class Processes:
    """API and worker of one service, as they were when this was made."""

    def __init__(self, service: Service) -> None:
        api = service.api_pid()
        assert api is not None
        self.api = psutil.Process(api)
        self.worker = wait_for(self._find_worker, 20, "worker process")
        self._began = time.monotonic()
        self._samples: dict[str, list[tuple[float, float]]] = {"API": [], "worker": []}

    def _find_worker(self) -> psutil.Process | None:
        for child in self.api.children(recursive=True):
            if "triggers.node.work" in child.cmdline():
                return child
        return None

    def sample(self) -> str:
        """Note the memory that each has to itself, and return it as text."""
        at = time.monotonic() - self._began
        for name, process in (("API", self.api), ("worker", self.worker)):
            try:
                self._samples[name].append((at, process.memory_full_info().uss / 2**20))
            except psutil.Error:  # it died, of which `deaths` tells
                continue
        return ", ".join(f"{name} {each[-1][1]:.0f} MiB" for name, each in self._samples.items() if each)

    def deaths(self) -> list[str]:
        """Which of the two are no more; the worker that took the place of a dead one is another process."""
        found = []
        for name, process in (("API", self.api), ("worker", self.worker)):
            if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
                found.append(f"the {name} process died")
        return found

    def growth(self) -> tuple[list[str], list[str]]:
        """What is wrong with the memory at the end of the samples, and a line for each process.

        In a run of less than two minutes nothing is wrong with it.
        """
        wrong, lines = [], []
        for name, samples in self._samples.items():
            last = samples[-1][0]
            settled = [mib for at, mib in samples if abs(at - SETTLED_AFTER_SECONDS) <= WINDOW_SECONDS / 2]
            end = statistics.median(mib for at, mib in samples if at >= last - WINDOW_SECONDS)
            most = max(mib for _, mib in samples)
            line = f"{name}: {samples[0][1]:.0f} MiB at the start, {end:.0f} at the end, {most:.0f} at most"
            if last >= 2 * SETTLED_AFTER_SECONDS and settled:
                then = statistics.median(settled)
                line += f", {then:.0f} after a minute"
                if end > MOST_GROWTH * then + MORE_MIB:
                    wrong.append(f"the memory of the {name} process grew from {then:.0f} to {end:.0f} MiB")
            lines.append(line)
        return wrong, lines


def log_errors(service: Service) -> list[str]:
    """Errors of the service's own that its log tells of: each once, with how often it came."""
    found: Counter[str] = Counter()
    for line in service.said().splitlines():
        if line.startswith("{"):
            entry: dict[str, Any] = msgspec.json.decode(line)
            if entry.get("level") in ("error", "critical"):
                found[_shortened(entry)] += 1
        elif line.startswith("Traceback") or "never retrieved" in line or "Exception ignored" in line:
            found[line] += 1
    return [f"{count} × {text}" for text, count in found.most_common()]


def _shortened(entry: dict[str, Any]) -> str:
    """The event and the end of its traceback, without what differs each time it comes."""
    facts = {name: value for name, value in entry.items() if name in ("part", "error", "exit_code", "detail")}
    event = re.sub(r"0x[0-9a-f]+", "0x…", str(entry.get("event")).partition("\n")[0])
    trace = "\n".join(str(entry.get("exception", "")).splitlines()[-TRACE_LINES:])
    return f"{event} {facts or ''}\n{trace}".strip()
