"""Whatever valid requests come, and however they are cut, an app sees the bytes that were sent."""

from __future__ import annotations

import asyncio
import gzip
import random
from typing import Any

from harness import eventually
from serving import give_back, running

CASES = 10_000
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


async def answered(reader: asyncio.StreamReader) -> bytes:
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    assert head.startswith(b"HTTP/1.1 200"), head + await reader.read(1000)
    length = int(head.partition(b"content-length: ")[2].split(b"\r\n")[0])
    return await asyncio.wait_for(reader.readexactly(length), 5)


async def test_every_request_reaches_the_app_as_it_was_sent() -> None:
    async with running(give_back) as (serves, address):
        connection: Any = None
        for seed in range(CASES):
            chance = random.Random(seed)
            if connection is None or seed % 100 == 0:
                reader, writer = await asyncio.open_connection(*address)
                connection = await eventually(lambda: next(iter(serves.server_state.connections), None))
            requests = [some_request(chance) for _ in range(chance.choice((1, 1, 2, 4)))]
            # Given to the connection as the loop would: on a socket, pieces could arrive as one.
            for piece in filter(None, cut(b"".join(text for text, _ in requests), chance)):
                connection.data_received(piece)
                if chance.random() < 0.3:
                    await asyncio.sleep(0)
            for _, body in requests:
                assert await answered(reader) == body, f"seed {seed}"
            if seed % 100 == 99:
                writer.close()
                await eventually(lambda: not serves.server_state.connections)
