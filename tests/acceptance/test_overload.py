"""More than the waiting room takes, while PostgreSQL stands still: 503, bounded memory, nothing dropped."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import Callable

import psutil
import pytest

from harness import eventually

from .processes import Service
from .wire import Client, NotSent, Unknown, whole_inbox

SINGLES = 300
BATCHES = 60
SINGLE_BYTES = 200_000
BATCH_EVENTS = 20
ROOM_MIB = 16
GROWTH_MIB = 256
"""What the process may grow by: the room, twice over for what is on its way to PostgreSQL and in the
driver's buffers, and the bodies that arrive at the same moment, which are refused once they are whole."""


def resident_mib(pid: int) -> float:
    return float(psutil.Process(pid).memory_info().rss) / 2**20


async def flood(client: Client, name: str, batch: bool, kept: dict[str, str], statuses: Counter[str]) -> None:
    """Send the same until it is accepted; note every answer."""
    size = SINGLE_BYTES if not batch else 4 * SINGLE_BYTES // BATCH_EVENTS
    names = [f"{name}-{n}" for n in range(BATCH_EVENTS if batch else 1)]
    events = [b'{"type":"flood","dedup_id":"%b","payload":"%b"}' % (n.encode(), b"x" * size) for n in names]
    body = b"[" + b",".join(events) + b"]" if batch else events[0]
    while True:
        try:
            answer = await client.post("/v1/events/batch" if batch else "/v1/events", body)
        except (NotSent, Unknown):
            statuses["no answer"] += 1
            await asyncio.sleep(0.2)
            continue
        statuses[str(answer.status)] += 1
        if answer.status == 503:
            assert int(answer.headers["retry-after"]) > 0, answer
        elif batch:
            assert answer.status in (200, 207), answer
            results = answer.json["results"]
            statuses.update(f"item {each['status']}" for each in results)
            kept.update(
                {n: each["id"] for n, each in zip(names, results, strict=True) if each["status"] < 300}
            )
            if all(each["status"] < 300 for each in results):
                return
            assert {each["status"] for each in results} <= {200, 201, 503}, answer
        else:
            assert answer.status in (200, 201), answer
            kept[name] = answer.json["id"]
            return
        await asyncio.sleep(0.2)  # a client that heeds Retry-After less than it should


@pytest.mark.timeout(150)
async def test_memory_is_bounded_and_no_answer_is_broken(
    launch: Callable[..., Service], note: Callable[[str], None]
) -> None:
    service = launch()
    service.start("--max-waiting-bytes", str(ROOM_MIB * 2**20), "--log-level", "warning")
    key = service.first_key()
    api = service.api_pid()
    assert api is not None
    kept: dict[str, str] = {}
    statuses: Counter[str] = Counter()
    clients = [service.client(key, timeout=40) for _ in range(SINGLES + BATCHES)]
    async with clients[0] as client:  # so that the key is known and a connection to PostgreSQL is open
        assert (await client.post("/v1/events", {"type": "first", "payload": 1})).status == 201
    before = most = resident_mib(api)
    flooding: list[asyncio.Task[None]] = []

    async def watch() -> None:
        nonlocal most
        while True:
            most = max(most, resident_mib(api))
            await asyncio.sleep(0.02)

    watching = asyncio.create_task(watch())
    try:
        service.signal_postgres(signal.SIGSTOP)
        flooding = [
            asyncio.create_task(flood(client, f"f{number}", number >= SINGLES, kept, statuses))
            for number, client in enumerate(clients)
        ]
        await eventually(lambda: statuses["503"] >= SINGLES + BATCHES, 60)
        assert not kept, "nothing can have been stored"
        stood_still = most
        service.signal_postgres(signal.SIGCONT)
        async with asyncio.timeout(60):
            await asyncio.gather(*flooding)
    finally:
        service.signal_postgres(signal.SIGCONT)
        for task in (watching, *flooding):
            task.cancel()
        await asyncio.gather(watching, *flooding, return_exceptions=True)
        for client in clients:
            await client.close()
    sent_mib = (SINGLES + 4 * BATCHES) * SINGLE_BYTES / 2**20
    note(
        f"{sent_mib:.0f} MiB offered again and again to a room of {ROOM_MIB} MiB: {dict(statuses)};"
        f" resident {before:.0f} MiB, at most {stood_still:.0f} while PostgreSQL stood, {most:.0f} after"
    )
    assert most - before < GROWTH_MIB
    async with service.client(key) as client:
        listed = Counter(each.id for each in await whole_inbox(client))
        assert len(kept) == SINGLES + BATCHES * BATCH_EVENTS
        assert set(kept.values()) < set(listed), "every 2xx is there"
        assert len(listed) == len(kept) + 1
        assert max(listed.values()) == 1
