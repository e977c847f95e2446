"""Bodies of all routes but those of the accept path: read, judged and decoded in one place, as strictly."""

from __future__ import annotations

from functools import cache
from typing import Any, cast

import msgspec
from litestar import Request
from litestar.types import Empty

from triggers import strict_json
from triggers.domain import MAX_EVENT_BYTES
from triggers.http import exchange
from triggers.http.field_errors import invalid_field
from triggers.pace import Pace, do

MAX_BODY_BYTES = MAX_EVENT_BYTES
"""The longest that make sense name a thousand messages or events, which is a sixth of that."""


class StrictRequest(Request[Any, Any, Any]):
    """A request whose body is what the handler's `data` says, or an error that says what is wrong.

    Left to itself the framework reads any content type as JSON, takes the last of two values of one
    name and "5" for 5, and fails on what nests too deep or is not UTF-8.
    """

    async def body(self) -> bytes:
        """The body, inflated.

        Raises:
            TooLarge, UnsupportedMediaType, Overloaded, ClientGone: as of an event.
        """
        if self._body is Empty:
            coding = self.headers.get("content-encoding", "").encode()
            receive = cast("exchange.Receive", self.receive)
            held = self.scope["state"].get("held")
            self._body = await exchange.read_body(receive, MAX_BODY_BYTES, coding, held)
        return self._body

    async def json(self) -> Any:
        """The value of the handler's `data`.

        Raises:
            UnsupportedMediaType, MalformedBody, Invalid: 415, 400 and 422, as of an event.
        """
        exchange.check_json(self.headers.get("content-type", "").encode())
        text = await self.body()
        await do(strict_json.check_in_steps(text), Pace())
        data = self.route_handler.parsed_data_field
        assert data is not None  # else the framework would not ask
        try:
            return _decoder(data.annotation).decode(text)
        except msgspec.DecodeError as error:  # it is JSON: what is wrong is a value, if only its size
            raise invalid_field(error) from None


@cache
def _decoder(of: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(of)
