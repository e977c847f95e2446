"""Serves /metrics at an address of its own, which can be hidden from callers of the API."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import structlog

from triggers.http import server
from triggers.node.settings import Settings

log = structlog.get_logger()


class MetricsServer:
    """A second server beside that of the API, within the same event loop."""

    def __init__(self, settings: Settings, app: Any) -> None:
        self._settings = settings
        self._server = server.make_server(app, shutdown_timeout=1)
        self._bound: socket.socket | None = None
        self._serving: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The port on which it listens, after `start`."""
        assert self._bound is not None
        port: int = self._bound.getsockname()[1]
        return port

    async def start(self) -> None:
        """Begin to serve.

        Raises:
            OperatorError: the address cannot be bound.
        """
        self._bound = server.bind(*self._settings.metrics_address())
        host, port = self._bound.getsockname()[:2]
        log.info("metrics_served", host=host, port=port)
        self._serving = asyncio.create_task(self._server.serve(sockets=[self._bound]), name="metrics server")

    async def sweep(self) -> None:
        """Close late and idle connections, for ever."""
        await server.sweep(self._server, self._settings.receive_timeout, self._settings.keep_alive)

    async def stop(self) -> None:
        """Answer what is in flight, and end."""
        if self._serving is not None and self._bound is not None:
            self._server.should_exit = True
            await self._serving
            self._bound.close()
