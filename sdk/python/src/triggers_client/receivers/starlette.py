"""A receiver for Starlette and FastAPI: `app.add_route("/hooks", endpoint, methods=["POST"])`."""

from collections.abc import Awaitable, Callable, Sequence

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from triggers_client.errors import VerificationFailed
from triggers_client.receivers.seen import AsyncSeen, Seen, StillHandled
from triggers_client.receivers.turns import AnyHandler, take_turn_async
from triggers_client.webhooks import verify

Endpoint = Callable[[Request], Awaitable[Response]]


def receiver(
    secrets: str | Sequence[str], *, seen: Seen | AsyncSeen | None = None
) -> Callable[[AnyHandler], Endpoint]:
    """Make an endpoint of a handler, which takes a `Webhook`. An ordinary function blocks the event loop."""

    def decorate(handler: AnyHandler) -> Endpoint:
        async def endpoint(request: Request) -> Response:
            try:
                webhook = verify(request.headers, await request.body(), secrets)
            except VerificationFailed as error:
                return PlainTextResponse(error.message, status_code=401)
            try:
                await take_turn_async(webhook, handler, seen)
            except StillHandled as error:
                return PlainTextResponse(error.message, status_code=503)
            return Response(status_code=204)

        return endpoint

    return decorate
