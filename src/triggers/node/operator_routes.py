"""Routes for operators and load balancers: liveness, readiness, metrics, and the OpenAPI document."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated, Final

import msgspec
from msgspec import Meta
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import PlainTextResponse, Response

from triggers.http.kept import Kept
from triggers.http.request import Request
from triggers.http.response import JsonResponse
from triggers.http.route import PUBLIC, Answer, Route
from triggers.node.health import Health
from triggers.node.metrics import NodeMetrics

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
        openapi: Callable[[str], bytes],
    ) -> None:
        """`openapi` makes the OpenAPI document for the path of a public URL."""
        self._health = health
        self._metrics = metrics
        self._openapi = openapi
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
        return Response(await self.document(request.root_path), media_type="application/json")

    async def document(self, root_path: str) -> bytes:
        """The OpenAPI document. It is generated in a thread at the first request."""
        return await self._documents.get(root_path, lambda: asyncio.to_thread(self._openapi, root_path))


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
)
