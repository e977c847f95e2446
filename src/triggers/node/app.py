"""The whole HTTP surface as one ASGI app: the accept path, and the framework behind it."""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Sequence
from functools import cache, partial
from typing import Any, NamedTuple

import msgspec
import structlog
from litestar import Litestar, Request, Response
from litestar.config.app import AppConfig
from litestar.di import Provide
from litestar.exceptions import HTTPException, MethodNotAllowedException, ValidationException
from litestar.handlers import HTTPRouteHandler

from triggers import errors, observability
from triggers.domain import Caller, Scope
from triggers.events.accept import AcceptApp
from triggers.http import exchange, problems
from triggers.http.route import PUBLIC, Route
from triggers.http.strict_request import StrictRequest
from triggers.keys.authentication import KeyCache, key_from
from triggers.keys.rate_limit import RateLimiter
from triggers.node.openapi import describe, document, openapi_config
from triggers.node.routes import ACCEPT_ROUTES, ROUTES
from triggers.room import Room

log = structlog.get_logger()


class App:
    """Sends each request to the accept path or to the framework, and notes what the latter did."""

    def __init__(self, admission: Admission, routes: Sequence[Route], accept: AcceptApp) -> None:
        """`routes` are bound to what answers them."""
        self.framework = build_framework(admission, routes)
        # A start need not wait for what few ever ask for: it takes a third of a second.
        self.framework.state.openapi = cache(lambda: msgspec.json.encode(document(self.framework)))
        self._accept = {
            path: getattr(accept, route.handler)
            for route in ACCEPT_ROUTES
            for name in (route.path, *route.also)
            for path in (name, f"{name}/")
        }

    def __call__(self, scope: Any, receive: Any, send: Any) -> Awaitable[None]:
        """Told that it is ASGI 3, the server awaits what this returns: one coroutine, not one in another."""
        if scope["method"] == "POST" and (handler := self._accept.get(scope["path"])):
            return handler(scope, receive, send)  # type: ignore[no-any-return]
        return self._framework(scope, receive, send)

    async def _framework(self, scope: Any, receive: Any, send: Any) -> None:
        began = time.perf_counter()
        given = next((value for name, value in scope["headers"] if name == b"x-request-id"), None)
        request_id = exchange.request_id(given)
        state = scope.setdefault("state", {})
        state["request_id"] = request_id
        status = 500

        async def send_noted(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message.get("headers", ()),
                    (b"x-request-id", request_id.encode()),
                    *state.get("limit_headers", ()),
                ]
            await send(message)

        try:
            # Of a HEAD the server leaves the body out, by the scope that it has itself.
            asked: Any = {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope
            await self.framework(asked, receive, send_noted)
        finally:
            if (held := state.get("held")) is not None:
                held.release()
            seconds = time.perf_counter() - began
            route = state.get("route", "none")
            observability.requests_total.labels(scope["method"], route, status).inc()
            observability.request_seconds.labels(route).observe(seconds)
            observability.log_request(
                request_id=request_id,
                method=scope["method"],
                path=scope["path"],
                status=status,
                seconds=seconds,
                client=scope.get("client"),
                caller=state.get("caller"),
                **state.get("facts", {}),
            )


class Admission(NamedTuple):
    """What decides whether a request may go on."""

    keys: KeyCache
    limiter: RateLimiter
    bodies: Room
    """For bodies of requests that are under way."""


def build_framework(admission: Admission, routes: Sequence[Route]) -> Litestar:
    """Litestar with these rows of the route table."""

    async def provide_caller(request: Request[Any, Any, Any]) -> Caller:
        return request.scope["state"]["caller"]  # type: ignore[no-any-return]

    return Litestar(
        route_handlers=[_handler(route) for route in routes],
        dependencies={"caller": Provide(provide_caller)},
        exception_handlers={
            errors.TriggersError: _answer_error,
            HTTPException: _answer_framework_error,
            Exception: _answer_bug,
        },
        openapi_config=openapi_config(),
        request_class=StrictRequest,
        before_request=partial(_admit, admission),
        on_app_init=[_quiet],
    )


async def _admit(admission: Admission, request: Request[Any, Any, Any]) -> Response[None] | None:
    """Note the caller, if its key may use the route and its organisation has quota left.

    Before the framework reads the body, where a dependency of the handler would come after: nobody
    without a key has a body held here, and one that is refused for its body has paid for it.
    """
    state = request.scope["state"]
    options = request.route_handler.opt
    state["route"] = options.get("route", "none")
    if request.method == "OPTIONS":  # the framework would answer by what it knows of a path
        return Response(None, status_code=204, headers={"allow": ", ".join(_allowed(request.url.path))})
    scope: Scope | str | None = options["scope"]
    if scope == PUBLIC:
        return None
    caller = await admission.keys.caller(key_from(request.scope[exchange.FIELDS]))  # type: ignore[literal-required]
    state["caller"] = caller
    state["held"] = exchange.Held(admission.bodies, caller.org_id)
    caller.require(None if scope is None else Scope(scope))
    grant = admission.limiter.take(caller)
    if grant is not None:
        state["limit_headers"] = grant.headers()
        if not grant.granted:
            raise errors.RateLimited(retry_after=grant.retry_after)
    _check_query(request)
    return None


def _check_query(request: Request[Any, Any, Any]) -> None:
    """Refuse parameters that the route does not know: a misspelt filter would be a list of everything."""
    taken = request.route_handler.parsed_fn_signature.parameters
    names = {getattr(taken[name].kwarg_definition, "query", None) or name for name in taken}
    if unknown := sorted(set(request.query_params) - names):
        raise errors.Invalid(
            f"Unknown parameter {', '.join(map(repr, unknown[:20]))}.",
            errors=[{"pointer": name, "detail": "Unknown parameter."} for name in unknown[:20]],
            logged="Unknown parameter.",
        )


def _handler(route: Route) -> HTTPRouteHandler:
    return HTTPRouteHandler(
        path=[route.path, *route.also],
        http_method=route.method,
        status_code=route.status,
        media_type=route.media_type,
        opt={"scope": route.scope, "route": route.path},
        include_in_schema=not route.hidden,
        **describe(route),
    )(route.handler)


def _quiet(config: AppConfig) -> AppConfig:
    # Errors have their line in the wide log already.
    config.logging_config = None
    return config


def _answer_error(request: Request[Any, Any, Any], error: errors.TriggersError) -> Response[dict[str, Any]]:
    state = request.scope["state"]
    document = problems.problem(error, state.get("request_id"))
    state["facts"] = {"detail": error.logged}
    return Response(
        document,
        status_code=document["status"],
        media_type=problems.PROBLEM_JSON,
        headers=dict(problems.headers(error)),
    )


def _answer_framework_error(
    request: Request[Any, Any, Any], error: HTTPException
) -> Response[dict[str, Any]]:
    return _answer_error(request, _ours(request, error))


def _answer_bug(request: Request[Any, Any, Any], error: Exception) -> Response[dict[str, Any]]:
    log.error("unhandled_error", request_id=request.scope["state"].get("request_id"), exc_info=error)
    return _answer_error(
        request, errors.TriggersError("This is an error of ours; the request id names it in the log.")
    )


def _ours(request: Request[Any, Any, Any], error: HTTPException) -> errors.TriggersError:
    """What the framework found wrong, as one of our errors."""
    if isinstance(error, MethodNotAllowedException):
        return errors.MethodNotAllowed(allow=_allowed(request.url.path))
    if isinstance(error, ValidationException):
        return _invalid(request, error)
    match error.status_code:
        case 404:
            return errors.NotFound("No route has this path.")
        case 400:
            return errors.MalformedBody(f"Not a request that can be read: {error.detail}")
        case _:
            log.error("unmapped_framework_error", status=error.status_code, detail=error.detail)
            return errors.TriggersError()


def _invalid(request: Request[Any, Any, Any], error: ValidationException) -> errors.Invalid:
    taken = request.route_handler.parsed_fn_signature.parameters
    found = []
    for item in error.extra if isinstance(error.extra, list) else []:
        name, message = str(item.get("key", "")), str(item.get("message"))
        if item.get("source") == "body":  # its fields were judged where it was read: there is none
            name, message = "", "The body is missing."
        elif name in taken:  # the framework calls it as the handler does, not as the caller
            name = getattr(taken[name].kwarg_definition, "query", None) or name
        found.append({"pointer": name, "detail": message})
    detail = "; ".join(f"{e['pointer']}: {e['detail']}".removeprefix(": ") for e in found) or error.detail
    return errors.Invalid(detail, errors=found or [{"pointer": "", "detail": error.detail}])


def _allowed(path: str) -> list[str]:
    """The methods that a path answers. A path of its own goes before one with parameters, as in routing."""
    routes: list[Any] = [route for route in (*ROUTES, *ACCEPT_ROUTES) if _serves(route, path)]
    exact = [route for route in routes if _bare(path) in (route.path, *route.also)]
    methods = {route.method for route in exact or routes}
    return sorted(methods | {"OPTIONS"} | ({"HEAD"} if "GET" in methods else set()))


def _serves(route: Any, path: str) -> bool:
    return any(
        re.fullmatch(re.sub(r"\{[^}]+\}", "[^/]+", each), _bare(path)) for each in (route.path, *route.also)
    )


def _bare(path: str) -> str:
    return path.rstrip("/") or "/"
