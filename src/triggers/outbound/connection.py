"""One HTTP/1.1 connection to an endpoint: it sends requests, and reads a bounded part of each answer.

No sockets are opened here. A sender to strangers needs three things that no client library has: the use of a
socket that is already connected, hard limits for head and body, and a reason for each way in which an answer
can fail.
"""

import asyncio
from enum import IntEnum
from typing import Final, cast

from httptools import (
    HttpParserError,
    HttpParserInvalidStatusError,
    HttpParserUpgrade,
    HttpResponseParser,
)

from triggers.burst import Burst
from triggers.outbound.result import Reason

HEAD_LIMIT: Final = 32 * 1024
"""Bytes of an answer before its body, interim answers included."""
BODY_LIMIT: Final = 16 * 1024
ANSWER_LIMIT: Final = BODY_LIMIT + 64 * 1024
"""Maximum number of bytes of a complete answer as it arrives. It includes bytes that the parser returns late
or never, such as trailers and the extensions of chunks."""


class Stage(IntEnum):
    """The part of the answer that has arrived."""

    IDLE = 0
    SENT = 1
    HEAD = 2
    BODY = 3


_LATE: Final = {Stage.SENT: Reason.TIMEOUT, Stage.HEAD: Reason.SLOW_HEADERS, Stage.BODY: Reason.SLOW_BODY}
_FRAMING: Final = frozenset((b"content-length", b"transfer-encoding"))
_LOST: Final = {Stage.SENT: Reason.CLOSED, Stage.HEAD: Reason.CLOSED, Stage.BODY: Reason.INCOMPLETE}


class EndpointConnection(asyncio.Protocol):
    """Carries one exchange at a time; `reusable` says whether another may follow."""

    __slots__ = (
        "_body",
        "_body_bytes",
        "_burst",
        "_bytes",
        "_done",
        "_framed",
        "_loop",
        "_parser",
        "closed",
        "delivery_control",
        "head",
        "idle_since",
        "retry_after",
        "reusable",
        "stage",
        "status",
        "transport",
    )

    _body: list[bytes]
    head: bytes
    """The pieces of the answer up to the end of its head, including the piece with that end."""
    retry_after: str | None
    delivery_control: str | None

    def __init__(self, loop: asyncio.AbstractEventLoop, burst: Burst | None = None) -> None:
        """`burst` sends the requests, if there may be others at the same moment."""
        self._loop = loop
        self._burst = burst or Burst(loop)
        self._parser = HttpResponseParser(self)
        self._done: asyncio.Future[Reason | None] | None = None
        self.transport: asyncio.Transport | None = None
        self.stage = Stage.IDLE
        self.closed = False
        self.idle_since = 0.0
        self._reset()

    def exchange(self, request: bytes) -> "asyncio.Future[Reason | None]":
        """Send a complete request on a connection that is new, or idle because of `rest`. The future never
        raises. Its result is None for a complete answer, or else the reason of the failure."""
        assert self.stage is Stage.IDLE
        self._done = done = self._loop.create_future()
        self.stage = Stage.SENT
        if self.transport is None or self.closed:
            self._finish(Reason.CLOSED)
        else:
            self._burst.write(self.transport, request)
        return done

    def time_out(self) -> None:
        """End the exchange, because its time limit has passed."""
        self.abort(_LATE.get(self.stage, Reason.TIMEOUT))

    def abort(self, reason: Reason = Reason.CLOSED) -> None:
        """Closes at once, whatever is under way."""
        self.closed = True
        if self.transport is not None:
            self.transport.abort()
        self._finish(reason)

    def rest(self, now: float) -> None:
        """Forget the answer. The connection is idle from `now` on, until the next exchange."""
        self._reset()
        self.stage = Stage.IDLE
        self.idle_since = now

    @property
    def stale(self) -> bool:
        """Whether it was kept alive, and not one byte of an answer came to its last exchange."""
        return self.idle_since > 0 and self.stage is Stage.SENT

    @property
    def body(self) -> bytes:
        """The part of the body that was read, at most BODY_LIMIT."""
        return self._body[0][:BODY_LIMIT] if len(self._body) == 1 else b"".join(self._body)[:BODY_LIMIT]

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's are none by inheritance

    def data_received(self, data: bytes) -> None:
        if self._done is None:
            # No request was sent, so the next answer could not be told apart from these bytes.
            self.abort()
            return
        try:
            if self.stage < Stage.BODY:
                self.stage = Stage.HEAD
                self.head += data
                data = self._parse(data, HEAD_LIMIT)
                if data and self.stage < Stage.BODY:
                    self.abort(Reason.TOO_LARGE)
                    return
            if data and self._parse(data, ANSWER_LIMIT):
                self.abort(Reason.TOO_LARGE)
        except (HttpParserError, HttpParserUpgrade):
            self._cannot_parse()

    def _cannot_parse(self) -> None:
        self.abort(Reason.MALFORMED)

    def _parse(self, data: bytes, limit: int) -> bytes:
        """Parse what fits into an answer of at most `limit` bytes; the rest of `data` is returned."""
        fits = data[: limit - self._bytes]
        self._bytes += len(fits)
        self._parser.feed_data(fits)
        return data[len(fits) :]

    def eof_received(self) -> None:
        if self.stage is Stage.BODY and not self._framed:
            self.reusable = False
            self._finish(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self._finish(_LOST.get(self.stage, Reason.CLOSED))
        self._drop_parser()

    # --- the parser's callbacks

    def on_message_begin(self) -> None:
        if self._done is None:
            self.abort()  # a second answer to one request: nothing after it can be trusted

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._done is None or self.stage is Stage.BODY:
            return  # of a second answer, or a trailer
        name = name.lower()
        if name in _FRAMING:
            self._framed = True
        elif name == b"retry-after":
            self.retry_after = value[:128].decode("latin-1")
        elif name == b"webhook-delivery":
            self.delivery_control = value[:128].decode("latin-1")

    def on_headers_complete(self) -> None:
        if self._done is None:
            return
        status = self._parser.get_status_code()
        if 100 <= status < 200 and status != 101:
            self._reset_head()
            return
        if not 200 <= status < 600:
            self.abort(Reason.MALFORMED)
            return
        self.status = status
        self.stage = Stage.BODY

    def on_body(self, data: bytes) -> None:
        if self._done is None:
            return
        self._body.append(data)
        self._body_bytes += len(data)
        if self._body_bytes > BODY_LIMIT:
            self.abort(Reason.TOO_LARGE)

    def on_message_complete(self) -> None:
        if self._done is not None and self.stage is Stage.BODY:
            unsent = self.transport is not None and self.transport.get_write_buffer_size() > 0
            self.reusable = not unsent and self._parser.should_keep_alive()
            self._finish(None)

    # --- our own

    def _drop_parser(self) -> None:
        # The two know each other. Only the collector could free them, and it comes so seldom that a thousand
        # closed connections, with 16 kB each, would wait for it.
        del self._parser

    def _reset(self) -> None:
        self._body = []
        self.head = b""
        self._body_bytes = 0
        self._bytes = 0
        self.status = 0
        self.reusable = False
        self._reset_head()

    def _reset_head(self) -> None:
        self._framed = False
        self.retry_after = None
        self.delivery_control = None

    def _finish(self, reason: Reason | None) -> None:
        done, self._done = self._done, None
        if done is not None and not done.done():
            done.set_result(reason)


def status_in(head: bytes) -> int | None:
    """The status in the beginning of an answer whose head did not come to its end; None if there is none.

    The connection's own parser cannot be used for this: until it has read the new status, it still reports
    the status of the previous answer on the same connection.
    """
    parser = HttpResponseParser(object())
    try:
        parser.feed_data(head)
    except HttpParserInvalidStatusError:
        return None
    except (HttpParserError, HttpParserUpgrade):
        pass
    status: int = parser.get_status_code()
    return status if status >= 100 else None  # a status has three digits, of which some may be missing
