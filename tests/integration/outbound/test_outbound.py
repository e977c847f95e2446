"""Sending to real listeners on 127.0.0.0/8 that behave as badly as strangers can."""

import asyncio
import contextlib
import dataclasses
import gc
import ipaddress
import json
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest
import trustme
import uvloop

from triggers.errors import SettingsError
from triggers.outbound import client, connector
from triggers.outbound.addresses import OutboundPolicy
from triggers.outbound.client import BYTES_SHOWN, Outbound
from triggers.outbound.connection import BODY_LIMIT, HEAD_LIMIT, EndpointConnection
from triggers.outbound.dial import dial
from triggers.outbound.dns import (
    THREADS_A_PLACE,
    Found,
    LookUps,
    Names,
    Resolver,
    system_resolver,
)
from triggers.outbound.pool import KeptAlive
from triggers.outbound.result import (
    NOT_THE_ENDPOINT,
    Answered,
    Failed,
    Reason,
    Result,
)

ORG = UUID(int=1)
HOME = (ipaddress.ip_network("127.0.0.0/8"),)
OPEN = OutboundPolicy(allow=HOME, allow_http=True, connect_timeout_seconds=2, total_timeout_seconds=5)
HASTY = OutboundPolicy(allow=HOME, allow_http=True, connect_timeout_seconds=1, total_timeout_seconds=1)
HEADERS = [("content-type", "application/json"), ("webhook-id", "1")]
BODY = b'{"a":1}'
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"

# The hook that replaces the fixture below is read from a conftest only, and only these tests need two loops.
pytestmark = pytest.mark.filterwarnings("ignore:Overriding the .event_loop_policy. fixture")

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture(params=["asyncio", "uvloop"])
def event_loop_policy(request: pytest.FixtureRequest) -> asyncio.AbstractEventLoopPolicy:
    """The worker runs on uvloop; what holds there must not hold by its accidents."""
    return uvloop.EventLoopPolicy() if request.param == "uvloop" else asyncio.DefaultEventLoopPolicy()


async def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 — the condition is elsewhere's state, with a deadline
            await asyncio.sleep(0.005)


async def read_request(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(
        (
            int(line.split(b":")[1])
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length:")
        ),
        0,
    )
    return head, await reader.readexactly(length)


class Receiver:
    """A listener that counts its connections and keeps the requests that `answering` read."""

    def __init__(self) -> None:
        self.connections = 0
        self.open = 0
        self.requests: list[tuple[bytes, bytes]] = []
        self.port = 0
        self.tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    def answering(self, *answers: bytes, close: bool = False) -> Handler:
        """Answers each request with the next of `answers`, and with the last one from then on."""

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while True:
                self.requests.append(await read_request(reader))
                writer.write(answers[min(len(self.requests), len(answers)) - 1])
                await writer.drain()
                if close:
                    return

        return handle

    @contextlib.asynccontextmanager
    async def listening(
        self, handler: Handler, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
    ) -> AsyncIterator["Receiver"]:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self.tasks.add(task)
            self.connections += 1
            self.open += 1
            try:
                await handler(reader, writer)
            except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                pass
            finally:
                self.open -= 1
                self.tasks.discard(task)
                writer.transport.abort()

        server = await asyncio.start_server(serve, host, self.port, ssl=tls)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in list(self.tasks):
                task.cancel()
            await until(lambda: not self.tasks)


@contextlib.asynccontextmanager
async def outbound(
    policy: OutboundPolicy = OPEN,
    *,
    resolver: Resolver = system_resolver,
    dns_keep_seconds: float = 5.0,
    **options: object,
) -> AsyncIterator[Outbound]:
    sender = Outbound(policy, look_ups=LookUps(resolver, dns_keep_seconds), **options)  # type: ignore[arg-type]
    try:
        yield sender
    finally:
        await sender.close()


async def send_once(
    url: str, policy: OutboundPolicy = OPEN, headers: object = HEADERS, body: bytes = BODY, **options: object
) -> Result:
    async with outbound(policy, **options) as sender:
        return await sender.send(url, headers, body, org=ORG)  # type: ignore[arg-type]


def names(**addresses: str) -> Callable[[str], tuple[str, ...]]:
    """A resolver that knows `a_test` as a.test."""
    known = {name.replace("_", "."): tuple(found.split()) for name, found in addresses.items()}

    def resolve(host: str) -> tuple[str, ...]:
        if host not in known:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return known[host]

    return resolve


# --- what is sent, what is kept


async def test_the_request_and_its_answer() -> None:
    receiver = Receiver()
    answer = (
        b"HTTP/1.1 503 Busy\r\nRetry-After: 1.5\r\nWebhook-Delivery: abort-message\r\nset-cookie: a=b\r\n"
        b"content-length: 5\r\n\r\nsorry"
    )
    async with receiver.listening(receiver.answering(answer)), outbound() as sender:
        result = await sender.send(f"{receiver.url}?q=1", HEADERS, BODY, org=ORG)
        again = await sender.send(f"{receiver.url}?q=1", dict(HEADERS), BODY, org=ORG)
    assert isinstance(result, Answered)
    assert (result.status, result.text, result.retry_after) == (503, "sorry", "1.5")
    assert result.delivery_control == "abort-message"
    assert result.cut is None
    assert 0 <= result.duration_seconds < 5  # the clock of a loop may count whole milliseconds
    assert isinstance(again, Answered)
    assert receiver.connections == 1
    assert receiver.requests[0] == receiver.requests[1]
    head, body = receiver.requests[0]
    assert head.split(b"\r\n") == [
        b"POST /hook?q=1 HTTP/1.1",
        b"host: 127.0.0.1:%d" % receiver.port,
        b"content-length: 7",
        b"content-type: application/json",
        b"webhook-id: 1",
        b"",
        b"",
    ]
    assert body == BODY


@pytest.mark.parametrize("body", [b"", b"x", b"\x00\xff\r\n\r\n" * 10, b"y" * 262_144])
async def test_the_bytes_delivered_are_the_bytes_given(body: bytes) -> None:
    receiver = Receiver()
    async with receiver.listening(receiver.answering(OK)):
        result = await send_once(receiver.url, body=body)
    assert isinstance(result, Answered)
    assert receiver.requests[0][1] == body


@pytest.mark.parametrize(
    ("answer", "status", "text", "kept_alive"),
    [
        (b"HTTP/1.1 204 No\r\n\r\n", 204, "", True),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nretry-after: 9\r\n\r\n",
            200,
            "ok",
            True,
        ),
        (b"HTTP/1.1 100 Continue\r\nretry-after: 9\r\n\r\nHTTP/1.1 103 Hints\r\n\r\n" + OK, 200, "ok", True),
        (b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok", 200, "ok", False),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", 200, "ok", False),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n\x00\xff\xc3", 200, "\ufffd\ufffd\ufffd", True),
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 4000\r\n\r\n" + b"\xe2\x82\xac" * 1333 + b"x",
            200,
            "€" * 341,
            True,
        ),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2000\r\n\r\n" + b"\xff" * 2000, 200, "\ufffd" * 341, True),
        (OK + OK, 200, "ok", False),
        (OK + b"junk", 200, "ok", False),
    ],
)
async def test_answers(answer: bytes, status: int, text: str, kept_alive: bool) -> None:
    receiver = Receiver()
    async with receiver.listening(receiver.answering(answer)), outbound() as sender:
        for _ in range(2):
            result = await sender.send(receiver.url, HEADERS, BODY, org=ORG)
            assert isinstance(result, Answered)
            assert (result.status, result.text, result.cut, result.retry_after) == (status, text, None, None)
    assert len(result.text.encode()) <= 1024
    assert receiver.connections == (1 if kept_alive else 2)


async def test_a_body_that_ends_with_the_connection_is_whole() -> None:
    receiver = Receiver()
    async with receiver.listening(receiver.answering(b"HTTP/1.1 201 Made\r\n\r\nmade", close=True)):
        result = await send_once(receiver.url)
    assert isinstance(result, Answered)
    assert (result.status, result.text, result.cut) == (201, "made", None)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(status: int) -> None:
    canary, receiver = Receiver(), Receiver()
    async with canary.listening(canary.answering(OK)):
        location = f"HTTP/1.1 {status} Go\r\nlocation: {canary.url}\r\ncontent-length: 0\r\n\r\n".encode()
        async with receiver.listening(receiver.answering(location)):
            result = await send_once(receiver.url)
    assert isinstance(result, Answered)
    assert result.status == status
    assert canary.connections == 0


async def test_no_environment_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    canary, receiver = Receiver(), Receiver()
    async with canary.listening(canary.answering(OK)), receiver.listening(receiver.answering(OK)):
        for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{canary.port}")
        result = await send_once(receiver.url)
    assert isinstance(result, Answered)
    assert canary.connections == 0


@pytest.mark.parametrize(
    "header",
    [
        ("Host", "internal"),
        ("Content-Length", "0"),
        ("transfer-encoding", "chunked"),
        ("Connection", "close"),
        ("Expect", "100-continue"),
        ("x", "a\r\nhost: internal"),
        ("x", "a\nb"),
        ("x", "a\0"),
        ("x\r\ny", "a"),
        ("x y", "a"),
        ("", "a"),
        ("x", "\ud800"),
    ],
)
async def test_headers_cannot_reframe_the_request(header: tuple[str, str]) -> None:
    receiver = Receiver()
    async with receiver.listening(receiver.answering(OK)):
        result = await send_once(receiver.url, headers=[*HEADERS, header])
    assert isinstance(result, Failed)
    assert result.reason is Reason.INVALID
    assert receiver.connections == 0


# --- endpoints that behave badly: each has its reason, a bounded cost, and leaves nothing open


def saying(*pieces: bytes, endlessly: bytes = b"", hold: bool = True) -> Handler:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        while endlessly:
            writer.write(endlessly)
            await writer.drain()
            if len(endlessly) < 100:
                await asyncio.sleep(0.01)
        if hold:
            await reader.read()

    return handle


HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n2\r\nzz\r\n"


@pytest.mark.parametrize(
    ("handler", "reason"),
    [
        pytest.param(saying(), Reason.TIMEOUT, id="never answers"),
        pytest.param(saying(b"HTTP/1.1 2"), Reason.SLOW_HEADERS, id="stops in the status line"),
        pytest.param(saying(HEAD, endlessly=b"x: y\r\n"), Reason.SLOW_HEADERS, id="drips headers"),
        pytest.param(
            saying(HEAD, endlessly=b"x: " + b"y" * 1000 + b"\r\n"), Reason.TOO_LARGE, id="endless headers"
        ),
        pytest.param(saying(HEAD + b"x: ", endlessly=b"y" * 1000), Reason.TOO_LARGE, id="an endless header"),
        pytest.param(saying(HEAD + b"x: " + b"y" * HEAD_LIMIT), Reason.TOO_LARGE, id="a large header"),
        pytest.param(saying(endlessly=b"HTTP/1.1 100 Go\r\n\r\n" * 100), Reason.TOO_LARGE, id="endless 100s"),
        pytest.param(saying(hold=False), Reason.CLOSED, id="closes"),
        pytest.param(saying(HEAD, hold=False), Reason.CLOSED, id="closes in the headers"),
        pytest.param(saying(b"SSH-2.0-OpenSSH_9.2\r\n"), Reason.MALFORMED, id="is no HTTP server"),
        pytest.param(saying(b"HTTP/1.1 101 Up\r\nupgrade: x\r\n\r\n"), Reason.MALFORMED, id="upgrades"),
        pytest.param(saying(b"HTTP/1.1 099 No\r\n\r\n"), Reason.MALFORMED, id="a status below 100"),
        pytest.param(saying(b"HTTP/1.1 777 No\r\n\r\n"), Reason.MALFORMED, id="a status above 599"),
    ],
)
async def test_no_answer(handler: Handler, reason: Reason) -> None:
    receiver = Receiver()
    async with receiver.listening(handler):
        began = time.monotonic()
        result = await send_once(receiver.url, HASTY)
        assert time.monotonic() - began < 3
        await until(lambda: receiver.open == 0)
    assert isinstance(result, Failed)
    assert result.reason is reason
    assert "127" not in result.detail


@pytest.mark.parametrize(
    ("handler", "reason", "status"),
    [
        pytest.param(saying(b"HTTP/1.1 20"), Reason.SLOW_HEADERS, None, id="late, two digits"),
        pytest.param(saying(b"HTTP/1.1 2000 X\r\n"), Reason.MALFORMED, None, id="four digits"),
        pytest.param(saying(b"HTTP/1.1 099 X\r\n\r\n"), Reason.MALFORMED, None, id="no status"),
        pytest.param(saying(b"HTTP/1.1 777 X\r\n\r\n"), Reason.MALFORMED, 777, id="no known status"),
        pytest.param(saying(b"HTTP/1.1 503 X\r\n"), Reason.SLOW_HEADERS, 503, id="late"),
        pytest.param(saying(b"HTTP/1.1 5", b"03 X\r\n", b"a: b"), Reason.SLOW_HEADERS, 503, id="in pieces"),
        pytest.param(saying(HEAD + b"x: y", hold=False), Reason.CLOSED, 200, id="closes"),
        pytest.param(saying(hold=False), Reason.CLOSED, None, id="closes without a byte"),
        pytest.param(
            saying(b"HTTP/1.1 100 Go\r\n\r\n" + HEAD, hold=False), Reason.CLOSED, 200, id="closes after a 100"
        ),
        pytest.param(saying(HEAD + b"x: " + b"y" * HEAD_LIMIT), Reason.TOO_LARGE, 200, id="too much"),
    ],
)
async def test_the_status_of_a_failure_is_told_if_it_was_read(
    handler: Handler, reason: Reason, status: int | None
) -> None:
    """The connection has brought another status before, which its parser would still report."""
    receiver = Receiver()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(OK)
        await handler(reader, writer)

    async with receiver.listening(handle), outbound(HASTY) as sender:
        await sender.send(receiver.url, HEADERS, BODY, org=ORG)
        result = await sender.send(receiver.url, HEADERS, BODY, org=ORG)
        assert receiver.connections == 1
    assert isinstance(result, Failed)
    assert (result.reason, result.status) == (reason, status)


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        pytest.param(HEAD + b"x-a: one\ntwo\r\ncontent-length: 0\r\n\r\n", 200, id="a header over two lines"),
        pytest.param(HEAD + b"x a: b\r\n\r\n", 200, id="a space in a name"),
        pytest.param(HEAD + b": b\r\n\r\n", 200, id="no name"),
        pytest.param(HEAD + b"x: a\0b\r\n\r\n", 200, id="a NUL"),
        pytest.param(HEAD + b"content-length: 1\r\ncontent-length: 2\r\n\r\nxx", 200, id="two lengths"),
        pytest.param(HEAD + b"content-length: ten\r\n\r\n", 200, id="no length"),
        pytest.param(b"HTTP/1.1 200 OK\nx: y\n\n", 200, id="lines without CR"),
        pytest.param(b"HTTP/1.1 100 Go\r\n\r\nHTTP/1.1 410 No\r\n\1\r\n", 410, id="after a 100"),
        pytest.param(b"HTTP/1.1 503\r\nretry-after: 9\r\nx y: z\r\n\r\n", 503, id="no reason phrase"),
    ],
)
@pytest.mark.parametrize("pieces", [1, 3])
async def test_an_answer_that_breaks_off_after_its_status_is_judged_by_it(
    answer: bytes, status: int, pieces: int
) -> None:
    receiver = Receiver()
    size = -(-len(answer) // pieces)

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await read_request(reader)
            for start in range(0, len(answer), size):
                writer.write(answer[start : start + size])
                await asyncio.sleep(0)

    async with receiver.listening(handle), outbound() as sender:
        for _ in range(2):
            result = await sender.send(receiver.url, HEADERS, BODY, org=ORG)
            assert isinstance(result, Answered), result
            assert (result.status, result.text, result.cut) == (status, "", Reason.MALFORMED)
            assert (result.retry_after, result.delivery_control) == (None, None)
    assert receiver.connections == 2, "its connection is not used again"


async def test_of_another_protocol_a_few_bytes_are_shown_unless_only_the_operator_permits_the_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    receiver = Receiver()
    banner = b"220 caf\xe9 \\ \0\r\n" + b"x" * 100
    async with receiver.listening(saying(banner)):
        hidden = await send_once(receiver.url)
        # The guard takes this for a public address.
        monkeypatch.setattr(client, "permitted", lambda address: address)
        shown = await send_once(receiver.url)
    assert isinstance(hidden, Failed)
    assert isinstance(shown, Failed)
    assert hidden.detail == "The answer is not valid HTTP/1.1."
    begin = r"220 caf\xe9 \\ \x00\r\n" + "x" * (BYTES_SHOWN - 14)
    assert shown.detail == f"{hidden.detail} It begins with: {begin}"


@pytest.mark.parametrize(
    ("handler", "cut"),
    [
        pytest.param(saying(HEAD, b"\r\n", endlessly=b"z" * 65536), Reason.TOO_LARGE, id="endless body"),
        pytest.param(
            saying(HEAD, b"content-length: 10737418240\r\n\r\n", endlessly=b"z" * 65536),
            Reason.TOO_LARGE,
            id="10 GiB",
        ),
        pytest.param(
            saying(HEAD, b"transfer-encoding: chunked\r\n\r\n", endlessly=b"100\r\n" + b"z" * 256 + b"\r\n"),
            Reason.TOO_LARGE,
            id="endless chunks",
        ),
        *(
            pytest.param(saying(CHUNKED + begin, endlessly=again), Reason.TOO_LARGE, id=name)
            for name, begin, again in (
                ("endless trailer", b"0\r\nx: ", b"a" * 65_536),
                ("endless trailers", b"0\r\n", b"x: y\r\n" * 10_000),
                ("endless extension", b"1;x=", b"a" * 65_536),
                ("endless extensions", b"", b"1;" + b"x" * 1_000 + b"\r\nz\r\n"),
                ("endless size", b"0", b"0" * 65_536),
            )
        ),
        pytest.param(saying(HEAD, b"content-length: 100\r\n\r\nzz"), Reason.SLOW_BODY, id="body stops"),
        pytest.param(
            saying(HEAD, b"content-length: 900\r\n\r\nzz", endlessly=b"z"), Reason.SLOW_BODY, id="body drips"
        ),
        pytest.param(
            saying(HEAD, b"content-length: 100\r\n\r\nzz", hold=False),
            Reason.INCOMPLETE,
            id="closes in the body",
        ),
        pytest.param(
            saying(HEAD, b"transfer-encoding: chunked\r\n\r\n2\r\nzz\r\n", hold=False),
            Reason.INCOMPLETE,
            id="closes between chunks",
        ),
        pytest.param(
            saying(HEAD, b"transfer-encoding: chunked\r\n\r\n2\r\nzz\r\nxyz\r\n"),
            Reason.MALFORMED,
            id="bad chunk",
        ),
    ],
)
async def test_an_answer_whose_body_does_not_end(handler: Handler, cut: Reason) -> None:
    """The status stands: the endpoint has said it."""
    receiver = Receiver()
    async with receiver.listening(handler):
        began = time.monotonic()
        result = await send_once(receiver.url, HASTY)
        assert time.monotonic() - began < 3
        await until(lambda: receiver.open == 0)
    assert isinstance(result, Answered)
    assert (result.status, result.cut) == (200, cut)
    assert result.text.startswith("zz")
    assert len(result.text) <= 1024


async def test_a_body_of_exactly_the_limit_is_read_whole() -> None:
    receiver = Receiver()
    answer = HEAD + b"content-length: %d\r\n\r\n" % BODY_LIMIT + b"z" * BODY_LIMIT
    async with receiver.listening(receiver.answering(answer)):
        result = await send_once(receiver.url)
    assert isinstance(result, Answered)
    assert (result.cut, result.text) == (None, "z" * 1024)


async def test_an_endpoint_that_reads_nothing() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.Event().wait()

    receiver = Receiver()
    async with receiver.listening(handler=handle):
        result = await send_once(receiver.url, HASTY, body=b"x" * 5_000_000)
    assert isinstance(result, Failed)
    assert result.reason is Reason.TIMEOUT


async def test_nobody_listens() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        result = await send_once(f"http://127.0.0.1:{sock.getsockname()[1]}/")
    assert isinstance(result, Failed)
    assert result.reason is Reason.CONNECT
    assert "127" not in result.detail


async def test_a_host_that_does_not_accept() -> None:
    """A listener whose backlog is full drops SYNs, as a firewall does."""
    with socket.socket() as sock, contextlib.ExitStack() as fill:
        sock.bind(("127.0.0.1", 0))
        sock.listen(0)
        for _ in range(4):
            client = fill.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(sock.getsockname())
        result = await send_once(f"http://127.0.0.1:{sock.getsockname()[1]}/", HASTY)
    assert isinstance(result, Failed)
    assert result.reason is Reason.CONNECT_TIMEOUT


async def test_a_pause_of_our_own_is_no_fault_of_the_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that stands still has not found the endpoint slow: there is no handshake to wait for."""
    policy = OutboundPolicy(allow=HOME, allow_http=True, connect_timeout_seconds=0.1, total_timeout_seconds=9)

    async def then_stand_still(address: str, port: int, limit: float) -> socket.socket:
        sock = await dial(address, port, limit)
        asyncio.get_running_loop().call_soon(time.sleep, 0.3)
        return sock

    monkeypatch.setattr(connector, "dial", then_stand_still)
    receiver = Receiver()
    async with receiver.listening(receiver.answering(OK)):
        result = await send_once(receiver.url, policy)
    assert isinstance(result, Answered), result


async def test_the_next_address_is_tried_when_one_does_not_accept() -> None:
    receiver = Receiver()
    async with receiver.listening(receiver.answering(OK)):
        resolver = names(a_test="127.0.0.2 127.0.0.1")
        result = await send_once(f"http://a.test:{receiver.port}/", resolver=resolver)
    assert isinstance(result, Answered)


async def test_a_cancelled_send_closes_its_connection() -> None:
    receiver = Receiver()
    async with receiver.listening(saying()), outbound() as sender:
        task = asyncio.create_task(sender.send(receiver.url, HEADERS, BODY, org=ORG))
        await until(lambda: receiver.open == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: receiver.open == 0)


async def test_close_ends_what_is_in_flight() -> None:
    receiver = Receiver()
    async with receiver.listening(saying()), outbound() as sender:
        task = asyncio.create_task(sender.send(receiver.url, HEADERS, BODY, org=ORG))
        await until(lambda: receiver.open == 1)
        await sender.close()
        result = await task
    assert isinstance(result, Failed)
    assert result.reason is Reason.CLOSED


async def test_nothing_is_opened_after_close() -> None:
    receiver = Receiver()
    async with receiver.listening(receiver.answering(OK)), outbound() as sender:
        await sender.send(receiver.url, HEADERS, BODY, org=ORG)
        await sender.close()
        result = await sender.send(receiver.url, HEADERS, BODY, org=ORG)
        assert isinstance(result, Failed)
        assert result.reason is Reason.BUSY
        assert receiver.connections == 1


# --- kept-alive connections


async def test_a_connection_closed_while_idle_is_replaced() -> None:
    receiver = Receiver()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        receiver.requests.append(await read_request(reader))
        writer.write(OK)

    async with receiver.listening(handle), outbound() as sender:
        for _ in range(5):
            result = await sender.send(receiver.url, HEADERS, BODY, org=ORG)
            assert isinstance(result, Answered)
            await until(lambda: all(kept.closed for kept in sender._pool._oldest_first))
    assert len(receiver.requests) == 5


@pytest.mark.parametrize("tls", [False, True])
async def test_a_request_on_a_stale_connection_is_sent_once_and_says_so(
    authority: trustme.CA, tls: bool
) -> None:
    """An idle timeout of the endpoint and a request can coincide. A new connection is never stale."""
    receiver = Receiver()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(OK)
        receiver.requests.append(await read_request(reader))

    context = server_context(authority, "127.0.0.1") if tls else None
    async with (
        receiver.listening(handle, tls=context),
        outbound(trust_pem=authority.cert_pem.bytes().decode()) as sender,
    ):
        url = receiver.url.replace("http:", "https:") if tls else receiver.url
        assert isinstance(await sender.send(url, HEADERS, BODY, org=ORG), Answered)
        stale = await sender.send(url, HEADERS, BODY, org=ORG)
        assert (receiver.connections, len(receiver.requests)) == (1, 1)
        for _ in range(2):
            fresh = await sender.send(url, HEADERS, BODY, org=ORG, fresh=True)
            assert isinstance(fresh, Answered)
    assert isinstance(stale, Failed)
    assert (stale.reason, stale.stale_connection) == (Reason.CLOSED, True)
    assert receiver.connections == 3


@pytest.mark.parametrize(
    ("last", "hold", "reason"),
    [(b"H", False, Reason.CLOSED), (b"", True, Reason.TIMEOUT), (b"junk", False, Reason.MALFORMED)],
)
async def test_a_kept_connection_that_closes_after_a_byte_or_never_was_not_stale(
    last: bytes, hold: bool, reason: Reason
) -> None:
    receiver = Receiver()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(OK)
        await saying(last, hold=hold)(reader, writer)

    async with receiver.listening(handle), outbound(HASTY) as sender:
        await sender.send(receiver.url, HEADERS, BODY, org=ORG)
        result = await sender.send(receiver.url, HEADERS, BODY, org=ORG)
    assert isinstance(result, Failed)
    assert (result.reason, result.stale_connection) == (reason, False)
    assert receiver.connections == 1


async def test_data_on_an_idle_connection_is_not_taken_for_an_answer() -> None:
    receiver = Receiver()
    spoken = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = receiver.connections == 1
        await read_request(reader)
        writer.write(OK)
        if first:
            await spoken.wait()
            writer.write(b"HTTP/1.1 500 Smuggled\r\ncontent-length: 0\r\n\r\n")
        await reader.read()

    async with receiver.listening(handle), outbound() as sender:
        await sender.send(receiver.url, HEADERS, BODY, org=ORG)
        spoken.set()
        await until(lambda: receiver.open == 0)
        result = await sender.send(receiver.url, HEADERS, BODY, org=ORG)
    assert isinstance(result, Answered)
    assert result.status == 200


async def test_an_answer_before_the_whole_request_was_read_spoils_the_connection() -> None:
    receiver = Receiver()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(b"HTTP/1.1 413 Large\r\ncontent-length: 0\r\n\r\n")
        await asyncio.Event().wait()

    async with receiver.listening(handle), outbound() as sender:
        for _ in range(2):
            result = await sender.send(receiver.url, HEADERS, b"x" * 8_000_000, org=ORG)
            assert isinstance(result, Answered)
            assert result.status == 413
    assert receiver.connections == 2


async def test_idle_connections_are_closed() -> None:
    receiver = Receiver()
    async with (
        receiver.listening(receiver.answering(OK)),
        outbound(kept_alive=KeptAlive(seconds=0.1)) as sender,
    ):
        await asyncio.gather(*[sender.send(receiver.url, HEADERS, BODY, org=ORG) for _ in range(5)])
        assert receiver.open == 5
        await until(lambda: receiver.open == 0)
        assert len(sender._pool) == 0


def without_the_collector() -> Iterator[Callable[[], int]]:
    """How many more connections there are in memory than at the beginning, closed ones included."""

    def in_memory() -> int:
        return sum(type(each) is EndpointConnection for each in gc.get_objects())

    gc.collect()
    before = in_memory()
    gc.disable()
    try:
        yield lambda: in_memory() - before
    finally:
        gc.enable()


kept_in_memory = pytest.fixture(without_the_collector)


@pytest.mark.parametrize("handler", ["answers", "hangs up", "too much", "late", "over a proxy"])
async def test_a_closed_connection_is_freed_at_once(kept_in_memory: Callable[[], int], handler: str) -> None:
    proxy, receiver = Receiver(), Receiver()
    handlers = {
        "hangs up": saying(hold=False),
        "too much": saying(OK, endlessly=b"x" * 1000),
        "late": saying(),
    }
    closing = receiver.answering(OK, close=True)
    async with (
        receiver.listening(handlers.get(handler, closing)),
        proxy.listening(forwarding(proxy)),
    ):
        policy = through(proxy) if handler == "over a proxy" else OPEN
        policy = dataclasses.replace(policy, total_timeout_seconds=0.2) if handler == "late" else policy
        async with outbound(policy, kept_alive=KeptAlive(seconds=0.1)) as sender:
            await asyncio.gather(*[sender.send(receiver.url, HEADERS, BODY, org=ORG) for _ in range(5)])
            assert receiver.connections == 5
            await until(lambda: kept_in_memory() == 0)


async def test_many_hosts_leave_few_connections() -> None:
    receiver = Receiver()
    most = 0

    async with (
        receiver.listening(receiver.answering(OK)),
        outbound(
            resolver=lambda host: ("127.0.0.1",), max_connections=20, kept_alive=KeptAlive(connections=10)
        ) as sender,
    ):

        async def send(number: int) -> None:
            nonlocal most
            result = await sender.send(f"http://h{number}.test:{receiver.port}/", HEADERS, BODY, org=uuid4())
            assert isinstance(result, Answered), result
            most = max(most, sender._slots.taken + len(sender._pool))

        for start in range(0, 500, 100):
            await asyncio.gather(*[send(start + offset) for offset in range(100)])
        assert len(sender._pool) <= 10
        assert len(sender._pool._of) <= 10
        await until(lambda: receiver.open <= 10)
    assert most <= 30  # a connection just put back counts twice until its send has returned
    assert receiver.connections == 500


async def test_no_room_is_not_the_endpoints_fault() -> None:
    receiver = Receiver()
    async with receiver.listening(saying()), outbound(HASTY, max_connections=1) as sender:
        first = asyncio.create_task(sender.send(receiver.url, HEADERS, BODY, org=ORG))
        await until(lambda: receiver.open == 1)
        policy_seconds = HASTY.total_timeout_seconds
        sender._policy = OutboundPolicy(allow=HOME, allow_http=True, total_timeout_seconds=policy_seconds / 4)
        second = await sender.send(receiver.url, HEADERS, BODY, org=ORG)
        await first
    assert isinstance(second, Failed)
    assert second.reason is Reason.BUSY


# --- the guard: nothing forbidden is ever connected to


@pytest.fixture
async def canary() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    async with receiver.listening(receiver.answering(OK), host="0.0.0.0"):
        yield receiver


LITERALS = [
    "127.0.0.1",
    "127.0.0.1.",
    "127.0.0.2",
    "127.255.255.254",
    "0.0.0.0",
    "0",
    "127.1",
    "2130706433",
    "0x7f000001",
    "0x7f.1",
    "0177.0.0.1",
    "017700000001",
    "①②⑦.0.0.1",
    "127。0。0。1",
    "[::1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::127.0.0.1]",
    "[64:ff9b::127.0.0.1]",
    "[::1%25lo]",
    "a@127.0.0.1",
    "127.0.0.1\\@example.com",
    "%31%32%37.0.0.1",
]


@pytest.mark.parametrize("host", LITERALS)
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_no_literal_reaches_the_canary(canary: Receiver, host: str, scheme: str) -> None:
    policy = OutboundPolicy(allow_http=True, total_timeout_seconds=3)
    result = await send_once(f"{scheme}://{host}:{canary.port}/", policy)
    assert isinstance(result, Failed)
    assert result.reason in {Reason.FORBIDDEN_ADDRESS, Reason.INVALID}
    assert canary.connections == 0


@pytest.mark.parametrize(
    "addresses",
    [
        "127.0.0.1",
        "127.0.0.5",
        "::1",
        "::ffff:127.0.0.1",
        "64:ff9b::7f00:1",
        "fe80::1%lo",
        "0.0.0.0",
        "127.0.0.1 ::1 10.0.0.1",
    ],
)
async def test_no_name_reaches_the_canary(canary: Receiver, addresses: str) -> None:
    policy = OutboundPolicy(allow_http=True, total_timeout_seconds=3)
    result = await send_once(f"http://a.test:{canary.port}/", policy, resolver=names(a_test=addresses))
    assert isinstance(result, Failed)
    assert result.reason is Reason.FORBIDDEN_ADDRESS
    assert not any(part in result.detail for part in ("127", "::", "10.0"))
    assert canary.connections == 0


async def test_localhost_by_the_systems_resolver(canary: Receiver) -> None:
    result = await send_once(f"http://localhost:{canary.port}/", OutboundPolicy(allow_http=True))
    assert isinstance(result, Failed)
    assert result.reason is Reason.FORBIDDEN_ADDRESS
    assert canary.connections == 0


async def test_a_rebinding_name_is_judged_at_every_look_up(canary: Receiver) -> None:
    """Allowed is 127.0.0.2 only; the name moves to the canary's 127.0.0.1 after its first answer."""
    calls = 0

    def resolve(host: str) -> tuple[str, ...]:
        nonlocal calls
        calls += 1
        return ("127.0.0.2",) if calls == 1 else ("127.0.0.1",)

    policy = OutboundPolicy(allow=(ipaddress.ip_network("127.0.0.2/32"),), allow_http=True)
    seen: list[str] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(writer.get_extra_info("sockname")[0])
        await canary.answering(OK)(reader, writer)

    receiver = Receiver()
    async with (
        receiver.listening(handle, host="0.0.0.0"),
        outbound(policy, resolver=resolve, dns_keep_seconds=0) as sender,
    ):
        url = f"http://a.test:{receiver.port}/"
        first = await sender.send(url, HEADERS, BODY, org=ORG)
        others = [await sender.send(url, HEADERS, BODY, org=ORG) for _ in range(3)]
    assert isinstance(first, Answered)
    assert [getattr(other, "reason", None) for other in others] == [Reason.FORBIDDEN_ADDRESS] * 3
    assert seen == ["127.0.0.2"]


async def test_the_address_connected_to_is_the_one_that_was_judged() -> None:
    """The system knows localhost as 127.0.0.1; only what the judged look-up said is connected to."""
    seen: list[str] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(writer.get_extra_info("sockname")[0])
        await receiver.answering(OK)(reader, writer)

    receiver = Receiver()
    policy = OutboundPolicy(allow=(ipaddress.ip_network("127.0.0.3/32"),), allow_http=True)
    resolver = names(localhost="127.0.0.1 127.0.0.3")
    async with receiver.listening(handle, host="0.0.0.0"):
        result = await send_once(f"http://localhost:{receiver.port}/", policy, resolver=resolver)
    assert isinstance(result, Answered)
    assert seen == ["127.0.0.3"]


async def test_a_kept_alive_connection_is_not_used_for_a_new_address() -> None:
    seen: list[str] = []
    current = "127.0.0.2"

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(writer.get_extra_info("sockname")[0])
        await receiver.answering(OK)(reader, writer)

    receiver = Receiver()
    async with (
        receiver.listening(handle, host="0.0.0.0"),
        outbound(resolver=lambda host: (current,), dns_keep_seconds=0) as sender,
    ):
        for address in ("127.0.0.2", "127.0.0.2", "127.0.0.3"):
            current = address
            await sender.send(f"http://a.test:{receiver.port}/", HEADERS, BODY, org=ORG)
    assert seen == ["127.0.0.2", "127.0.0.3"]


async def test_plain_http_is_refused_by_default(canary: Receiver) -> None:
    result = await send_once(canary.url, OutboundPolicy(allow=HOME))
    assert isinstance(result, Failed)
    assert result.reason is Reason.INVALID
    assert canary.connections == 0


# --- TLS


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def server_context(authority: trustme.CA, *identities: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*identities).configure_cert(context)
    return context


async def test_tls_with_a_name(authority: trustme.CA) -> None:
    receiver = Receiver()
    sni: list[str | None] = []
    context = server_context(authority, "a.test")
    context.sni_callback = lambda _, name, __: sni.append(name)  # type: ignore[assignment]
    pem = authority.cert_pem.bytes().decode()
    async with (
        receiver.listening(receiver.answering(OK), tls=context),
        outbound(resolver=names(a_test="127.0.0.1"), trust_pem=pem) as sender,
    ):
        for _ in range(3):
            result = await sender.send(f"https://a.test:{receiver.port}/", HEADERS, b"x" * 100_000, org=ORG)
            assert isinstance(result, Answered), result
    assert receiver.connections == 1
    assert sni == ["a.test"]
    assert receiver.requests[2][1] == b"x" * 100_000


async def test_tls_with_a_literal(authority: trustme.CA) -> None:
    receiver = Receiver()
    pem = authority.cert_pem.bytes().decode()
    async with receiver.listening(receiver.answering(OK), tls=server_context(authority, "127.0.0.1")):
        result = await send_once(f"https://127.0.0.1:{receiver.port}/", trust_pem=pem)
    assert isinstance(result, Answered)


@pytest.mark.parametrize(("identity", "trusted"), [("a.test", False), ("b.test", True)])
async def test_certificates_that_do_not_hold(authority: trustme.CA, identity: str, trusted: bool) -> None:
    receiver = Receiver()
    pem = (authority if trusted else trustme.CA()).cert_pem.bytes().decode()
    async with receiver.listening(receiver.answering(OK), tls=server_context(authority, identity)):
        url = f"https://a.test:{receiver.port}/"
        result = await send_once(url, resolver=names(a_test="127.0.0.1"), trust_pem=pem)
    assert isinstance(result, Failed)
    assert result.reason is Reason.TLS
    assert "certificate" in result.detail
    assert "127" not in result.detail
    assert receiver.requests == []


@pytest.fixture
def without_roots(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """No root certificate is found. Returns the empty directory in which they are looked for."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    connector._tls_context.cache_clear()
    yield tmp_path
    connector._tls_context.cache_clear()


async def test_an_endpoint_is_not_to_blame_where_no_root_certificate_is_found(
    authority: trustme.CA, without_roots: Path
) -> None:
    receiver = Receiver()
    async with receiver.listening(receiver.answering(OK), tls=server_context(authority, "127.0.0.1")):
        url = f"https://127.0.0.1:{receiver.port}/"
        blameless = await send_once(url)
        trusted = await send_once(url, trust_pem=authority.cert_pem.bytes().decode())
        unknown = await send_once(url, trust_pem=trustme.CA().cert_pem.bytes().decode())
    assert isinstance(blameless, Failed)
    assert (blameless.reason, blameless.detail) == (
        Reason.INTERNAL,
        "The service has no CA root certificates, so it cannot verify endpoints.",
    )
    assert blameless.reason in NOT_THE_ENDPOINT
    assert isinstance(trusted, Answered)
    assert isinstance(unknown, Failed)
    assert unknown.reason is Reason.TLS


async def test_root_certificates_in_a_directory_are_found(
    authority: trustme.CA, without_roots: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenSSL reads the certificates only when it needs them, so its store does not show them."""
    assert not connector.has_roots()
    (without_roots / "README").write_text("no certificate")
    assert not connector.has_roots()
    (without_roots / "0123abcd.0").write_bytes(authority.cert_pem.bytes())
    assert connector.has_roots()
    monkeypatch.setenv("SSL_CERT_DIR", "/nowhere")
    assert not connector.has_roots()
    authority.cert_pem.write_to_path(str(without_roots / "none"))
    connector._tls_context.cache_clear()
    assert connector.has_roots()


async def test_a_host_that_speaks_no_tls() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(b"HTTP/1.1 400 Plain\r\n\r\n")
        await writer.drain()

    receiver = Receiver()
    async with receiver.listening(handle):
        result = await send_once(f"https://127.0.0.1:{receiver.port}/")
    assert isinstance(result, Failed)
    assert result.reason is Reason.TLS


@pytest.mark.parametrize(("hold", "reason"), [(True, Reason.TLS_TIMEOUT), (False, Reason.TLS)])
async def test_a_handshake_that_does_not_end(hold: bool, reason: Reason) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        if hold:
            await reader.read()
            await asyncio.Event().wait()

    receiver = Receiver()
    async with receiver.listening(handle):
        result = await send_once(f"https://127.0.0.1:{receiver.port}/", HASTY)
        assert isinstance(result, Failed)
        assert result.reason is reason


# --- names


async def test_an_unknown_name() -> None:
    result = await send_once("http://nowhere.test/", resolver=names())
    assert isinstance(result, Failed)
    assert result.reason is Reason.DNS


async def test_a_name_is_looked_up_once_for_many_and_kept_briefly() -> None:
    receiver = Receiver()
    calls: list[str] = []

    def resolve(host: str) -> tuple[str, ...]:
        calls.append(host)
        return ("127.0.0.1",)

    async with receiver.listening(receiver.answering(OK)), outbound(resolver=resolve) as sender:
        url = f"http://a.test:{receiver.port}/"
        await asyncio.gather(*[sender.send(url, HEADERS, BODY, org=ORG) for _ in range(10)])
        await sender.send(url, HEADERS, BODY, org=uuid4())
    assert calls == ["a.test"]


class SilentServer:
    """A resolver that answers nothing until it is released, and counts who is inside."""

    def __init__(self) -> None:
        self.inside = 0
        self.lock = threading.Lock()
        self.release = threading.Event()
        self.asked: list[str] = []

    def __call__(self, host: str) -> tuple[str, ...]:
        if host.startswith("quick"):
            return ("127.0.0.1",)
        with self.lock:
            self.inside += 1
            self.asked.append(host)
        self.release.wait(20)
        with self.lock:
            self.inside -= 1
        return ("127.0.0.1",)


async def fill(lookups: Names, server: SilentServer, tenants: int, places: int) -> list[asyncio.Task[Found]]:
    """Begin look-ups that get no answer, one organisation after another, until each holds its share."""
    tasks = []
    for tenant in range(tenants):
        org, before = uuid4(), server.inside
        names = [f"{tenant}-{number}.test" for number in range(places)]
        tasks += [asyncio.create_task(lookups.find(name, org)) for name in names]
        share = max(1, (places - before) // 2)
        await until(lambda before=before, share=share: server.inside == before + share)  # type: ignore[misc]
    return tasks


@pytest.mark.parametrize("tenants", [1, 4])
async def test_beside_silent_name_servers_a_newcomer_is_looked_up_at_once(tenants: int) -> None:
    """Each organisation holds at most half of the places that the others left."""
    server = SilentServer()
    lookups = Names(server, places=32, limit_seconds=15)
    try:
        tasks = await fill(lookups, server, tenants, 32)
        assert server.inside == {1: 16, 4: 30}[tenants]
        assert await asyncio.wait_for(lookups.find("quick.test", uuid4()), 5) == ("127.0.0.1",)
        assert server.inside == {1: 16, 4: 30}[tenants]
    finally:
        server.release.set()
    assert set(await asyncio.gather(*tasks)) == {("127.0.0.1",)}
    assert lookups._places.taken == lookups._threads_held.taken == 0
    assert not lookups._waiting
    assert not lookups._wanted
    assert len(lookups._threads) <= 32
    lookups.close()


async def test_beyond_that_a_newcomer_is_next_when_a_limit_has_passed() -> None:
    """All places are held by look-ups that never end, and more look-ups wait. When the limit of a place has
    passed, an organisation that holds none gets it, although the thread has not come back."""
    server = SilentServer()
    lookups = Names(server, places=4, limit_seconds=0.3, keep_seconds=0)
    greedy = [uuid4() for _ in range(4)]
    names = [(f"{number}-{org}.test", org) for number in range(20) for org in greedy]
    tasks = [asyncio.create_task(lookups.find(name, org)) for name, org in names]
    try:
        await until(lambda: server.inside == 4)
        assert lookups._places.taken == 4
        found = await asyncio.wait_for(lookups.find("quick.test", uuid4()), 5)
        assert found == ("127.0.0.1",)
        assert server.inside <= 8, "it had the first place that was given on"
        await until(lambda: lookups._threads_held.taken == len(server.asked) > 20)
        assert len(lookups._threads) <= 4 * THREADS_A_PLACE
        assert max(map(lookups._threads_held.held, greedy)) <= 2 * THREADS_A_PLACE
    finally:
        for task in tasks:
            task.cancel()
        server.release.set()
        await asyncio.gather(*tasks, return_exceptions=True)
    await until(lambda: lookups._threads_held.taken == lookups._places.taken == 0)
    lookups.close()


async def test_a_look_up_has_a_limit_and_nobody_is_looked_up_for_nobody() -> None:
    server = SilentServer()
    lookups = Names(server, places=1, limit_seconds=0.1, keep_seconds=0)
    org = uuid4()
    try:
        first = asyncio.create_task(lookups.find("a.test", org))
        await until(lambda: server.asked == ["a.test"])
        waiting = asyncio.create_task(lookups.find("b.test", org))
        await asyncio.sleep(0)
        waiting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await waiting
        assert await first is Reason.DNS
        assert lookups._places.taken == 0
        assert lookups._threads_held.taken == 1, "its thread stays held"
        assert await asyncio.wait_for(lookups.find("quick.test", uuid4()), 5) == ("127.0.0.1",)
    finally:
        server.release.set()
    await until(lambda: lookups._threads_held.taken == 0)
    assert server.asked == ["a.test"]  # nobody waited for b any more
    assert await lookups.find("c.test", org) == ("127.0.0.1",)
    lookups.close()


async def test_what_is_kept_of_names_is_bounded() -> None:
    lookups = Names(lambda host: ("127.0.0.1",), places=4, capacity=10)
    for number in range(30):
        await lookups.find(f"{number}.test", ORG)
    assert len(lookups._kept) == 10
    lookups.close()


async def test_a_silent_name_server_is_a_dns_failure_in_time() -> None:
    server = SilentServer()
    try:
        result = await send_once("http://a.test/", HASTY, resolver=server)
    finally:
        server.release.set()
    assert isinstance(result, Failed)
    assert result.reason in {Reason.DNS, Reason.BUSY}
    assert result.duration_seconds < 3


# --- the egress proxy


def forwarding(receiver: Receiver) -> Handler:
    """A CONNECT proxy."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head, _ = await read_request(reader)
        receiver.requests.append((head, b""))
        host, port = head.split(b" ")[1].decode().rsplit(":", 1)
        there, back = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 Established\r\n\r\n")

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while data := await source.read(65536):
                sink.write(data)
            sink.close()

        try:
            await asyncio.gather(pump(reader, back), pump(there, writer))
        finally:
            back.transport.abort()

    return handle


def through(proxy: Receiver, credentials: str = "", **options: object) -> OutboundPolicy:
    url = f"http://{credentials}127.0.0.1:{proxy.port}"
    values = {"connect_timeout_seconds": 2.0, "total_timeout_seconds": 5.0, "allow": HOME} | options
    return OutboundPolicy(allow_http=True, proxy_url=url, **values)  # type: ignore[arg-type]


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_through_a_proxy(authority: trustme.CA, scheme: str) -> None:
    proxy, receiver = Receiver(), Receiver()
    tls = server_context(authority, "a.test") if scheme == "https" else None
    pem = authority.cert_pem.bytes().decode()
    async with receiver.listening(receiver.answering(OK), tls=tls), proxy.listening(forwarding(proxy)):
        policy = through(proxy, "me:pa%40ss@")
        async with outbound(policy, resolver=names(a_test="127.0.0.1"), trust_pem=pem) as sender:
            for _ in range(3):
                result = await sender.send(f"{scheme}://a.test:{receiver.port}/", HEADERS, BODY, org=ORG)
                assert isinstance(result, Answered), result
                assert result.text == "ok"
    assert proxy.connections == 1
    head = proxy.requests[0][0].decode()
    assert head.startswith(f"CONNECT 127.0.0.1:{receiver.port} HTTP/1.1\r\n")
    assert "proxy-authorization: Basic bWU6cGFAc3M=\r\n" in head
    assert b"proxy-authorization" not in receiver.requests[0][0]


@pytest.mark.parametrize(
    "handler",
    [
        pytest.param(saying(b"HTTP/1.1 407 Who\r\ncontent-length: 0\r\n\r\n"), id="wants a password"),
        pytest.param(saying(b"HTTP/1.1 502 Bad\r\ncontent-length: 3\r\n\r\nbad"), id="cannot reach"),
        pytest.param(saying(b"HTTP/1.1 302 Go\r\nlocation: http://127.0.0.1/\r\n\r\n"), id="redirects"),
        pytest.param(saying(hold=False), id="closes"),
        pytest.param(saying(b"SSH-2.0\r\n"), id="is no proxy"),
        pytest.param(saying(), id="never answers"),
        pytest.param(
            saying(b"HTTP/1.1 200 OK\r\n", endlessly=b"x: " + b"y" * 1000 + b"\r\n"), id="endless headers"
        ),
    ],
)
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_proxys_faults_are_the_proxys(handler: Handler, scheme: str) -> None:
    proxy = Receiver()
    async with proxy.listening(handler):
        policy = through(proxy, total_timeout_seconds=0.3)
        result = await send_once(f"{scheme}://127.0.0.9:9/", policy)
        await until(lambda: proxy.open == 0)
    assert isinstance(result, Failed)
    assert result.reason is Reason.PROXY
    assert "127.0.0" not in result.detail


async def test_a_proxy_that_is_not_there() -> None:
    proxy = Receiver()
    async with proxy.listening(saying()):
        pass
    result = await send_once("https://127.0.0.9:9/", through(proxy))
    assert isinstance(result, Failed)
    assert result.reason is Reason.PROXY


@pytest.mark.parametrize(("answer", "reason"), [(b"", Reason.CLOSED), (b"junk\r\n", Reason.MALFORMED)])
async def test_the_endpoints_faults_stay_its_own_behind_a_proxy(answer: bytes, reason: Reason) -> None:
    proxy, receiver = Receiver(), Receiver()
    async with receiver.listening(saying(answer, hold=False)), proxy.listening(forwarding(proxy)):
        result = await send_once(receiver.url, through(proxy))
        assert isinstance(result, Failed)
        assert result.reason is reason
        tls = await send_once(
            f"https://127.0.0.1:{receiver.port}/", through(proxy, connect_timeout_seconds=0.3)
        )
        assert isinstance(tls, Failed)
        assert tls.reason is Reason.TLS_TIMEOUT


@pytest.mark.parametrize("host", ["127.0.0.1", "a.test", "[::1]"])
async def test_the_guard_holds_through_a_proxy(host: str) -> None:
    proxy = Receiver()
    async with proxy.listening(forwarding(proxy)):
        policy = through(proxy, allow=())
        result = await send_once(f"http://{host}:{proxy.port}/", policy, resolver=names(a_test="127.0.0.1"))
    assert isinstance(result, Failed)
    assert result.reason is Reason.FORBIDDEN_ADDRESS
    assert proxy.connections == 0


@pytest.mark.parametrize(
    "url", ["https://proxy:1", "socks5://proxy:1", "proxy:3128", "http://", "http://p:x", "http://[::1]p:1"]
)
async def test_proxies_that_are_not_supported(url: str) -> None:
    with pytest.raises(SettingsError):
        Outbound(OutboundPolicy(proxy_url=url))


def test_results_are_plain_values() -> None:
    assert json.dumps([Reason.TIMEOUT]) == '["timeout"]'
