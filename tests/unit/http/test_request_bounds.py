"""What a caller may send beside the bodies of its requests, and how far ahead it is read."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import pytest

from harness import eventually
from serving import GET, LAST, SIZED, answering, asked, give_back, running, serving
from triggers.http.pipeline import MAX_AHEAD
from triggers.http.request_pieces import MAX_FRAMING_BYTES, MAX_HEAD_BYTES

CHUNKED = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
ENDLESS = {
    "a trailer without end": (CHUNKED + b"2\r\nok\r\n0\r\nx: ", b"a" * 10_000),
    "trailers without end": (CHUNKED + b"2\r\nok\r\n0\r\n", b"x: y\r\n" * 2_000),
    "an extension without end": (CHUNKED + b"2;x=", b"a" * 10_000),
    "extensions without end": (CHUNKED, b"1;" + b"x" * 1_000 + b"\r\na\r\n"),
    "trailers behind much data": (
        CHUNKED + b"ea60\r\n" + b"x" * 60_000 + b"\r\n0\r\n",
        b"x: y\r\n" * 2_000,
    ),
    "trailers of a body without data": (CHUNKED + b"0\r\n", b"x: y\r\n" * 2_000),
    "a header without end": (b"GET / HTTP/1.1\r\nx: ", b"a" * 10_000),
    "headers without end": (b"GET / HTTP/1.1\r\n", b"x: y\r\n" * 2_000),
    "a path without end": (b"GET /", b"a" * 10_000),
    "empty lines without end": (b"", b"\r\n" * 5_000),
    "a second head without end": (GET + b"GET / HTTP/1.1\r\nx: ", b"a" * 10_000),
}


@pytest.mark.parametrize("name", ENDLESS)
async def test_what_has_no_end_is_refused(name: str) -> None:
    begin, again = ENDLESS[name]
    async with running(give_back) as (serves, address):
        reader, writer = await asyncio.open_connection(*address)
        answer = asyncio.ensure_future(reader.read())
        connection: Any = await eventually(lambda: next(iter(serves.server_state.connections), None))
        connection.data_received(begin)
        sent = 0
        while not connection.reader.is_closed:
            assert sent < 400_000, "it is bounded by bytes, and not by time"
            if not connection.flow.read_paused:
                connection.data_received(again)
                sent += len(again)
            await asyncio.sleep(0)
        parser, connection.reader._parser = connection.reader._parser, None  # nothing may be parsed any more
        connection.data_received(again)
        connection.reader._parser = parser
        text = await asyncio.wait_for(answer, 5)
        writer.close()
    assert text.count(b"HTTP/1.1 400 ") == 1
    assert text.count(b"HTTP/1.1 200 ") == name.startswith("a second")
    assert b"connection: close\r\n" in text


def head_of(size: int) -> bytes:
    begin, end = b"GET / HTTP/1.1\r\nhost: x\r\nx: ", b"\r\n\r\n"
    return begin + b"a" * (size - len(begin) - len(end)) + end


@pytest.mark.parametrize(
    "before", [b"", GET, CHUNKED + b"2\r\nok\r\n0\r\n\r\n", CHUNKED + b"0\r\nx: y\r\n\r\n"]
)
@pytest.mark.parametrize("size", [MAX_HEAD_BYTES, MAX_HEAD_BYTES + 1, 150_000])
@pytest.mark.parametrize("cut", [1_000_000, 1_000, 65_530, 2])
async def test_a_head_is_bounded_however_it_comes(before: bytes, size: int, cut: int) -> None:
    text = before + head_of(size)
    async with running(give_back) as (serves, address):
        reader, writer = await asyncio.open_connection(*address)
        connection: Any = await eventually(lambda: next(iter(serves.server_state.connections), None))
        for begin in range(0, len(text), cut):
            connection.data_received(text[begin : begin + cut])
        await eventually(lambda: connection.deadlines.is_idle or connection.deadlines.has_hung_up)
        answer = b""
        while answer.count(b"\r\n\r\n") < 1 + bool(before):
            answer += await asyncio.wait_for(reader.read(100_000), 5)
        writer.close()
    fits = size <= MAX_HEAD_BYTES
    assert answer.count(b"HTTP/1.1 200") == bool(before) + fits
    assert answer.count(b"HTTP/1.1 400") == (not fits)


async def test_chunks_of_one_byte_are_no_attack() -> None:
    body = b"x" * 100_000
    last = GET.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")
    answer = await asked(give_back, CHUNKED + b"1\r\nx\r\n" * len(body) + b"0\r\n\r\n" + last, 30)
    assert answer.count(b"HTTP/1.1 200") == 2
    assert body in answer
    padded = CHUNKED + b"00001\r\nx\r\n" * 20_000 + b"0\r\n\r\n"
    answer = await asked(give_back, padded + last, 30)
    assert b"\r\n\r\n" + b"x" * 20_000 in answer


async def test_what_follows_a_request_that_closes_does_not_take_its_answer() -> None:
    answer = await asked(give_back, LAST + GET + b"GARBAGE", silent_seconds=20)
    assert answer.count(b"HTTP/1.1 200") == 1
    assert b"\r\nconnection: close\r\n" in answer


async def test_trailers_are_no_headers() -> None:
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await give_back(scope, receive, send)
        seen.append(scope["headers"])

    trailers = b"authorization: Bearer victim\r\nX-API-Key: victim\r\nexpect: 100-continue\r\n"
    answer = await asked(app, CHUNKED + b"2\r\nok\r\n0\r\n" + trailers + b"\r\n" + GET)
    assert answer.count(b"HTTP/1.1 200") == 2
    assert seen == [[(b"host", b"x"), (b"transfer-encoding", b"chunked")], [(b"host", b"x")]]


async def test_few_requests_are_parsed_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, goes_on = 0, asyncio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        nonlocal begun
        begun += 1
        await goes_on.wait()
        await give_back(scope, receive, send)

    number = 3_000
    whole = CHUNKED + b"1\r\nx\r\n0\r\n\r\n"  # as what follows a chunked body is counted too
    async with running(slow) as (serves, address):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(whole + GET * number)
        connection: Any = await eventually(lambda: next(iter(serves.server_state.connections), None))
        await eventually(lambda: connection.reader.is_waiting)
        assert (begun, len(connection.pipeline)) == (1, MAX_AHEAD)
        goes_on.set()
        answers = b""
        while answers.count(b"HTTP/1.1 200") <= number:
            assert len(connection.pipeline) <= MAX_AHEAD
            answers += await asyncio.wait_for(reader.read(65_536), 5)
        writer.close()
    assert begun == 1 + number


def parsed_ahead(serves: Any) -> list[weakref.ref[Any]]:
    """The connection that has more than it parses, and the requests that wait on it."""
    for connection in serves.server_state.connections:
        if connection.reader.is_waiting:
            return [weakref.ref(connection), *(weakref.ref(cycle) for cycle in connection.pipeline._waiting)]
    return []


async def test_what_was_parsed_ahead_goes_with_its_connection() -> None:
    async def never(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    gc.collect()
    gc.disable()  # as what is left to it stays for long where requests are many
    try:
        async with running(never) as (serves, address):
            _, writer = await asyncio.open_connection(*address)
            writer.write(GET * 3_000)
            left = await eventually(lambda: parsed_ahead(serves))
            assert len(left) == 1 + MAX_AHEAD
            writer.transport.abort()
            await eventually(lambda: not serves.server_state.connections)
            await eventually(lambda: not serves.server_state.tasks)
            await eventually(lambda: not any(reference() for reference in left))
    finally:
        gc.enable()


OFFER = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n"


@pytest.mark.parametrize(
    "offer",
    [OFFER, b"connection: upgrade\r\nUPGRADE: websocket\r\n", OFFER + b"Upgrade: websocket, TLS/1.2\r\n"],
    ids=["h2c", "websocket", "several"],
)
@pytest.mark.parametrize("place", [0, 1, 2])
async def test_an_offer_of_another_protocol_changes_nothing(offer: bytes, place: int) -> None:
    requests = [
        (b"content-length: 9\r\n", b"u upgrade", b"u upgrade"),
        (b"transfer-encoding: chunked\r\n", b"upgrade: x", b"a\r\nupgrade: x\r\n0\r\nx: y\r\n\r\n"),
        (b"", b"", b""),
        (b"content-length: 0\r\n", b"", b""),
    ]
    for framing, body, sent in requests:
        pipelined = [b"POST / HTTP/1.1\r\nhost: x\r\n%b%b\r\n%b"] * 3
        text = b"".join(
            each % (offer if number == place else b"", framing, sent) for number, each in enumerate(pipelined)
        )
        answer = await asked(give_back, text)
        assert answer.count(b"HTTP/1.1 200") == 3
        assert answer.count(b"\r\n\r\n" + body) == 3


@pytest.mark.parametrize("framing", [b"", b"content-length: 3\r\n"])
async def test_a_caller_that_wants_a_tunnel_is_answered(framing: bytes) -> None:
    """What follows would be the other protocol's, and is a body or a request here."""
    connect = b"CONNECT example.com:443 HTTP/1.1\r\nhost: example.com:443\r\n%b\r\n" % framing
    answer = await asked(give_back, connect + (b"abc" if framing else b"") + GET)
    assert answer.count(b"HTTP/1.1 200") == 2
    assert answer.count(b"abc") == bool(framing)


BROKEN = {
    "head": b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
    "line": b"GARBAGE\r\n\r\n",
    "chunk": CHUNKED + b"2\r\nokay\r\n0\r\n\r\n",
    "letter": b"\nu",
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("before", [0, 1, 3])
async def test_what_is_broken_is_answered_in_its_turn(name: str, before: int) -> None:
    async def slow(scope: Any, receive: Any, send: Any) -> None:
        for _ in range(5):
            await asyncio.sleep(0)
        await give_back(scope, receive, send)

    answer = await asked(slow, GET * before + BROKEN[name])
    statuses = [line.split()[1] for line in answer.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]
    assert statuses == [b"200"] * before + [b"400"]


@pytest.mark.parametrize(
    ("framing", "goes_on"),
    [
        (b"transfer-encoding: chunked", False),
        (b"content-length: 10000000", False),
        (b"content-length: 9", True),
    ],
)
async def test_the_rest_of_a_refused_request_is_not_read_for_long(framing: bytes, goes_on: bool) -> None:
    async with serving(answering(SIZED, b"12345", status=401)) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\n%b\r\n\r\n" % framing)
        head = await asyncio.wait_for(reader.readuntil(b"12345"), 5)
        assert head.startswith(b"HTTP/1.1 401")
        assert (b"connection: close" in head) is not goes_on
        if goes_on:
            writer.write(b"123456789" + GET)
            assert (await asyncio.wait_for(reader.readuntil(b"12345"), 5)).startswith(b"HTTP/1.1 401")
        else:
            assert await asyncio.wait_for(reader.read(), 5) == b""


async def test_a_caller_that_was_not_told_to_send_its_body_need_not() -> None:
    async with serving(answering(SIZED, b"12345", status=401)) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 9\r\n\r\n")
        answer = await asyncio.wait_for(reader.read(), 5)
    assert answer.startswith(b"HTTP/1.1 401")
    assert b"connection: close" in answer


def test_the_bound_on_framing_is_what_is_said() -> None:
    assert MAX_FRAMING_BYTES == MAX_HEAD_BYTES == 65_536


@pytest.mark.parametrize("pieces", [[b"12345"], [b"123", b"45"]])
async def test_nothing_is_answered_once_the_connection_was_hung_up(
    pieces: list[bytes], logs: list[Any]
) -> None:
    """However it came to that: what an app still sends then is dropped, and is no bug of it."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        connection: Any = next(iter(serves.server_state.connections))
        connection.hang_up()
        await answering(SIZED, *pieces)(scope, receive, send)
        done.set()

    done = asyncio.Event()
    async with running(app) as (serves, address):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(GET + GET)
        assert await asyncio.wait_for(reader.read(), 5) == b""
        await asyncio.wait_for(done.wait(), 5)
        writer.close()
    assert [line for line in logs if line["event"] == "unhandled_error"] == []
