"""uvicorn, with deadlines for each request to arrive and its answer to be read, and less work for each."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import socket
from collections.abc import Iterator
from functools import lru_cache
from operator import itemgetter
from typing import Any
from urllib.parse import unquote

import httptools
import msgspec
import structlog
import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from triggers import errors
from triggers.api import exchange, problems
from triggers.api.repeated_head import RepeatedHead
from triggers.burst import Burst

log = structlog.get_logger()

MAX_HEAD_BYTES = 64 * 1024
KEEP_ALIVE_SECONDS = 75.0
LINGER_SECONDS = 5.0
"""How long a caller who was answered for the last time may go on sending before the connection is cut."""
SLOWEST_READER = 16 * 1024
"""Bytes a second that who reads an answer takes at least."""

_name = itemgetter(0)
_NAMES = re.compile(rb"[a-z0-9-]*")
_SAFE = bytes(byte for byte in range(256) if byte == 0x09 or (byte >= 0x20 and byte != 0x7F))
_OFFER = re.compile(rb"(?<=\n)upgrade(?=[ \t]*:)", re.IGNORECASE)
_OFFER_OR_FIRST = re.compile(rb"(?:\A|(?<=\n))upgrade(?=[ \t]*:)", re.IGNORECASE)
_BEGINS_OFFER = re.compile(rb"(?:\A|(?<=\n))u(?:p(?:g(?:r(?:a(?:d(?:e[ \t]*)?)?)?)?)?)?\Z", re.IGNORECASE)


class Cycle(RequestResponseCycle):
    """uvicorn's request and response, of which an answer in one piece leaves in one write.

    uvicorn looks through each header by itself, and writes the head before it knows the body: two
    system calls and two packets. What comes in several pieces, or closes the connection, is left to it.
    """

    burst: Burst
    connection: Protocol
    _start: Any = None  # the head, until the first of the body is known

    async def run_asgi(self, app: Any) -> None:
        """uvicorn's; but who is cut off because the service stops, or by a bug, has an answer of ours."""
        try:
            await app(self.scope, self.receive, self.send)
            if not self.response_complete and not self.disconnected:
                self.transport.close()
        except asyncio.CancelledError:
            await self._give_up(errors.Unavailable("The service is stopping; try again."))
        except Exception as bug:
            log.error("unhandled_error", exc_info=bug)
            await self._give_up(errors.TriggersError())
        finally:
            self.on_response = lambda: None
            del self.connection  # which has this one: what is done is left to no collector

    async def _give_up(self, error: errors.TriggersError) -> None:
        if self.response_started:
            self.transport.close()
            return
        self.keep_alive = False
        self._start = None
        request_id = exchange.request_id(None)
        headers = [(b"x-request-id", request_id.encode())]
        status = await exchange.answer_problem(self.send, error, request_id, headers)
        log.info("request_refused", request_id=request_id, status=status, detail=error.logged)

    async def send(self, message: Any) -> None:
        """As ASGI has it."""
        if self._is_over():
            return
        if message["type"] == "http.response.start" and not self.response_started:
            self._start = message
            return
        start, self._start = self._start, None
        if start is None:
            await self._send(message)
        elif (whole := self._whole(start, message)) is None:
            await super().send(start)
            await self._send(message)
        else:
            if self.flow.write_paused and not self.disconnected:
                await self.flow.drain()
            if self.disconnected:
                return
            self.response_started = self.response_complete = True
            self.waiting_for_100_continue = False
            self.burst.write(self.transport, whole)
            self.message_event.set()
            self.on_response()

    def _is_over(self) -> bool:
        """Whether nothing can be said any more: a refusal was the last that this connection says, or it is
        closed already, of which uvicorn hears only in the next turn of the loop."""
        if self.connection.hung_up_at is not None or self.transport.is_closing():
            self.disconnected = True
        return self.disconnected

    async def _send(self, message: Any) -> None:
        """A piece of the body. After the last one of a connection, uvicorn closes it at once."""
        if self._is_over():
            return
        closing = not self.keep_alive and not message.get("more_body")
        if closing and (self.more_body or self.connection.deaf):  # something is still coming
            self.keep_alive = True
            await super().send(message)
            self.connection.hang_up()
        else:
            await super().send(message)

    def _whole(self, start: Any, message: Any) -> bytes | None:
        """All bytes of the answer; None if it is not as plain as nearly all are."""
        headers = [*self.default_headers, *start.get("headers", ())]
        body: bytes = message.get("body", b"")
        if (
            message.get("more_body")
            or not self.keep_alive
            or self.scope["method"] == "HEAD"
            or (b"content-length", b"%d" % len(body)) not in headers
            or not _are_plain(tuple(map(_name, headers)))
        ):
            return None
        head = b"\r\n".join(map(b": ".join, headers))
        if len(head.translate(None, _SAFE)) > 2 * (len(headers) - 1):  # more than the ends of lines
            return None
        return b"%b%b\r\n\r\n%b" % (STATUS_LINE[start["status"]], head, body)


class Protocol(HttpToolsProtocol):
    """Bounds the head of a request, and notes since when one has been arriving, an answer has been
    waiting for its reader, or a connection has been idle, for `sweep` to judge.

    uvicorn itself only times idle connections, so a caller who sends a byte now and then, or reads
    none, could hold one for ever. A sweep costs nothing per request, where a timer each would.
    """

    arriving_since: float | None = None
    idle_since: float | None = None
    unread_since: float | None = None
    unread = 0  # bytes, at that time
    between = True  # two requests, or before the first
    in_head = True
    head_size = 0
    last_head: RepeatedHead | None = None  # of a request that came whole
    begun = b""  # the end of what came of a head, if an offer may begin there
    hung_up_at: float | None = None
    deaf = False  # what comes is not read any more
    burst: Burst

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.burst = _burst(self.loop)
        self.arriving_since = self.loop.time()

    def shutdown(self) -> None:
        """uvicorn's: it closes the connection if the last answer is complete, so that one must be out."""
        self.burst.flush()
        super().shutdown()

    def data_received(self, data: bytes) -> None:
        if self.deaf:
            return
        if not self.between or (self.cycle is not None and not self.cycle.response_complete):
            self._parse(data)
        elif self.last_head is not None and (read := self.last_head.read(data)) is not None:
            self._repeat(*read)
        else:
            before = self.cycle
            self._parse(data)
            if self.between and self.cycle is not before and not self.expect_100_continue:
                self.last_head = RepeatedHead.of(data, self.cycle.scope) or self.last_head

    def _repeat(self, scope: dict[str, Any], body: bytes) -> None:
        """Do what the parser would have us do."""
        self.idle_since = None
        self.cycle = cycle = self._cycle(scope, expects_100=False, keep_alive=True)
        cycle.body = bytearray(body)
        cycle.more_body = False
        cycle.message_event.set()
        self._start_asgi_task(cycle, self.app)

    def _parse(self, data: bytes) -> None:
        if self.in_head:
            self.head_size += len(data)
            if self.head_size > MAX_HEAD_BYTES and self.head_size > len(data):
                self.send_400_response("The headers are too large.")
                return
        super().data_received(self._without_offers(data))

    def _without_offers(self, data: bytes) -> bytes:
        """Nothing that offers another protocol, for there is none, and the parser would take what follows the
        head for it: Java's client offers HTTP/2 with each request.

        A line that begins like that is no part of a body either: JSON has no bare words.
        """
        data, self.begun = self.begun + data, b""
        if b"pgrade" in data or b"PGRADE" in data:
            data = (_OFFER_OR_FIRST if self.in_head else _OFFER).sub(b"ignored", data)
        unended = (self.in_head or self.between) and b"\r\n\r\n" not in data  # else it is the end of a body
        begins = _BEGINS_OFFER.search(data, len(data) - 64) if unended else None
        if begins and (self.in_head or begins.start()):  # else it is the first line of a request
            data, self.begun = data[: begins.start()], data[begins.start() :]
        return data

    def send_400_response(self, msg: str) -> None:
        """What cannot be read as HTTP at all: the end, once what came before it is answered."""
        self.burst.flush()
        self.deaf = True
        if not self.answering:
            self.refuse(errors.MalformedBody(f"Not a request that can be read: {msg}"))
            self.hang_up()
        elif not self.cycle.response_complete:
            (self.pipeline[0][0] if self.pipeline else self.cycle).keep_alive = False
        else:
            self.hang_up()

    def hang_up(self) -> None:
        """Close, when the caller does or after a while. To close on bytes that were sent and not read would
        take the answer from who is still sending."""
        self.burst.flush()
        self.deaf = True
        if self.transport.is_closing() or self.hung_up_at is not None:
            return
        self.hung_up_at = self.loop.time()
        self.flow.resume_reading()
        self.transport.write_eof()

    def refuse(self, error: errors.TriggersError) -> None:
        """Answer with a problem before there is a request to be answered, or in place of its answer."""
        self.burst.flush()
        request_id = exchange.request_id(None)
        document = problems.problem(error, request_id)
        body = msgspec.json.encode(document)
        self.transport.write(
            b"%bcontent-type: application/problem+json\r\nx-request-id: %b\r\nconnection: close\r\n"
            b"content-length: %d\r\n\r\n%b"
            % (STATUS_LINE[document["status"]], request_id.encode(), len(body), body)
        )
        log.info(
            "request_refused",
            request_id=request_id,
            status=document["status"],
            client=self.client[0] if self.client else None,
            detail=error.logged,
        )

    def pause_writing(self) -> None:
        """Told by the transport when more than a little waits to be read; nearly no answer comes to that."""
        super().pause_writing()
        self.note_unread()

    def resume_writing(self) -> None:
        super().resume_writing()
        self.unread_since = None

    @property
    def answering(self) -> bool:
        """Whether an answer of ours would come into another one, or behind one of the same request."""
        if self.cycle is None:
            return False
        between = self.in_head or self.between
        return not self.cycle.response_complete if between else self.cycle.response_started

    def note_unread(self) -> None:
        """Begin to count the time in which the reader has to take some of it."""
        self.unread = self.transport.get_write_buffer_size()
        self.unread_since = self.loop.time()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.arriving_since = self.loop.time()
        self.idle_since = None
        self.between = False
        self.in_head = True
        self.head_size = 0

    def on_headers_complete(self) -> None:
        """uvicorn's, with our cycle, and without what needs websockets or a bound of its own."""
        self.in_head = False
        parser, scope = self.parser, self.scope
        version = parser.get_http_version()
        scope["http_version"] = version
        scope["method"] = parser.get_method().decode("ascii")
        scope["path"], scope["raw_path"], scope["query_string"] = _parts(self.url)
        before = self.cycle
        keep_alive = version != "1.0" and parser.should_keep_alive()
        self.cycle = cycle = self._cycle(scope, expects_100=self.expect_100_continue, keep_alive=keep_alive)
        if before is None or before.response_complete:
            self._start_asgi_task(cycle, self.app)
        else:  # one request at a time: this one waits
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, self.app))

    def _cycle(self, scope: Any, *, expects_100: bool, keep_alive: bool) -> Cycle:
        cycle = Cycle(
            scope,
            self.transport,
            self.flow,
            self.logger,
            self.access_logger,
            self.access_log,
            self.server_state.default_headers,
            asyncio.Event(),
            expects_100,
            keep_alive,
            self.on_response_complete,
        )
        cycle.burst = self.burst
        cycle.connection = self
        return cycle

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self.between = True
        self.arriving_since = None

    def on_response_complete(self) -> None:
        """uvicorn's, without the timer."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        else:
            self.idle_since = self.loop.time()


@lru_cache(maxsize=1)
def _burst(loop: asyncio.AbstractEventLoop) -> Burst:
    """The one of all connections."""
    return Burst(loop)


@lru_cache(maxsize=256)
def _are_plain(names: tuple[bytes, ...]) -> bool:
    """Whether headers of these names can be written as they are. Few sets of names make all answers."""
    framing = b"connection" in names or b"transfer-encoding" in names
    return not framing and _NAMES.fullmatch(b"".join(names)) is not None


@lru_cache(maxsize=64)
def _parts(url: bytes) -> tuple[str, bytes, bytes]:
    """Path, raw path and query. Few paths make most requests, and those have no ids in them."""
    parsed = httptools.parse_url(url)
    return unquote(parsed.path.decode("ascii")), parsed.path, parsed.query or b""


async def sweep(server: uvicorn.Server, seconds: float) -> None:
    """Close connections on which a request has been arriving, or an answer not been read, for longer
    than `seconds`, and idle ones."""
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(min(1.0, seconds / 4))
        now = loop.time()
        for connection in list(server.server_state.connections):
            if not isinstance(connection, Protocol):
                continue
            hung_up_at = connection.hung_up_at
            if _is_unread(connection, now, seconds) or (hung_up_at and hung_up_at < now - LINGER_SECONDS):
                connection.transport.abort()
            if connection.transport.is_closing():
                continue
            arriving, idle = connection.arriving_since, connection.idle_since
            if arriving is not None and arriving < now - seconds:
                if not connection.answering:
                    connection.refuse(errors.RequestTimeout(f"It did not arrive within {seconds:g} s."))
                connection.transport.close()
            elif arriving is None and idle is not None and idle < now - KEEP_ALIVE_SECONDS:
                connection.transport.close()


def _is_unread(connection: Protocol, now: float, seconds: float) -> bool:
    """Whether the caller has been reading next to nothing for `seconds` of what is there to be read.

    A closing transport stays until its last byte is taken, however few are left.
    """
    transport = connection.transport
    if connection.unread_since is None:
        if transport.is_closing():
            connection.note_unread()
    elif transport.get_write_buffer_size() <= connection.unread - SLOWEST_READER * seconds:
        connection.note_unread()
    return connection.unread_since is not None and connection.unread_since < now - seconds


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
        errors.OperatorError: the address cannot be had.
    """
    bound = None
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        bound = socket.socket(family, socket.SOCK_STREAM)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
    except OSError as error:
        if bound is not None:
            bound.close()
        raise errors.OperatorError(
            f"Cannot listen on {host} port {port}: {error.strerror or error}."
        ) from error
    return bound


def make_server(app: Any, *, shutdown_timeout: float) -> Server:
    """A server for one ASGI app."""
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # what it warns of has a line of ours
    config = uvicorn.Config(
        app,
        interface="asgi3",
        http=Protocol,
        loop="uvloop",
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=max(1, int(shutdown_timeout)),
        h11_max_incomplete_event_size=32 * 1024,
        backlog=2048,
    )
    return Server(config)
