"""Cuts the bytes of a connection into pieces for the parser, and bounds heads, chunk framing and trailers.

The parser parses everything that it is given, and does not say where a request ended. If it were given all
bytes at once, it would parse thousands of pipelined requests ahead, and the bytes of a head could not be
counted. So in each piece that it is given, at most one head ends.
"""

from __future__ import annotations

from triggers import errors

MAX_HEAD_BYTES = 64 * 1024
"""Maximum size of request line and headers, counted from the end of the previous request."""
MAX_FRAMING_BYTES = 64 * 1024
"""Maximum framing of a chunked body: chunk sizes, chunk extensions and trailers. It bounds the framing
between two bytes of data, and the total framing beyond FRAMING_PER_BYTE for each byte of data."""
FRAMING_PER_BYTE = 8
"""Framing that each byte of data may have: a chunk of one byte needs five, and some callers pad the size."""
MAX_PIECE = 16 * 1024
"""Maximum bytes of a chunked body, or after a head, in one piece."""

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
        """Bytes of a sized body that are in no piece yet; 0 for a chunked body."""

    def take(self, data: bytes, begin: int) -> int:
        """Count the piece that begins at `begin`, and return where it ends.

        A head ends with an empty line, and so does a chunked body.

        Raises:
            MalformedRequest: a head, or the framing of a body, exceeds its limit.
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
                raise errors.MalformedRequest(f"Request line and headers may have {MAX_HEAD_BYTES:,} bytes.")
            self._behind = len(data) - end
            # Nearly always a body follows, whole: the parser can have it at once if no other head ends in it.
            if self._behind > MAX_PIECE or data.find(_END, end) >= 0:
                self._behind = 0
            return end + self._behind
        if (
            self._since_data > MAX_FRAMING_BYTES
            or self._framing > MAX_FRAMING_BYTES + FRAMING_PER_BYTE * self._data
        ):
            raise errors.MalformedRequest(
                "The chunked body has too many bytes that are not data, such as extensions or trailers."
            )
        end = min(end, begin + MAX_PIECE)
        self._framing += end - begin
        self._since_data += end - begin
        return end

    def head_ended(self, length: int | None) -> None:
        """A body of `length` bytes follows, or (None) a chunked one. This piece may contain its start."""
        self.in_head = False
        self._data = 0
        self._framing = self._since_data = self._behind if length is None else 0
        self.left = 0 if length is None else length - self._behind
        self._behind = 0

    def count_data(self, size: int) -> None:
        """`size` bytes of data of a chunked body came."""
        self._data += size
        self._framing -= size
        self._since_data = 0

    def ended(self) -> None:
        """The request is complete. The bytes after it, even in this piece, belong to the next head."""
        self.in_head = True
        self._head = -self.left
        self.left = 0
        self._last = b""

    def remember(self, data: bytes) -> None:
        """The parser was given all of `data`. The bytes after it come later."""
        self._last = (self._last + data[-3:])[-3:] if data.endswith((b"\r", b"\n")) else b""

    def _end_of_begun_line(self, data: bytes) -> int:
        """Where an empty line ends that began in earlier data; 0 if there is none."""
        at = (self._last + data[:3]).find(_END)
        return 0 if at < 0 else at + len(_END) - len(self._last)
