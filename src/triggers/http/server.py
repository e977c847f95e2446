"""Runs uvicorn, with deadlines for requests to arrive and for answers to be read."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Iterator
from typing import Any

import uvicorn

from triggers import errors
from triggers.http.connection import CallerConnection


async def sweep(server: uvicorn.Server, seconds: float, keep_alive_seconds: float) -> None:
    """Close connections on which a request has been arriving, or an answer not been read, for longer
    than `seconds`, and those without a request for longer than `keep_alive_seconds`.

    All connections are checked in turn, because a timer for each request would make every request slower.
    """
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(min(1.0, seconds / 4, keep_alive_seconds / 4))
        now = loop.time()
        for connection in list(server.server_state.connections):
            if isinstance(connection, CallerConnection):
                connection.enforce_deadlines(now, seconds, keep_alive_seconds)


class Server(uvicorn.Server):
    """A server that ignores signals, because the process that runs it handles them."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.has_started = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.has_started.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def bind(host: str, port: int) -> socket.socket:
    """A socket that is bound to the address but does not listen yet, so early callers are refused at once.

    Raises:
        errors.OperatorError: the address cannot be bound.
    """
    bound = None
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        bound = socket.socket(family, socket.SOCK_STREAM)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
    except (OSError, UnicodeError) as error:  # UnicodeError: not a host name, such as `a..b`
        if bound is not None:
            bound.close()
        reason = (isinstance(error, OSError) and error.strerror) or "it is not an address"
        raise errors.OperatorError(f"Cannot listen on {host} port {port}: {reason}.") from error
    return bound


def make_server(app: Any, *, shutdown_timeout: float, root_path: str = "") -> Server:
    """A server for one ASGI app. Links begin with `root_path`, the path of the public URL. A proxy in front
    of the server removes it from the paths of requests."""
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # what it warns of has a line of ours
    config = uvicorn.Config(
        app,
        interface="asgi3",
        http=CallerConnection,
        loop="uvloop",
        ws="none",
        lifespan="off",
        root_path=root_path,
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=max(1, int(shutdown_timeout)),
        backlog=2048,
    )
    return Server(config)
