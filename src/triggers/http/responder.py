"""Answers a request: admission, parameters, body, handler, response, and a note of status and duration."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import msgspec
import structlog
from starlette.responses import Response

from triggers import errors
from triggers.http.exchange import AsgiScope, Receive, Send
from triggers.http.parameters import Signature, read_query
from triggers.http.request import Request
from triggers.http.response import JsonResponse, problem_response
from triggers.http.route import PUBLIC, Route

log = structlog.get_logger()

Admit = Callable[[Request, Route], Awaitable[None]]
"""Notes the caller in the request, or raises an error. It is called before the body is read."""
Note = Callable[[Request, int, float], None]
"""Called after each request, with its status and its duration in seconds."""


class RequestHooks(NamedTuple):
    """The functions that admit and note each request."""

    admit: Admit
    note: Note


class Responder:
    """Answers the requests of one route."""

    def __init__(self, route: Route, admit: Admit) -> None:
        self._route = route
        self._admit = admit
        self._signature = Signature(route.handler, route.path)
        self._decoder: msgspec.json.Decoder[Any] | None = None
        if (body := self._signature.body) is not None:
            self._decoder = msgspec.json.Decoder(body.type)

    async def respond(self, request: Request) -> Response:
        """Answer a request to this route.

        The body is read last, so none is held for a caller without a key, and a request with a wrong body
        counts against the rate limit.

        Raises:
            TriggersError: the request is refused, or the handler raises it.
        """
        await self._admit(request, self._route)
        signature = self._signature
        query = read_query(request.scope["query_string"])
        if self._route.scope != PUBLIC:
            signature.check_names(query)
        arguments = signature.arguments(request.path_params, query)
        if signature.takes_caller:
            arguments["caller"] = request.caller
        if signature.takes_request:
            arguments["request"] = request
        if self._decoder is not None:
            await self._read_body(request, self._decoder, arguments)
        answer = await self._route.handler(**arguments)
        if isinstance(answer, Response):
            return answer
        return (
            Response(status_code=204)
            if self._route.status == 204
            else JsonResponse(answer, self._route.status)
        )

    async def _read_body(
        self, request: Request, decoder: msgspec.json.Decoder[Any], arguments: dict[str, Any]
    ) -> None:
        if await request.body():
            arguments["data"] = await request.read(decoder)
        elif self._signature.body is not None and self._signature.body.required:
            raise errors.Invalid("The body is missing.")


class Answering:
    """Turns a function that returns responses into an ASGI app, which also answers its errors."""

    def __init__(
        self, respond: Callable[[Request], Awaitable[Response]], note: Note, route: str = "none"
    ) -> None:
        self._respond = respond
        self._note = note
        self._route = route

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        request = Request(scope, receive, self._route)
        status = 500
        try:
            response = await self._response(request)
            response.raw_headers += [(b"x-request-id", request.id.encode()), *request.limit_headers]
            status = response.status_code
            await response(scope, receive, send)
        finally:
            if request.held is not None:
                request.held.release()
            self._note(request, status, time.perf_counter() - began)

    async def _response(self, request: Request) -> Response:
        try:
            return await self._respond(request)
        except errors.TriggersError as error:
            request.problem = error.logged
            return problem_response(error, request.root_path, request.id)
        except Exception as bug:
            log.error("unhandled_error", request_id=request.id, exc_info=bug)
            ours = errors.TriggersError("This is an error of ours; the request id names it in the log.")
            request.problem = ours.logged
            return problem_response(ours, request.root_path, request.id)
