"""Sends events to a receiver on this machine, with the headers and bodies that the worker sends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import httpx
import msgspec

from triggers.errors import OperatorError
from triggers.events import body_format
from triggers.push.prepared import SUBSCRIPTION_HEADER, Prepared, sign_request
from triggers.push.signature import Signer
from triggers.secrets.signing_secrets import SigningSecret

ATTEMPT_SECONDS: Final = 20
"""Maximum time for an answer, as for pushed deliveries."""
_MOST_READ: Final = 16 * 1024
_NOTE_BYTES: Final = 1_024


class ReceivedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event that was leased, with the fields that a body can contain."""

    id: UUID
    type: str
    payload: bytes
    generation: int = 0
    occurred_at: datetime | None = None
    source: str | None = None
    subject: str | None = None
    attributes: bytes | None = None
    org_id: UUID = UUID(int=0)
    """Only CloudEvents without a source contain it."""

    @property
    def event_id(self) -> UUID:
        """The id, as a delivery calls it."""
        return self.id


class ReceiverAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of the receiver. `text` is the beginning of its body.

    `failure` says why there is no answer, or why it could not be read to its end. As for pushed deliveries,
    the status decides all the same.
    """

    status: int | None
    failure: str | None
    milliseconds: int
    text: str = ""

    @property
    def is_success(self) -> bool:
        """Whether the receiver accepted the event."""
        return self.status is not None and 200 <= self.status < 300

    @property
    def in_short(self) -> str:
        """The status, or else the failure in a few words."""
        return str(self.status or self.failure)

    @property
    def note(self) -> dict[str, Any]:
        """The note for the service. Its text has at most 1 KiB."""
        said = f"[{self.failure}] {self.text}".strip() if self.failure else self.text
        text = said.encode()[:_NOTE_BYTES].decode(errors="ignore")
        status = self.status if self.status is not None and 100 <= self.status <= 599 else None
        return {"status_code": status, "duration_ms": self.milliseconds, "text": text or None}


class Forwarder:
    """Sends events to one URL. It follows no redirect and uses no proxy."""

    def __init__(self, url: str, secret: SigningSecret) -> None:
        """Raises OperatorError if the URL is not one of HTTP."""
        self.url = _read_target(url)
        self._signer = Signer([secret])
        self._client = httpx.AsyncClient(trust_env=False, timeout=ATTEMPT_SECONDS)
        self._client.headers.clear()  # the receiver gets the headers that the worker sends

    @property
    def shown_url(self) -> str:
        """The URL without a user name and a password."""
        return f"{self.url.scheme}://{self.url.netloc.decode()}{self.url.path}"

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    def prepare(self, event: ReceivedEvent, inbox_id: str) -> Prepared:
        """The request for an event, signed for this moment. The inbox has the place of the subscription."""
        content = body_format.render("standard", event)
        fixed = [(SUBSCRIPTION_HEADER, inbox_id)]
        return sign_request(event, content, self._signer, fixed, datetime.now(UTC))

    async def send(self, event: ReceivedEvent, inbox_id: str) -> ReceiverAnswer:
        """Send an event once. Every failure is a value."""
        prepared = self.prepare(event, inbox_id)
        self._client.cookies.clear()  # those of earlier answers, which the worker would not send either
        began = time.monotonic()
        status, text, failure = None, b"", None
        try:
            async with (
                asyncio.timeout(ATTEMPT_SECONDS),
                self._client.stream(
                    "POST", self.url, content=prepared.body, headers=prepared.headers
                ) as answer,
            ):
                status = answer.status_code
                async for piece in _limited(answer):
                    text += piece
        except (TimeoutError, httpx.TimeoutException):
            failure = "no answer in time" if status is None else "an answer that came too slowly"
        except httpx.ConnectError:
            failure = "no connection"
        except httpx.TransportError:
            failure = "no valid answer" if status is None else "an answer that ended early"
        return ReceiverAnswer(
            status=status,
            failure=failure,
            milliseconds=int((time.monotonic() - began) * 1000),
            text=text.decode(errors="replace"),
        )


async def _limited(answer: httpx.Response) -> AsyncIterator[bytes]:
    """The beginning of a body as it comes, not decompressed, so that its size in memory is bounded."""
    left = _MOST_READ
    async for piece in answer.aiter_raw():
        yield piece[:left]
        left -= len(piece)
        if left <= 0:
            return


def _read_target(url: str) -> httpx.URL:
    try:
        found = httpx.URL(url)
    except httpx.InvalidURL:
        found = httpx.URL()
    if found.scheme not in {"http", "https"} or not found.host:
        raise OperatorError("--forward-to must be a URL like http://localhost:3000/hooks.")
    return found
