"""One connection of a caller: uvicorn's protocol, with bounds on all that a caller can send, and less work
for each request."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from functools import cached_property, lru_cache
from operator import itemgetter
from typing import Any, Final
from urllib.parse import unquote

import httptools
import structlog
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from triggers import errors
from triggers.burst import Burst
from triggers.http import exchange
from triggers.http.request_pieces import RequestPieces
from triggers.http.turns import Turns

log = structlog.get_logger()

MAX_AHEAD: Final = 16
"""Requests of a connection that are parsed while an earlier one is being answered."""
TURN_BYTES: Final = 64 * 1024
"""Bytes that one connection has parsed in one turn of the event loop, or a little more. After so many it
waits for its turn, with the others that have more to be parsed."""
AT_ONCE: Final = 4
"""Connections that go on in one turn of the event loop, of those that wait for their turn."""
LEFTOVERS_SECONDS: Final = 0.005
"""How long nothing is read of what callers send after their last answer, before so many of them are read
again: at most 50 MB in a second of all together, which is thrown away."""
PIECE_COST: Final = 256
"""Bytes that each piece counts for beside its own: tiny ones are dearer than long ones."""
REST_READ: Final = 5 * 1024 * 1024
"""Bytes of a body of known length that are read, and thrown away, after its request was answered. Before a
longer one, or one of unknown length, the connection ends, so a refused caller cannot go on."""

_ASGI: Final = {"version": "3.0", "spec_version": "2.3"}
_name = itemgetter(0)
_NAMES = re.compile(rb"[a-z0-9-]*")
_SAFE = bytes(byte for byte in range(256) if byte == 0x09 or (byte >= 0x20 and byte != 0x7F))


class Cycle(RequestResponseCycle):
    """uvicorn's request and response, of which an answer in one piece leaves in one write.

    uvicorn looks through each header by itself, and writes the head before it knows the body: two
    system calls and two packets. Answers in several pieces, or that end the connection, are left to uvicorn.
    """

    connection: Protocol
    task: asyncio.Task[None]
    scope: Any
    access_log = False  # there are lines of ours
    disconnected = response_started = response_complete = False
    more_body = True
    is_waited_for = False
    chunked_encoding: bool | None = None
    expected_content_length = 0
    refusal: errors.TriggersError | None = None
    """Why the rest of the request is not read. To the app its caller has gone then; this is the answer."""
    _start: Any = None  # the head, until the first of the body is known

    def __init__(self, connection: Protocol, scope: Any, *, expects_100: bool, keep_alive: bool) -> None:
        """uvicorn's, without what is the same for most requests."""
        self.connection = connection
        self.scope = scope
        self.transport = connection.transport
        self.flow = connection.flow
        self.default_headers = connection.server_state.default_headers
        self.on_response = connection.on_response_complete
        self.waiting_for_100_continue = expects_100
        self.keep_alive = keep_alive
        self.body = bytearray()

    @cached_property
    def message_event(self) -> asyncio.Event:  # type: ignore[override]
        """Made when it is first waited for. A small request that came whole needs none."""
        self.is_waited_for = True
        event = asyncio.Event()
        event.set()  # for what has come before
        return event

    async def run_asgi(self, app: Any) -> None:
        """uvicorn's; but a request that a stop, a bug or its own rest cuts off has an answer of ours."""
        if not self.more_body and len(self.body) <= exchange.SMALL_BYTES:
            self.scope[exchange.SMALL_BODY] = bytes(self.body)
        try:
            await app(self.scope, self.receive, self.send)
            if self.refusal is not None:
                await self._give_up(self.refusal)
            elif not self.response_complete and not self.disconnected:
                self.transport.close()
        except asyncio.CancelledError:
            await self._give_up(errors.Unavailable("The service is stopping; try again."))
        except Exception as bug:
            log.error("unhandled_error", exc_info=bug)
            await self._give_up(self.refusal or errors.TriggersError())
        finally:
            self.on_response = _nothing
            self.connection.tasks.discard(self.task)
            del self.connection, self.task  # which have this one: what is done is left to no collector

    def refuse(self, error: errors.TriggersError) -> None:
        """Have this for the answer, unless there is one already."""
        self.keep_alive = False
        self.disconnected = True
        self.message_event.set()
        if self.response_started:
            self.connection.hang_up()
        else:
            self.refusal = error

    async def refused(self, scope: Any, receive: Any, send: Any) -> None:
        """The app of a request that cannot be read: `run_asgi` answers it."""

    async def _give_up(self, error: errors.TriggersError) -> None:
        if self.connection.has_ended:
            return
        if self.response_started:
            self.transport.close()
            return
        self.keep_alive = self.disconnected = False
        self._start = None
        request_id = exchange.request_id(None)
        headers = [(b"x-request-id", request_id.encode())]
        status = await exchange.answer_problem(self.send, error, request_id, headers)
        client = self.scope.get("client")
        log.info(
            "request_refused",
            request_id=request_id,
            status=status,
            client=client and client[0],
            detail=error.logged,
        )

    async def send(self, message: Any) -> None:
        """As ASGI has it, or a whole answer."""
        kind = message["type"]
        if kind == exchange.WHOLE:
            if (whole := self._answer(message)) is None:
                await self.send({**message, "type": "http.response.start"})
                await self.send({"type": "http.response.body", "body": message["body"]})
            elif self.flow.write_paused:
                await self._drain_and_write(whole)
            else:
                self._write(whole)
            return
        if kind == "http.response.start" and not self.response_started:
            self._start = message
            self._end_with_this_answer_if_much_is_left()
            return
        if self.disconnected:
            return
        start, self._start = self._start, None
        if start is None:
            await self._send(message)
        elif (whole := self._whole(start, message)) is None:
            if not self.connection.has_ended:
                await super().send(start)
                await self._send(message)
        else:
            await self._drain_and_write(whole)

    def _answer(self, message: Any) -> bytes | None:
        """All bytes of a whole answer; None if it is to be said in pieces."""
        if self.more_body:
            self._end_with_this_answer_if_much_is_left()
        if not self.keep_alive or self.disconnected or self.scope["method"] == "HEAD":
            return None
        head = b"\r\n".join(map(b": ".join, [*self.default_headers, *message["headers"]]))
        return b"%b%b\r\n\r\n%b" % (STATUS_LINE[message["status"]], head, message["body"])

    def _end_with_this_answer_if_much_is_left(self) -> None:
        if self.more_body and (self.waiting_for_100_continue or self.connection.much_is_left):
            self.keep_alive = False

    async def _drain_and_write(self, whole: bytes) -> None:
        if self.flow.write_paused:
            await self.flow.drain()
        if not self.disconnected:
            self._write(whole)

    def _write(self, whole: bytes) -> None:
        self.response_started = self.response_complete = True
        self.waiting_for_100_continue = False
        self.connection.burst.write(self.transport, whole)
        if self.is_waited_for:
            self.message_event.set()
        self.on_response()

    async def _send(self, message: Any) -> None:
        """A piece of the body. After the last one of a connection, uvicorn closes it at once."""
        if self.connection.has_ended:  # of which uvicorn hears only in the next turn of the loop, or not
            return
        closing = not self.keep_alive and not message.get("more_body")
        if closing and (self.more_body or self.connection.deaf):  # something is still coming
            self.connection.answer_no_more()  # before uvicorn, which goes on to the next request
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


class _Body:
    """The callbacks of a parser that is only to read a body."""

    def __init__(self, connection: Protocol) -> None:
        self.on_body = connection.on_body
        self.on_message_complete = connection.on_message_complete


class Protocol(HttpToolsProtocol):
    """Bounds what arrives, and notes since when a request has been arriving, an answer has been waiting for
    its reader, or the connection has been idle, for `server.sweep` to judge.

    uvicorn itself only times idle connections, so a caller that sends a byte now and then, or reads
    none, could hold one for ever.
    """

    arriving_since: float | None = None
    idle_since: float | None = None
    unread_since: float | None = None
    unread = 0  # bytes, at that time
    between = True  # two requests, or before the first
    cycle: Cycle  # of the newest request
    pipeline: deque[tuple[Cycle, Any]]  # type: ignore[assignment]  # those that wait, the newest first
    running: Cycle | None = None  # the one that is being answered, or was last
    hung_up_at: float | None = None
    deaf = False  # what comes is not read any more
    burst: Burst
    pieces: RequestPieces
    _in_body = False  # or behind it
    _length: int | None = 0  # of the body; None: it is chunked
    _unparsed = b""  # what came and waits: for an answer, or for the next turn of the loop
    _body_parser: httptools.HttpRequestParser | None = None  # after a head that offers another protocol

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.burst = _burst(self.loop)
        self.pieces = RequestPieces()
        self.arriving_since = self.loop.time()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self.running is not None and not self.running.response_complete:  # uvicorn tells the newest only
            self.running.disconnected = True
            self.running.message_event.set()
        # What was never begun knows this connection, which knows it: only the collector could part them.
        self.deaf = True
        self.pipeline.clear()
        self.cycle = self.running = self._body_parser = None  # type: ignore[assignment]
        self._unparsed = b""

    def shutdown(self) -> None:
        """uvicorn's: it closes the connection if the last answer is complete, so that one must be out."""
        self.burst.flush()
        super().shutdown()

    # ---- what arrives ----------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self.deaf:
            self.flow.pause_reading()
            _leftovers(self.loop).wait(self._read_leftovers)
        elif self._unparsed:
            self._unparsed += data
            self.flow.pause_reading()
        else:
            self._parse(data)

    def _parse(self, data: bytes) -> None:
        """Give the parser what came, unless enough is under way."""
        begin, spent = 0, 0
        try:
            while begin < len(data):
                if spent >= TURN_BYTES or len(self.pipeline) >= MAX_AHEAD:
                    self._wait_with(data, begin)
                    return
                end = self.pieces.take(data, begin)
                try:
                    (self._body_parser or self.parser).feed_data(data[begin:end])
                except httptools.HttpParserUpgrade as offer:
                    end = begin + offer.args[0]
                    self._ignore_offer()
                spent += end - begin + PIECE_COST
                begin = end
        except errors.MalformedBody as error:
            self.refuse(error)
        except httptools.HttpParserError as error:
            self.send_400_response(str(error))
        else:
            if not self.between:
                self.pieces.remember(data)
            if spent >= TURN_BYTES:
                self.flow.pause_reading()
                _turns(self.loop).wait(self._go_on)

    def _wait_with(self, data: bytes, begin: int) -> None:
        """Parse the rest of it after others had their turn, and when an answer is out."""
        self.pieces.remember(data[:begin])
        self._unparsed = data[begin:]
        self.flow.pause_reading()
        _turns(self.loop).wait(self._go_on)

    def _go_on(self) -> None:
        """Parse what waits and read on, if there is room for more."""
        if self.deaf or self.transport.is_closing() or len(self.pipeline) >= MAX_AHEAD:
            return
        if self._unparsed:
            data, self._unparsed = self._unparsed, b""
            self.flow.resume_reading()
            self._parse(data)
        elif not self.pipeline and not self._is_body_held:
            self.flow.resume_reading()

    @property
    def _is_body_held(self) -> bool:
        """Whether the app has much of a body before it that it has not read."""
        cycle = self.cycle
        return cycle is not None and not cycle.response_complete and len(cycle.body) > HIGH_WATER_LIMIT

    def _read_leftovers(self) -> None:
        if not self.transport.is_closing():
            self.flow.resume_reading()

    def _ignore_offer(self) -> None:
        """Go on with a request that offers another protocol as if it had not: there is none.

        Java's client offers HTTP/2 with each request. The parser takes what follows such a head for the
        other protocol, so the body is read by a parser of its own, which is told of it by a head of ours.
        """
        self.pieces.head_ended(self._length)  # the piece ends with its head after all
        parser = httptools.HttpRequestParser(_Body(self))
        self._body_parser = parser  # the end of the body drops it
        length = (
            b"transfer-encoding: chunked" if self._length is None else b"content-length: %d" % self._length
        )
        parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n\r\n" % length)

    def send_400_response(self, msg: str) -> None:
        """uvicorn's name for the answer to what cannot be read as HTTP."""
        self.refuse(errors.MalformedBody(f"Not a request that can be read: {msg}."))

    def refuse(self, error: errors.TriggersError) -> None:
        """Answer what cannot be read, or did not come in time, in its turn. Then the connection ends."""
        self.deaf = True
        self._unparsed = b""
        if self.between or self.pieces.in_head:  # there is no request to be answered yet
            scope = {"method": "GET", "client": self.client}
            cycle = Cycle(self, scope, expects_100=False, keep_alive=False)
            cycle.refuse(error)
            self._enqueue(cycle, cycle.refused)
        elif self.cycle.response_complete:
            self.hang_up()
        else:
            self.cycle.refuse(error)

    def answer_no_more(self) -> None:
        """The answer at hand is the last: what came behind its request is neither read nor answered."""
        self.deaf = True
        self.pipeline.clear()

    def hang_up(self) -> None:
        """Close, when the caller does or after a while. To close on bytes that were sent and not read would
        take the answer from a caller that is still sending."""
        self.burst.flush()
        self.deaf = True
        self._unparsed = b""
        if self.transport.is_closing() or self.hung_up_at is not None:
            return
        self.hung_up_at = self.loop.time()
        self.flow.resume_reading()
        self.transport.write_eof()

    @property
    def has_ended(self) -> bool:
        """Whether nothing may be written any more."""
        return self.transport.is_closing() or self.hung_up_at is not None

    @property
    def much_is_left(self) -> bool:
        """Whether so much of the newest request is still to come that it is not worth reading."""
        return self._length is None or self.pieces.left > REST_READ

    # ---- what is read of answers -----------------------------------------------------------------

    def pause_writing(self) -> None:
        """Told by the transport when more than a little waits to be read; nearly no answer comes to that."""
        super().pause_writing()
        self.note_unread()

    def resume_writing(self) -> None:
        super().resume_writing()
        self.unread_since = None

    def note_unread(self) -> None:
        """Begin to count the time in which the reader has to take some of it."""
        self.unread = self.transport.get_write_buffer_size()
        self.unread_since = self.loop.time()

    # ---- the parser's callbacks ------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self.url = b""
        self.headers = []
        self.arriving_since = self.loop.time()
        self.idle_since = None
        self.between = self._in_body = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """uvicorn's, without trailers: what comes behind a body says nothing of the request."""
        if not self._in_body:
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """uvicorn's, with our cycle, and without what needs websockets or a bound of its own."""
        parser, fields = self.parser, dict(self.headers)
        self._in_body = True
        self._length = None if b"transfer-encoding" in fields else int(fields.get(b"content-length", 0))
        self.pieces.head_ended(self._length)
        method = parser.get_method().decode("ascii")
        url = b"/" if method == "CONNECT" else self.url  # which names a host, and no path of ours
        path, raw_path, query = _parts(url)
        scope = {
            "type": "http",
            "asgi": _ASGI,
            "http_version": "1.1",
            "method": method,
            "scheme": self.scheme,
            "path": path,
            "raw_path": raw_path,
            "query_string": query,
            "root_path": "",
            "headers": self.headers,
            "client": self.client,
            "server": self.server,
            exchange.FIELDS: fields,
        }
        keep_alive = parser.should_keep_alive()
        if b"connection" in fields and keep_alive:  # HTTP/1.0 is kept alive only by saying so, and not here
            keep_alive = parser.get_http_version() != "1.0"
        expects_100 = b"expect" in fields and fields[b"expect"].lower() == b"100-continue"
        cycle = Cycle(self, scope, expects_100=expects_100, keep_alive=keep_alive)
        self._enqueue(cycle, self.app)

    def on_body(self, body: bytes) -> None:
        if self._length is None:
            self.pieces.count_data(len(body))
        cycle = self.cycle
        if not cycle.response_complete:
            cycle.body += body
            if len(cycle.body) > HIGH_WATER_LIMIT:
                self.flow.pause_reading()
            if cycle.is_waited_for:
                cycle.message_event.set()

    def on_message_complete(self) -> None:
        if self._body_parser is None and self.parser.should_upgrade():
            return  # only the head is complete: `_ignore_offer` comes next
        self._body_parser = None
        cycle = self.cycle
        if not cycle.response_complete:
            cycle.more_body = False
            if cycle.is_waited_for:
                cycle.message_event.set()
        self.pieces.ended()
        self.between = True
        self.arriving_since = None

    # ---- requests in turn ------------------------------------------------------------------------

    def _enqueue(self, cycle: Cycle, app: Any) -> None:
        before, self.cycle = self.cycle, cycle
        if before is None or before.response_complete:
            self._run(cycle, app)
        else:  # one request at a time: this one waits
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, app))

    def _run(self, cycle: Cycle, app: Any) -> None:
        """uvicorn's `_start_asgi_task`; the task leaves the set by itself, without a callback of the loop."""
        self.running = cycle
        cycle.task = task = self.loop.create_task(cycle.run_asgi(app))
        self.tasks.add(task)

    def on_response_complete(self) -> None:
        """uvicorn's, without the timer."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            _turns(self.loop).wait(self._run_next)
        else:
            self.idle_since = self.loop.time()
        if self._unparsed:
            _turns(self.loop).wait(self._go_on)

    def _run_next(self) -> None:
        """Answer the oldest of the requests that wait."""
        if self.pipeline and not self.transport.is_closing():
            self._run(*self.pipeline.pop())


def _nothing() -> None:
    """What uvicorn calls at the end of an answer that has ended already."""


@lru_cache(maxsize=1)
def _burst(loop: asyncio.AbstractEventLoop) -> Burst:
    """The one of all connections."""
    return Burst(loop)


@lru_cache(maxsize=1)
def _turns(loop: asyncio.AbstractEventLoop) -> Turns:
    """Of connections that have more to be parsed or answered than one request."""
    return Turns(loop, at_once=AT_ONCE)


@lru_cache(maxsize=1)
def _leftovers(loop: asyncio.AbstractEventLoop) -> Turns:
    """Of connections that are read so that their last answer is not lost to a reset."""
    return Turns(loop, at_once=AT_ONCE, every_seconds=LEFTOVERS_SECONDS)


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
