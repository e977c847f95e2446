"""One request, and the answer that an app gives to it by ASGI."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import structlog
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT

from triggers import errors
from triggers.http import exchange
from triggers.http.answer_bytes import AnswerInPieces, whole_answer, write_piece_by_piece

if TYPE_CHECKING:
    from triggers.http.connection import CallerConnection

log = structlog.get_logger()


class RequestCycle:
    """One request in ASGI: `receive` gives it to the app, and `send` writes the app's answer.

    The request: arriving ──`body_ended`──▶ whole
    The answer:  none ──the first of the body──▶ begun ──the last of it──▶ answered
    The caller:  here ──`caller_left`, or `refuse`──▶ gone, for the app; nothing that the app sends is written

    The head of an answer leaves with the first piece of its body. A whole answer leaves in one burst with
    others. If the caller has finished sending, an app that asks for more is told that the caller has left.
    """

    def __init__(
        self, connection: CallerConnection, app: exchange.App, scope: dict[str, Any], *, keep_alive: bool
    ) -> None:
        self._connection = connection
        self._app = app
        self._scope = scope
        self._keep_alive = keep_alive
        self._body = bytearray()  # the bytes that the app has not received yet
        self._is_whole = False
        self._is_handed_over = False  # the app has received the whole request
        self._news: asyncio.Event | None = None  # a small request that came whole needs none
        self._is_gone = self._was_told_to_send = False
        self._start: Any = None  # the start of the answer, until the app sends the first piece of its body
        self._pieces: AnswerInPieces | None = None
        self._refusal: errors.TriggersError | None = None
        self.has_begun = False
        """Whether the head of the answer was written."""
        self.is_answered = False
        """Whether the answer was written whole."""

    # ---- the request, told by the connection -----------------------------------------------------

    def body_came(self, data: bytes) -> None:
        """A piece of the body came."""
        if not self.is_answered:
            self._body += data
            if len(self._body) > HIGH_WATER_LIMIT:
                self._connection.flow.pause_reading()
            if self._news is not None:
                self._news.set()

    def body_ended(self) -> None:
        """The request is whole."""
        if not self.is_answered:
            self._is_whole = True
            if self._news is not None:
                self._news.set()

    @property
    def has_much_unread(self) -> bool:
        """Whether so much of the body waits for the app that no more of it should be read."""
        return not self.is_answered and len(self._body) > HIGH_WATER_LIMIT

    def caller_left(self) -> None:
        """Nobody reads the answer any more."""
        self._is_gone = True
        self.caller_finished()

    def caller_finished(self) -> None:
        """The caller sends nothing more, but it may read the answer."""
        if self._news is not None:
            self._news.set()

    def end_connection(self) -> None:
        """Let the connection end with this answer."""
        self._keep_alive = False

    def refuse(self, error: errors.TriggersError) -> None:
        """Read no more of the request, and answer with this error if no answer has begun."""
        self._keep_alive = False
        self.caller_left()
        if self.has_begun:
            self._connection.hang_up()
        else:
            self._refusal = error

    # ---- the app ---------------------------------------------------------------------------------

    async def run(self) -> None:
        """Call the app. If it does not answer, because of a stop, a bug or a refusal, answer for it."""
        if self._is_whole and len(self._body) <= exchange.SMALL_BYTES:
            self._scope[exchange.SMALL_BODY] = bytes(self._body)
        try:
            await self._app(self._scope, self.receive, self.send)
            if self._refusal is not None:
                await self._give_up(self._refusal)
            elif not self.is_answered and not self._is_gone:
                self._connection.cut()
        except asyncio.CancelledError:
            await self._give_up(errors.Unavailable("The service is stopping; try again."))
        except Exception as bug:
            log.error("unhandled_error", exc_info=bug)
            await self._give_up(self._refusal or errors.TriggersError())

    async def _give_up(self, error: errors.TriggersError) -> None:
        if self._connection.has_ended or self.is_answered:
            return
        if self.has_begun:
            self._connection.close()
        else:
            self._keep_alive = self._is_gone = False
            self._start = None
            await _answer_and_log(self._scope, self.send, error)

    async def receive(self) -> dict[str, Any]:
        """ASGI's `receive`. The first call returns at once with the bytes so far, even if there are none."""
        if not self._is_over:
            if self._waits_to_be_told:
                self._was_told_to_send = True
                self._connection.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._connection.flow.resume_reading()
            if self._news is None:
                self._news = asyncio.Event()
            else:
                await self._news.wait()
                self._news.clear()
        if self._is_over:
            return {"type": "http.disconnect"}
        body, self._body = bytes(self._body), bytearray()
        self._is_handed_over = self._is_whole
        return {"type": "http.request", "body": body, "more_body": not self._is_whole}

    @property
    def _is_over(self) -> bool:
        """Whether the app can receive nothing more."""
        return self._is_gone or self.is_answered or (self._is_handed_over and self._connection.is_half_closed)

    @property
    def _waits_to_be_told(self) -> bool:
        """Whether the caller waits for `100 Continue` before it sends the body."""
        if self._is_whole or self._was_told_to_send or self.has_begun:
            return False
        expect: bytes = self._scope[exchange.FIELDS].get(b"expect", b"")
        return expect.lower() == b"100-continue"

    # ---- the answer ------------------------------------------------------------------------------

    async def send(self, message: Any) -> None:
        """ASGI's `send`, which also takes a whole answer in one message. It waits if the caller reads slowly.

        Raises:
            RuntimeError: the app has a bug: the message may not come now, or cannot be written as HTTP.
        """
        connection = self._connection
        if connection.flow.write_paused and not self._is_gone:
            await connection.flow.drain()
        if self._is_gone:
            return
        kind = message["type"]
        if kind == exchange.WHOLE and not self.has_begun:
            if self._is_whole and self._keep_alive and self._scope["method"] != "HEAD":
                headers = [*connection.server_state.default_headers, *message["headers"]]
                connection.write_soon(whole_answer(message["status"], headers, message["body"]))
                self._has_answered()
            else:
                self._start = message
                self._write(message["body"], more=False)
        elif kind == "http.response.start" and self._start is None and not self.has_begun:
            self._start = message
        elif kind == "http.response.body" and self._start is not None and not self.is_answered:
            self._write(message.get("body", b""), more=message.get("more_body", False))
        else:
            raise RuntimeError(f"Unexpected ASGI message {kind!r}.")

    def _write(self, body: bytes, *, more: bool) -> None:
        """Write a piece of the body, and the head before the first."""
        write = self._connection.write
        if self._pieces is None:
            pieces = AnswerInPieces(
                self._start,
                self._connection.server_state.default_headers,
                to_head=self._scope["method"] == "HEAD",
                keep_alive=self._keep_alive and self._is_rest_worth_reading,
            )
            data = pieces.head + pieces.piece(body, more=more)
            self._pieces, self._keep_alive, self.has_begun = pieces, pieces.keep_alive, True
            if more:
                write_piece_by_piece(self._connection.transport)
            elif self._keep_alive:
                write = self._connection.write_soon
        else:
            data = self._pieces.piece(body, more=more)
        write(data)
        if not more:
            self._has_answered()

    @property
    def _is_rest_worth_reading(self) -> bool:
        """Whether the connection can go on after an answer that is complete before its request is."""
        return self._is_whole or not (self._waits_to_be_told or self._connection.parser.has_much_to_come)

    def _has_answered(self) -> None:
        self.has_begun = self.is_answered = True
        if self._news is not None:
            self._news.set()
        if self._keep_alive:
            self._connection.answered()
        else:
            self._connection.answered_last(is_whole=self._is_whole)


async def _answer_and_log(
    scope: exchange.AsgiScope, send: exchange.Send, error: errors.TriggersError
) -> None:
    """Answer a request instead of the app, and log it, because the app has not logged it."""
    request_id = exchange.request_id(None)
    headers = [(b"x-request-id", request_id.encode())]
    status = await exchange.answer_problem(scope, send, error, request_id, headers)
    client = scope.get("client")
    log.info(
        "request_refused",
        request_id=request_id,
        status=status,
        client=client and client[0],
        detail=error.logged,
    )


async def unreadable(scope: Any, receive: Any, send: Any) -> None:
    """The app of a request that cannot be parsed. It sends nothing, because the refusal is the answer."""
