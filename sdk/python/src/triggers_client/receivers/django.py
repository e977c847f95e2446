"""A receiver for Django: `path("hooks", view)` in `urlpatterns`."""

from collections.abc import Callable, Sequence

from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from triggers_client.errors import VerificationFailed
from triggers_client.receivers.seen import Seen, StillHandled
from triggers_client.receivers.turns import SyncHandler, take_turn
from triggers_client.webhooks import verify

View = Callable[[HttpRequest], HttpResponse]


def receiver(secrets: str | Sequence[str], *, seen: Seen | None = None) -> Callable[[SyncHandler], View]:
    """Make a view of a handler, which takes a `Webhook`. The signature takes the place of a CSRF token."""

    def decorate(handler: SyncHandler) -> View:
        def view(request: HttpRequest) -> HttpResponse:
            try:
                webhook = verify(request.headers, request.body, secrets)
            except VerificationFailed as error:
                return HttpResponse(error.message, status=401, content_type="text/plain")
            try:
                take_turn(webhook, handler, seen)
            except StillHandled as error:
                return HttpResponse(error.message, status=503, content_type="text/plain")
            return HttpResponse(status=204)

        checked: View = csrf_exempt(require_POST(view))
        return checked

    return decorate
