"""The receiver of the profile `deliver`: an endpoint that notes when each event arrived first."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from contextlib import suppress
from typing import Final, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from triggers.errors import OperatorError

_NUMBER = re.compile(rb'"number":(\d+)')
_BODY_LIMIT: Final = 64 * 1024
_FOUND = b"HTTP/1.1 204 No Content\r\n\r\n"
_ELSEWHERE = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class BenchReceiver:
    """`arrived` has the time of the first arrival of each event, by the event's number.

    Its path is secret, so a stranger who finds the port cannot change what is measured.
    """

    def __init__(self) -> None:
        self.path = f"/triggers-bench/{secrets.token_hex(8)}"
        self.arrived: dict[int, float] = {}
        self._transports: set[asyncio.Transport] = set()
        self._wanted: int | None = None
        self._complete = asyncio.Event()

    async def start(self, host: str, port: int) -> int:
        """Listen; return the port.

        Raises:
            OperatorError: the address cannot be used.
        """
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(lambda: _Delivery(self), host, port)
        except OSError as error:
            raise OperatorError(f"The receiver cannot listen on {host}, port {port}: {error}") from None
        return int(self._server.sockets[0].getsockname()[1])

    def note(self, body: bytes) -> None:
        """Note an arrival."""
        if (number := _NUMBER.search(body)) is not None:
            self.arrived.setdefault(int(number[1]), time.perf_counter())
            if len(self.arrived) == self._wanted:
                self._complete.set()

    async def wait_for(self, events: int, seconds: float) -> None:
        """Wait until so many events have arrived, for at most so long."""
        self._wanted = events
        if len(self.arrived) < events:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._complete.wait(), seconds)

    def opened(self, transport: asyncio.Transport) -> None:
        """A connection was made."""
        self._transports.add(transport)

    def lost(self, transport: asyncio.Transport) -> None:
        """A connection ended."""
        self._transports.discard(transport)

    def stop(self) -> None:
        """Stop listening, and close every connection."""
        self._server.close()
        for transport in tuple(self._transports):
            transport.abort()


class _Delivery(asyncio.Protocol):
    """One connection of the service's worker."""

    def __init__(self, receiver: BenchReceiver) -> None:
        self._receiver = receiver
        self._parser = HttpRequestParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._receiver.opened(self._transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._receiver.lost(self._transport)

    def data_received(self, data: bytes) -> None:
        with suppress(HttpParserError, HttpParserUpgrade):
            self._parser.feed_data(data)
            return
        self._transport.abort()

    def on_message_begin(self) -> None:
        self._path, self._body = b"", b""

    def on_url(self, url: bytes) -> None:
        self._path += url
        if len(self._path) > 4096:
            self._transport.abort()

    def on_body(self, data: bytes) -> None:
        self._body += data
        if len(self._body) > _BODY_LIMIT:
            self._transport.abort()

    def on_message_complete(self) -> None:
        if self._path.decode("ascii", "replace") != self._receiver.path:
            self._transport.write(_ELSEWHERE)
            self._transport.close()
            return
        self._receiver.note(self._body)
        self._transport.write(_FOUND)
