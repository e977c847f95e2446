"""The HTTP server alone, with apps of a few lines."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from triggers.http import server

GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
LAST = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
SIZED = [(b"content-type", b"text/plain"), (b"content-length", b"5")]


def answering(headers: list[tuple[bytes, bytes]], *pieces: bytes, status: int = 200) -> Any:
    """An app that answers so, whatever it is asked."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": status, "headers": headers})
        for number, piece in enumerate(pieces, start=1):
            await send({"type": "http.response.body", "body": piece, "more_body": number < len(pieces)})

    return app


@asynccontextmanager
async def running(app: Any, keep_alive_seconds: float = 75) -> AsyncIterator[tuple[server.Server, Any]]:
    """A server of this app, swept every tenth of a second, and its address."""
    serves = server.make_server(app, shutdown_timeout=1)
    with server.bind("127.0.0.1", 0) as bound:
        tasks = [
            asyncio.create_task(serves.serve(sockets=[bound])),
            asyncio.create_task(server.sweep(serves, 0.4, keep_alive_seconds)),
        ]
        await serves.has_started.wait()
        try:
            yield serves, bound.getsockname()
        finally:
            serves.should_exit = True
            await tasks[0]
            tasks[1].cancel()


@asynccontextmanager
async def serving(app: Any) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to a server of this app."""
    async with running(app) as (_, address):
        reader, writer = await asyncio.open_connection(*address)
        try:
            yield reader, writer
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


async def asked(app: Any, request: bytes = GET, silent_seconds: float = 0.2) -> bytes:
    """All that comes back before the connection is closed, or has been silent for so long."""
    answer = b""
    async with serving(app) as (reader, writer):
        writer.write(request)
        with contextlib.suppress(TimeoutError):
            while piece := await asyncio.wait_for(reader.read(65536), silent_seconds):
                answer += piece
    return answer


async def give_back(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the body that it was sent, once that is whole."""
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body, more = body + message["body"], message["more_body"]
    length = b"%d" % len(body)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
    await send({"type": "http.response.body", "body": body})
