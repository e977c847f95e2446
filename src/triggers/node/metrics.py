"""Collects the metrics of a process that serves the API."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from prometheus_client import generate_latest

from triggers import observability
from triggers.events.group_commit import Acceptor
from triggers.http.kept import Kept
from triggers.node.health import Health
from triggers.postgres.database import Database

METRICS_SECONDS: Final = 0.2
"""Time for which the text of the metrics is kept, so that many requests do not collect it many times."""


class NodeMetrics:
    """The metrics in the Prometheus text format, together with `more`, such as those of a worker process."""

    def __init__(self, health: Health, acceptor: Acceptor, database: Database) -> None:
        self._health = health
        self._acceptor = acceptor
        self._database = database
        self._kept: Kept[bytes] = Kept(METRICS_SECONDS)
        self.more: list[Callable[[], bytes]] = []

    async def text(self) -> bytes:
        """Return the text of all metrics."""
        return await self._kept.get("metrics", self._collect)

    async def _collect(self) -> bytes:
        observability.waiting_events.set(self._acceptor.waiting[0])
        observability.waiting_bytes.set(self._acceptor.waiting[1])
        busy, size, most = self._database.pool_use()
        for state, value in (("busy", busy), ("open", size), ("most", most)):
            observability.pool_connections.labels(state).set(value)
        observability.show_trouble(observability.trouble, self._health.own_trouble())
        observability.redis_up.set(bool(self._health.redis))
        return generate_latest() + b"".join(more() for more in self.more)
