"""Convoy (Go), with PostgreSQL and Redis: its server and its agent, which sends."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import psutil

from bench.baselines.stack import redis_server
from bench.peers import peer
from bench.processes import free_port, wait_for

PROGRAM = "CONVOY"
REDIS = ("--appendonly", "yes", "--appendfsync", "everysec")
RATE = "1000000"
"""Events and requests a second that the instance takes; its default of 1,000 would be what is measured."""


class Convoy:
    """https://github.com/frain-dev/convoy, without a licence key."""

    name = "Convoy"
    programs: Mapping[str, str] = {PROGRAM: "convoy"}
    promise = "answers once the event is in Redis; a worker stores it"
    events = "convoy.events"
    stores_unmatched = True

    @contextmanager
    def start(self, home: Path) -> Iterator[RunningConvoy]:
        """Migrate, make a user with a key, serve, and start the agent."""
        port, agent_port = free_port(), free_port()
        with peer.place(home) as place, redis_server(home, *REDIS) as (redis_url, redis):
            settings = configuration(place, port, agent_port, redis_url)
            program = peer.path_of(PROGRAM)
            (home / "convoy.json").write_text("{}")
            peer.command(place, [program, "migrate", "up"], settings)
            made = peer.command(
                place, [program, "bootstrap", "--email", "bench@localhost.test", "--with-api-key"], settings
            )
            user = msgspec.json.decode(made[made.index("{") :])
            limits = ["--instance-ingest-rate", RATE, "--api-rate-limit", RATE]
            with (
                peer.process(place, [program, "server", *limits], settings, port) as server,
                peer.process(place, [program, "agent", *limits], settings, agent_port) as agent,
            ):
                wait_for(lambda: peer.answers_with(port, "/health"), 60, "healthy Convoy")
                yield RunningConvoy(place, port, user, (server, agent, redis), redis_url)


def configuration(place: peer.Place, port: int, agent_port: int, redis_url: str) -> dict[str, str]:
    """Its settings: what it comes with, but for addresses and the level of the log."""
    host, _, redis_port = redis_url.removeprefix("redis://").removesuffix("/0").partition(":")
    return {
        "CONVOY_DB_DSN": peer.go_url(place.database_url),
        "CONVOY_REDIS_SCHEME": "redis",
        "CONVOY_REDIS_HOST": host,
        "CONVOY_REDIS_PORT": redis_port,
        "CONVOY_JWT_SECRET": secrets.token_hex(16),
        "CONVOY_JWT_REFRESH_SECRET": secrets.token_hex(16),
        "CONVOY_LOGGER_LEVEL": "error",
        "PORT": str(port),
        "AGENT_PORT": str(agent_port),
    }


class RunningConvoy:
    """A tenant is an endpoint with a subscription to all types, in the one project.

    Without an endpoint no event can be posted, so accepting alone is measured with one that nobody is
    subscribed to.
    """

    accepted = 201

    def __init__(
        self,
        place: peer.Place,
        port: int,
        user: Mapping[str, str],
        processes: tuple[psutil.Process, ...],
        redis_url: str,
    ) -> None:
        self.port = port
        self.place = place
        self._headers = {"Authorization": f"Bearer {user['api_key']}", "Content-Type": "application/json"}
        self._server, self._agent, self._redis = processes
        self._redis_url = redis_url
        body = {"name": "bench", "type": "outgoing"}
        made = self._make(f"/api/v1/projects?orgID={user['organisation_id']}", body)
        self._project = f"/api/v1/projects/{made['project']['uid']}"

    def tenant(self, url: str | None) -> peer.Tenant:
        """Make an endpoint."""
        name = f"bench {secrets.token_hex(4)}"
        endpoint = {"name": name, "url": url or "http://127.0.0.1:9/"}
        made = self._make(f"{self._project}/endpoints", endpoint)["uid"]
        if url is not None:
            subscription = {"name": name, "endpoint_id": made, "filter_config": {"event_types": ["*"]}}
            self._make(f"{self._project}/subscriptions", subscription)
        body = f'{{"endpoint_id":"{made}","event_type":"order.paid","data":{{"probe":NUMBER}}}}'
        return peer.Tenant(f"{self._project}/events", self._headers, body)

    def processes(self) -> Mapping[str, Sequence[psutil.Process]]:
        """Server and agent together, PostgreSQL and Redis."""
        return {
            "server": [*peer.family(self._server), *peer.family(self._agent)],
            "postgres": peer.postgres(self.place),
            "redis": peer.family(self._redis),
        }

    async def durability(self) -> Mapping[str, str]:
        """An event is only in Redis until a worker has stored it."""
        return await peer.postgres_durability(self.place) | peer.redis_durability(self._redis_url)

    def _make(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        return dict(peer.ask(self.port, "POST", path, self._headers, body)["data"])
