"""The API as one ASGI app: the router, with this service's admission, and what is noted of each request."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Final

from triggers import observability
from triggers.errors import RateLimited
from triggers.fairness.room import Room, acting_for
from triggers.http.exchange import Held
from triggers.http.request import Request
from triggers.http.responder import RequestHooks
from triggers.http.route import PUBLIC, Route
from triggers.http.router import Router
from triggers.keys import acting
from triggers.keys.authentication import KeyCache, key_from
from triggers.keys.rate_limit import RateLimiter
from triggers.node.routes import ROOMS

_PAGES: Final = {"console": "/console", "guides": "/docs"}
"""The label of all pages of a room."""
LABELS: Final = {
    route.path: (room, _PAGES.get(room, route.path)) for room, table in ROOMS.items() for route in table
}
"""The area and the route of each path, as labels. All pages for people of a room are one route there."""
requests_total = cache(observability.requests_total.labels)
request_seconds = cache(observability.request_seconds.labels)
# Cached, because the library takes a lock for each look-up. There are few routes and classes of status.


def build_app(keys: KeyCache, limiter: RateLimiter, bodies: Room, routes: Iterable[Route]) -> Router:
    """The app of these routes, which are bound. `bodies` bounds the bodies of requests that are under way."""

    async def admit(request: Request, route: Route) -> None:
        """Note the caller, if its key may use the route and its organisation has quota left."""
        acting_for.set(None)  # the task may have begun within a request of another tenant
        if route.scope == PUBLIC:
            return
        own = caller = request.caller = await keys.caller(key_from(request.fields))
        # An operator who acts for another organisation does not use up the quota of that organisation.
        acting_for.set(own.org_id)
        request.held = Held(bodies, own.org_id)
        if acting.HEADER in request.fields:
            caller = request.caller = await keys.acting(own, request.fields)
        caller.require(*route.scopes)
        grant = limiter.take(own)
        if grant is not None:
            request.limit_headers = grant.headers()
            if not grant.granted:
                raise RateLimited(retry_after=grant.retry_after)

    return Router(routes, RequestHooks(admit, _note))


def _note(request: Request, status: int, seconds: float) -> None:
    area, route = LABELS.get(request.route, ("none", "none"))
    requests_total(route, f"{status // 100}xx").inc()
    request_seconds(area).observe(seconds)
    observability.log_request(
        request.scope,
        request_id=request.id,
        status=status,
        seconds=seconds,
        caller=request.caller,
        **({} if request.problem is None else {"detail": request.problem}),
    )
