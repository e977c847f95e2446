"""Answers that go on: Server-Sent Events, with bounds for callers that read slowly or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from starlette.responses import Response

from triggers.http.exchange import AsgiScope, Receive, Send

MEDIA_TYPE: Final = "text/event-stream"
HEADERS: Final = {
    "cache-control": "no-store",
    "connection": "close",
    "x-accel-buffering": "no",  # so that nginx passes each frame on at once
}
_COMMENT: Final = b":\n\n"


class StreamLimits(NamedTuple):
    """The limits of a stream for its caller, and the time between comments."""

    unread_bytes: int = 64 * 1024
    """Bytes that may wait for the caller. If there are more, the connection is cut."""
    blocked_seconds: float = 10.0
    """Maximum time for which a write may wait for the caller. After it, the connection is cut."""
    comment_seconds: float = 15.0
    """Time without a frame after which a comment is sent, so that both ends notice a dead connection."""


class Outbox:
    """The bytes that wait to be sent to one caller.

    open ──`end`, or more bytes than the limit──▶ over: nothing is added or sent any more
    """

    def __init__(self, limits: StreamLimits) -> None:
        self.limits = limits
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the stream is to end."""
        self._waiting: list[bytes] = []
        self._unread_bytes = 0  # also those that are being written
        self._news: asyncio.Future[None] | None = None

    @property
    def unread_bytes(self) -> int:
        """Bytes that the caller's side has not taken yet."""
        return self._unread_bytes

    def put(self, data: bytes) -> None:
        """Send `data`, which is one or more whole frames. If too much is unread, end the stream instead."""
        if self.over.done():
            return
        self._unread_bytes += len(data)
        if self._unread_bytes > self.limits.unread_bytes:
            self.end()
            return
        self._waiting.append(data)
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    def end(self) -> None:
        """End the stream now. Frames that still wait are not sent."""
        if not self.over.done():
            self.over.set_result(None)

    async def take(self) -> bytes:
        """Return what waits; nothing, if nothing comes within `comment_seconds` or the stream ends."""
        if not self._waiting:
            self._news = asyncio.get_running_loop().create_future()
            await _first_of(self._news, self.over, self.limits.comment_seconds)
        taken, self._waiting = self._waiting, []
        return b"".join(taken)

    def was_read(self, number_of_bytes: int) -> None:
        """Note that the caller's side has taken so many bytes."""
        self._unread_bytes -= number_of_bytes


class EventStream(Response):
    """Sends what comes into an outbox until that ends or the caller leaves."""

    media_type = MEDIA_TYPE

    def __init__(self, outbox: Outbox, close: Callable[[], None]) -> None:
        """`close` is called once, when the answer has ended in whatever way."""
        self.status_code = 200
        self.background = None
        self.init_headers(HEADERS)
        self._outbox = outbox
        self._close = close

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """Send the answer by ASGI. If the connection is to be cut, the answer stays incomplete."""
        leaving = asyncio.ensure_future(self._end_when_caller_leaves(receive))
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            if await self._send_all(send):
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self._close()
            self._outbox.end()
            leaving.cancel()

    async def _send_all(self, send: Send) -> bool:
        """Send until the stream is over. Return False if a write is still waiting for the caller then."""
        while not self._outbox.over.done():
            data = await self._outbox.take()
            if self._outbox.over.done():
                break
            writing = asyncio.ensure_future(_write(send, data or _COMMENT))
            await _first_of(writing, self._outbox.over, self._outbox.limits.blocked_seconds)
            if not writing.done():
                writing.cancel()
                await asyncio.gather(writing, return_exceptions=True)
                return False
            writing.result()
            self._outbox.was_read(len(data))
        return True

    async def _end_when_caller_leaves(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._outbox.end()


async def _write(send: Send, data: bytes) -> None:
    """Write a piece of the answer, and return when the caller's side has taken it."""
    await send({"type": "http.response.body", "body": data, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": True})


async def _first_of(one: asyncio.Future[Any], other: asyncio.Future[Any], seconds: float) -> None:
    await asyncio.wait({one, other}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
