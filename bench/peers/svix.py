"""The Svix server (Rust), with PostgreSQL and the Redis queue, API and worker in one process."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

from bench.baselines.stack import redis_server
from bench.peers import peer
from bench.processes import free_port, wait_for

PROGRAM = "SVIX_SERVER"
REDIS = ("--save", "60 500", "--appendonly", "yes", "--appendfsync", "everysec")
"""As in its own docker-compose.yml: what Redis took in the last second is not on disk."""


class Svix:
    """https://github.com/svix/svix-webhooks, directory server."""

    name = "Svix"
    programs: Mapping[str, str] = {PROGRAM: "svix-server"}
    promise = "answers once PostgreSQL has committed the event, and its delivery is in Redis"
    events = "message"
    stores_unmatched = True

    @contextmanager
    def start(self, home: Path) -> Iterator[RunningSvix]:
        """Migrate, make a token, serve."""
        port = free_port()
        with peer.place(home) as place, redis_server(home, *REDIS) as (redis_url, redis):
            settings = configuration(place, port, redis_url)
            program = peer.path_of(PROGRAM)
            peer.command(place, [program, "migrate"], settings)
            printed = peer.command(place, [program, "jwt", "generate"], settings)
            token = printed.partition("Token (Bearer): ")[2].split()[0]
            with peer.process(place, [program], settings, port) as server:
                wait_for(lambda: peer.answers_with(port, "/api/v1/health/"), 30, "healthy Svix")
                yield RunningSvix(place, port, token, (server, redis), redis_url)


def configuration(place: peer.Place, port: int, redis_url: str) -> dict[str, str]:
    """Its settings: what it comes with, but for addresses, and receivers on this machine."""
    return {
        "SVIX_LISTEN_ADDRESS": f"127.0.0.1:{port}",
        "SVIX_DB_DSN": peer.rust_url(place.database_url),
        "SVIX_REDIS_DSN": redis_url.removesuffix("/0"),
        "SVIX_QUEUE_TYPE": "redis",
        "SVIX_CACHE_TYPE": "memory",
        "SVIX_JWT_SECRET": secrets.token_hex(16),
        "SVIX_MAIN_SECRET": secrets.token_hex(16),
        "SVIX_WHITELIST_SUBNETS": "[127.0.0.0/8]",
        "RUST_LOG": "error",
    }


class RunningSvix:
    """A tenant is an application; its events go to the application's one endpoint."""

    accepted = 202

    def __init__(
        self, place: peer.Place, port: int, token: str, processes: tuple[psutil.Process, ...], redis_url: str
    ) -> None:
        self.port = port
        self.place = place
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        self._server, self._redis = processes
        self._redis_url = redis_url

    def tenant(self, url: str | None) -> peer.Tenant:
        """Make an application."""
        app = peer.ask(self.port, "POST", "/api/v1/app/", self._headers, {"name": "bench"})["id"]
        if url is not None:
            peer.ask(self.port, "POST", f"/api/v1/app/{app}/endpoint/", self._headers, {"url": url})
        body = '{"eventType":"order.paid","payload":{"probe":NUMBER}}'
        return peer.Tenant(f"/api/v1/app/{app}/msg/", self._headers, body)

    def processes(self) -> Mapping[str, Sequence[psutil.Process]]:
        """Its own, PostgreSQL and Redis."""
        return {
            "server": peer.family(self._server),
            "postgres": peer.postgres(self.place),
            "redis": peer.family(self._redis),
        }

    async def durability(self) -> Mapping[str, str]:
        """Messages are in PostgreSQL; what is to be sent is only in Redis."""
        return await peer.postgres_durability(self.place) | peer.redis_durability(self._redis_url)
