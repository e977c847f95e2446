"""A PostgreSQL of the benchmark's own, from the service's binaries, that can be frozen and stopped."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from bench.processes import BenchError, postgres_processes
from triggers.postgres.embedded import EmbeddedPostgres


class Cluster:
    """One data directory. Its URL stays the same from one start to the next."""

    def __init__(self, home: Path) -> None:
        self._data_dir = home / "cluster"
        self._postgres: EmbeddedPostgres | None = None
        self.url = ""

    def start(self) -> None:
        """Return once it answers."""
        self._postgres = EmbeddedPostgres(self._data_dir)
        self.url = asyncio.run(self._postgres.start())

    def stop(self, *, immediate: bool) -> None:
        """`immediate` is what `pg_ctl stop -m immediate` does: connections break, the next start recovers."""
        if self._postgres is not None:
            asyncio.run(self._postgres.stop(immediate=immediate))
            self._postgres = None

    def freeze(self) -> None:
        """Stop every process of it where it stands: connections stay open, and nobody answers."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        found = postgres_processes(self._data_dir)
        if not found:
            raise BenchError(f"No PostgreSQL runs in {self._data_dir}.")
        for process in found:
            try:
                process.send_signal(number)
            except psutil.NoSuchProcess:
                continue


@contextmanager
def cluster(home: Path) -> Iterator[Cluster]:
    """A running one, ended with the block."""
    made = Cluster(home)
    try:
        made.start()
        yield made
    finally:
        for process in postgres_processes(home / "cluster"):
            process.send_signal(signal.SIGCONT)  # a frozen one would not hear that it is to stop
        made.stop(immediate=True)
