"""Valid requests as bytes, made at random: framed in every way, beside offers, with bodies like heads."""

from __future__ import annotations

import gzip
import random

OFFERS = (
    b"",
    b"",
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n",
    b"connection: keep-alive, upgrade\r\nUPGRADE : websocket\r\n".replace(b" :", b":"),
    b"Connection: upgrade\r\nUpgrade: h2c, websocket\r\nUpgrade: TLS/1.0\r\n",
    b"Upgrade: h2c\r\n",
)
LINES = (
    b"upgrade: run make migrate first",
    b"UPGRADE : h2c",
    b"u",
    b"content-length: 5",
    b"GET /smuggled HTTP/1.1\r\nhost: x\r\n",
    b"0",
    b"5\r\nabcde",
    b"",
    b"\x00\xff",
    b'{"type":"a"}',
)


def some_body(chance: random.Random) -> bytes:
    parts = [chance.choice(LINES) for _ in range(chance.randrange(5))]
    body = chance.choice((b"\r\n", b"\n", b"\r\n\r\n", b"")).join(parts)
    if chance.random() < 0.02:
        body += chance.randbytes(chance.choice((70_000, 20_000)))
    return gzip.compress(body, 1) if chance.random() < 0.2 else body


def chunked(body: bytes, chance: random.Random) -> bytes:
    """The body in chunks of any length, some with extensions, and perhaps with trailers."""
    text, begin = b"", 0
    longest = chance.choice((1, 7, 100, 100_000)) if len(body) < 1_000 else 30_000
    while begin < len(body):
        chunk = body[begin : begin + chance.randint(1, longest)]
        begin += len(chunk)
        extension = chance.choice((b"", b"", b";name=value", b';a="b"'))
        text += b"%x%b\r\n%b\r\n" % (len(chunk), extension, chunk)
    trailer = chance.choice((b"", b"", b"x-checksum: 1\r\n", b"authorization: Bearer other\r\n"))
    return text + b"0\r\n" + trailer + b"\r\n"


def some_request(chance: random.Random) -> tuple[bytes, bytes]:
    """A request as it is sent, and its body."""
    if chance.random() < 0.1:
        return b"GET / HTTP/1.1\r\nhost: x\r\n" + chance.choice(OFFERS) + b"\r\n", b""
    body = some_body(chance)
    head = b"POST / HTTP/1.1\r\nhost: x\r\n" + chance.choice(OFFERS)
    if chance.random() < 0.5:
        return head + b"Content-Length: %d\r\n\r\n" % len(body) + body, body
    return head + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(body, chance), body


def cut(text: bytes, chance: random.Random) -> list[bytes]:
    """In pieces: whole, at every byte, or at a few places."""
    how = chance.random()
    if how < 0.2:
        return [text]
    if how < 0.3 and len(text) < 400:
        return [text[place : place + 1] for place in range(len(text))]
    places = sorted(chance.randrange(len(text) + 1) for _ in range(chance.randint(1, 5)))
    return [text[begin:end] for begin, end in zip([0, *places], [*places, len(text)], strict=True)]
