"""Cuts what arrives on a connection into pieces for the parser, and bounds what of a request is no body.

The parser takes whatever it is given at once, and does not say where in it a request ended. Given all that
was read it would parse thousands of pipelined requests ahead, and nobody could count the bytes of a head.
So it is given pieces in each of which at most one head ends, and no request begins but at the start.
"""

from __future__ import annotations

from triggers import errors

MAX_HEAD_BYTES = 64 * 1024
"""From the end of the request before: request line and headers."""
MAX_FRAMING_BYTES = 64 * 1024
"""Of a chunked body, what is no data: sizes and extensions of chunks, and trailers. Counted between two bytes
of data, and in all beyond what short chunks need."""
FRAMING_PER_BYTE = 8
"""A chunk of one byte takes five bytes more; some callers pad the size."""
MAX_CHUNKED_PIECE = 16 * 1024

_END = b"\r\n\r\n"


class RequestPieces:
    """Where one connection is: in a head (or before one), in a body of known length, or in a chunked one.

    head ──`head_ended(length)`──▶ sized body ──`ended`──▶ head
    head ──`head_ended(None)`────▶ chunked body ──`ended`──▶ head
    """

    __slots__ = ("_data_bytes", "_framing_bytes", "_head_bytes", "_last", "_left", "_since_data", "in_head")

    def __init__(self) -> None:
        self._last = b""  # up to three bytes of what came before, where the end of a head may have begun
        self.ended()

    def ended(self) -> None:
        """The request is whole: what follows is the head of the next one."""
        self.in_head = True
        self._head_bytes = 0
        self._left = 0

    def head_ended(self, length: int | None) -> None:
        """A body follows, of `length` bytes; None: a chunked one."""
        self.in_head = False
        self._left = length or 0
        self._data_bytes = self._framing_bytes = self._since_data = 0

    @property
    def left(self) -> int | None:
        """Bytes of the body that are still to come; None if nobody knows."""
        return self._left or None

    def end(self, data: bytes, begin: int) -> int:
        """Where the piece ends that begins there.

        A head ends with an empty line, and so does a chunked body, so a piece ends behind each of them.
        """
        if self._left:
            return min(len(data), begin + self._left)
        if self._last and begin == 0 and (at := (self._last + data[:3]).find(_END)) >= 0:
            return at + len(_END) - len(self._last)
        at = data.find(_END, begin)
        end = len(data) if at < 0 else at + len(_END)
        return end if self.in_head else min(end, begin + MAX_CHUNKED_PIECE)

    def count(self, size: int) -> None:
        """Take in that the parser is about to be given a piece of so many bytes.

        Raises:
            MalformedBody: a head or the framing of a body is over its bound.
        """
        if self._left:
            self._left -= size
        elif self.in_head:
            self._head_bytes += size
            if self._head_bytes > MAX_HEAD_BYTES:
                raise errors.MalformedBody(f"Request line and headers may have {MAX_HEAD_BYTES:,} bytes.")
        elif (
            self._since_data > MAX_FRAMING_BYTES
            or self._framing_bytes > MAX_FRAMING_BYTES + FRAMING_PER_BYTE * self._data_bytes
        ):
            raise errors.MalformedBody("The chunked body has too much in it that is no data.")
        else:
            self._framing_bytes += size
            self._since_data += size

    def count_data(self, size: int) -> None:
        """Of the piece that was counted so many bytes are data."""
        self._data_bytes += size
        self._framing_bytes -= size
        self._since_data = 0

    def remember(self, data: bytes) -> None:
        """All of this was given to the parser, and more is to come."""
        self._last = (self._last + data[-3:])[-3:] if data.endswith((b"\r", b"\n")) else b""
