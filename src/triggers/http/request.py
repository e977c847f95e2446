"""The request that handlers get: Starlette's, with an id, a bounded body, and notes for the log."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import msgspec
import starlette.requests

from triggers import strict_json
from triggers.domain import MAX_EVENT_BYTES
from triggers.fairness.pace import do
from triggers.http import exchange
from triggers.http.field_errors import invalid_field

MAX_BODY_BYTES = MAX_EVENT_BYTES
"""The longest useful bodies name a thousand messages or events. They have a sixth of this size."""


class Request(starlette.requests.Request):
    """One request, while it is handled."""

    caller: Any = None
    """The caller, after admission has checked its key."""
    held: exchange.Held | None = None
    """Counts the body, until the request is answered."""
    limit_headers: exchange.Headers = []  # noqa: RUF012 - replaced, never changed
    """Headers of the answer that describe the rate limit."""
    problem: str | None = None
    """The reason why it was refused, for the log."""

    def __init__(self, scope: exchange.AsgiScope, receive: exchange.Receive, route: str) -> None:
        """`route` is the path of the route that answers the request, `none` if there is no route."""
        super().__init__(scope, receive)
        self.route = route
        self.fields: dict[bytes, bytes] = scope[exchange.FIELDS]
        self.id = exchange.request_id(self.fields.get(b"x-request-id"))
        self.root_path: str = scope.get("root_path", "")
        """The path of the public URL, which every link begins with. Empty if it has none."""

    async def body(self) -> bytes:
        """The body, inflated.

        Raises:
            TooLarge, UnsupportedMediaType, Overloaded, ClientGone: as for an event.
        """
        if not hasattr(self, "_body"):
            coding = self.fields.get(b"content-encoding", b"")
            self._body = await exchange.read_body(self.receive, MAX_BODY_BYTES, coding, self.held)
        return self._body

    async def stream(self) -> AsyncGenerator[bytes, None]:
        """The body as Starlette's own readers take it, so that they are bounded too."""
        yield await self.body()
        yield b""

    async def read(self, decoder: msgspec.json.Decoder[Any]) -> Any:
        """The body's value, decoded as strictly as an event.

        Raises:
            UnsupportedMediaType, MalformedBody, Invalid: 415, 400 and 422; what `body` raises.
        """
        text = await self.body()
        exchange.check_json(self.fields.get(b"content-type", b""))
        await do(strict_json.check_in_steps(text), exchange.org_of(self.held))
        try:
            return decoder.decode(text)
        except msgspec.DecodeError as error:  # it is JSON: what is wrong is a value, if only its size
            raise invalid_field(error) from None


def request_with(body: bytes) -> Request:
    """Make a request with a JSON body, for a handler that reads the body of its request itself."""

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body}

    scope = {"type": "http", exchange.FIELDS: {b"content-type": b"application/json"}}
    return Request(scope, receive, "none")
