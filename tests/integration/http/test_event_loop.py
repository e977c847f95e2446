"""No request holds the event loop: what is longest between two of its turns, over the worst requests."""

from __future__ import annotations

import asyncio
import gc
import gzip
import json
import re
import time
from collections.abc import Iterator
from typing import NamedTuple

import httpx
import pytest

from harness import Node, Tenant
from triggers.domain import MAX_BATCH_BYTES, MAX_EVENT_BYTES
from triggers.node.signals import settle_memory

MOST_SECONDS = 0.010
"""On a machine that does `fixed_work` in FIXED_WORK_SECONDS; on a slower one as much longer."""
FIXED_WORK_SECONDS = 0.0004
TRIES = 20
"""The least of so many counts: CPU time too is longer while the machine is shared."""


def fixed_work() -> None:
    """Work of the kind that reading a body is."""
    for match in re.finditer(rb"([\[\]])", b"[]" * 1_000):
        assert match[1]


def slowness() -> float:
    """How many times longer than FIXED_WORK_SECONDS the fixed work takes here and now, at least 1."""
    begun = time.thread_time()
    for _ in range(5):
        fixed_work()
    return max(1.0, (time.thread_time() - begun) / 5 / FIXED_WORK_SECONDS)


class Loop:
    """Measures, by the CPU time of its thread, how long the event loop goes without a turn."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._last = 0.0
        self._running = False
        self.longest = 0.0

    def __enter__(self) -> Loop:
        self._running = True
        self._last = time.thread_time()
        self._loop.call_soon(self._turn)
        return self

    def __exit__(self, *_: object) -> None:
        self._running = False

    def _turn(self) -> None:
        now = time.thread_time()
        self.longest = max(self.longest, now - self._last)
        self._last = now
        if self._running:
            self._loop.call_soon(self._turn)


class Request(NamedTuple):
    """A request, and the status that it gets."""

    status: int
    path: str
    body: bytes | None = None
    headers: dict[str, str] = {}  # noqa: RUF012 - a default that nobody changes
    method: str = "POST"


def fill(unit: bytes, size: int, begin: bytes = b"[", end: bytes = b"]", by: bytes = b",") -> bytes:
    """Of a size, or a little less: one thing over and over."""
    times = (size - len(begin) - len(end) + len(by)) // (len(unit) + len(by))
    return begin + by.join([unit] * times) + end


def event(payload: bytes) -> bytes:
    return b'{"type":"a","payload":%b}' % payload


def post(status: int, path: str, body: bytes) -> Request:
    return Request(status, path, body, {"content-type": "application/json"})


def zipped(status: int, body: bytes, media_type: str = "application/json") -> Request:
    headers = {"content-type": media_type, "content-encoding": "gzip"}
    return Request(status, "/v1/events/batch", gzip.compress(body, 1), headers)


SPACE = MAX_EVENT_BYTES - len(event(b""))
NAMES = b"{%b}" % b",".join(b'"%x":0' % n for n in range(28_000))
PAYLOADS = {
    "empty arrays": fill(b"[]", SPACE),
    "empty objects": fill(b"{}", SPACE),
    "small objects": fill(b'{"":[]}', SPACE),
    "numbers": fill(b"1", SPACE),
    "floats": fill(b"1e1", SPACE),
    "floats hard to read": fill(b"1.7976931348623157e-300", SPACE),
    "long numbers": fill(b"1" * 4_000, SPACE),
    "texts": fill(b'""', SPACE),
    "texts with brackets": fill(b'"[:"', SPACE),
    "names": NAMES,
    "escaped names": fill(b'{"\\u003a":0}', SPACE),
    "an escaped text": b'"%b"' % (b'\\"' * (SPACE // 2 - 1)),
    "deep": fill(b"[" * 120 + b"]" * 120, SPACE),
}
REQUESTS = {
    **{f"event of {name}": post(201, "/v1/events", event(each)) for name, each in PAYLOADS.items()},
    **{
        f"broken event of {name}": post(400, "/v1/events", event(each)[:-2])
        for name, each in PAYLOADS.items()
    },
    "event with a name twice": post(400, "/v1/events", event(b'{%b,"":1,"":1}' % NAMES[1:-1])),
    "event of unknown fields": post(422, "/v1/events", b'{"type":"a","payload":1,%b' % NAMES[1:]),
    "event of brackets": post(400, "/v1/events", b"[" * MAX_EVENT_BYTES),
    **{
        f"batch of {name}": zipped(200, fill(event(each), MAX_BATCH_BYTES)) for name, each in PAYLOADS.items()
    },
    "batch of brackets": zipped(400, b"[" * MAX_BATCH_BYTES),
    "batch that is deep": zipped(
        413, b"[" + b"[" * (MAX_BATCH_BYTES // 2 - 1) + b"]" * (MAX_BATCH_BYTES // 2 - 1) + b"]"
    ),
    "batch of objects without end": zipped(400, b"[" + b'{"a":' * (MAX_BATCH_BYTES // 5 - 1)),
    "batch of one long item": zipped(413, b"[%b]" % fill(b'{"a":"]"}', MAX_BATCH_BYTES - 2)),
    "batch of one long text": zipped(413, b'["%b"]' % (b'\\"' * (MAX_BATCH_BYTES // 2 - 2))),
    "batch of a text without end": zipped(400, b'["' + b'\\"' * (MAX_BATCH_BYTES // 2 - 1)),
    "batch of short items": zipped(413, fill(b"1", MAX_BATCH_BYTES)),
    "batch of short arrays": zipped(413, fill(b"[]", MAX_BATCH_BYTES)),
    "batch of half surrogates": zipped(413, fill(b'"\\ud800"', MAX_BATCH_BYTES)),
    "batch of blanks": zipped(400, b" " * MAX_BATCH_BYTES),
    "batch of wrong items": zipped(422, fill(fill(b"1", 5_500), MAX_BATCH_BYTES)),
    "batch of broken lines": zipped(
        400, fill(b"[" * 5_500, MAX_BATCH_BYTES, b"", b"", b"\n"), "application/x-ndjson"
    ),
    "batch of line feeds": zipped(200, b"\n" * MAX_BATCH_BYTES, "application/x-ndjson"),
    "batch of short lines": zipped(413, b"1\n" * (MAX_BATCH_BYTES // 2), "application/x-ndjson"),
    "batch of gzip members": Request(
        422,
        "/v1/events/batch",
        gzip.compress(b"[") + gzip.compress(b"") * 900 + gzip.compress(b"1" + b" " * 5_000_000 + b"]"),
        {"content-type": "application/json", "content-encoding": "gzip"},
    ),
    **{
        f"subscription of {name}": post(422, "/v1/subscriptions", each)
        for name, each in PAYLOADS.items()
        if "an escaped" not in name
    },
    "subscription of brackets": post(400, "/v1/subscriptions", b"[" * MAX_EVENT_BYTES),
    "acknowledgement": post(
        200, "/v1/ack", json.dumps({"event_ids": ["019ab0e4-7c11-7d5f-9f6b-3c2a1e5d8b70"] * 1_000}).encode()
    ),
    "reference": Request(200, "/docs/api", method="GET"),
    "guide": Request(200, "/docs/webhooks", method="GET"),
    "search for guides": Request(200, "/docs/search?q=" + "a+e+i+o+u+t+s+m+" * 1_000, method="GET"),
    "OpenAPI": Request(200, "/openapi.json", method="GET"),
    "problems": Request(200, "/problems", method="GET"),
    "parameters": Request(422, "/v1/events?" + "a=&" * 10_000, method="GET"),
}


@pytest.fixture(autouse=True)
def settled() -> Iterator[None]:
    """The garbage collector as the service has it."""
    threshold = gc.get_threshold()
    settle_memory()
    yield
    gc.set_threshold(*threshold)
    gc.unfreeze()


async def longest_gap(node: Node, tenant: Tenant, request: Request) -> tuple[int, float]:
    """The status of a request, and the longest gap of the loop, the least of some tries."""

    def send() -> int:
        with httpx.Client(base_url=node.url, headers=tenant.headers, timeout=120) as client:
            answer = client.request(
                request.method, request.path, content=request.body, headers=request.headers
            )
            return answer.status_code

    gap = float("inf")
    status = 0
    for _ in range(TRIES):
        with Loop() as loop:
            status = await asyncio.to_thread(send)
        gap = min(gap, loop.longest / slowness())
        if gap <= MOST_SECONDS:
            break
    return status, gap


GROUPS = ["event of", "broken event", "event with", "batch of", "batch that", "subscription", ""]


def group_of(name: str) -> str:
    return next(each for each in GROUPS if name.startswith(each))


@pytest.mark.timeout(600)  # tens of requests, each of them as much work as there can be
@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group or "others")
async def test_no_request_holds_the_event_loop(node: Node, tenant: Tenant, group: str) -> None:
    requests = {name: each for name, each in REQUESTS.items() if group_of(name) == group}
    found = {name: await longest_gap(node, tenant, each) for name, each in requests.items()}
    for name, (status, gap) in sorted(found.items(), key=lambda each: -each[1][1]):
        print(f"{gap * 1000:6.1f} ms {status} {name}")
    assert {name: status for name, (status, _) in found.items()} == {
        name: each.status for name, each in requests.items()
    }
    assert {name: gap for name, (_, gap) in found.items() if gap > MOST_SECONDS} == {}
