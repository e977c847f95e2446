"""The server alone, with apps of a few lines: what it writes, in how many pieces, and what it refuses to."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
import structlog

from harness import eventually
from serving import GET, SIZED, answering, asked, give_back, running, serving
from triggers.http import deadlines
from triggers.http.connection import CallerConnection
from triggers.http.deadlines import CallerDeadlines


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What is handed to the transport of the next connection, piece by piece."""
    pieces: list[bytes] = []
    made = CallerConnection.connection_made

    class Seen:
        def __init__(self, transport: asyncio.Transport) -> None:
            self._transport = transport

        def __getattr__(self, name: str) -> Any:
            return getattr(self._transport, name)

        def write(self, data: bytes) -> None:
            pieces.append(data)
            self._transport.write(data)

    monkeypatch.setattr(
        CallerConnection, "connection_made", lambda self, transport: made(self, Seen(transport))
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


@pytest.mark.parametrize(
    ("end", "then"),
    [
        (lambda connection: connection.shutdown(), b""),
        (lambda connection: connection.data_received(b"no request\r\n\r\n"), b"HTTP/1.1 400 Bad Request"),
    ],
    ids=["stopped", "malformed"],
)
async def test_an_answer_is_out_before_what_ends_its_connection(end: Any, then: bytes) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answering(SIZED, b"12345")(scope, receive, send)
        end(next(iter(serves.server_state.connections)))

    async with running(app) as (serves, address):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(GET)
        head, _, rest = (await asyncio.wait_for(reader.read(), 5)).partition(b"\r\n\r\n")
        writer.close()
    assert head.startswith(b"HTTP/1.1 200 OK")
    assert rest.startswith(b"12345" + then)
    assert bool(rest[5:]) is bool(then)


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
async def test_no_header_can_make_another(header: tuple[bytes, bytes]) -> None:
    with structlog.testing.capture_logs() as lines:
        answer = await asked(answering([*SIZED, header], b"12345"))
    assert b"set-cookie" not in answer
    assert b"12345" not in answer
    assert "Invalid HTTP header" in str(lines)


@pytest.mark.parametrize("length", [b"4", b"6"])
@pytest.mark.parametrize("pieces", [[b"12345"], [b"123", b"45"]], ids=["one piece", "two pieces"])
async def test_a_body_of_another_length_is_not_sent(length: bytes, pieces: list[bytes]) -> None:
    with structlog.testing.capture_logs() as lines:
        async with serving(answering([(b"content-length", length)], *pieces)) as (reader, writer):
            writer.write(GET)
            answer = await asyncio.wait_for(reader.read(), 5)  # to its end, so the caller can tell
    if len(pieces) == 1:
        assert answer.startswith(b"HTTP/1.1 500 ")
        assert b"\r\nconnection: close\r\n" in answer
    else:
        assert answer.endswith(b"\r\n\r\n123")
    assert f"Response content {'longer' if length == b'4' else 'shorter'} than Content-Length" in str(lines)


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


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answers with all that it was asked."""
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message["body"], message["more_body"]
    seen = [
        scope["method"],
        scope["path"],
        scope["query_string"],
        sorted(scope["headers"]),
        scope.get("seen"),
        body,
    ]
    scope["seen"] = scope["path"] = True
    answer = repr(seen).encode()
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(answer))]}
    )
    await send({"type": "http.response.body", "body": answer})


async def exchanged(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *pieces: bytes, answers: int
) -> list[bytes]:
    """All that is sent back until the requests in these pieces are answered."""
    for piece in pieces:
        writer.write(piece)
        await asyncio.sleep(0.01 if len(pieces) > 1 else 0)
    found = []
    while answers:
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        if head.startswith(b"HTTP/1.1 100"):
            found.append(head)
            continue
        length = int(head.partition(b"content-length: ")[2].split(b"\r\n")[0])
        found.append(await asyncio.wait_for(reader.readexactly(length), 5))
        answers -= 1
    return found


def post(body: bytes, *more: str, key: str = "a", path: str = "/") -> bytes:
    lines = [
        f"POST {path} HTTP/1.1",
        "host: x",
        f"authorization: {key}",
        f"content-length: {len(body)}",
        *more,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def test_a_request_is_read_alike_whatever_came_before_it_on_its_connection() -> None:
    again = [post(b"{}"), post(b"[1, 2, 3]"), post(b""), post(b"x" * 70_000)]
    sent: list[tuple[bytes, ...]] = [
        (again[0],),
        *((each,) for each in again),
        (post(b"{}", key="b"),),
        (GET,),
        (post(b"{}", key="b"),),
        (post(b"{}", "expect: 100-continue", key="b"),),
        (post(b"{}", "expect: 100-continue", key="b"),),
        (post(b"{}", key="b"),),
        (post(b"{}", "upgrade: h2c", "connection: upgrade"),),
        (post(b"{}", "upgrade: h2c", "connection: upgrade"),),
        (again[0][:30], again[0][30:]),
        (again[0][:-1], again[0][-1:]),
        (again[0] + again[1],),
        (b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",),
        (again[1], again[0], again[1] + again[1]),
    ]
    counts = [b"".join(pieces).count(b"HTTP/1.1") for pieces in sent]
    alone = []
    for pieces, count in zip(sent, counts, strict=True):
        async with serving(echo) as connection:
            alone.append(await exchanged(*connection, *pieces, answers=count))
    async with serving(echo) as connection:
        together = [
            await exchanged(*connection, *pieces, answers=count)
            for pieces, count in zip(sent, counts, strict=True)
        ]
    assert together == alone


async def test_requests_of_one_connection_wait_their_turn() -> None:
    under_way, most = 0, 0

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.05)
        under_way -= 1
        await echo(scope, receive, send)

    bodies = [b"first", b"second", b"third"]
    async with serving(slow) as connection:
        answers = await exchanged(*connection, *map(post, bodies), answers=3)
        answers += await exchanged(*connection, *map(post, bodies), answers=3)
    assert [body for answer in answers for body in bodies if repr(body).encode() in answer] == bodies * 2
    assert most == 1


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


async def test_an_idle_connection_is_closed_in_the_end() -> None:
    async with running(answering(SIZED, b"12345"), keep_alive_seconds=0.5) as (_, address):
        reader, writer = await asyncio.open_connection(*address)
        for _ in range(3):
            writer.write(GET)
            await asyncio.wait_for(reader.readuntil(b"12345"), 5)
            await asyncio.sleep(0.3)  # less than that: it stays open
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()


MORE_THAN_THE_KERNEL_HOLDS = 32 * 1024 * 1024
"""Bytes that cannot leave the server before somebody reads them."""


@pytest.mark.parametrize(
    ("request_", "size"),
    [
        (GET, MORE_THAN_THE_KERNEL_HOLDS),
        (GET * 2, MORE_THAN_THE_KERNEL_HOLDS),
        (GET.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"), MORE_THAN_THE_KERNEL_HOLDS),
        (GET * 1_000, MORE_THAN_THE_KERNEL_HOLDS // 1_000),
    ],
    ids=["idle", "asks for more", "to be closed", "many small ones"],
)
async def test_an_answer_that_nobody_reads_is_let_go(request_: bytes, size: int) -> None:
    app = answering([(b"content-length", b"%d" % size)], b"x" * size)
    async with running(app) as (serves, address):
        with socket.create_connection(address) as caller:
            caller.sendall(request_)
            await eventually(lambda: serves.server_state.total_requests)
            await eventually(lambda: not serves.server_state.connections)
            await eventually(lambda: not serves.server_state.tasks)


async def test_the_little_rest_of_a_closed_connection_is_let_go_too() -> None:
    """Less waits than the transport says anything of."""
    async with running(answering(SIZED, b"12345")) as (serves, address):
        with socket.socket() as caller:
            caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            caller.connect(address)
            caller.sendall(GET)
            connection: Any = await eventually(lambda: next(iter(serves.server_state.connections), None))
            await eventually(lambda: connection.deadlines.is_idle)
            transport = connection.transport
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            transport.write(b"x" * 60_000)
            await eventually(lambda: 0 < transport.get_write_buffer_size() < 60_000)
            assert not connection.deadlines.is_unread
            connection.close()
            await eventually(lambda: not serves.server_state.connections)


async def test_who_reads_gets_all_of_it() -> None:
    size = MORE_THAN_THE_KERNEL_HOLDS
    async with serving(answering([(b"content-length", b"%d" % size)], b"x" * size)) as (reader, writer):
        for _ in range(2):
            writer.write(GET)
            await reader.readuntil(b"\r\n\r\n")
            assert len(await reader.readexactly(size)) == size


# seconds since 8,000,000 bytes began to wait -> how many are left, and whether 10 s are up for their reader
READERS = {
    "takes none": [(5, 8_000_000, False), (10, 8_000_000, False), (11, 8_000_000, True)],
    "takes next to none": [(5, 7_900_000, False), (11, 7_850_000, True)],
    "is slow": [(9, 7_000_000, False), (18, 6_000_000, False), (27, 5_000_000, False), (30, 0, False)],
    "stops": [(9, 7_000_000, False), (18, 7_000_000, False), (20, 7_000_000, True)],
}


@pytest.mark.parametrize("reader", READERS)
def test_how_long_a_reader_may_take(reader: str) -> None:
    deadlines = CallerDeadlines(0.0)
    assert not deadlines.is_reader_late(0.0, 10, 8_000_000, is_closing=False)
    deadlines.answer_waits(0.0, 8_000_000)
    for now, left, given_up in READERS[reader]:
        assert deadlines.is_reader_late(now, 10, left, is_closing=False) == given_up, now


OFFER = (
    b"POST / HTTP/1.1\r\nhost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
    b"HTTP2-Settings: AA\r\ncontent-length: 9\r\n\r\nu upgrade"
)


@pytest.mark.parametrize("cut", range(OFFER.index(b"Upgrade: h2c") - 3, OFFER.index(b"Upgrade: h2c") + 12))
async def test_an_offer_of_another_protocol_may_come_in_pieces(cut: int) -> None:
    async with serving(give_back) as (reader, writer):
        for piece in (OFFER[:cut], OFFER[cut:-4], OFFER[-4:]):
            writer.write(piece)
            await asyncio.sleep(0.02)
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        assert head.startswith(b"HTTP/1.1 200")
        assert await asyncio.wait_for(reader.readexactly(9), 5) == b"u upgrade"


async def test_a_body_that_ends_like_an_offer_begins_is_not_waited_for() -> None:
    post = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\n{}\nu"
    assert (await asked(give_back, post)).endswith(b"\r\n\r\n{}\nu")


async def test_each_of_several_may_offer_another_protocol() -> None:
    assert (await asked(give_back, OFFER * 3)).count(b"\r\n\r\nu upgrade") == 3


@pytest.mark.parametrize("number", [1, 2])
async def test_what_cannot_be_read_does_not_take_the_answer_of_what_came_before(number: int) -> None:
    async with serving(answering(SIZED, b"12345")) as (reader, writer):
        writer.write(GET * number + b"GARBAGE\r\n\r\n" + GET)
        answer = await asyncio.wait_for(reader.read(), 5)
    assert answer.count(b"HTTP/1.1 200 OK") == answer.count(b"\r\n\r\n12345") == number
    assert answer.count(b"connection: close") == 1


@pytest.mark.parametrize("closes", [b"connection: close\r\n", b""])
async def test_who_is_still_sending_reads_the_answer(closes: bytes) -> None:
    body = b"x" * 20_000_000
    head = b"POST / HTTP/1.1\r\nhost: x\r\n%bcontent-length: %d\r\n\r\n" % (closes, len(body))
    if not closes:
        head = b"nonsense\r\n" + head
    async with running(answering(SIZED, b"12345", status=413)) as (_, address):
        answers = await asyncio.to_thread(sends_all_then_reads, address, head + body)
    assert answers.startswith(b"HTTP/1.1 413" if closes else b"HTTP/1.1 400")


def sends_all_then_reads(address: Any, data: bytes) -> bytes:
    """As simple clients do."""
    with socket.create_connection(address, timeout=10) as connection:
        connection.sendall(data)
        return connection.makefile("rb").read()


async def test_a_caller_who_does_not_leave_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadlines, "LINGER_SECONDS", 0.2)
    async with running(answering(SIZED, b"12345")) as (serves, address):
        _, writer = await asyncio.open_connection(*address)
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 9\r\n\r\nx")
        await eventually(lambda: serves.server_state.total_requests == 1)
        await eventually(lambda: not serves.server_state.connections)
        writer.close()


async def test_who_is_cut_off_by_a_stop_is_told_so() -> None:
    async def never(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.Event().wait()

    async with running(never) as (serves, address):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(GET)
        await eventually(lambda: serves.server_state.tasks)
        serves.should_exit = True
        answer = await asyncio.wait_for(reader.read(), 10)
        writer.close()
    assert answer.startswith(b"HTTP/1.1 503")
    assert b"content-type: application/problem+json" in answer
    assert b"x-request-id: " in answer
