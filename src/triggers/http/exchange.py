"""Parts of every request, on the accept path and elsewhere: an id, a bounded body, an answer."""

from __future__ import annotations

import itertools
import os
import re
import zlib
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any
from uuid import UUID

import msgspec

from triggers.errors import Overloaded, RequestTimeout, TooLarge, TriggersError, UnsupportedMediaType
from triggers.fairness.pace import Steps, do
from triggers.fairness.room import Room
from triggers.http import problems

AsgiScope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[AsgiScope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

MAX_GZIP_MEMBERS = 1_000
"""Maximum number in a body: as many as in a batch whose events were compressed one by one."""

_PIECE_BYTES = 64 * 1024

FIELDS = "triggers.fields"
"""Key in the ASGI scope, of our own: the headers by name. Of several with one name, the last counts."""
WHOLE = "http.response.whole"
"""Message type of our own, besides those of ASGI: the start and the body of an answer in one. The service
makes its headers, so they are not checked for characters that could inject another header."""

SMALL_BODY = "triggers.body"
"""Key in the ASGI scope: the body, if it is small and had come completely when the app was called."""
SMALL_BYTES = 4 * 1024
"""A complete body of at most this size is not counted, as it takes less memory than the rest of a request."""

_encode = msgspec.json.Encoder().encode
_QUOTED_PAIR = re.compile(rb"\\(.)", re.DOTALL)
_process = os.urandom(6).hex()
_numbers = itertools.count(1)
_GIVEN_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")


class ClientGone(RequestTimeout):
    """The caller closed the connection before the request was complete, or the request was refused."""


def request_id(given: bytes | None) -> str:
    """The caller's id for the request if it is at most 64 letters, digits and `._-`, else a new id."""
    if given is not None and _GIVEN_ID.fullmatch(given):
        return given.decode("ascii")
    return f"{_process}-{next(_numbers):x}"


def check_json(media_type: bytes) -> None:
    """Refuse a media type other than JSON. A body without a media type is accepted."""
    if essence(media_type) not in (b"application/json", b""):
        raise UnsupportedMediaType("Send application/json.")


def essence(media_type: bytes) -> bytes:
    """A media type without its parameters."""
    return media_type.partition(b";")[0].strip().lower()


def unquoted(value: bytes) -> bytes:
    """The value of a header without the quotes around it. Within quotes, a backslash escapes a character."""
    if len(value) >= 2 and value[:1] == value[-1:] == b'"':
        return _QUOTED_PAIR.sub(rb"\1", value[1:-1])
    return value


class Held:
    """The memory that one request holds for its body, until the request is answered."""

    __slots__ = ("_room", "_size", "org_id")

    def __init__(self, room: Room, org_id: UUID) -> None:
        self._room = room
        self.org_id = org_id
        self._size = 0

    def take(self, size: int) -> None:
        """Take `size` more bytes.

        Raises:
            Overloaded: there is no room for them.
        """
        if not self._room.take(self.org_id, size):
            raise Overloaded("Too much is arriving at the same moment; nothing of this request was accepted.")
        self._size += size

    def give_back(self, size: int) -> None:
        """Give back `size` bytes."""
        self._room.give_back(self.org_id, size)
        self._size -= size

    def release(self) -> None:
        """Give back all of it."""
        self.give_back(self._size)


def org_of(held: Held | None) -> UUID | None:
    """The organisation in whose turns a body is processed."""
    return None if held is None else held.org_id


async def read_body(receive: Receive, limit: int, coding: bytes = b"", held: Held | None = None) -> bytes:
    """The body, inflated if it is gzip. The bytes in memory are counted in `held` as they come.

    A gzip body is inflated only when it is complete, so an incomplete one takes only its compressed size.

    Raises:
        TooLarge: more than `limit` bytes, as sent or inflated.
        UnsupportedMediaType: a content coding other than gzip, or broken gzip.
        Overloaded: there is no room for it.
        ClientGone: the connection closed first.
    """
    is_gzip = _is_gzip(coding) if coding else False
    chunks: list[bytes] = []
    size = 0
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise ClientGone
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise TooLarge(f"The body may have {limit:,} bytes.", limit=limit)
        more = message.get("more_body", False)
        if held is not None:
            held.take(len(chunk))
        chunks.append(chunk)
    if is_gzip:
        return await do(_inflated(chunks, limit, held), org_of(held))
    return b"".join(chunks)


def _inflated(chunks: list[bytes], limit: int, held: Held | None) -> Steps[bytes]:
    """Inflate gzip in small pieces."""
    inflater = _Inflater()
    pieces: list[bytes] = []
    size = 0
    for chunk in chunks:
        rest: bytes | None = chunk
        while rest is not None:
            piece, rest = inflater.more(rest)
            size += len(piece)
            if size > limit:
                raise TooLarge(f"The body may have {limit:,} bytes.", limit=limit)
            if held is not None:
                held.take(len(piece))
            pieces.append(piece)
            yield
        if held is not None:
            held.give_back(len(chunk))
    if not inflater.whole:
        raise UnsupportedMediaType("The gzip body is cut short.")
    return b"".join(pieces)


class _Inflater:
    """Inflates gzip, which is any number of members one after the other (RFC 1952)."""

    def __init__(self) -> None:
        self._members = 0
        self._begin()

    @property
    def whole(self) -> bool:
        """Whether the data so far ends with a complete member."""
        return self._member.eof

    def more(self, data: bytes) -> tuple[bytes, bytes | None]:
        """The next piece of inflated data, and the data to continue with, None at the end."""
        if self._member.eof and data:
            self._begin()
        try:
            piece = self._member.decompress(data, _PIECE_BYTES)
        except zlib.error:
            raise UnsupportedMediaType("The body is not the gzip that Content-Encoding says.") from None
        if self._member.eof:
            return piece, self._member.unused_data or None
        # A full piece may have more behind it, even when all data was taken in.
        rest = self._member.unconsumed_tail
        return piece, rest if rest or len(piece) == _PIECE_BYTES else None

    def _begin(self) -> None:
        # Each member copies what is behind it: a body of empty ones would take long.
        if self._members == MAX_GZIP_MEMBERS:
            raise UnsupportedMediaType(f"The gzip body has more than {MAX_GZIP_MEMBERS:,} members.")
        self._members += 1
        self._member = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)


def _is_gzip(coding: bytes) -> bool:
    match coding.strip().lower():
        case b"identity":
            return False
        case b"gzip" | b"x-gzip":
            return True
        case _:
            raise UnsupportedMediaType("Content-Encoding must be gzip or left out.")


def answer_json(
    send: Send, status: int, body: Any, headers: Iterable[tuple[bytes, bytes]]
) -> Awaitable[None]:
    """Send a JSON answer."""
    return _answer(send, status, b"application/json", _encode(body), headers)


async def answer_problem(
    scope: AsgiScope,
    send: Send,
    error: TriggersError,
    request_id: str,
    headers: Iterable[tuple[bytes, bytes]],
) -> int:
    """Send an error as problem+json; return its status."""
    own = [(name.encode(), value.encode()) for name, value in problems.headers(error)]
    document = problems.problem(error, root_path=scope.get("root_path", ""), request_id=request_id)
    await _answer(send, document["status"], b"application/problem+json", _encode(document), [*headers, *own])
    status: int = document["status"]
    return status


def _answer(
    send: Send, status: int, content_type: bytes, body: bytes, headers: Iterable[tuple[bytes, bytes]]
) -> Awaitable[None]:
    framing = (b"content-type", content_type), (b"content-length", b"%d" % len(body))
    return send({"type": WHOLE, "status": status, "headers": [*framing, *headers], "body": body})
