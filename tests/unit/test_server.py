"""The server alone, with apps of a few lines: what it writes, in how many pieces, and what it refuses to."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from triggers.api import server

GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
SIZED = [(b"content-type", b"text/plain"), (b"content-length", b"5")]


def answering(headers: list[tuple[bytes, bytes]], *pieces: bytes, status: int = 200) -> Any:
    """An app that answers so, whatever it is asked."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": status, "headers": headers})
        for number, piece in enumerate(pieces, start=1):
            await send({"type": "http.response.body", "body": piece, "more_body": number < len(pieces)})

    return app


@asynccontextmanager
async def serving(app: Any) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to a server of this app, swept every tenth of a second."""
    serves = server.make_server(app, shutdown_timeout=1)
    with server.bind("127.0.0.1", 0) as bound:
        tasks = [
            asyncio.create_task(serves.serve(sockets=[bound])),
            asyncio.create_task(server.sweep(serves, 0.4)),
        ]
        await serves.has_started.wait()
        reader, writer = await asyncio.open_connection(*bound.getsockname())
        try:
            yield reader, writer
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
            serves.should_exit = True
            await tasks[0]
            tasks[1].cancel()


async def asked(app: Any, request: bytes = GET) -> bytes:
    """All that comes back before the connection has been silent, or closed, for a while."""
    answer = b""
    async with serving(app) as (reader, writer):
        writer.write(request)
        with contextlib.suppress(TimeoutError):
            while piece := await asyncio.wait_for(reader.read(65536), 0.2):
                answer += piece
    return answer


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What is handed to the transport of the next connection, piece by piece."""
    pieces: list[bytes] = []
    made = server.Protocol.connection_made

    class Seen:
        def __init__(self, transport: asyncio.Transport) -> None:
            self._transport = transport

        def __getattr__(self, name: str) -> Any:
            return getattr(self._transport, name)

        def write(self, data: bytes) -> None:
            pieces.append(data)
            self._transport.write(data)

    monkeypatch.setattr(
        server.Protocol, "connection_made", lambda self, transport: made(self, Seen(transport))
    )  # type: ignore[arg-type]
    return pieces


async def test_an_answer_in_one_piece_is_one_write(writes: list[bytes]) -> None:
    answer = await asked(answering(SIZED, b"12345", status=201))
    assert answer.startswith(b"HTTP/1.1 201 Created\r\ndate: ")
    assert answer.endswith(b"\r\ncontent-type: text/plain\r\ncontent-length: 5\r\n\r\n12345")
    assert writes == [answer]


async def test_several_on_one_connection(writes: list[bytes]) -> None:
    pipelined = await asked(answering(SIZED, b"12345"), GET * 3)
    assert pipelined.count(b"HTTP/1.1 200 OK") == pipelined.count(b"\r\n\r\n12345") == len(writes) == 3


async def test_what_comes_in_pieces_is_chunked() -> None:
    answer = await asked(answering([], b"12345", b"678"))
    assert answer.endswith(b"transfer-encoding: chunked\r\n\r\n5\r\n12345\r\n3\r\n678\r\n0\r\n\r\n")


async def test_pieces_of_a_known_length() -> None:
    assert (await asked(answering([(b"content-length", b"8")], b"12345", b"678"))).endswith(
        b"\r\n\r\n12345678"
    )


async def test_no_body_where_none_may_be() -> None:
    assert (await asked(answering(SIZED, b"12345"), GET.replace(b"GET", b"HEAD"))).endswith(
        b"length: 5\r\n\r\n"
    )
    assert (await asked(answering([], b"", status=204))).endswith(b"\r\n\r\n")


@pytest.mark.parametrize("said_by", ["the caller", "an old caller", "the app"])
async def test_a_connection_that_is_to_close_is_closed(said_by: str) -> None:
    headers, request = SIZED, GET
    match said_by:
        case "the caller":
            request = GET.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")
        case "an old caller":
            request = GET.replace(b"1.1", b"1.0")
        case "the app":
            headers = [*SIZED, (b"connection", b"close")]
    async with serving(answering(headers, b"12345")) as (reader, writer):
        writer.write(request)
        answer = await asyncio.wait_for(reader.read(), 5)
    assert b"connection: close\r\n" in answer
    assert answer.endswith(b"12345")


@pytest.mark.parametrize(
    "header",
    [(b"x-split", b"a\r\nset-cookie: b"), (b"x split", b"a"), (b"x\r\ny", b"a"), (b"x-nul", b"\0")],
    ids=["value", "name", "name of two lines", "nul"],
)
async def test_no_header_can_make_another(
    header: tuple[bytes, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    answer = await asked(answering([*SIZED, header], b"12345"))
    assert b"set-cookie" not in answer
    assert b"12345" not in answer
    assert "Invalid HTTP header" in caplog.text


@pytest.mark.parametrize("length", [b"4", b"6"])
async def test_a_body_of_another_length_ends_the_connection(
    length: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(answering([(b"content-length", length)], b"12345")) as (reader, writer):
        writer.write(GET)
        answer = await asyncio.wait_for(reader.read(), 5)  # to its end, so the caller can tell
    assert len(answer.partition(b"\r\n\r\n")[2]) < int(length)
    assert f"Response content {'longer' if length == b'4' else 'shorter'} than Content-Length" in caplog.text


async def test_an_app_need_not_send_headers() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"12345"})

    assert (await asked(app)).endswith(b"transfer-encoding: chunked\r\n\r\n5\r\n12345\r\n0\r\n\r\n")


async def test_an_app_that_breaks_before_its_body_is_a_500() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": SIZED})
        raise ValueError

    assert (await asked(app)).startswith(b"HTTP/1.1 500 Internal Server Error\r\n")


async def test_paths_are_read_as_they_are_meant() -> None:
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append((scope["method"], scope["path"], scope["raw_path"], scope["query_string"]))
        await answering(SIZED, b"12345")(scope, receive, send)

    await asked(
        app, GET.replace(b" / ", b" /a%2Fb%20c?q=%41 ") + GET.replace(b"GET / ", b"PUT http://h/p?x ")
    )
    assert seen == [("GET", "/a/b c", b"/a%2Fb%20c", b"q=%41"), ("PUT", "/p", b"/p", b"x")]


async def test_who_asks_first_whether_to_send_is_told() -> None:
    bodies = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        more = True
        while more:
            message = await receive()
            bodies.append(message["body"])
            more = message["more_body"]
        await answering(SIZED, b"12345")(scope, receive, send)

    async with serving(app) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n")
        assert await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5) == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"body")
        assert (await asyncio.wait_for(reader.readuntil(b"12345"), 5)).startswith(b"HTTP/1.1 200 OK")
    assert b"".join(bodies) == b"body"


async def test_an_idle_connection_is_closed_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "KEEP_ALIVE_SECONDS", 0.5)
    async with serving(answering(SIZED, b"12345")) as (reader, writer):
        for _ in range(3):
            writer.write(GET)
            await asyncio.wait_for(reader.readuntil(b"12345"), 5)
            await asyncio.sleep(0.3)  # less than that: it stays open
        assert await asyncio.wait_for(reader.read(), 5) == b""
