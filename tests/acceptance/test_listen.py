"""A listener beside a service that is killed and started again, and one that is killed itself."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import asyncpg

from harness import eventually
from receiving import Receiver
from triggers.domain import parse_time

from .processes import TRIGGERS, Service, ask, wait_for


class Listener:
    """`triggers listen --json`, with its lines read by threads."""

    def __init__(self, service: Service, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [TRIGGERS, "listen", "--json", *arguments],
            env={
                **os.environ,
                "TRIGGERS_URL": f"http://127.0.0.1:{service.port}",
                "TRIGGERS_API_KEY": service.first_key(),
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )
        self.lines: list[str] = []
        self.said: list[str] = []
        self._readers = []
        for stream, kept in ((self.process.stdout, self.lines), (self.process.stderr, self.said)):
            assert stream is not None
            self._readers.append(threading.Thread(target=_keep, args=[stream, kept], daemon=True))
            self._readers[-1].start()
        wait_for(lambda: self.said, 30, "listener")

    def close(self) -> None:
        """Kill it, and read to the end of what it said."""
        with self.process:
            self.process.kill()
            for reader in self._readers:
                reader.join()

    @property
    def ids(self) -> set[str]:
        """The events of the lines."""
        return {json.loads(line)["id"] for line in [*self.lines]}


def _keep(stream: Iterable[str], lines: list[str]) -> None:
    for line in stream:
        lines.append(line)  # noqa: PERF402 - each as it comes


@contextmanager
def listening(service: Service, *arguments: str) -> Iterator[Listener]:
    listener = Listener(service, *arguments)
    try:
        yield listener
    finally:
        listener.close()


def send(service: Service, count: int) -> set[str]:
    sent = set()
    for number in range(count):
        answer = ask(service.port, "/v1/events", service.first_key(), {"type": "a", "payload": number})
        assert answer is not None
        assert answer[0] == 201, answer
        sent.add(answer[1]["id"])
    return sent


def temporary(service: Service) -> list[dict[str, str]]:
    """The inboxes of listeners that exist."""
    answer = ask(service.port, "/v1/inboxes?status=active", service.first_key())
    assert answer is not None
    return [each for each in answer[1]["data"] if each["key"].startswith("listen-")]


async def test_listeners_survive_the_service_and_leave_nothing_behind(launch: Callable[..., Service]) -> None:
    service = launch()
    service.start()
    async with Receiver() as receiver:
        with listening(service, "--forward-to", receiver.url) as first, listening(service) as second:
            sent = await asyncio.to_thread(send, service, 20)
            await eventually(lambda: sent <= set(receiver.ids), 20)
            service.kill()
            wait_for(lambda: len(first.said) >= 3 and len(second.said) >= 2, 30, "line on the outage")
            await asyncio.to_thread(service.start)
            sent |= await asyncio.to_thread(send, service, 20)
            await eventually(lambda: sent <= set(receiver.ids), 30)
            await eventually(lambda: sent <= first.ids & second.ids, 30)
            outage = [line for line in first.said if "The service" in line]
            assert [line.partition(",")[0].strip() for line in outage] == [
                "The service does not answer. Trying again.",
                "The service answers again",
            ]
            assert len(temporary(service)) == 2
            first.process.terminate()
            assert await asyncio.to_thread(first.process.wait, 20) == 0
            (left,) = temporary(service)
            second.process.kill()
            second.process.wait()
            (left,) = temporary(service)
            assert parse_time(left["expires_at"]) <= datetime.now(UTC) + timedelta(seconds=120)
            # The shortest expiry that a caller can set would make this test take half a minute.
            await _expire(await asyncio.to_thread(service.database_url), left["id"])
            await eventually(lambda: not temporary(service), 10)
            gone = ask(service.port, f"/v1/inboxes/{left['key']}", service.first_key())
            assert gone is not None
            assert gone[0] == 404


async def _expire(database_url: str, inbox_id: str) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute("update subscriptions set expires_at = now() where id = $1", inbox_id)
    finally:
        await connection.close()
