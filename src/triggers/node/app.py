"""The API as one ASGI app: the router, with this service's admission, and what is noted of each request."""

from __future__ import annotations

from collections.abc import Iterable

from triggers import observability
from triggers.domain import Scope
from triggers.errors import RateLimited
from triggers.http.endpoint import Rules
from triggers.http.exchange import Held
from triggers.http.request import Request
from triggers.http.route import PUBLIC, Route
from triggers.http.router import Router
from triggers.keys.authentication import KeyCache, key_from
from triggers.keys.rate_limit import RateLimiter
from triggers.room import Room


def build_app(keys: KeyCache, limiter: RateLimiter, bodies: Room, routes: Iterable[Route]) -> Router:
    """The app of these routes, which are bound. `bodies` bounds the bodies of requests that are under way."""

    async def admit(request: Request, route: Route) -> None:
        """Note the caller, if its key may use the route and its organisation has quota left."""
        if route.scope == PUBLIC:
            return
        caller = request.caller = await keys.caller(key_from(request.fields))
        request.held = Held(bodies, caller.org_id)
        caller.require(None if route.scope is None else Scope(route.scope))
        grant = limiter.take(caller)
        if grant is not None:
            request.limit_headers = grant.headers()
            if not grant.granted:
                raise RateLimited(retry_after=grant.retry_after)

    return Router(routes, Rules(admit, _note))


def _note(request: Request, status: int, seconds: float) -> None:
    observability.requests_total.labels(request.method, request.route, status).inc()
    observability.request_seconds.labels(request.route).observe(seconds)
    observability.log_request(
        request_id=request.id,
        method=request.method,
        path=request.scope["path"],
        status=status,
        seconds=seconds,
        client=request.scope.get("client"),
        caller=request.caller,
        **({} if request.problem is None else {"detail": request.problem}),
    )
