"""Memory and CPU time of the API with open streams: quiet, beside events, and if nobody reads them."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from bench.findings import Findings, Row
from bench.processes import BenchError, Service, place, wait_for

STREAMS = 200
ORGANISATIONS = 10
RATE = 500
BATCH = 10


def run(*, quick: bool) -> Findings:
    """Streams of several organisations, one of which sends events."""
    seconds = 5 if quick else 20
    found = Findings(f"streams: {STREAMS} open streams of {ORGANISATIONS} organisations")
    with place() as home, Service(home) as service:
        keys = [service.organisation() for _ in range(ORGANISATIONS)]
        _send(service, keys[0], 1)  # so that the memory for accepting is in use already
        for reads, what in ((True, "read"), (False, "not read")):
            rounds = [("no stream, no events", 0, 0), ("no stream", 0, RATE)]
            rounds += [("quiet", STREAMS, 0), (f"{RATE} events/s", STREAMS, RATE)]
            for name, number, rate in rounds if reads else rounds[3:]:
                with _open(service, keys, number, reads=reads):
                    row = _measure(service, keys[0], rate, seconds)
                found.rows.append({"": f"{name}, {what}" if number else name, **row})
    memory = [row["MiB"] for row in found.rows]
    found.below("KiB for a quiet stream", (memory[2] - memory[1]) * 1024 / STREAMS, 200)
    found.notes.append(f"the events are those of one organisation, with {STREAMS // ORGANISATIONS} streams")
    return found


def _measure(service: Service, key: str, rate: int, seconds: float) -> Row:
    """Send at this rate for so long."""
    before = service.cpu()
    if rate:
        _send(service, key, seconds, rate)
    else:
        time.sleep(seconds)
    used = service.cpu().since(before)
    return {
        "MiB": service.api_memory_mib()["now"],
        "API CPU %": 100 * used.api / seconds,
        "PostgreSQL CPU %": 100 * used.postgres / seconds,
    }


def _send(service: Service, key: str, seconds: float, rate: int = RATE) -> None:
    batch = [{"type": "bench.streamed", "payload": number} for number in range(BATCH)]
    began = time.monotonic()
    for number in range(int(seconds * rate / BATCH)):
        service.must("POST", "/v1/events/batch", batch, key)
        time.sleep(max(0.0, began + (number + 1) * BATCH / rate - time.monotonic()))


@contextmanager
def _open(service: Service, keys: list[str], number: int, *, reads: bool) -> Iterator[None]:
    """So many open streams, shared evenly by these keys."""
    with ExitStack() as stack:
        for place_of in range(number):
            caller = stack.enter_context(socket.create_connection(("127.0.0.1", service.port), 60))
            stack.callback(caller.shutdown, socket.SHUT_RDWR)
            key = keys[place_of % len(keys)]
            caller.sendall(f"GET /v1/stream HTTP/1.1\r\nhost: x\r\nx-api-key: {key}\r\n\r\n".encode())
            head = caller.recv(65536)
            if not head.startswith(b"HTTP/1.1 200"):
                raise BenchError(f"A stream was answered with {head.decode()}")
            if reads:
                threading.Thread(target=_drain, args=(caller,), daemon=True).start()
        yield
    # So that the next round begins without them.
    wait_for(lambda: "triggers_streams_open 0.0" in _metrics(service), 30, "end of the streams")


def _drain(caller: socket.socket) -> None:
    with suppress(OSError):
        while caller.recv(65536):
            pass


def _metrics(service: Service) -> str:
    answer = service.ask("GET", "/metrics")
    return "" if answer is None else answer[1].decode()
