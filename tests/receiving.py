"""An endpoint on this machine that remembers every request, and answers as it is told."""

from __future__ import annotations

import asyncio
import inspect
import ssl
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self, TypeAlias

OK = b"HTTP/1.1 204 No Content\r\n\r\n"


def status(code: int, *headers: str) -> bytes:
    """An answer without a body."""
    return "\r\n".join([f"HTTP/1.1 {code} X", "content-length: 0", *headers, "", ""]).encode()


FAILED = status(500)


class Hook:
    """One request, whole. Names of headers are in lower case."""

    __slots__ = ("answered_at", "at", "body", "headers", "number", "path", "writer")

    def __init__(self, path: str, headers: dict[str, str], body: bytes, number: int) -> None:
        self.path = path
        self.headers = headers
        self.body = body
        self.number = number
        """How many requests there were before it."""
        self.at = time.monotonic()
        self.answered_at: float | None = None
        self.writer: asyncio.Transport

    @property
    def id(self) -> str:
        """The event's."""
        return self.headers["webhook-id"]


Answer: TypeAlias = Callable[[Hook], "bytes | Awaitable[bytes | None] | None"]
"""Gives the bytes of the answer; None, when it is written already or never will be."""


class Receiver:
    """Listens while the block lasts. `answer` may be changed at any time."""

    def __init__(self, answer: Answer | None = None, *, host: str = "127.0.0.1") -> None:
        self.answer: Answer = answer or (lambda _: OK)
        self.hooks: list[Hook] = []
        self.in_flight = 0
        self.most_in_flight = 0
        self.host = host
        self.port = 0
        self._connections: set[_Connection] = set()
        self._tasks: set[asyncio.Future[bytes | None]] = set()
        self._server: asyncio.Server | None = None
        self.closed = False
        self.tls: ssl.SSLContext | None = None

    @property
    def url(self) -> str:
        return f"http{'s' if self.tls else ''}://{self.host}:{self.port}/hook"

    @property
    def ids(self) -> list[str]:
        """The events of all requests, in the order they came."""
        return [hook.id for hook in self.hooks]

    def counts(self) -> Counter[str]:
        """How often each event came."""
        return Counter(self.ids)

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _Connection(self), self.host, self.port, ssl=self.tls, backlog=2048
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Listen no more, and drop every connection, those too that are just being made."""
        self.closed = True
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.transport.abort()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)  # what was aborted is closed in the next turn of the loop


class _Connection(asyncio.Protocol):
    """HTTP/1.1 just far enough: a head, a content-length, a body."""

    transport: asyncio.Transport

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        if self._receiver.closed:
            transport.abort()
        else:
            self._receiver._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._receiver._connections.discard(self)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            first, *lines = self._buffer[:end].decode("latin-1").split("\r\n")
            headers = {n.lower(): v.strip() for n, _, v in (line.partition(":") for line in lines)}
            whole = end + 4 + int(headers.get("content-length", 0))
            if len(self._buffer) < whole:
                return
            body, self._buffer = self._buffer[end + 4 : whole], self._buffer[whole:]
            receiver = self._receiver
            hook = Hook(first.split(" ")[1], headers, body, len(receiver.hooks))
            hook.writer = self.transport
            receiver.hooks.append(hook)
            self._answer(hook)

    def _answer(self, hook: Hook) -> None:
        receiver = self._receiver
        receiver.in_flight += 1
        receiver.most_in_flight = max(receiver.most_in_flight, receiver.in_flight)
        answer = receiver.answer(hook)
        if inspect.isawaitable(answer):
            task = asyncio.ensure_future(answer)
            receiver._tasks.add(task)
            task.add_done_callback(lambda done: self._answered(hook, done))
        else:
            self._write(hook, answer)

    def _answered(self, hook: Hook, done: asyncio.Future[bytes | None]) -> None:
        self._receiver._tasks.discard(done)
        self._write(hook, None if done.cancelled() else done.result())

    def _write(self, hook: Hook, answer: bytes | None) -> None:
        self._receiver.in_flight -= 1
        hook.answered_at = time.monotonic()
        if answer is not None and not self.transport.is_closing():
            self.transport.write(answer)
