"""This service, as `triggers serve` starts it, asked like a peer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

from bench.peers import peer
from bench.processes import Service
from bench.pushing import OPEN, subscribe, without_inbox


class Triggers:
    """No program of its own has to be named."""

    name = "this service"
    programs: Mapping[str, str] = {}
    promise = "answers once PostgreSQL has committed the event with its deliveries"
    events = "events"
    stores_unmatched = True

    @contextmanager
    def start(self, home: Path) -> Iterator[RunningTriggers]:
        """Serve, with its private PostgreSQL."""
        with Service(home, **OPEN) as service:
            yield RunningTriggers(peer.Place(home, service.database_url, service.data_dir), service)


class RunningTriggers:
    """A tenant is an organisation without the default inbox, which no peer has."""

    accepted = 201

    def __init__(self, place: peer.Place, service: Service) -> None:
        self.port = service.port
        self.place = place
        self._service = service

    def tenant(self, url: str | None) -> peer.Tenant:
        """Make an organisation."""
        key = without_inbox(self._service)
        if url is not None:
            subscribe(self._service, key, url, format="raw")
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        return peer.Tenant("/v1/events", headers, '{"type":"order.paid","payload":{"probe":NUMBER}}')

    def processes(self) -> Mapping[str, Sequence[psutil.Process]]:
        """API and worker together, and PostgreSQL."""
        postgres = self._service.postgres()
        pids = {each.pid for each in postgres}
        return {
            "server": [each for each in self._service.family() if each.pid not in pids],
            "postgres": postgres,
        }

    async def durability(self) -> Mapping[str, str]:
        """Events, deliveries and attempts are in PostgreSQL."""
        return await peer.postgres_durability(self.place)
