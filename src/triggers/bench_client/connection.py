"""An HTTP/1.1 connection to the measured service: one request at a time, in little processor time.

httpx takes about half a millisecond of processor time for a request, and would measure itself. `outbound` is
for connections to strangers, and needs the packages of the service.
"""

from __future__ import annotations

import asyncio
from typing import Final, NamedTuple, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

ANSWER_TIMEOUT_SECONDS: Final = 60.0
BODY_LIMIT: Final = 16 * 1024 * 1024
"""Maximum size of an answer. A page of payloads may have 8 MiB."""


class HttpAnswer(NamedTuple):
    """A complete answer."""

    status: int
    body: bytes


class LoadConnection(asyncio.Protocol):
    """Carries one exchange at a time. `closed` says that no other can follow."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._parser = HttpResponseParser(self)
        self._waiter: asyncio.Future[HttpAnswer] | None = None
        self._body: list[bytes] = []
        self._size = 0
        self.closed = False

    async def exchange(self, request: bytes) -> HttpAnswer:
        """Send a complete request and wait for its answer.

        Raises:
            OSError: there was no complete answer within a minute. The connection is closed.
        """
        if self.closed:
            raise ConnectionResetError("The service closed the connection.")
        waiter: asyncio.Future[HttpAnswer] = self._loop.create_future()
        self._waiter = waiter
        limit = self._loop.call_later(ANSWER_TIMEOUT_SECONDS, self._fail, TimeoutError("No answer came."))
        self._transport.write(request)
        try:
            return await waiter
        except asyncio.CancelledError:
            self.abort()  # the answer that may still come belongs to no other request
            raise
        finally:
            limit.cancel()

    def abort(self) -> None:
        """Close at once."""
        self.closed = True
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade):
            self._fail(ConnectionResetError("What arrived is not an HTTP answer."))

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(ConnectionResetError("The service closed the connection before its answer."))

    def on_message_begin(self) -> None:
        self._body, self._size = [], 0

    def on_body(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > BODY_LIMIT:
            self._fail(ConnectionResetError("The answer is larger than 16 MiB."))
        else:
            self._body.append(data)

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:
            return  # an interim answer
        if not self._parser.should_keep_alive():
            self.closed = True
            self._transport.close()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(HttpAnswer(status, b"".join(self._body)))

    def _fail(self, error: OSError) -> None:
        self.abort()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)


async def connect(host: str, port: int, *, tls: bool) -> LoadConnection:
    """Open a connection to the service.

    Raises:
        OSError: the service cannot be reached within ten seconds, or TLS failed.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(10):
        _, connection = await loop.create_connection(LoadConnection, host, port, ssl=tls or None)
    return connection
