"""A receiver for Flask: `app.add_url_rule("/hooks", view_func=endpoint, methods=["POST"])`."""

from collections.abc import Callable, Sequence
from functools import wraps

from flask import Response, request

from triggers_client.errors import VerificationFailed
from triggers_client.receivers.seen import Seen, StillHandled
from triggers_client.receivers.turns import SyncHandler, take_turn
from triggers_client.webhooks import verify


def receiver(
    secrets: str | Sequence[str], *, seen: Seen | None = None
) -> Callable[[SyncHandler], Callable[[], Response]]:
    """Make a view of a handler, which takes a `Webhook`."""

    def decorate(handler: SyncHandler) -> Callable[[], Response]:
        @wraps(handler)  # Flask names an endpoint after its function
        def endpoint() -> Response:
            try:
                webhook = verify(request.headers, request.get_data(), secrets)
            except VerificationFailed as error:
                return Response(error.message, 401, mimetype="text/plain")
            try:
                take_turn(webhook, handler, seen)
            except StillHandled as error:
                return Response(error.message, 503, mimetype="text/plain")
            return Response(status=204)

        return endpoint

    return decorate
