"""Hook0 (Rust), with PostgreSQL alone: its API and its output worker."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import psutil

from bench.peers import peer
from bench.processes import free_port, wait_for

API, WORKER = "HOOK0_API", "HOOK0_WORKER"
CONCURRENCY = "64"
"""Attempts at once, each with a connection to PostgreSQL; its default is one."""


class Hook0:
    """https://github.com/hook0/hook0, its API and its output worker."""

    name = "Hook0"
    programs: Mapping[str, str] = {API: "hook0-api", WORKER: "hook0-output-worker"}
    promise = "answers once PostgreSQL has committed the event with its deliveries"
    events = "event.event"
    stores_unmatched = True

    @contextmanager
    def start(self, home: Path) -> Iterator[RunningHook0]:
        """Serve, which migrates, then start the worker."""
        port = free_port()
        with peer.place(home) as place:
            settings = configuration(place, port)
            with peer.process(place, [peer.path_of(API)], settings, port) as api:
                wait_for(lambda: peer.answers_with(port, "/api/v1/swagger.json"), 60, "healthy Hook0")
                sending = worker_configuration(place)
                with peer.process(place, [peer.path_of(WORKER)], sending, port) as worker:
                    yield RunningHook0(place, port, settings["MASTER_API_KEY"], (api, worker))


def configuration(place: peer.Place, port: int) -> dict[str, str]:
    """Settings of the API: no limits, and a key for all; mail is never sent."""
    return {
        "IP": "127.0.0.1",
        "PORT": str(port),
        "CORS_ALLOWED_ORIGINS": "http://localhost",
        "DATABASE_URL": peer.rust_url(place.database_url),
        "SMTP_CONNECTION_URL": "smtp://127.0.0.1:9",
        "EMAIL_SENDER_ADDRESS": "bench@localhost.test",
        "APP_URL": "http://localhost",
        "BISCUIT_PRIVATE_KEY": secrets.token_hex(32),
        "MASTER_API_KEY": str(uuid4()),
        "DISABLE_API_RATE_LIMITING": "true",
        "DISABLE_SERVING_WEBAPP": "true",
    }


def worker_configuration(place: peer.Place) -> dict[str, str]:
    """Settings of the worker, which may send to this machine."""
    return {
        "DATABASE_URL": peer.rust_url(place.database_url),
        "WORKER_NAME": "default",
        "CONCURRENT": CONCURRENCY,
        "DISABLE_TARGET_IP_CHECK": "true",
    }


class RunningHook0:
    """A tenant is an application with one event type and at most one subscription."""

    accepted = 201

    def __init__(self, place: peer.Place, port: int, key: str, processes: tuple[psutil.Process, ...]) -> None:
        self.port = port
        self.place = place
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        self._api, self._worker = processes
        self._organisation = self._make("organizations", {"name": "bench"})["organization_id"]

    def tenant(self, url: str | None) -> peer.Tenant:
        """Make an application."""
        named = {"name": "bench", "organization_id": self._organisation}
        app = self._make("applications", named)["application_id"]
        kind = {"application_id": app, "service": "order", "resource_type": "order", "verb": "paid"}
        name = self._make("event_types", kind)["event_type_name"]
        if url is not None:
            target = {"type": "http", "method": "POST", "url": url, "headers": {}}
            subscription = {
                "application_id": app,
                "is_enabled": True,
                "description": "bench",
                "metadata": {},
                "labels": {"all": "yes"},
                "event_types": [name],
                "target": target,
            }
            self._make("subscriptions", subscription)
        body = (
            f'{{"application_id":"{app}","event_type":"{name}","labels":{{"all":"yes"}},"metadata":{{}},'
            '"occurred_at":"2026-01-01T00:00:00Z","payload_content_type":"application/json",'
            '"payload":"{\\"probe\\":NUMBER}"}'
        )
        return peer.Tenant("/api/v1/event/", self._headers, body)

    def processes(self) -> Mapping[str, Sequence[psutil.Process]]:
        """API and worker together, and PostgreSQL."""
        return {
            "server": [*peer.family(self._api), *peer.family(self._worker)],
            "postgres": peer.postgres(self.place),
        }

    async def durability(self) -> Mapping[str, str]:
        """Events and attempts are in PostgreSQL."""
        return await peer.postgres_durability(self.place)

    def _make(self, what: str, body: Mapping[str, object]) -> Mapping[str, object]:
        return dict(peer.ask(self.port, "POST", f"/api/v1/{what}/", self._headers, body))
