"""The bytes of an answer: status line, headers, and the framing of its body."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from triggers.http.exchange import Headers

_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_NO_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


def whole_answer(status: int, headers: Headers, body: bytes) -> bytes:
    """An answer whose headers are known to be well-formed and to give the length of its body."""
    head = b"\r\n".join(map(b": ".join, headers))
    return b"%b%b\r\n\r\n%b" % (STATUS_LINE[status], head, body)


class AnswerInPieces:
    """The bytes of an answer that an app gives in messages of ASGI: its head, then pieces of its body.

    The head decides how the body is framed:
    - without a body, to HEAD or with status 204 or 304
    - sized, if there is a Content-Length; the remaining bytes are counted
    - chunked, otherwise

    Raises:
        RuntimeError: from any method, if the answer cannot be written as HTTP. That is a bug of the app.
    """

    def __init__(
        self, start: Mapping[str, Any], defaults: Headers, *, to_head: bool, keep_alive: bool
    ) -> None:
        """`start` is the ASGI message. If `keep_alive` is false, the connection is closed in any case."""
        status: int = start["status"]
        lines = [STATUS_LINE[status].rstrip(b"\r\n")]
        fields: dict[bytes, bytes] = {}
        for name, value in [*defaults, *start.get("headers", ())]:
            if not _NAME.fullmatch(name) or _NO_VALUE.search(value):
                raise RuntimeError(f"Invalid HTTP header: {name!r}.")
            fields[name.lower()] = value
            lines.append(b"%b: %b" % (name.lower(), value))
        says_close = b"close" in map(bytes.strip, fields.get(b"connection", b"").lower().split(b","))
        self.keep_alive = keep_alive and not says_close
        if not self.keep_alive and not says_close:
            lines.append(b"connection: close")
        length = fields.get(b"content-length")
        self._has_body = not (to_head or status in (204, 304))
        self._left = int(length) if length is not None else None
        if self._has_body and length is None and b"transfer-encoding" not in fields:
            lines.append(b"transfer-encoding: chunked")
        self.head = b"\r\n".join(lines) + b"\r\n\r\n"

    def piece(self, body: bytes, *, more: bool) -> bytes:
        """A piece of the body; nothing follows it unless `more`."""
        if not self._has_body:
            return b""
        if self._left is None:
            chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            return chunk if more else chunk + b"0\r\n\r\n"
        self._left -= len(body)
        if self._left < 0:
            raise RuntimeError("Response content longer than Content-Length")
        if self._left and not more:
            raise RuntimeError("Response content shorter than Content-Length")
        return body
