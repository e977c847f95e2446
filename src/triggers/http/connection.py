"""One connection of a caller: passes everything that happens on it to the part that handles it."""

from __future__ import annotations

import asyncio
from functools import lru_cache
from typing import Any

from uvicorn import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.server import ServerState

from triggers import errors
from triggers.burst import Burst
from triggers.http import exchange, turns
from triggers.http.deadlines import CallerDeadlines
from triggers.http.paced_reader import PacedReader
from triggers.http.pipeline import Pipeline
from triggers.http.request_cycle import RequestCycle, unreadable
from triggers.http.request_parser import RequestParser


class CallerConnection(asyncio.Protocol):
    """The protocol that uvicorn's server runs for each connection. Its parts contain the rules:

    bytes in ▶ `PacedReader` ▶ `RequestParser` ▶ `Pipeline` ▶ `RequestCycle` ▶ bytes out

    In addition, `CallerDeadlines` notes the beginning of each state that may last too long.

    open ──`refuse`──▶ refusing: earlier requests are answered, and then the error
    open or refusing ──the last answer──▶ hung up: the caller may still send, for `LINGER_SECONDS`
    open ──`eof_received`──▶ half-closed: the requests that arrived are answered, then it is closed
    any of them ──`close`, or the caller leaves──▶ lost
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._app = config.loaded_app
        self._root_path = config.root_path
        self.server_state = server_state
        self.is_half_closed = False  # the caller sends nothing more, and may still read
        self._loop = _loop or asyncio.get_running_loop()

    # ---- told by the event loop ------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.server_state.connections.add(self)  # type: ignore[arg-type]
        self.transport = transport
        self.flow = FlowControl(transport)
        self.deadlines = CallerDeadlines(self._loop.time())
        self.pipeline = Pipeline(self._loop, self.flow, self.server_state.tasks)
        self._scope = _scope(transport, root_path=self._root_path)
        self.parser = RequestParser(self, self._scope)
        self.reader = PacedReader(transport, self.flow, self.parser, self.pipeline, self.refuse)
        self._turns = turns.for_work(self._loop)
        self._burst = _burst(self._loop)

    def connection_lost(self, exc: Exception | None) -> None:
        self.server_state.connections.discard(self)
        self.pipeline.end()
        self.reader.let_go()
        self.flow.resume_writing()

    def data_received(self, data: bytes) -> None:
        self.reader.take(data)

    def eof_received(self) -> bool:
        """Return whether to stay open. The event loop may call this again when reading is resumed."""
        self.is_half_closed = True
        self.pipeline.caller_finished()
        self.reader.end(self._all_came)
        return not self.has_ended

    def pause_writing(self) -> None:
        """Called by the transport when its write buffer is over the limit, which is rare."""
        self.flow.pause_writing()
        self.deadlines.answer_waits(self._loop.time(), self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        self.flow.resume_writing()
        self.deadlines.answer_was_read()

    # ---- told by the server ----------------------------------------------------------------------

    def shutdown(self) -> None:
        """The service stops: close the connection after the current answer, or now if there is none."""
        newest = self.pipeline.newest
        if newest is None or newest.is_answered:
            self.close()
        else:
            newest.end_connection()

    def enforce_deadlines(self, now: float, seconds: float, keep_alive_seconds: float) -> None:
        """End the connection if something has taken longer than `seconds`, or than its own limit."""
        transport, deadlines = self.transport, self.deadlines
        unread, is_closing = transport.get_write_buffer_size(), transport.is_closing()
        is_reader_late = deadlines.is_reader_late(now, seconds, unread, is_closing=is_closing)
        if is_reader_late or deadlines.lingers_too_long(now):
            transport.abort()
        elif is_closing or self.reader.is_closed:
            return
        elif self.flow.read_paused:
            deadlines.excuse_caller(now)
        elif deadlines.is_request_late(now, seconds):
            self.refuse(errors.RequestTimeout(f"It did not arrive within {seconds:g} s."))
        elif deadlines.is_idle_too_long(now, keep_alive_seconds):
            self.close()

    # ---- told by the parser ----------------------------------------------------------------------

    def request_began(self) -> None:
        self.deadlines.request_began(self._loop.time())

    def head_came(self, scope: dict[str, Any], *, keep_alive: bool) -> None:
        self.pipeline.add(RequestCycle(self, self._app, scope, keep_alive=keep_alive))

    def body_came(self, data: bytes) -> None:
        newest = self.pipeline.newest
        if newest is not None:
            newest.body_came(data)

    def request_ended(self) -> None:
        self.deadlines.request_ended()
        if self.pipeline.newest is not None:
            self.pipeline.newest.body_ended()

    # ---- told by a request -----------------------------------------------------------------------

    @property
    def has_ended(self) -> bool:
        """Whether nothing may be written any more."""
        return self.transport.is_closing() or self.deadlines.has_hung_up

    def write_soon(self, data: bytes) -> None:
        """Write at the end of this turn of the loop, with what other connections write."""
        self._burst.write(self.transport, data)

    def write(self, data: bytes) -> None:
        """Write now."""
        self._burst.flush()
        if not self.transport.is_closing():
            self.transport.write(data)

    def answered(self) -> None:
        """An answer was written, and another request may come: continue with the requests that waited."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._turns.wait(self._answer_next)
        else:
            self.deadlines.went_idle(self._loop.time())
        if self.reader.is_waiting:
            self.reader.go_on()

    def answered_last(self, *, is_whole: bool) -> None:
        """The last answer was written. If the caller is still sending, it may go on for LINGER_SECONDS."""
        self.server_state.total_requests += 1
        if is_whole and not self.reader.is_closed:
            self.close()
        else:
            self.hang_up()

    # ---- the end ---------------------------------------------------------------------------------

    def refuse(self, error: errors.TriggersError) -> None:
        """Answer an unreadable or late request with an error, after earlier ones. Then end the connection."""
        self.reader.close()
        newest = self.pipeline.newest
        if newest is None or self.parser.in_head:
            scope = {**self._scope, "method": "GET", exchange.FIELDS: {}}
            cycle = RequestCycle(self, unreadable, scope, keep_alive=False)
            cycle.refuse(error)
            self.pipeline.add(cycle)
        elif newest.is_answered:
            self.hang_up()
        else:
            newest.refuse(error)

    def hang_up(self) -> None:
        """Answer nothing more, and close when the caller does or after a while.

        A connection that is closed with bytes unread is reset, and a reset would take the last answer from
        a caller that is still sending.
        """
        self._burst.flush()
        self.reader.close()
        self.pipeline.end()
        if self.is_half_closed:
            self.close()
        elif not self.has_ended:
            self.deadlines.hung_up(self._loop.time())
            self.flow.resume_reading()
            self.transport.write_eof()

    def close(self) -> None:
        """Close the connection after the caller has read the answers."""
        self._burst.flush()
        self.transport.close()

    def cut(self) -> None:
        """End the connection with an incomplete answer. Do not wait for a caller that does not read."""
        self.transport.abort() if self.flow.write_paused else self.close()

    def _all_came(self) -> None:
        """The caller sends nothing more, and all that it sent is parsed: end after the last answer."""
        if self.parser.in_head:  # no request has begun, or only its head
            self.shutdown()
            self.reader.close()
        else:
            self.refuse(errors.MalformedRequest("The request ended before its body was complete."))

    def _answer_next(self) -> None:
        if not self.transport.is_closing():
            self.pipeline.run_next()


@lru_cache(maxsize=1)
def _burst(loop: asyncio.AbstractEventLoop) -> Burst:
    """The Burst that all connections share."""
    return Burst(loop)


def _scope(transport: asyncio.Transport, *, root_path: str) -> dict[str, Any]:
    """The part of the ASGI scope that all requests of a connection share."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "scheme": "http",
        "root_path": root_path,
        "client": _address(transport, "peername"),
        "server": _address(transport, "sockname"),
    }


def _address(transport: asyncio.Transport, end: str) -> tuple[str, int] | None:
    """Host and port of one end, if it has any."""
    match transport.get_extra_info(end):
        case (str(host), int(port), *_):
            return host, port
        case _:
            return None
