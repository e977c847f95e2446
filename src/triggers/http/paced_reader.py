"""Decides when the bytes that arrive on a connection are parsed, and which are thrown away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from uvicorn.protocols.http.flow_control import FlowControl

from triggers.errors import RequestError
from triggers.http import turns
from triggers.http.pipeline import Pipeline
from triggers.http.request_parser import RequestParser

TURN_BYTES: Final = 64 * 1024
"""About this many bytes of one connection are parsed in one turn of the event loop. Then the connection waits
for its next turn, together with the others that have more bytes to parse."""
PIECE_COST: Final = 256
"""Bytes that each piece counts for in addition to its size, because many small pieces cost more."""


class PacedReader:
    """The bytes of one connection on their way to its parser.

    open ──a turn's bytes are parsed, or the pipeline is full──▶ waiting ──`go_on`: its turn, and room──▶ open
    open or waiting ──`end`: nothing more comes──▶ the same, until nothing waits
    open or waiting ──`close`: the last answer is decided──▶ closed: what comes is thrown away, slowly

    Nothing is read while it waits, except once when an app asks for more of a body.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        flow: FlowControl,
        parser: RequestParser,
        pipeline: Pipeline,
        refuse: Callable[[RequestError], None],
    ) -> None:
        """`refuse` is called with the error if something cannot be parsed. It also closes this reader."""
        self._transport = transport
        self._flow = flow
        self._parser = parser
        self._pipeline = pipeline
        self._refuse = refuse
        self._waiting = b""  # what came and is not parsed yet
        self._when_all_is_parsed: Callable[[], None] | None = None
        self.is_closed = False
        loop = asyncio.get_running_loop()
        self._turns = turns.for_work(loop)
        self._leftovers = turns.for_leftovers(loop)

    @property
    def is_waiting(self) -> bool:
        """Whether some of what came is not parsed yet."""
        return bool(self._waiting)

    def take(self, data: bytes) -> None:
        """Parse what came, unless enough is under way."""
        if self.is_closed:
            self._flow.pause_reading()
            self._leftovers.wait(self._read_leftovers)
        elif self._waiting:
            self._waiting += data
            self._flow.pause_reading()
        else:
            self._parse(data)

    def go_on(self) -> None:
        """Ask for a turn, in which to parse what waits and to read on."""
        self._turns.wait(self._take_turn)

    def end(self, then: Callable[[], None]) -> None:
        """The caller sends nothing more: call `then` when all that came is parsed."""
        if self._waiting:
            self._when_all_is_parsed = then
        elif not self.is_closed:
            then()

    def close(self) -> None:
        """Parse nothing any more."""
        self.is_closed = True
        self._waiting = b""

    def let_go(self) -> None:
        """The connection is lost: drop the references to its parts."""
        self.close()
        self._parser.close()
        self._when_all_is_parsed = None
        del self._refuse

    def _parse(self, data: bytes) -> None:
        begin, spent = 0, 0
        parser, pipeline = self._parser, self._pipeline
        try:
            while begin < len(data):
                if spent >= TURN_BYTES or pipeline.is_full:
                    self._wait_with(data, begin)
                    return
                end = parser.feed(data, begin)
                spent += end - begin + PIECE_COST
                begin = end
        except RequestError as error:
            self._refuse(error)
            return
        parser.pieces.remember(data)
        if spent >= TURN_BYTES:
            self._flow.pause_reading()
            self.go_on()

    def _wait_with(self, data: bytes, begin: int) -> None:
        """Keep the rest, to be parsed after other connections had their turn and the pipeline has room."""
        self._parser.pieces.remember(data[:begin])
        self._waiting = data[begin:]
        self._flow.pause_reading()
        self.go_on()

    def _take_turn(self) -> None:
        if self.is_closed or self._transport.is_closing() or self._pipeline.is_full:
            return
        if self._waiting:
            data, self._waiting = self._waiting, b""
            self._flow.resume_reading()
            self._parse(data)
            if self._when_all_is_parsed is not None:
                self.end(self._when_all_is_parsed)
        elif not self._pipeline and not self._pipeline.has_much_unread:
            self._flow.resume_reading()

    def _read_leftovers(self) -> None:
        if not self._transport.is_closing():
            self._flow.resume_reading()
