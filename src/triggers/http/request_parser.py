"""Reads the requests of one connection: bytes in, the parts of each request out."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final, Protocol
from urllib.parse import unquote

import httptools

from triggers.errors import HttpVersionNotSupported, MalformedRequest, RequestError
from triggers.http import exchange
from triggers.http.request_pieces import RequestPieces

REST_READ: Final = 5 * 1024 * 1024
"""If a request is answered before its body has arrived, at most this many remaining bytes are read and thrown
away. If more remain, or their number is unknown, the connection ends, so a refused caller cannot continue."""


class RequestReceiver(Protocol):
    """Receives the parts of requests, in the order in which they arrive."""

    def request_began(self) -> None:
        """The first byte of a request came."""

    def head_came(self, scope: dict[str, Any], *, keep_alive: bool) -> None:
        """The head came. `keep_alive`: the caller does not ask to close the connection after the answer."""

    def body_came(self, data: bytes) -> None:
        """A piece of the body came."""

    def request_ended(self) -> None:
        """The request is whole."""


class _BodyCallbacks:
    """The callbacks of a parser that reads only a body."""

    def __init__(self, parser: RequestParser) -> None:
        self.on_body = parser.on_body
        self.on_message_complete = parser.on_message_complete


class RequestParser:
    """Parses the pieces of a connection with httptools. It never changes a byte of a body.

    head ──ends──────────────────────────▶ body ──ends──▶ head
    head ──ends, offers another protocol──▶ body, read by a second parser ──ends──▶ head
    """

    def __init__(self, receiver: RequestReceiver, connection_scope: dict[str, Any]) -> None:
        """`connection_scope` is what the scopes of all requests of this connection have in common."""
        self._receiver = receiver
        self._connection_scope = connection_scope
        self._parser = httptools.HttpRequestParser(self)
        # Otherwise bytes after a request that closes the connection would make that request an error.
        self._parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._body_parser: httptools.HttpRequestParser | None = None
        self.pieces = RequestPieces()
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._length: int | None = 0  # of the newest body; None: it is chunked

    def feed(self, data: bytes, begin: int) -> int:
        """Parse one piece of `data`, in which at most one head ends; return where the piece ended.

        Raises:
            MalformedRequest, HttpVersionNotSupported: this is not a valid request, or it exceeds a limit.
                Nothing more may be fed.
        """
        end = self.pieces.take(data, begin)
        try:
            (self._body_parser or self._parser).feed_data(data[begin:end])
        except httptools.HttpParserUpgrade as offer:
            self._ignore_offer()
            return begin + int(offer.args[0])
        except httptools.HttpParserError as error:
            raise self._refusal(error) from error
        return end

    def _refusal(self, error: httptools.HttpParserError) -> RequestError:
        """The answer to bytes that httptools, or `check_head`, refuses."""
        if isinstance(error.__context__, RequestError):
            return error.__context__
        if self._parser.get_http_version() >= "2":  # earlier requests of the connection had a lower one
            return HttpVersionNotSupported()
        return MalformedRequest(f"The request cannot be read: {error}.")

    def close(self) -> None:
        """Let go of the receiver and the parsers, which refer to each other."""
        del self._parser, self._receiver
        self._body_parser = None

    @property
    def in_head(self) -> bool:
        """Whether the next byte belongs to a head, so that there is no request to be answered yet."""
        return self.pieces.in_head

    @property
    def has_much_to_come(self) -> bool:
        """Whether the rest of the newest body is too long to be worth reading."""
        return self._length is None or self.pieces.left > REST_READ

    def _ignore_offer(self) -> None:
        """Go on with a request that offers another protocol as if it had not.

        Java's client offers HTTP/2 with each request. httptools takes what follows such a head for the
        other protocol. So a second parser reads the body. A head made here tells it the body's length.
        """
        self.pieces.head_ended(self._length)  # the piece ended with its head after all
        parser = httptools.HttpRequestParser(_BodyCallbacks(self))
        self._body_parser = parser  # the end of the body drops it
        length = (
            b"transfer-encoding: chunked" if self._length is None else b"content-length: %d" % self._length
        )
        parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n\r\n" % length)

    # ---- the callbacks of httptools --------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._url = b""
        self._headers = []
        self._receiver.request_began()

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        # A trailer comes here too. It says nothing of the request, or it could give a head another key.
        if self.pieces.in_head:
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        parser, fields = self._parser, dict(self._headers)
        keep_alive, version = parser.should_keep_alive(), "1.1"
        if not keep_alive or b"connection" in fields:  # without that header only HTTP/1.1 is kept alive
            version = parser.get_http_version()
            keep_alive = keep_alive and version != "1.0"  # even if that header asks for it
        is_chunked = b"transfer-encoding" in fields
        if is_chunked or b"host" not in fields or len(fields) != len(self._headers) or version != "1.1":
            check_head(version, self._headers)
        self._length = None if is_chunked else int(fields.get(b"content-length", 0))
        self.pieces.head_ended(self._length)
        method = parser.get_method().decode("ascii")
        url = b"/" if method == "CONNECT" else self._url  # which names a host, and no path of ours
        path, raw_path, query = _parts(url)
        scope = {
            **self._connection_scope,
            "method": method,
            "path": path,
            "raw_path": raw_path,
            "query_string": query,
            "headers": self._headers,
            exchange.FIELDS: fields,
        }
        self._receiver.head_came(scope, keep_alive=keep_alive)

    def on_body(self, data: bytes) -> None:
        if self._length is None:
            self.pieces.count_data(len(data))
        self._receiver.body_came(data)

    def on_message_complete(self) -> None:
        if self._body_parser is None and self._parser.should_upgrade():
            return  # only the head is complete: `_ignore_offer` comes next
        self._body_parser = None
        self.pieces.ended()
        self._receiver.request_ended()


def check_head(version: str, headers: list[tuple[bytes, bytes]]) -> None:
    """Refuse a head that httptools accepts, but that a proxy in front could read as another request.

    Raises:
        HttpVersionNotSupported: it is neither HTTP/1.1 nor HTTP/1.0.
        MalformedRequest: HTTP/1.1 without a Host, more than one Host, or a coding other than `chunked`.
    """
    if version not in ("1.0", "1.1"):
        raise HttpVersionNotSupported
    hosts = sum(name == b"host" for name, _ in headers)
    if hosts > 1 or (hosts == 0 and version == "1.1"):
        raise MalformedRequest(f"The request must have exactly one Host header, and it has {hosts}.")
    codings = [value for name, value in headers if name == b"transfer-encoding"]
    if codings and [each.strip().lower() for each in codings] != [b"chunked"]:
        raise MalformedRequest("Transfer-Encoding must be chunked or left out.")


@lru_cache(maxsize=64)
def _parts(url: bytes) -> tuple[str, bytes, bytes]:
    """Path, raw path and query. Few paths make most requests, and those have no ids in them."""
    parsed = httptools.parse_url(url)
    path = parsed.path or b"/"  # a URL with a host may have no path
    return unquote(path.decode("ascii")), path, parsed.query or b""
