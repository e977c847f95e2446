"""The loops of the generator, against servers on this machine that stall, refuse or lie."""

from __future__ import annotations

import asyncio
import itertools
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme

from triggers.bench_client import generator
from triggers.bench_client.load import ClosedLoop, open_loop
from triggers.bench_client.progress import RunProgress
from triggers.bench_client.service import MeasuredService
from triggers.bench_client.size import Pace
from triggers.bench_client.workload import SEND, Call, Workload
from triggers.errors import OperatorError

OK = b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}"


@asynccontextmanager
async def answering(
    answer: Callable[[int], tuple[float, bytes]], tls: ssl.SSLContext | None = None
) -> AsyncIterator[MeasuredService]:
    """A server that answers request N after so many seconds with these bytes."""
    count = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0]))
                count += 1
                seconds, text = answer(count)
                await asyncio.sleep(seconds)
                writer.write(text)
                if b"Connection: close" in text:
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield MeasuredService("127.0.0.1", port, tls=tls is not None, prefix="", key="k")


async def test_an_open_loop_counts_a_stall_for_every_request_that_it_delayed() -> None:
    loop = asyncio.get_running_loop()
    stall_ends: list[float] = []

    def answer(number: int) -> tuple[float, bytes]:
        if number == 5:
            stall_ends.append(loop.time() + 0.5)
        return (max(0.0, stall_ends[0] - loop.time()) if stall_ends else 0.0), OK

    async with answering(answer) as service:
        measured = await open_loop(service, "open", Workload(service).send_only, Pace(100, 1), RunProgress())
    recording = measured.recordings[SEND]
    assert recording.successes == 100
    # Half of the requests were due in the half second of the stall. A closed loop would have seen it once.
    assert recording.percentile_ms(75) > 150
    assert recording.longest_ms > 400


async def test_a_late_generator_counts_against_the_service_and_is_named() -> None:
    async with answering(lambda number: (0.0, OK)) as service:
        work = Workload(service)
        made = itertools.count(1)

        def source() -> Call:
            if next(made) == 10:
                time.sleep(0.3)
            return work.send_only()

        measured = await open_loop(service, "open", source, Pace(100, 0.5), RunProgress())
    # Some thirty requests of fifty were due while the loop did nothing.
    assert measured.recordings[SEND].percentile_ms(75) > 100
    assert "too late" in str(generator.limits(measured, 1e9))


async def test_a_closed_loop_sends_as_many_as_it_is_told_and_counts_failures() -> None:
    refused = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
    async with answering(lambda number: (0.0, refused if number % 10 == 0 else OK)) as service:
        loop = ClosedLoop(service, 4, RunProgress())
        measured = await loop.run_requests("each", Workload(service).send, 50)
    recording = measured.recordings[SEND]
    assert (recording.successes, recording.errors) == (45, {"503": 5})
    assert measured.requests == 50
    assert measured.seconds > 0


async def test_a_connection_that_the_service_closes_is_opened_again() -> None:
    closing = b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
    async with answering(lambda number: (0.0, closing if number % 5 == 0 else OK)) as service:
        measured = await ClosedLoop(service, 2, RunProgress()).run_requests(
            "each", Workload(service).send, 40
        )
    assert (measured.recordings[SEND].successes, measured.recordings[SEND].errors) == (40, {})


@pytest.mark.parametrize(
    "lie", [b"nonsense\r\n\r\n", b"HTTP/1.1 201 Created\r\nConnection: close\r\nContent-L"]
)
async def test_what_is_not_http_is_counted_as_an_error(lie: bytes) -> None:
    async with answering(lambda number: (0.0, lie)) as service:
        measured = await ClosedLoop(service, 1, RunProgress()).run_requests("each", Workload(service).send, 3)
    assert measured.recordings[SEND].errors == {"connection lost": 3}


async def test_tls_is_verified(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    async with answering(lambda number: (0.0, OK), context) as service:
        with pytest.raises(OperatorError, match="certificate verify failed"):
            await service.connect()
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        measured = await ClosedLoop(service, 2, RunProgress()).run_requests(
            "each", Workload(service).send, 10
        )
    assert measured.recordings[SEND].successes == 10


async def test_nobody_listens() -> None:
    async with answering(lambda number: (0.0, OK)) as service:
        pass
    with pytest.raises(OperatorError, match=r"No connection to 127\.0\.0\.1.*Check --url"):
        await service.ask("GET", "/v1/org")


async def test_the_ceiling_is_measured_against_a_process_that_ends() -> None:
    assert await generator.ceiling(4, 0.2, RunProgress()) > 100
