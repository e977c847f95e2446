"""Which client sends deliveries: ours against pyreqwest and aiohttp, guarded and raw.

    python -m bench.outbound [--requests 20000] [--in-flight 64] [--rounds 3]

Needs nginx as the receiver; aiohttp is left out where it is not installed. Every client sends in every
round, in turn, so a busy machine is busy for all of them; shown are medians, and what each reaches of the
best raw one. CPU is that of the sending process, its threads included.
"""

import argparse
import asyncio
import ipaddress
import os
import platform
import socket
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import UUID

import uvloop
from pyreqwest.client import ClientBuilder

from bench.receiver import receiver
from triggers.outbound.addresses import OutboundPolicy, permitted
from triggers.outbound.client import Outbound
from triggers.outbound.connection import EndpointConnection
from triggers.outbound.dns import LookUps

try:
    import aiohttp
except ImportError:
    aiohttp = None

BODY = b'{"type":"order.paid","data":"' + b"x" * 400 + b'"}'
HEADERS = [
    ("content-type", "application/json"),
    ("user-agent", "Triggers"),
    ("webhook-id", "0190f3c8-0000-7000-8000-000000000000"),
    ("webhook-timestamp", "1700000000"),
    ("webhook-signature", "v1," + "a" * 44),
]
NAME = "hooks.test"
HOME = (ipaddress.ip_network("127.0.0.0/8"),)
OPEN = OutboundPolicy(allow=HOME, allow_http=True)
HOSTS_HERE = LookUps(lambda host: ("127.0.0.1",))
ORG = UUID(int=1)

Send = Callable[[], Awaitable[None]]


@asynccontextmanager
async def ours(port: int, in_flight: int) -> AsyncIterator[Send]:
    sender = Outbound(
        OutboundPolicy(allow=HOME, allow_http=True), look_ups=LookUps(lambda host: ("127.0.0.1",))
    )
    url = f"http://{NAME}:{port}/hook"

    async def send() -> None:
        result = await sender.send(url, HEADERS, BODY, org=ORG)
        assert result.status == 200

    yield send
    await sender.close()


@asynccontextmanager
async def ours_raw(port: int, in_flight: int) -> AsyncIterator[Send]:
    """Only the connections: no URL, name, address, header check, pool or time limit."""
    loop = asyncio.get_running_loop()
    free = []
    for _ in range(in_flight):
        _, connection = await loop.create_connection(lambda: EndpointConnection(loop), "127.0.0.1", port)
        free.append(connection)
    lines = "".join(f"{name}: {value}\r\n" for name, value in HEADERS)
    head = f"POST /hook HTTP/1.1\r\nhost: {NAME}\r\ncontent-length: {len(BODY)}\r\n{lines}\r\n".encode()

    async def send() -> None:
        connection = free.pop()
        assert await connection.exchange(head + BODY) is None
        assert connection.status == 200
        connection.rest(loop.time())
        free.append(connection)

    yield send
    for connection in free:
        connection.abort()


def reqwest_client(name: str):
    return (
        ClientBuilder()
        .no_proxy()
        .follow_redirects(False)
        .referer(False)
        .gzip(False)
        .brotli(False)
        .zstd(False)
        .deflate(False)
        .timeout(timedelta(seconds=20))
        .resolve(name, "127.0.0.1", 0)
        .build()
    )


@asynccontextmanager
async def pyreqwest_pinned(port: int, in_flight: int) -> AsyncIterator[Send]:
    """A client per host and judged address, found in a dictionary; at most 16 KiB of the answer read."""
    clients = {(NAME, "127.0.0.1"): reqwest_client(NAME)}
    url = f"http://{NAME}:{port}/hook"

    async def send() -> None:
        request = clients[NAME, "127.0.0.1"].post(url).headers(HEADERS).body_bytes(BODY)
        async with request.streamed_read_buffer_limit(16384).build_streamed() as response:
            assert response.status == 200
            response.get_header("retry-after")
            await response.body_reader.read(16384)

    yield send
    for client in clients.values():
        await client.close()


@asynccontextmanager
async def pyreqwest_raw(port: int, in_flight: int) -> AsyncIterator[Send]:
    client = reqwest_client(NAME)
    url = f"http://127.0.0.1:{port}/hook"

    async def send() -> None:
        response = await client.post(url).headers(HEADERS).body_bytes(BODY).build().send()
        assert response.status == 200
        await response.bytes()

    yield send
    await client.close()


@asynccontextmanager
async def aiohttp_session(guarded: bool, port: int, in_flight: int) -> AsyncIterator[Send]:
    class Resolver(aiohttp.abc.AbstractResolver):
        async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[dict[str, object]]:
            return [
                {"hostname": host, "host": "127.0.0.1", "port": port, "family": 2, "proto": 0, "flags": 4},
            ]

        async def close(self) -> None: ...

    def guarded_socket(info) -> socket.socket:
        if permitted(ipaddress.ip_address(info[4][0]), HOME) is None:
            raise OSError("forbidden")
        return socket.socket(info[0], info[1], info[2])

    options = {"socket_factory": guarded_socket, "resolver": Resolver()} if guarded else {}
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=512, **options),
        timeout=aiohttp.ClientTimeout(total=20, connect=5),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
    )
    url = f"http://{NAME if guarded else '127.0.0.1'}:{port}/hook"

    async def send() -> None:
        async with session.post(url, data=BODY, headers=HEADERS, allow_redirects=False) as response:
            assert response.status == 200
            await response.content.read(16384)

    yield send
    await session.close()


async def measure(client, port: int, requests: int, in_flight: int) -> tuple[float, float]:
    """Requests per second and microseconds of CPU for each."""
    async with client(port, in_flight) as send:
        for _ in range(in_flight):
            await send()
        left = requests

        async def run() -> None:
            nonlocal left
            while left > 0:
                left -= 1
                await send()

        began, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*[run() for _ in range(in_flight)])
        return requests / (time.perf_counter() - began), (time.process_time() - cpu) / requests * 1e6


async def first_contact_ours(port: int, hosts: int) -> float:
    sender = Outbound(
        OutboundPolicy(allow=HOME, allow_http=True), look_ups=LookUps(lambda host: ("127.0.0.1",))
    )
    await sender.send(f"http://{NAME}:{port}/", HEADERS, BODY, org=ORG)
    cpu = time.process_time()
    for number in range(hosts):
        result = await sender.send(f"http://h{number}.test:{port}/", HEADERS, BODY, org=ORG)
        assert result.status == 200
    cpu = time.process_time() - cpu
    await sender.close()
    return cpu / hosts * 1e6


async def first_contact_pyreqwest(port: int, hosts: int) -> float:
    clients = [reqwest_client(NAME)]
    cpu = time.process_time()
    for number in range(hosts):
        client = reqwest_client(f"h{number}.test")
        response = (
            await client.post(f"http://h{number}.test:{port}/")
            .headers(HEADERS)
            .body_bytes(BODY)
            .build()
            .send()
        )
        assert response.status == 200
        clients.append(client)
    cpu = time.process_time() - cpu
    for client in clients:
        await client.close()
    return cpu / hosts * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()

    clients = {
        "ours, guarded": ours,
        "ours, raw": ours_raw,
        "pyreqwest, pinned": pyreqwest_pinned,
        "pyreqwest, raw": pyreqwest_raw,
    }
    if aiohttp is not None:
        clients["aiohttp, guarded"] = lambda port, in_flight: aiohttp_session(True, port, in_flight)
        clients["aiohttp, raw"] = lambda port, in_flight: aiohttp_session(False, port, in_flight)

    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(f"{machine}, load {os.getloadavg()[0]:.1f}")
    print(f"{arguments.in_flight} in flight, a body of {len(BODY)} B, one nginx worker")
    figures: dict[str, list[tuple[float, float]]] = {name: [] for name in clients}
    with receiver() as nginx:
        port = nginx.port
        for _ in range(arguments.rounds):
            for name, client in clients.items():
                figures[name].append(
                    uvloop.run(measure(client, port, arguments.requests, arguments.in_flight))
                )
        medians = {
            name: tuple(statistics.median(column) for column in zip(*rows, strict=True))
            for name, rows in figures.items()
        }
        ceiling = max(rate for name, (rate, _) in medians.items() if name.endswith("raw"))
        for name, (rate, cpu) in medians.items():
            print(f"{name:20} {rate:8,.0f}/s {rate / ceiling:5.2f} of the best raw  {cpu:5.0f} µs CPU")
        cost = uvloop.run(first_contact_ours(port, 200))
        print(f"first request to a new host, ours       {cost:6,.0f} µs CPU")
        cost = uvloop.run(first_contact_pyreqwest(port, 100))
        print(f"first request to a new host, pyreqwest  {cost:6,.0f} µs CPU")


if __name__ == "__main__":
    main()
