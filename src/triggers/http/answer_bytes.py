"""The bytes of an answer: status line, headers, and the framing of its body."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Mapping
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from triggers.http.exchange import Headers

PIECES_BYTES: Final = 64 * 1024
"""Bytes that the system is asked to hold of an answer in pieces until its caller takes them. It may hold
twice as many."""
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_NO_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


def whole_answer(status: int, headers: Headers, body: bytes) -> bytes:
    """An answer whose headers are known to be well-formed and to give the length of its body."""
    head = b"\r\n".join(map(b": ".join, headers))
    return b"%b%b\r\n\r\n%b" % (STATUS_LINE[status], head, body)


def write_piece_by_piece(transport: asyncio.Transport) -> None:
    """From now on, writing waits until the system has taken the piece before, and the system holds little.

    An answer in pieces may never end. So a caller that does not read it must be noticed soon, and must not
    take much memory.
    """
    if not transport.is_closing():
        transport.set_write_buffer_limits(high=0)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, PIECES_BYTES)


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
