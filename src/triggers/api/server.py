"""uvicorn, with a deadline for the arrival of each request's headers and body."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Any, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from triggers.errors import OperatorError

_TIMED_OUT_BODY = (
    b'{"type":"/problems/request-timeout","title":"The request came too slowly",'
    b'"status":408,"detail":"See receive_timeout."}'
)
_TIMED_OUT = (
    b"HTTP/1.1 408 Request Timeout\r\ncontent-type: application/problem+json\r\nconnection: close\r\n"
    b"content-length: %d\r\n\r\n%b" % (len(_TIMED_OUT_BODY), _TIMED_OUT_BODY)
)


MAX_HEAD_BYTES = 64 * 1024


class OneWrite:
    """A transport that writes the head of an answer together with its body.

    uvicorn writes them apart, and uvloop writes at once: two system calls for us and two packets
    for the caller, where one will do.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._call_soon = loop.call_soon
        self._held: bytes | None = None
        self.is_closing = transport.is_closing

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Hold the first piece of a turn of the loop; write it with the second, or when the turn ends."""
        if self._held is None:
            self._held = data
            self._call_soon(self._flush)
        else:
            held, self._held = self._held, None
            self._transport.writelines((held, data))

    def close(self) -> None:
        """Write what is held, then close."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        held, self._held = self._held, None
        if held is not None and not self.is_closing():
            self._transport.write(held)


class Protocol(HttpToolsProtocol):
    """Bounds the head of a request, and notes since when one has been arriving for `sweep` to judge.

    uvicorn itself only times idle connections, so a caller who sends a byte now and then could
    hold one for ever. A sweep costs nothing per request, where a timer each would.
    """

    arriving_since: float | None = None
    in_head = True
    head_size = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(cast("asyncio.Transport", OneWrite(transport, self.loop)))
        self.arriving_since = self.loop.time()

    def data_received(self, data: bytes) -> None:
        if self.in_head:
            self.head_size += len(data)
            if self.head_size > MAX_HEAD_BYTES and self.head_size > len(data):
                self.send_400_response("The request's headers are too large.")
                return
        super().data_received(data)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.arriving_since = self.loop.time()
        self.in_head = True
        self.head_size = 0

    def on_headers_complete(self) -> None:
        self.in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self.arriving_since = None


async def sweep(server: uvicorn.Server, seconds: float) -> None:
    """Close connections on which a request has been arriving for longer than `seconds`."""
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(min(1.0, seconds / 4))
        late = loop.time() - seconds
        for connection in list(server.server_state.connections):
            if not isinstance(connection, Protocol):
                continue
            since = connection.arriving_since
            if since is not None and since < late and not connection.transport.is_closing():
                cycle = connection.cycle
                if cycle is None or cycle.response_complete:
                    connection.transport.write(_TIMED_OUT)
                connection.transport.close()


class Server(uvicorn.Server):
    """Leaves signals alone: stopping is the business of whoever runs it."""

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
    """A socket on the address, not listening yet: who calls too early is refused, not left waiting.

    Raises:
        OperatorError: the address cannot be had.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        bound = socket.socket(family, socket.SOCK_STREAM)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
    except OSError as error:
        raise OperatorError(f"Cannot listen on {host} port {port}: {error.strerror or error}.") from None
    return bound


def make_server(app: Any, *, shutdown_timeout: float) -> Server:
    """A server for one ASGI app."""
    config = uvicorn.Config(
        app,
        http=Protocol,
        loop="uvloop",
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=max(1, int(shutdown_timeout)),
        timeout_keep_alive=75,
        h11_max_incomplete_event_size=32 * 1024,
        backlog=2048,
    )
    return Server(config)
