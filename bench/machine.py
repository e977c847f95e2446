"""What a run was made on: figures mean nothing without it."""

from __future__ import annotations

import os
import platform
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from bench.processes import ROOT


def facts() -> dict[str, Any]:
    """The machine, its load before the run, and the code that was measured."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "memory GiB": round(psutil.virtual_memory().total / 2**30, 1),
        "load before": [round(each, 2) for each in os.getloadavg()],
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "data on": _file_system(Path(tempfile.gettempdir())),
        "commit": commit(),
    }


def unrest(seconds: float = 3.0) -> dict[str, float]:
    """What nobody's code could do better here: no P99 lies below that of a timer and a durable write.

    Milliseconds, of 300 a second. Timers that are late while nothing runs are those of a machine whose
    cores are lent out; a write of near nothing is that of a disk that does not wait.
    """
    late, took = [], []
    page = bytes(8192)
    due = time.perf_counter()
    with tempfile.TemporaryFile() as file:
        for _ in range(round(300 * seconds)):
            due = max(due + 1 / 300, time.perf_counter())
            time.sleep(max(0.0, due - time.perf_counter()))
            woken = time.perf_counter()
            os.pwrite(file.fileno(), page, 0)
            os.fdatasync(file.fileno())
            late.append(woken - due)
            took.append(time.perf_counter() - woken)
    return {
        f"{name} {word} ms": round(sorted(each)[int(len(each) * part)] * 1000, 2)
        for name, each in (("timer late", late), ("durable write", took))
        for word, part in (("P50", 0.5), ("P99", 0.99))
    }


class Stolen:
    """How much of the cores others took while something ran."""

    def __init__(self) -> None:
        self._before = psutil.cpu_times()

    def percent(self) -> float:
        """Since this was made."""
        spent = [after - before for before, after in zip(self._before, psutil.cpu_times(), strict=True)]
        stolen = spent[self._before._fields.index("steal")]
        return round(100 * stolen / max(sum(spent), 0.01), 1)


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _file_system(path: Path) -> str:
    mounts = [each for each in psutil.disk_partitions(all=True) if path.is_relative_to(each.mountpoint)]
    return max(mounts, key=lambda each: len(each.mountpoint)).fstype if mounts else "unknown"


def commit(checkout: Path = ROOT) -> str:
    """The commit of a checkout, and whether something was changed since."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments],  # noqa: S607
            cwd=checkout,
            capture_output=True,
            text=True,
            check=False,
        ).stdout.strip()

    return git("rev-parse", "--short", "HEAD") + (" and changes" if git("status", "--porcelain") else "")
