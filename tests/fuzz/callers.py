"""A hostile caller: what it sends over one connection, and how."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from fuzz.bodies import Bodies

MOST_BYTES = 4 * 2**20
"""What one connection sends at most."""
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
ODD_FIRST_LINES = (
    "GET /livez", "GET /livez HTTP/0.9", "GET /livez HTTP/2.0", "PRI * HTTP/2.0", "GET  /livez HTTP/1.1",
    "GET /livez HTTP/1.1 more", "\x16\x03\x01\x02", "get /livez http/1.1", "GET http://other/livez HTTP/1.1",
    "OPTIONS * HTTP/1.1", "CONNECT 127.0.0.1:1 HTTP/1.1", "CONNECT / HTTP/1.1", "BREW / HTTP/1.1",
    "POST /v1/events HTTP/1.0", "GET /" + "a" * 70_000 + " HTTP/1.1", "GET /%00%ff/../v1 HTTP/1.1", "",
)  # fmt: skip
ODD_HEADERS = (
    "Host: again", "Host:", "Content-Length: 5", "Content-Length: +5", "Content-Length: -1",
    "Content-Length: 5, 5", "Content-Length: 99999999999999999999", "Content-Length : 3",
    "Transfer-Encoding: chunked", "Transfer-Encoding: gzip, chunked", "Transfer-Encoding: chunked, identity",
    "Transfer-Encoding: xchunked", "Transfer-Encoding:\tchunked", "transfer-encoding: CHUNKED",
    " folded: line", "No colon", "X: " + "a" * 100_000, "X\x00: y", "X: \x01", "\xe9: \xe9",
    "Expect: 100-continue",
    "Connection: close", "Connection: keep-alive, upgrade", "Content-Encoding: gzip", "Content-Encoding: br",
    "Authorization: Bearer zap_test_nobody", "Authorization: Basic eA==", "X-API-Key: \x7f",
    "Range: bytes=0-",
    "Content-Type: text/plain", "Content-Type: application/x-ndjson", "X-Request-Id: " + "r" * 500,
)  # fmt: skip
OFFERS = (
    "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAEAAEAAAAIAAAAA",
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: eA==",
    "Upgrade: h2c, websocket\r\nConnection: upgrade",
    "UpGrAdE : h2c\r\nConnection: upgrade",
    "Connection: upgrade",
    "Upgrade: h2c",
)
ODD_IDS = ("default", "0", "%00", "..%2f", "a" * 300, "00000000-0000-0000-0000-000000000000")
ODD_QUERIES = ("?limit=1000", "?limit=x", "?cursor=%ff", "?status=active", "?a=%00&a=b", "?" + "q" * 9_000)
CHUNK_TEXTS = (
    b"upgrade: run make migrate first",
    b"Upgrade : x",
    b"\nu",
    b"\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
)


class Piece(NamedTuple):
    """Bytes to write at once, and the seconds to wait before."""

    data: bytes
    pause_seconds: float = 0.0


@dataclass
class Talk:
    """One connection. `end` is what is done once all is written: read, half-close, hold, or abort.

    Reading ends after `answers`, if it is known how many there will be.
    """

    kind: str
    pieces: list[Piece]
    reads: bool = True
    end: str = "read"
    answers: int | None = None


@dataclass
class Known:
    """What callers know of the service. `keys` may hold None, for a caller without one."""

    routes: Sequence[tuple[str, str]]
    keys: Sequence[str | None]
    real: list[bytes]
    ids: list[str] = field(default_factory=list)


class Caller:
    """Makes talks from the choices of one generator."""

    def __init__(self, rng: random.Random, known: Known) -> None:
        self._rng = rng
        self._known = known
        self._bodies = Bodies(rng, known.real)

    def talk(self) -> Talk:
        """The next connection's."""
        rng = self._rng
        makers: Sequence[tuple[int, Callable[[], Talk]]] = (
            (8, self._plain), (5, self._spoiled), (2, self._pipeline), (2, self._unread),
            (1, self._endless_head), (1, self._trailers), (1, self._held_gzip), (1, self._slow),
            (1, self._garbage),
        )  # fmt: skip
        maker = rng.choices([each for _, each in makers], [weight for weight, _ in makers])[0]
        made = maker()
        made.kind = maker.__name__.strip("_")
        return made

    # ---- kinds of talk -----------------------------------------------------------------------------

    def _plain(self) -> Talk:
        """Requests that may well be valid, one after the other, cut anywhere."""
        requests = [self._request() for _ in range(self._rng.randrange(1, 6))]
        return Talk("", self._cut(b"".join(requests)), answers=len(requests))

    def _spoiled(self) -> Talk:
        """A head with something wrong in it, or a request whose end is missing or changed."""
        rng = self._rng
        data = bytearray(self._request(odd=rng.randrange(1, 4)) + self._request())
        if rng.random() < 0.4:
            at = rng.randrange(len(data))
            data[at : at + rng.randrange(3)] = rng.randbytes(rng.randrange(4))
        if rng.random() < 0.4:
            del data[rng.randrange(len(data)) :]
        return Talk("", self._cut(bytes(data)), end=rng.choice(("read", "half-close", "abort")))

    def _pipeline(self) -> Talk:
        """Many small requests in one write; the answers may stay unread."""
        request = (
            f"GET {self._rng.choice(('/livez', '/v1/org', '/openapi.json'))} HTTP/1.1\r\nHost: x\r\n\r\n"
        )
        count = self._rng.choice((20, 200, 2_000))
        return Talk("", [Piece(request.encode() * count)], reads=self._rng.random() < 0.5, end="hold")

    def _unread(self) -> Talk:
        """Requests with large answers that nobody reads."""
        requests = b"".join(self._request("GET") for _ in range(20))
        return Talk(
            "", [Piece(requests + b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 20)], False, "hold"
        )

    def _endless_head(self) -> Talk:
        """A head that does not end."""
        line = self._rng.choice((b"X: " + b"a" * 1_000 + b"\r\n", b"a" * 1_000, b"\r\n" * 500))
        pieces = [Piece(line * 64) for _ in range(self._rng.randrange(1, 40))]
        return Talk("", [Piece(b"POST /v1/events HTTP/1.1\r\nHost: x\r\n"), *pieces])

    def _trailers(self) -> Talk:
        """A chunked body with far too much behind or between its chunks."""
        head = self._head("POST", "/v1/events") + b"Transfer-Encoding: chunked\r\n\r\n"
        start = self._rng.choice((b"2\r\n{}\r\n0\r\n", b"2\r\n{}\r\n0\r\nX: ", b"2;a="))
        filler = self._rng.choice((b"X: y\r\n" * 10_000, b"a" * 60_000, b"x;" * 30_000))
        pieces = [Piece(filler) for _ in range(self._rng.randrange(1, MOST_BYTES // len(filler)))]
        return Talk("", [Piece(head + start), *pieces, Piece(b"\r\n\r\n")])

    def _held_gzip(self) -> Talk:
        """A compressed body whose last bytes come late or never."""
        body = self._bodies.zipped(self._bodies.batch())
        length = f"Content-Encoding: gzip\r\nContent-Length: {len(body)}\r\n\r\n"
        head = self._head("POST", self._rng.choice(("/v1/events", "/v1/events/batch"))) + length.encode()
        return Talk("", [Piece(head + body[:-3]), Piece(body[-3:], self._rng.choice((0.5, 5)))])

    def _slow(self) -> Talk:
        """A request in small pieces with pauses."""
        request = self._request()[: self._rng.randrange(10, 4_000)]
        size = max(1, len(request) // 40)
        pieces = [Piece(request[at : at + size], 0.1) for at in range(0, len(request), size)]
        return Talk("", pieces, end=self._rng.choice(("read", "half-close", "abort")))

    def _garbage(self) -> Talk:
        """No HTTP at all."""
        return Talk("", self._cut(self._rng.randbytes(self._rng.choice((1, 100, 70_000)))), end="half-close")

    # ---- parts of a request ------------------------------------------------------------------------

    def _request(self, method: str | None = None, odd: int = 0) -> bytes:
        """One request; `odd` is how many things about its head are wrong."""
        rng = self._rng
        route_method, path = rng.choice(self._known.routes)
        if rng.random() < 0.4:
            route_method, path = (
                "POST",
                rng.choice(("/v1/events", "/v1/events", "/v1/events/batch", "/events")),
            )
        method = method or (route_method if rng.random() < 0.9 else rng.choice(METHODS))
        first = rng.choice(ODD_FIRST_LINES) if odd and rng.random() < 0.3 else None
        head = self._head(method, self._fill(path), first)
        for _ in range(odd):
            head += rng.choice(ODD_HEADERS).encode("latin-1") + b"\r\n"
        if rng.random() < 0.1:
            head += rng.choice(OFFERS).encode() + b"\r\n"
        if method in ("GET", "HEAD", "OPTIONS") and rng.random() < 0.95:
            return head + b"\r\n"
        body = self._bodies.any()
        if rng.random() < 0.15:
            head, body = head + b"Content-Encoding: gzip\r\n", self._bodies.zipped(body)
        if rng.random() < 0.3:
            return head + b"Transfer-Encoding: chunked\r\n\r\n" + b"".join(self._chunks(body))
        return head + f"Content-Length: {len(body)}\r\n\r\n".encode() + body

    def _head(self, method: str, path: str, first: str | None = None) -> bytes:
        """The first line and the usual headers, without the empty line."""
        rng = self._rng
        made = [first if first is not None else f"{method} {path} HTTP/1.1"]
        if rng.random() < 0.97:
            made.append("Host: x")
        key = rng.choice(self._known.keys)
        if key is not None:
            made.append(rng.choice((f"Authorization: Bearer {key}", f"X-API-Key: {key}")))
        if rng.random() < 0.9:
            made.append("Content-Type: application/json")
        return "".join(f"{line}\r\n" for line in made).encode("latin-1")

    def _fill(self, path: str) -> str:
        """A path with its parameters filled in, and perhaps a query."""
        rng = self._rng
        parts = [self._id() if part.startswith("{") else part for part in path.split("/")]
        return "/".join(parts) + (rng.choice(ODD_QUERIES) if rng.random() < 0.2 else "")

    def _id(self) -> str:
        """What stands for a path parameter: something that there is, or something odd."""
        there_is = self._known.ids and self._rng.random() < 0.6
        return self._rng.choice(self._known.ids if there_is else ODD_IDS)

    def _chunks(self, body: bytes) -> Iterator[bytes]:
        """The body in chunks of any size, some with an extension; a trailer may follow."""
        rng = self._rng
        at = 0
        while at < len(body):
            part = body[at : at + rng.choice((1, 7, 500, 8_192, 65_536, len(body)))]
            at += len(part)
            extension = rng.choice((b"", b"", b"", b";a", b';a="b;c"', b";" + b"x" * 300))
            yield f"{len(part):{rng.choice('xX')}}".encode() + extension + b"\r\n" + part + b"\r\n"
        if rng.random() < 0.05:
            text = rng.choice(CHUNK_TEXTS)
            yield f"{len(text):x}\r\n".encode() + text + b"\r\n"
        key = rng.choice(self._known.keys) or ""
        trailer = f"X-API-Key: {key}\r\nContent-Length: 3\r\n".encode() if rng.random() < 0.2 else b""
        yield b"0\r\n" + trailer + b"\r\n"

    def _cut(self, data: bytes) -> list[Piece]:
        """The bytes in one piece, or cut at a few random places."""
        rng = self._rng
        places = sorted(rng.randrange(len(data) + 1) for _ in range(rng.choice((0, 0, 1, 2, 6))))
        return [
            Piece(data[begin:end], rng.choice((0.0, 0.01)))
            for begin, end in zip([0, *places], [*places, len(data)], strict=True)
        ]
