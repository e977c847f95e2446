"""What hostile callers and endpoints do. Each runs in a process of its own, and ends when its time is up."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import os
import re
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

Reader, Writer = asyncio.StreamReader, asyncio.StreamWriter
Talk = Callable[[Reader, Writer], Awaitable[None]]
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
BATCH_BYTES = 5 * 1024 * 1024
EVENT_BYTES = 255 * 1024
FREE_PLAN_SECONDS = 0.6
"""The even pace of a hundred requests a minute."""
LETTERS = b"a" * 65_536
FIELDS = b"a: b\r\n" * 10_000
EXTENSION = b"a=b;" * 16_384
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n" * 2_500


# ---- an endpoint ---------------------------------------------------------------------------------


async def endless_answer(port: int, key: str, own_port: int, begin: bytes, then: bytes) -> None:
    """Listen, post twenty events, and answer each delivery with `begin`, and then with `then` for ever."""

    async def answer(reader: Reader, writer: Writer) -> None:
        # Cancelled when the time is up, of which asyncio would complain at length.
        with suppress(asyncio.CancelledError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            await _flood(writer, begin, then)

    server = await asyncio.start_server(answer, "127.0.0.1", own_port)
    events = json.dumps([{"type": "bench.bait", "payload": {}}] * 20).encode()
    async with server:
        await _connected(port, partial(_ask, request=_batch(key, events)))
        await server.serve_forever()


async def hanging_endpoints(port: int, keys: list[str], own_port: int) -> None:
    """Listen and never answer. Post 2,000 events for each tenant. Their subscriptions send to this port."""

    async def hang(reader: Reader, _: Writer) -> None:
        with suppress(asyncio.CancelledError):
            while await reader.read(65_536):
                pass

    server = await asyncio.start_server(hang, "127.0.0.1", own_port, backlog=1_000)
    events = json.dumps([{"type": "bench.bait", "payload": {}}] * 1_000).encode()
    async with server:
        for key in keys * 2:
            await _connected(port, partial(_ask, request=_batch(key, events)))
        await server.serve_forever()


# ---- callers -------------------------------------------------------------------------------------


async def endless_trailers(port: int, begin: bytes, then: bytes) -> None:
    """Four callers without a key, whose requests have trailers that never end."""
    head = _head("/v1/events", None, "transfer-encoding: chunked") + b"2\r\n{}\r\n0\r\n" + begin
    await _on_connections(4, port, lambda _, writer: _flood(writer, head, then), pause_seconds=0.01)


async def worst_batches(port: int, key: str, pace_seconds: float) -> None:
    """One caller after whose answer the next comes: bodies of 5 MiB that say nothing, each of some KB."""
    bodies = [
        _batch(key, b"[" * BATCH_BYTES, gzipped=True),
        _batch(key, b"[0" + b",0" * (BATCH_BYTES // 2 - 2) + b"]", gzipped=True),
        _batch(key, b"\n" * BATCH_BYTES, gzipped=True, media_type="application/x-ndjson"),
    ]
    await _in_turn(port, bodies, pace_seconds)


async def same_pointers(port: int, key: str) -> None:
    """Batches and events whose ordering key is a large object for each of a thousand subscriptions."""
    members = ",".join(f'"member {number}":{number}' for number in range(EVENT_BYTES // 25))
    event = b'{"type":"bench.pointer","payload":{"k":{%s}}}' % members.encode()
    head = _head("/v1/events", key, f"content-length: {len(event)}")
    batch = b"[" + b",".join([event] * 18) + b"]"
    await _in_turn(port, [_batch(key, batch), *[head + event] * 8], FREE_PLAN_SECONDS)


async def filtered_batches(port: int, key: str) -> None:
    """Twelve callers send batches at once. Sixty filters are evaluated for each event."""
    lines = [{"sku": f"sku-{number}", "price": number} for number in range(20)]
    batch = json.dumps([{"type": "bench.filtered", "payload": {"lines": lines}}] * 1000).encode()
    await _on_connections(12, port, partial(_ask, request=_batch(key, batch)), pause_seconds=0.01)


async def dry_runs(port: int, key: str) -> None:
    """Forty callers try a filter on the newest thousand events, again and again."""
    body = json.dumps({"filter": "payload.text.contains('never') || payload.n < 0", "last": 1000}).encode()
    request = _head("/v1/subscriptions/dry-run", key, f"content-length: {len(body)}") + body
    await _on_connections(40, port, partial(_ask, request=request), pause_seconds=0.01)


async def random_hosts(port: int) -> None:
    """Eight callers without a key read the documentation, each time with another `Host` header."""

    async def read(reader: Reader, writer: Writer) -> None:
        while True:
            await _ask(reader, writer, f"GET /docs HTTP/1.1\r\nhost: {os.urandom(8).hex()}\r\n\r\n".encode())

    await _on_connections(8, port, read, pause_seconds=0)


async def broad_events(port: int, key: str) -> None:
    """Four callers post events that each go to a thousand subscriptions."""
    body = b'{"type":"bench.broad","payload":{}}'
    request = _head("/v1/events", key, f"content-length: {len(body)}") + body
    await asyncio.gather(*[_in_turn(port, [request], 0.0) for _ in range(4)])


async def unread_pipelines(port: int) -> None:
    """Two hundred callers without a key send 110 KB of requests each, and read no answer."""
    requests = b"GET /livez HTTP/1.1\r\nhost: bench\r\n\r\n" * 3_000
    loop = asyncio.get_running_loop()
    connections = []
    for _ in range(200):
        connection = socket.socket()
        # So that little of what is answered finds room on our side.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.setblocking(False)
        connections.append(connection)

    async def send(connection: socket.socket) -> None:
        with suppress(OSError):
            await loop.sock_connect(connection, ("127.0.0.1", port))
            await loop.sock_sendall(connection, requests)

    await asyncio.gather(*map(send, connections))
    await loop.create_future()


async def withheld_ends(port: int, keys: list[str]) -> None:
    """Tenants send all but the ends of bodies: twelve that inflate from 154 KiB to 5 MiB, and then ever
    smaller ones, which take to the last byte the room that those leave."""
    gzipped = [BATCH_BYTES] * 12 + [2**power for power in range(21, 16, -1) for _ in range(2)]
    plain = [2**power for power in range(16, 0, -1) for _ in range(2)]

    async def withhold(request: bytes) -> None:
        with suppress(OSError):
            await _connected(port, partial(_say_and_listen, request=request))

    async with asyncio.TaskGroup() as group:
        for size in (*gzipped, *plain):
            text = b'["' + base64.b64encode(os.urandom(size // 35)) + b'"'
            text = text.ljust(size)[:size]
            for key in keys:
                request = _batch(key, text, gzipped=True)[:-10] if size in gzipped else _batch(key, text)[:-1]
                group.create_task(withhold(request))
            await asyncio.sleep(0.02)  # in this order, so that the large ones find room


# ---- what they share -----------------------------------------------------------------------------


def _head(path: str, key: str | None, *fields: str, media_type: str = "application/json") -> bytes:
    lines = [f"POST {path} HTTP/1.1", "host: bench", f"content-type: {media_type}", *fields]
    if key is not None:
        lines.append(f"authorization: Bearer {key}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def _batch(key: str, text: bytes, *, gzipped: bool = False, media_type: str = "application/json") -> bytes:
    body = gzip.compress(text) if gzipped else text
    fields = [f"content-length: {len(body)}", *["content-encoding: gzip"] * gzipped]
    return _head("/v1/events/batch", key, *fields, media_type=media_type) + body


async def _connected(port: int, talk: Talk) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        await talk(reader, writer)
    finally:
        writer.transport.abort()


async def _on_connections(count: int, port: int, talk: Talk, *, pause_seconds: float) -> None:
    """So many connections at once; each is opened again a pause after it has ended."""

    async def again_and_again() -> None:
        while True:
            with suppress(OSError):
                await _connected(port, talk)
            await asyncio.sleep(pause_seconds)

    await asyncio.gather(*[again_and_again() for _ in range(count)])


async def _flood(writer: Writer, begin: bytes, then: bytes) -> None:
    """Send at full speed until the other side closes."""
    with suppress(OSError):
        writer.write(begin)
        while not writer.is_closing():
            writer.write(then)
            await writer.drain()


async def _say_and_listen(reader: Reader, writer: Writer, request: bytes) -> None:
    writer.write(request)
    await reader.read()


async def _in_turn(port: int, requests: list[bytes], pace_seconds: float) -> None:
    """Send requests round and round, each when the one before was answered and the pace allows it."""
    due = asyncio.get_running_loop().time()
    while True:
        with suppress(OSError, asyncio.IncompleteReadError):
            for request in requests:
                due += pace_seconds
                await _connected(port, partial(_ask, request=request))
                await asyncio.sleep(max(0.0, due - asyncio.get_running_loop().time()))


async def _ask(reader: Reader, writer: Writer, request: bytes) -> None:
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    if length := _LENGTH.search(head):
        await reader.readexactly(int(length[1]))
