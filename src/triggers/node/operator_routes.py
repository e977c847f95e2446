"""Routes for operators and load balancers: liveness, readiness, metrics, and the pages of errors."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import HTMLResponse, PlainTextResponse, Response

from triggers import errors
from triggers.domain import MAX_EVENT_BYTES
from triggers.http import pages
from triggers.http.kept import Kept
from triggers.http.problems import KINDS, headers, problem
from triggers.http.request import Request
from triggers.http.response import JsonResponse
from triggers.http.route import PUBLIC, Answer, Route
from triggers.node.health import Health
from triggers.node.metrics import NodeMetrics

EXAMPLE_FACTS: dict[type[errors.TriggersError], dict[str, Any]] = {
    errors.Forbidden: {"scope": "events:write"},
    errors.MethodNotAllowed: {"allow": ["GET", "POST"]},
    errors.DedupConflict: {"original_id": "019ab0e4-7c11-7d5f-9f6b-3c2a1e5d8b70"},
    errors.TooLarge: {"limit": MAX_EVENT_BYTES},
    errors.Invalid: {"pointer": "/type"},
    errors.RateLimited: {"retry_after": 3},
    errors.BacklogFull: {"retry_after": 60, "subscription_id": "019ab0e4-7c11-7d5f-9f6b-3c2a1e5d8b70"},
    errors.DatabaseUnavailable: {"retry_after": 2},
    errors.DiskFull: {"retry_after": 30},
}
"""Facts in the examples of the error pages."""

METRICS_PATH: Final = "/metrics"


class ReadinessAnswer(msgspec.Struct, omit_defaults=True):
    """The readiness of this node. `checks` is present with `?verbose`, or if the node is not ready.

    `status` is `ready`, `degraded` (some background work fails or the disk is full, but send traffic) or
    `not ready`.
    """

    status: str
    checks: dict[str, str] | None = None


class OperatorRoutes:
    """Handlers of the URLs that need no key."""

    def __init__(
        self,
        health: Health,
        metrics: NodeMetrics,
        public_url: str | None,
        openapi: Callable[[str], bytes],
    ) -> None:
        """`openapi` makes the OpenAPI document for the path of a public URL."""
        self._health = health
        self._metrics = metrics
        self._public_url = public_url
        self._openapi = openapi
        self._pages = pages.Pages()
        self._documents: Kept[bytes] = Kept()

    async def livez(self) -> PlainTextResponse:
        """Check that the process is alive, without checking anything else."""
        return PlainTextResponse("ok\n")

    async def readyz(
        self,
        verbose: Annotated[str, Meta(description="List the checks. It needs no value.")] | None = None,
    ) -> JsonResponse[ReadinessAnswer]:
        """Report whether this node should get traffic, and if not, why. Redis does not affect the answer."""
        found = await self._health.readiness()
        shown = verbose is not None or found.status != "ready"
        return JsonResponse(
            ReadinessAnswer(found.status, found.checks if shown else None),
            status_code=503 if found.status == "not ready" else 200,
        )

    async def metrics(self) -> Response:
        """Give every metric in the Prometheus text format. No label names a tenant.

        If `TRIGGERS_METRICS_HOST` or `TRIGGERS_METRICS_PORT` is set, this path exists only at that address.
        """
        return Response(await self._metrics.text(), headers={"content-type": CONTENT_TYPE_LATEST})

    async def openapi(self, request: Request) -> Response:
        """Get the OpenAPI document, which is generated from the code."""
        return Response(await self._document(request), media_type="application/json")

    async def problem_page(self, request: Request, slug: str) -> HTMLResponse:
        """Get the page of one error: its meaning, what to do, and an example."""
        found = next((error for error, kind in KINDS.items() if kind.slug == slug), None)
        if found is None:
            raise errors.NotFound("No error has this name.")
        root_path = request.root_path
        return await self._pages.answer(("problem", slug), lambda: _problem_page(found, root_path))

    async def problem_index(self, request: Request) -> HTMLResponse:
        """Get the list of all errors."""
        root_path, kinds = request.root_path, sorted(KINDS.values())
        return await self._pages.answer(
            "problems", lambda: pages.render("problems.html", root_path, kinds=kinds)
        )

    async def docs(self, request: Request) -> HTMLResponse:
        """Get the OpenAPI document as a page for people."""
        root_path, url = request.root_path, self.url(request)
        document = await self._document(request)
        return await self._pages.answer(
            ("docs", url), lambda: pages.render_reference(document, root_path, url)
        )

    async def home(self, request: Request) -> HTMLResponse:
        """Get the start page."""
        root_path, url = request.root_path, self.url(request)
        return await self._pages.answer(("home", url), lambda: pages.render("home.html", root_path, url=url))

    def url(self, request: Request) -> str:
        """The URL that examples on pages use. Without a public URL it is the address to which the caller
        connected. It is not the header Host, because each value of that would need a page of its own."""
        host, port = request.scope["server"] or ("localhost", 80)
        return (self._public_url or url_of(host, port)).rstrip("/")

    async def _document(self, request: Request) -> bytes:
        """Return the OpenAPI document. It is generated in a thread at the first request."""
        root_path = request.root_path
        return await self._documents.get(root_path, lambda: asyncio.to_thread(self._openapi, root_path))


def url_of(host: str, port: int) -> str:
    """The URL of an address."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _problem_page(error: type[errors.TriggersError], root_path: str) -> str:
    example = error(**EXAMPLE_FACTS.get(error, {}))
    document = msgspec.json.encode(problem(example, root_path=root_path, request_id="5f1c2d9a7b3e-2a"))
    return pages.render(
        "problem.html",
        root_path,
        kind=KINDS[error],
        text=inspect.cleandoc(error.__doc__ or ""),
        headers=headers(example),
        example=msgspec.json.format(document, indent=2).decode(),
    )


ROUTES = (
    Route("GET", "/livez", OperatorRoutes.livez, PUBLIC, media_type="text/plain"),
    Route(
        "GET",
        "/readyz",
        OperatorRoutes.readyz,
        PUBLIC,
        answers=(
            Answer(200, "Send traffic here."),
            Answer(503, "Send traffic elsewhere; `checks` says why.", ReadinessAnswer),
        ),
    ),
    Route("GET", METRICS_PATH, OperatorRoutes.metrics, PUBLIC, media_type="text/plain"),
    Route("GET", "/openapi.json", OperatorRoutes.openapi, PUBLIC, hidden=True),
    Route("GET", "/problems", OperatorRoutes.problem_index, PUBLIC, hidden=True),
    Route("GET", "/problems/{slug}", OperatorRoutes.problem_page, PUBLIC, hidden=True),
    Route("GET", "/docs", OperatorRoutes.docs, PUBLIC, hidden=True),
    Route("GET", "/", OperatorRoutes.home, PUBLIC, hidden=True),
)
