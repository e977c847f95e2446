"""Reads Server-Sent Events from a raw socket, byte by byte as they come."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpx

from harness import Tenant, eventually


class Seen(NamedTuple):
    """One block of a stream. A comment has the name `:`, and an unnamed event `message`."""

    name: str
    data: Any
    id: str | None


class OpenStream:
    """The caller's side of one stream. What comes is read in the background."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        """The body as it came, with its chunk framing."""
        self.seen: list[Seen] = []
        """The blocks that came, apart from the opening."""
        self.opening = b""
        self.ended = False
        self.whole = False
        """Whether the answer was ended properly before the connection was closed."""
        self.task: asyncio.Task[None]

    @property
    def frames(self) -> list[Seen]:
        """The blocks that are no comments."""
        return [each for each in self.seen if each.name != ":"]

    def named(self, name: str) -> list[Any]:
        """The data of the frames with this name."""
        return [each.data for each in self.seen if each.name == name]

    async def until(self, number: int, seconds: float = 15) -> list[Seen]:
        """Wait for so many frames, and return all of them."""
        await eventually(lambda: len(self.frames) >= number or self.ended, seconds)
        assert len(self.frames) >= number, (self.frames, self.ended)
        return self.frames

    async def end(self, seconds: float = 15) -> None:
        """Wait until the service has ended it."""
        await eventually(lambda: self.ended, seconds)

    async def read(self) -> None:
        """Read until the end."""
        loop = asyncio.get_running_loop()
        data, head = b"", b""
        with suppress(ConnectionError):
            while piece := await loop.sock_recv(self.connection, 65536):
                data += piece
                if not head and b"\r\n\r\n" in data:
                    head, _, data = data.partition(b"\r\n\r\n")
                    first, *lines = head.decode().split("\r\n")
                    self.headers = dict(line.split(": ", 1) for line in lines)
                    self.status = int(first.split()[1])
                if head:
                    self.body = data
                    self._parse()
        self.ended = True

    def _parse(self) -> None:
        if self.headers.get("transfer-encoding") != "chunked":
            return
        text, self.whole = _unchunked(self.body)
        self.opening, *blocks = text.split(b"\n\n")[:-1] or [b""]
        if b"data:" in self.opening:  # a gap leaves together with the opening
            blocks.insert(0, self.opening)
        self.seen = [_block(each.decode()) for each in blocks]


def _block(text: str) -> Seen:
    fields: dict[str, str] = {}
    for line in text.split("\n"):
        name, _, value = line.partition(":")
        fields[name] = value.removeprefix(" ")
    if "data" not in fields:
        return Seen(":", None, None)
    return Seen(fields.get("event", "message"), json.loads(fields["data"]), fields.get("id"))


def _unchunked(body: bytes) -> tuple[bytes, bool]:
    """The chunks so far, and whether the last one has come."""
    text = b""
    while b"\r\n" in body:
        size, _, rest = body.partition(b"\r\n")
        number = int(size, 16)
        if not number:
            return text, True
        if len(rest) < number + 2:
            break
        text, body = text + rest[:number], rest[number + 2 :]
    return text, False


@asynccontextmanager
async def streaming(
    url: str,
    path: str,
    tenant: Tenant,
    *,
    headers: dict[str, str] | None = None,
    method: str = "GET",
    receive_bytes: int | None = None,
    reads: bool = True,
) -> AsyncIterator[OpenStream]:
    """Open a stream of a node at `url`, and wait for its status. Unless it `reads`, only that is read.

    `receive_bytes`: what the system may hold of what was not read.
    """
    target = urlsplit(url)
    assert target.hostname is not None
    connection = socket.socket()
    if receive_bytes is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    connection.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(connection, (target.hostname, target.port))
    fields = {"host": "x", **tenant.headers, **(headers or {})}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    await loop.sock_sendall(connection, "\r\n".join(lines).encode())
    stream = OpenStream(connection)
    stream.task = asyncio.create_task(stream.read())
    try:
        await eventually(lambda: stream.status or stream.ended, 15)
        if not reads:
            stream.task.cancel()
            with suppress(asyncio.CancelledError):
                await stream.task
        yield stream
    finally:
        stream.task.cancel()
        with suppress(asyncio.CancelledError):
            await stream.task
        connection.close()


async def beginning(client: httpx.AsyncClient, path: str) -> httpx.Response:
    """The answer to a GET of a stream, of which only the beginning is read if it goes on."""
    async with client.stream("GET", path) as answer:
        if answer.status_code != 200:
            await answer.aread()
            return answer
        async for piece in answer.aiter_raw():
            return httpx.Response(200, headers=answer.headers, content=piece)
    raise AssertionError("the stream has no beginning")
