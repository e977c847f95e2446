"""Hookdeck Outpost (Go), with PostgreSQL for its log, Redis for tenants, and RabbitMQ for deliveries."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import psutil

from bench.baselines.stack import redis_server
from bench.peers import peer
from bench.peers.rabbitmq import Broker, rabbitmq
from bench.processes import free_port, wait_for

PROGRAM, SERVER = "OUTPOST", "OUTPOST_SERVER"
REDIS = ("--appendonly", "yes", "--appendfsync", "everysec")
CONCURRENCY = "100"
"""Deliveries in flight, and rows of its log. The default is one; its own load test has 100 on one machine."""


class Stores(NamedTuple):
    """Where its stores answer."""

    redis_url: str
    broker_url: str


class Outpost:
    """https://github.com/hookdeck/outpost, its commands outpost and outpost-server."""

    name = "Outpost"
    programs: Mapping[str, str] = {PROGRAM: "outpost", SERVER: "outpost-server"}
    promise = "answers once RabbitMQ has the deliveries; an event without a destination is stored nowhere"
    events = "events"
    stores_unmatched = False

    @contextmanager
    def start(self, home: Path) -> Iterator[RunningOutpost]:
        """Migrate, then serve."""
        port = free_port()
        with (
            peer.place(home) as place,
            redis_server(home, *REDIS) as (redis_url, redis),
            rabbitmq(place) as broker,
        ):
            settings = configuration(place, port, Stores(redis_url, broker.url))
            peer.command(place, [peer.path_of(PROGRAM), "migrate", "apply", "--yes"], settings)
            with peer.process(place, [peer.path_of(SERVER)], settings, port) as server:
                wait_for(lambda: peer.answers_with(port, "/healthz"), 60, "healthy Outpost")
                yield RunningOutpost(place, settings, (server, redis), Used(redis_url, broker))


def configuration(place: peer.Place, port: int, stores: Stores) -> dict[str, str]:
    """Its settings: what it comes with, but for addresses, the topic, concurrency and telemetry."""
    host, _, redis_port = stores.redis_url.removeprefix("redis://").removesuffix("/0").partition(":")
    return {
        "API_PORT": str(port),
        "API_KEY": secrets.token_hex(16),
        "API_JWT_SECRET": secrets.token_hex(16),
        "AES_ENCRYPTION_SECRET": secrets.token_hex(16),
        "TOPICS": "order.paid",
        "REDIS_HOST": host,
        "REDIS_PORT": redis_port,
        "POSTGRES_URL": peer.go_url(place.database_url),
        "RABBITMQ_SERVER_URL": stores.broker_url,
        "DELIVERY_MAX_CONCURRENCY": CONCURRENCY,
        "LOG_MAX_CONCURRENCY": CONCURRENCY,
        "GIN_MODE": "release",
        "LOG_LEVEL": "error",
        "DISABLE_TELEMETRY": "true",
    }


class Used(NamedTuple):
    """The stores of a running Outpost, to be asked how they write."""

    redis_url: str
    broker: Broker


class RunningOutpost:
    """A tenant has at most one destination. Without one, an event is answered and stored nowhere."""

    accepted = 202

    def __init__(
        self,
        place: peer.Place,
        settings: Mapping[str, str],
        processes: tuple[psutil.Process, ...],
        used: Used,
    ) -> None:
        self.port = int(settings["API_PORT"])
        self.place = place
        self._headers = {"Authorization": f"Bearer {settings['API_KEY']}", "Content-Type": "application/json"}
        self._server, self._redis = processes
        self._used = used

    def tenant(self, url: str | None) -> peer.Tenant:
        """Make a tenant."""
        name = f"bench-{secrets.token_hex(4)}"
        peer.ask(self.port, "PUT", f"/api/v1/tenants/{name}", self._headers)
        if url is not None:
            destination = {"type": "webhook", "topics": ["order.paid"], "config": {"url": url}}
            peer.ask(self.port, "POST", f"/api/v1/tenants/{name}/destinations", self._headers, destination)
        body = f'{{"tenant_id":"{name}","topic":"order.paid","data":{{"probe":NUMBER}}}}'
        return peer.Tenant("/api/v1/publish", self._headers, body)

    def processes(self) -> Mapping[str, Sequence[psutil.Process]]:
        """Its own, PostgreSQL, Redis and RabbitMQ."""
        return {
            "server": peer.family(self._server),
            "postgres": peer.postgres(self.place),
            "redis": peer.family(self._redis),
            "broker": peer.family(self._used.broker.process),
        }

    async def durability(self) -> Mapping[str, str]:
        """An event is in RabbitMQ until it was sent; its log in PostgreSQL follows the attempt."""
        return {
            **await peer.postgres_durability(self.place),
            **peer.redis_durability(self._used.redis_url),
            **self._used.broker.durability(self.place),
        }
