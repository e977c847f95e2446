"""What operators and load balancers ask: alive, ready, metrics; and what the errors mean."""

from __future__ import annotations

import inspect
from typing import Annotated, Any

import msgspec
from litestar import MediaType, Request, Response
from litestar.params import Parameter
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from triggers import errors, observability
from triggers.api import pages
from triggers.api.problems import KINDS
from triggers.api.services import Services


class Readiness(msgspec.Struct, omit_defaults=True):
    """Whether the service can do its work. `checks` only when asked for or when not ready."""

    status: str
    checks: dict[str, str] | None = None


async def livez() -> Response[str]:
    """Say that the process lives. Touches nothing."""
    return Response("ok\n", media_type=MediaType.TEXT)


async def readyz(
    services: Services,
    verbose: Annotated[str | None, Parameter(description="Given, even empty: list the checks.")] = None,
) -> Response[Readiness]:
    """Say whether this node should get traffic, and if not, why. Redis never decides it."""
    checks = await services.health.checks()
    ready = all(found == "ok" for name, found in checks.items() if name != "disk")
    if services.health.redis is not None:
        checks["redis"] = "ok" if services.health.redis else "unreachable: slower, nothing else"
    return Response(
        Readiness("ready" if ready else "not ready", checks if verbose is not None or not ready else None),
        status_code=200 if ready else 503,
    )


async def metrics(services: Services) -> Response[bytes]:
    """Give every metric in the Prometheus text format. No label names a tenant."""
    observability.waiting_events.set(services.intake.waiting[0])
    observability.waiting_bytes.set(services.intake.waiting[1])
    busy, size, most = services.database.pool_use()
    for state, value in (("busy", busy), ("open", size), ("most", most)):
        observability.pool_connections.labels(state).set(value)
    observability.redis_up.set(bool(services.health.redis))
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


async def openapi(request: Request[Any, Any, Any]) -> Response[bytes]:
    """Give the OpenAPI document, made from the code that answers."""
    return Response(request.app.state.openapi, media_type=MediaType.JSON)


async def problem_page(slug: str) -> Response[str]:
    """Explain one type of error."""
    for error, kind in KINDS.items():
        if kind.slug == slug:
            return pages.render("problem.html", kind=kind, text=inspect.cleandoc(error.__doc__ or ""))
    raise errors.NotFound("There is no such type of error.")


async def problem_index() -> Response[str]:
    """List the types of errors."""
    return pages.render("problems.html", kinds=sorted(KINDS.values()))


async def docs() -> Response[str]:
    """Show the API's documentation; everything it needs comes from this server."""
    return pages.render("docs.html")


async def home() -> Response[str]:
    """Say what this is."""
    return pages.render("home.html")
