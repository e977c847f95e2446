"""Sender and receiver of single events in one loop: how long each takes from being sent to being received.

Not wrk and nginx: the load is an open loop, which wrk cannot make, and nginx tells times to the
millisecond only, which is a third of what is to be measured. Both ends in one process read one clock,
and a probe that is late is late to our cost. It is busy for a few percent of a core.
"""

from __future__ import annotations

import asyncio
import re
import statistics
import time
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple, cast

from bench.findings import Row
from bench.processes import BenchError
from triggers.outbound.connection import EndpointConnection

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_NUMBER = re.compile(rb'"probe": ?(\d+)')
_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
PATIENCE_SECONDS = 30


class Taken(NamedTuple):
    """Milliseconds of each probe, from when it was to be sent: until the 201, and until it arrived.

    A lost probe was refused or did not arrive; it counts with the time for which it was waited for.
    `after_answer` has those that were accepted, from the 201 until they arrived.
    """

    accepted: list[float]
    received: list[float]
    after_answer: list[float]
    lost: int
    faults: Counter[str]

    def row(self) -> Row:
        """Columns of a table."""
        return {
            "events": len(self.received),
            "201 P50 ms": statistics.median(self.accepted),
            "201 P99 ms": percentile(self.accepted, 0.99),
            "received P50 ms": statistics.median(self.received),
            "received P99 ms": percentile(self.received, 0.99),
            "longest": max(self.received),
        }


def percentile(values: list[float], share: float) -> float:
    """The value below which that share of them lies."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def event_request(number: int, key: str) -> bytes:
    """POST /v1/events of this service, with the number of a probe."""
    body = b'{"type":"bench.probe","payload":{"probe":%d}}' % number
    head = (
        f"POST /v1/events HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {key}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Probe:
    """`async with Probe() as probe`: listens on `probe.url`; `send` posts and waits for arrivals.

    Another service than this one gets what `request` makes of a number and a key, and answers `status`.
    """

    def __init__(self, request: Callable[[int, str], bytes] = event_request, status: int = 201) -> None:
        self.url = ""
        self._request = request
        self._status = status
        self._arrived: dict[int, float] = {}
        self._next = 0

    async def __aenter__(self) -> Probe:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Endpoint(self._arrived), "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/probe"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def send(self, port: int, key: str, *, rate: float, seconds: float) -> Taken:
        """Post events evenly at `rate`, whether or not those before were answered.

        Raises:
            BenchError: a probe was refused, or did not arrive.
        """
        taken = await self.try_send(port, key, rate=rate, seconds=seconds)
        if taken.lost:
            raise BenchError(f"{taken.lost} of {len(taken.received)} probes were lost: {dict(taken.faults)}.")
        return taken

    async def try_send(
        self, port: int, key: str, *, rate: float, seconds: float, patience_seconds: float = PATIENCE_SECONDS
    ) -> Taken:
        """The same where probes may be lost; those that are missing at the end are waited for so long."""
        callers = _Callers(port, lambda number: self._request(number, key), self._status)
        due_at: dict[int, float] = {}
        posts: list[asyncio.Task[None]] = []
        began = time.perf_counter() + 0.1
        for place in range(int(rate * seconds)):
            due = began + place / rate
            if (wait := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            self._next += 1
            due_at[self._next] = due
            posts.append(asyncio.create_task(callers.post(self._next)))
        deadline = time.perf_counter() + patience_seconds
        await asyncio.wait(posts, timeout=patience_seconds)
        while due_at.keys() - self._arrived.keys() - callers.refused.keys():
            if time.perf_counter() > deadline:
                break
            await asyncio.sleep(0.01)
        for post in posts:
            post.cancel()
        await asyncio.gather(*posts, return_exceptions=True)
        callers.close()
        ended = time.perf_counter()
        faults = Counter(callers.refused.values())
        missing = due_at.keys() - self._arrived.keys()
        if silent := len(missing - callers.refused.keys()):
            faults["never arrived"] = silent
        return Taken(
            [(callers.accepted.get(number, ended) - due) * 1000 for number, due in due_at.items()],
            [(self._arrived.get(number, ended) - due) * 1000 for number, due in due_at.items()],
            [(self._arrived.get(number, ended) - at) * 1000 for number, at in callers.accepted.items()],
            len(missing),
            faults,
        )


class _Callers:
    """Connections to the API, as many as are needed at once."""

    def __init__(self, port: int, request: Callable[[int], bytes], status: int) -> None:
        self.accepted: dict[int, float] = {}
        self.refused: dict[int, str] = {}
        self._port = port
        self._request = request
        self._status = status
        self._free: list[EndpointConnection] = []
        self._opened: list[EndpointConnection] = []

    async def post(self, number: int) -> None:
        """Post one event, and note when it was accepted, or why not."""
        try:
            connection = self._free.pop() if self._free else await self._open()
        except OSError as error:
            self.refused[number] = type(error).__name__
            return
        fault = await connection.exchange(self._request(number))
        if fault is not None or connection.status != self._status:
            self.refused[number] = str(fault or connection.status)
        else:
            self.accepted[number] = time.perf_counter()
        if connection.reusable:
            connection.rest(asyncio.get_running_loop().time())
            self._free.append(connection)

    async def _open(self) -> EndpointConnection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(
            lambda: EndpointConnection(loop), "127.0.0.1", self._port
        )
        self._opened.append(connection)
        return connection

    def close(self) -> None:
        """Close them all."""
        for connection in self._opened:
            connection.abort()


class _Endpoint(asyncio.Protocol):
    """Notes when each probe arrived first, and answers."""

    def __init__(self, arrived: dict[int, float]) -> None:
        self._arrived = arrived
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            length = _LENGTH.search(self._buffer, 0, end + 2)
            whole = end + 4 + (int(length[1]) if length else 0)
            if len(self._buffer) < whole:
                return
            number = _NUMBER.search(self._buffer, end, whole)
            self._buffer = self._buffer[whole:]
            if number is not None:
                self._arrived.setdefault(int(number[1]), now)
            self._transport.write(_ANSWER)
