"""Cuts what arrives on a connection into pieces for the parser, and bounds what of a request is no body.

The parser takes whatever it is given at once, and does not say where in it a request ended. Given all that
was read it would parse thousands of pipelined requests ahead, and nobody could count the bytes of a head.
So it is given pieces in each of which at most one head ends.
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
MAX_PIECE = 16 * 1024
"""Bytes of a chunked body, or behind a head, that the parser is given at once."""

_END = b"\r\n\r\n"


class RequestPieces:
    """Where one connection is: in a head (or before one), in a body of known length, or in a chunked one.

    head ──`head_ended(length)`──▶ sized body ──`ended`──▶ head
    head ──`head_ended(None)`────▶ chunked body ──`ended`──▶ head
    """

    __slots__ = ("_behind", "_data", "_framing", "_head", "_last", "_since_data", "in_head", "left")

    def __init__(self) -> None:
        self._head = 0  # bytes of the head so far
        self._behind = 0  # bytes of the piece at hand that follow its head
        self._data = self._framing = self._since_data = 0  # bytes of a chunked body so far
        self._last = b""  # up to three bytes of what came before, where the end of a head may have begun
        self.in_head = True
        self.left = 0
        """Bytes of a sized body that no piece has had yet; 0 for a chunked one."""

    def take(self, data: bytes, begin: int) -> int:
        """Count the piece that begins there, for the parser to be given it; return where it ends.

        A head ends with an empty line, and so does a chunked body.

        Raises:
            MalformedBody: a head, or the framing of a body, is over its bound.
        """
        if self.left:
            end = min(len(data), begin + self.left)
            self.left -= end - begin
            return end
        end = self._end_of_begun_line(data) if self._last and begin == 0 else 0
        if not end:
            end = data.find(_END, begin) + len(_END)
            if end < len(_END):
                end = len(data)
        if self.in_head:
            self._head += end - begin
            if self._head > MAX_HEAD_BYTES:
                raise errors.MalformedBody(f"Request line and headers may have {MAX_HEAD_BYTES:,} bytes.")
            self._behind = len(data) - end
            # Nearly always a body follows, whole: the parser can have it at once if no other head ends in it.
            if self._behind > MAX_PIECE or data.find(_END, end) >= 0:
                self._behind = 0
            return end + self._behind
        if (
            self._since_data > MAX_FRAMING_BYTES
            or self._framing > MAX_FRAMING_BYTES + FRAMING_PER_BYTE * self._data
        ):
            raise errors.MalformedBody("The chunked body has too much in it that is no data.")
        end = min(end, begin + MAX_PIECE)
        self._framing += end - begin
        self._since_data += end - begin
        return end

    def head_ended(self, length: int | None) -> None:
        """A body of `length` bytes follows, or a chunked one; the piece at hand may have begun it."""
        self.in_head = False
        self._data = 0
        self._framing = self._since_data = self._behind if length is None else 0
        self.left = 0 if length is None else length - self._behind
        self._behind = 0

    def count_data(self, size: int) -> None:
        """Of a chunked body so many bytes came that are data."""
        self._data += size
        self._framing -= size
        self._since_data = 0

    def ended(self) -> None:
        """The request is whole: what follows, if only in the piece at hand, is the head of the next one."""
        self.in_head = True
        self._head = -self.left
        self.left = 0
        self._last = b""

    def remember(self, data: bytes) -> None:
        """All of this was given to the parser, and what follows it comes later."""
        self._last = (self._last + data[-3:])[-3:] if data.endswith((b"\r", b"\n")) else b""

    def _end_of_begun_line(self, data: bytes) -> int:
        """Where an empty line ends that began in what came before; 0: none did."""
        at = (self._last + data[:3]).find(_END)
        return 0 if at < 0 else at + len(_END) - len(self._last)
