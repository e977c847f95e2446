"""A hostile endpoint: it answers each delivery in one of many ways, most of them wrong."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Self

MOST_BYTES = 20 * 2**20
"""How much an answer without an end sends at most."""
LONGEST_SECONDS = 20.0
"""How long one connection is played with at most."""
ENDLESS_AT_ONCE = 3
"""Endless answers at the same moment: more would starve the fuzzer itself."""

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
ENDLESS: tuple[tuple[bytes, bytes], ...] = (
    (CHUNKED + b"2\r\nok\r\n0\r\nX: ", b"a" * 16_384),  # one trailer
    (CHUNKED + b"2\r\nok\r\n0\r\n", b"X: y\r\n" * 2_000),  # trailers
    (CHUNKED + b"2;", b"a=b;" * 4_096),  # one chunk extension
    (CHUNKED, b"1;" + b"x" * 4_000 + b"\r\na\r\n"),  # chunk extensions
    (CHUNKED, b"1\r\na\r\n" * 2_000),  # chunks
    (CHUNKED, b"0" * 16_384),  # a chunk's size
    (b"", b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" * 200),  # interim answers
    (b"HTTP/1.1 102 Processing\r\n", b"X: y\r\n" * 2_000),  # an interim answer's headers
    (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 2_000),  # headers
    (b"HTTP/1.1 200 OK\r\nX: ", b"a" * 16_384),  # one header
    (b"HTTP/1.1 200 ", b"O" * 16_384),  # a reason
    (b"", b"\r\n" * 8_192),  # empty lines
    (b"HTTP/1.1 200 OK\r\n\r\n", b"a" * 16_384),  # a body without a length
    (b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n", b"a" * 16_384),
)
WRONG: tuple[bytes, ...] = (
    b"", b"\r\n\r\n", b"nonsense\r\n\r\n", b"\x00" * 500, b"HTTP/1.1 200\r\n\r\n", b"HTTP/0.9 200 OK\r\n\r\n",
    b"HTTP/2.0 200 OK\r\n\r\n", b"HTTP/1.1 099 No\r\n\r\n", b"HTTP/1.1 999 No\r\ncontent-length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok", b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    CHUNKED + b"zz\r\nok\r\n", CHUNKED + b"ffffffffffffffffff\r\nok", CHUNKED + b"2\r\nok",
    CHUNKED + b"-1\r\n",
    OK + OK, OK + b"HTTP/1.1 500 X\r\n\r\n", OK + b"nonsense",
    b"HTTP/1.1 101 Switching\r\nupgrade: x\r\n\r\n",
    b"HTTP/1.1 204 No\r\ncontent-length: 5\r\n\r\nhello", b"HTTP/1.1 304 No\r\n\r\nbody",
    b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\n\x1f\x8b\x08\x00",
    b"HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n",
    b"HTTP/1.1 429 Slow\r\nretry-after: 99999999999999999999\r\ncontent-length: 0\r\n\r\n",
    b"HTTP/1.1 503 X\r\nretry-after: \xff\xfe\r\ncontent-length: 0\r\n\r\n",
)  # fmt: skip


class HostileEndpoint:
    """Listens while the block lasts. What it does to the n-th connection follows from seed and n."""

    def __init__(self, seed: str) -> None:
        self._seed = seed
        self._connections = 0
        self._endless = asyncio.Semaphore(ENDLESS_AT_ONCE)
        self._playing: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._closed = False
        self._server: asyncio.Server | None = None
        self.done: Counter[str] = Counter()
        """How often each way to answer was begun."""
        self.requests = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=2**20)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._closed = True
        self._server.close()
        playing = list(self._playing.items())
        for task, writer in playing:
            task.cancel()
            writer.transport.abort()  # one that has not begun would not do it
        await asyncio.gather(*[task for task, _ in playing], return_exceptions=True)
        await asyncio.sleep(0)  # what was aborted is closed in the next turn of the loop

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._closed:
            writer.transport.abort()
            return
        playing = asyncio.create_task(self._play(reader, writer))
        self._playing[playing] = writer
        playing.add_done_callback(self._playing.pop)

    async def _play(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        rng = random.Random(f"{self._seed}/endpoint/{self._connections}")
        try:
            async with asyncio.timeout(LONGEST_SECONDS):
                if rng.random() < 0.02:  # an answer before there is a request
                    writer.write(OK)
                while not writer.is_closing():
                    await self._request(reader)
                    await self._answer(rng, writer)
        except (OSError, EOFError, ValueError, TimeoutError):
            self.done["cut"] += 1
        finally:
            writer.transport.abort()

    async def _request(self, reader: asyncio.StreamReader) -> None:
        """Read one request, whatever it says."""
        head = await reader.readuntil(b"\r\n\r\n")
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                await reader.readexactly(int(line[15:]))
        self.requests += 1

    async def _answer(self, rng: random.Random, writer: asyncio.StreamWriter) -> None:
        ways: Sequence[tuple[int, Callable[[random.Random, asyncio.StreamWriter], Awaitable[None]]]] = (
            (30, self._proper), (4, self._slow), (2, self._hang), (5, self._close), (6, self._wrong),
            (2, self._huge_head), (2, self._extra), (2, self._endless_answer), (1, self._garbage),
        )  # fmt: skip
        way = rng.choices([each for _, each in ways], [weight for weight, _ in ways])[0]
        self.done[way.__name__.strip("_")] += 1
        await way(rng, writer)

    # ---- ways to answer ----------------------------------------------------------------------------

    async def _proper(self, rng: random.Random, writer: asyncio.StreamWriter) -> None:
        code = rng.choice((200, 200, 200, 201, 202, 204, 301, 400, 404, 408, 429, 500, 503))
        body = b"" if code == 204 else b"a" * rng.choice((0, 2, 5_000, 200_000))
        length = "" if code == 204 else f"content-length: {len(body)}\r\n"
        writer.write(f"HTTP/1.1 {code} X\r\n{length}\r\n".encode() + body)
        await writer.drain()

    async def _slow(self, rng: random.Random, writer: asyncio.StreamWriter) -> None:
        answer = CHUNKED + b"2\r\nok\r\n0\r\n\r\n"
        for at in range(len(answer)):
            writer.write(answer[at : at + 1])
            await writer.drain()
            await asyncio.sleep(rng.choice((0.001, 0.05)))

    async def _hang(self, rng: random.Random, writer: asyncio.StreamWriter) -> None:
        writer.write(rng.choice((b"", b"HTTP/1.1 ", CHUNKED, OK[:-1])))
        await asyncio.sleep(LONGEST_SECONDS)

    async def _close(self, rng: random.Random, writer: asyncio.StreamWriter) -> None:
        writer.write(OK[: rng.randrange(len(OK) + 1)])
        if rng.random() < 0.5:  # with a reset
            with suppress(OSError):
                writer.get_extra_info("socket").setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                )
        writer.close()

    async def _wrong(self, rng: random.Random, writer: asyncio.StreamWriter) -> None:
        writer.write(rng.choice(WRONG))
        await writer.drain()
        if rng.random() < 0.5:
            writer.close()

    async def _huge_head(self, rng: random.Random, writer: asyncio.StreamWriter) -> None:
        header = rng.choice((b"X: " + b"a" * 300_000 + b"\r\n", b"X: y\r\n" * 50_000))
        writer.write(b"HTTP/1.1 200 OK\r\n" + header + b"content-length: 0\r\n\r\n")
        await writer.drain()

    async def _extra(self, rng: random.Random, writer: asyncio.StreamWriter) -> None:
        """A whole answer, and a moment later one to no request."""
        writer.write(OK)
        await asyncio.sleep(rng.choice((0.0, 0.05)))
        writer.write(rng.choice((OK, b"\r\n", b"HTTP/1.1 408 Late\r\n\r\n")))
        await writer.drain()

    async def _garbage(self, rng: random.Random, writer: asyncio.StreamWriter) -> None:
        writer.write(rng.randbytes(rng.choice((10, 100_000))))
        await writer.drain()

    async def _endless_answer(self, rng: random.Random, writer: asyncio.StreamWriter) -> None:
        start, block = rng.choice(ENDLESS)
        async with self._endless:
            writer.write(start)
            for _ in range(MOST_BYTES // len(block)):
                writer.write(block)
                await writer.drain()
        writer.close()
