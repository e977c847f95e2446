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
from typing import NamedTuple, cast

from bench.findings import Row
from bench.processes import BenchError
from triggers.delivery.connection import Connection

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_NUMBER = re.compile(rb'"probe":(\d+)')
_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
PATIENCE_SECONDS = 30


class Taken(NamedTuple):
    """Milliseconds of each probe, from when it was to be sent: until the 201, and until it arrived."""

    accepted: list[float]
    received: list[float]

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


class Probe:
    """`async with Probe() as probe`: listens on `probe.url`; `send` posts and waits for arrivals."""

    def __init__(self) -> None:
        self.url = ""
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
        """Post events evenly at `rate`, whether or not those before were answered."""
        loop = asyncio.get_running_loop()
        free: list[Connection] = []
        accepted: dict[int, float] = {}
        due_at: dict[int, float] = {}

        async def post(number: int) -> None:
            if free:
                connection = free.pop()
            else:
                _, connection = await loop.create_connection(lambda: Connection(loop), "127.0.0.1", port)
            body = b'{"type":"bench.probe","payload":{"probe":%d}}' % number
            head = (
                f"POST /v1/events HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {key}\r\n"
                f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
            )
            fault = await connection.exchange(head.encode() + body)
            if fault is not None or connection.status != 201:
                raise BenchError(f"A probe was not accepted: {fault or connection.status}")
            accepted[number] = time.perf_counter()
            free.append(connection)

        began = time.perf_counter() + 0.1
        async with asyncio.TaskGroup() as group:
            for place in range(int(rate * seconds)):
                due = began + place / rate
                if (wait := due - time.perf_counter()) > 0:
                    await asyncio.sleep(wait)
                self._next += 1
                due_at[self._next] = due
                group.create_task(post(self._next))
        deadline = time.perf_counter() + PATIENCE_SECONDS
        while missing := due_at.keys() - self._arrived.keys():
            if time.perf_counter() > deadline:
                raise BenchError(f"{len(missing)} of {len(due_at)} probes never arrived.")
            await asyncio.sleep(0.01)
        for connection in free:
            connection.abort()
        return Taken(
            [(accepted[number] - due) * 1000 for number, due in due_at.items()],
            [(self._arrived[number] - due) * 1000 for number, due in due_at.items()],
        )


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
