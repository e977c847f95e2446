"""What every request has, whichever way it is handled: an id, a body within limits, an answer."""

from __future__ import annotations

import itertools
import os
import re
import zlib
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

import msgspec

from triggers.api import problems
from triggers.errors import RequestTimeout, TooLarge, TriggersError, UnsupportedMediaType

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

MAX_GZIP_MEMBERS = 1_000
"""Of a body; a batch whose events were compressed one by one has no more."""

_encode = msgspec.json.Encoder().encode
_process = os.urandom(6).hex()
_numbers = itertools.count(1)
_GIVEN_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")


class ClientGone(RequestTimeout):
    """The caller went away before the request was whole, or was sent away for that."""


def request_id(given: bytes | None) -> str:
    """The caller's own id for the request where it is presentable, else one of ours."""
    if given is not None and _GIVEN_ID.fullmatch(given):
        return given.decode("ascii")
    return f"{_process}-{next(_numbers):x}"


def check_json(media_type: bytes) -> None:
    """JSON, or nothing said: a body that calls itself something else is not guessed at."""
    if essence(media_type) not in (b"application/json", b""):
        raise UnsupportedMediaType("Send application/json.")


def essence(media_type: bytes) -> bytes:
    """A media type without its parameters."""
    return media_type.partition(b";")[0].strip().lower()


async def read_body(
    receive: Receive, limit: int, coding: bytes = b"", arrived: Callable[[int], None] | None = None
) -> bytes:
    """The body, inflated if it is gzip. Nothing beyond `limit` bytes is kept at any moment.

    `arrived` is told of each piece how many bytes it has, inflated, and may refuse it.

    Raises:
        TooLarge: more than `limit` bytes, as sent or inflated.
        UnsupportedMediaType: a content coding other than gzip, or broken gzip.
        ClientGone: the connection closed first.
    """
    inflate = _inflater(coding) if coding else None
    chunks: list[bytes] = []
    size = sent = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise ClientGone
        chunk: bytes = message.get("body", b"")
        sent += len(chunk)
        if sent > limit:  # before inflating: gzip can go on for ever and yield nothing
            raise TooLarge(f"The body may have {limit:,} bytes.", limit=limit)
        if inflate is not None and chunk:
            # One byte over the limit is enough to know; the rest is never inflated.
            chunk = inflate.more(chunk, limit + 1 - size)
        size += len(chunk)
        if size > limit:
            raise TooLarge(f"The body may have {limit:,} bytes.", limit=limit)
        if arrived is not None:
            arrived(len(chunk))
        chunks.append(chunk)
        if not message.get("more_body"):
            break
    if inflate is not None and not inflate.whole:
        raise UnsupportedMediaType("The gzip body is cut short.")
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


class _Inflater:
    """Inflates gzip, which is any number of members one after the other (RFC 1952)."""

    def __init__(self) -> None:
        self._members = 0
        self._begin()

    @property
    def whole(self) -> bool:
        """Whether what came so far ends where a member does."""
        return self._member.eof

    def more(self, data: bytes, most: int) -> bytes:
        """What `data` adds, up to `most` bytes."""
        parts = []
        try:
            while data and most:
                if self._member.eof:
                    self._begin()
                parts.append(self._member.decompress(data, most))
                most -= len(parts[-1])
                data = self._member.unused_data
        except zlib.error:
            raise UnsupportedMediaType("The body is not the gzip that Content-Encoding says.") from None
        return b"".join(parts)

    def _begin(self) -> None:
        # Each member copies what is behind it: a body of empty ones would hold up everybody else.
        if self._members == MAX_GZIP_MEMBERS:
            raise UnsupportedMediaType(f"The gzip body has more than {MAX_GZIP_MEMBERS:,} members.")
        self._members += 1
        self._member = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)


def _inflater(coding: bytes) -> _Inflater | None:
    match coding:
        case b"identity":
            return None
        case b"gzip" | b"x-gzip":
            return _Inflater()
        case _:
            raise UnsupportedMediaType("Content-Encoding must be gzip or left out.")


def answer_json(
    send: Send, status: int, body: Any, headers: Iterable[tuple[bytes, bytes]]
) -> Awaitable[None]:
    """Send a JSON answer."""
    return _answer(send, status, b"application/json", _encode(body), headers)


async def answer_problem(
    send: Send, error: TriggersError, request_id: str, headers: Iterable[tuple[bytes, bytes]]
) -> int:
    """Send an error as problem+json; return its status."""
    own = [(name.encode(), value.encode()) for name, value in problems.headers(error)]
    document = problems.problem(error, request_id)
    await _answer(send, document["status"], b"application/problem+json", _encode(document), [*headers, *own])
    status: int = document["status"]
    return status


async def _answer(
    send: Send, status: int, content_type: bytes, body: bytes, headers: Iterable[tuple[bytes, bytes]]
) -> None:
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [
                (b"content-type", content_type),
                (b"content-length", b"%d" % len(body)),
                *headers,
            ],
        }
    )
    await send({"type": "http.response.body", "body": body})
