"""Delivery workers killed, stopped and frozen under load, and PostgreSQL under them.

Judged by the receiver's log and by the database together: every accepted event arrives or is a dead
letter; what arrives twice was under way when somebody died; nobody sends what another is sending.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import asyncpg
import psutil
import pytest

from harness import eventually
from receiving import FAILED, OK, Hook, Receiver
from triggers.push.ownership import TAKEOVER_SECONDS
from triggers.subscriptions.rules import DEFAULT_CONCURRENCY

from .processes import TRIGGERS, Service, wait_for

SEED = int(os.environ.get("ACCEPTANCE_SEED", random.SystemRandom().randrange(10**6)))
KILLS = 20
LANES = 6
DELAYS = [0.2] * 40
SETTLING_SECONDS = 1.5
"""What was answered so shortly before a kill may not have been settled; and then it comes again."""


class Delivering:
    """A `triggers serve` that may deliver to this machine, its worker, and further workers beside it."""

    def __init__(self, service: Service) -> None:
        self.service = service
        service.environment["TRIGGERS_OUTBOUND_ALLOW"] = "127.0.0.0/8"
        service.environment["TRIGGERS_OUTBOUND_ALLOW_HTTP"] = "1"
        self._beside: list[subprocess.Popen[bytes]] = []
        self._connections: list[asyncpg.Connection] = []

    def worker_pid(self) -> int | None:
        """The worker that `serve` looks after."""
        assert self.service.process is not None
        for child in psutil.Process(self.service.process.pid).children():
            try:
                if child.status() != psutil.STATUS_ZOMBIE and "triggers.node.work" in child.cmdline():
                    return child.pid
            except psutil.Error:
                continue
        return None

    def start_worker(self) -> subprocess.Popen[bytes]:
        """One more `triggers worker`, on its own."""
        with (self.service.place / "worker.log").open("ab") as log:
            started = subprocess.Popen(
                [TRIGGERS, "worker"],
                env=self.service.environment,
                cwd=self.service.place,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._beside.append(started)
        return started

    async def end(self) -> None:
        for connection in self._connections:
            await connection.close()
        for process in self._beside:
            if process.poll() is None:
                process.kill()
            process.wait()

    async def connect(self) -> asyncpg.Connection:
        """To the database; closed with the test."""
        connection = await asyncpg.connect(self.service.database_url())
        self._connections.append(connection)
        return connection


@pytest.fixture
async def delivering(launch: Callable[..., Service]) -> AsyncIterator[Delivering]:
    """Not started yet."""
    made = Delivering(launch(fresh=True))
    try:
        yield made
    finally:
        await made.end()


async def subscribe(service: Service, url: str, **settings: Any) -> str:
    async with service.client(service.first_key()) as client:
        answer = await client.post("/v1/subscriptions", {"target_url": url, **settings})
        assert answer.status == 201, answer
        return str(answer.json["id"])


async def post_events(service: Service, number: int, **fields: Any) -> list[str]:
    ids: list[str] = []
    async with service.client(service.first_key()) as client:
        for first in range(0, number, 500):
            events = [{"type": "a", "payload": n, **fields} for n in range(first, min(first + 500, number))]
            answer = await client.post("/v1/events/batch", events)
            assert answer.status == 200, answer
            ids += [each["id"] for each in answer.json["results"]]
    return ids


async def keep_posting(service: Service, accepted: list[str], stopped: asyncio.Event) -> None:
    """Events, one after the other, until told to stop."""
    async with service.client(service.first_key()) as client:
        while not stopped.is_set():
            answer = await client.post("/v1/events", {"type": "a", "payload": len(accepted)})
            assert answer.status == 201, answer
            accepted.append(answer.json["id"])
            await asyncio.sleep(0.1)  # the load: ten a second to each lane, which one on probation can bear


async def drained(connection: asyncpg.Connection) -> bool:
    return not await connection.fetchval(
        "select exists (select from deliveries where lane_group is not null)"
    )


def failing_a_third(chance: random.Random) -> Callable[[Hook], Awaitable[bytes]]:
    async def answer(_: Hook) -> bytes:
        await asyncio.sleep(chance.uniform(0.0, 0.05))
        return FAILED if chance.random() < 1 / 3 else OK

    return answer


@contextmanager
def noting_answers(receiver: Receiver) -> Iterator[dict[tuple[str, str], list[Hook]]]:
    """The requests that were answered yes, by path and event."""
    taken: dict[tuple[str, str], list[Hook]] = defaultdict(list)
    inner = receiver.answer

    async def answer(hook: Hook) -> bytes | None:
        found = inner(hook)
        answered = found if isinstance(found, bytes) or found is None else await found
        if answered == OK:
            taken[hook.path, hook.id].append(hook)
        return answered

    receiver.answer = answer
    yield taken


@pytest.mark.timeout(240)
async def test_twenty_kills_under_load(delivering: Delivering, note: Callable[[str], None]) -> None:
    note(f"seed {SEED}; ACCEPTANCE_SEED={SEED} chooses the same victims")
    chance = random.Random(SEED)
    service = delivering.service
    service.start()
    kills: list[float] = []
    accepted: list[str] = []
    stopped = asyncio.Event()
    async with Receiver(failing_a_third(chance)) as receiver:
        with noting_answers(receiver) as taken:
            base = receiver.url.removesuffix("/hook")
            lanes = {
                await subscribe(
                    service, f"{base}/{number}", retry={"delays": DELAYS}, max_concurrency=10
                ): f"/{number}"
                for number in range(LANES)
            }
            beside = delivering.start_worker()
            posting = asyncio.create_task(keep_posting(service, accepted, stopped))
            try:
                for number in range(KILLS):
                    seen = len(receiver.hooks)
                    await eventually(lambda before=seen: len(receiver.hooks) > before + 20, 30)
                    await asyncio.sleep(chance.uniform(0.0, 0.5))  # the random moment
                    if number % 4 == 3 and (pid := delivering.worker_pid()) is not None:
                        os.kill(pid, signal.SIGKILL)
                    else:
                        beside.kill()
                        beside.wait()
                        beside = delivering.start_worker()
                    kills.append(time.monotonic())
                stopped.set()
                await posting
            finally:
                posting.cancel()
                await asyncio.gather(posting, return_exceptions=True)
            connection = await delivering.connect()
            await eventually(lambda: drained(connection), 60)
            await judge(connection, lanes, accepted, receiver, taken, kills, note)


async def judge(
    connection: asyncpg.Connection,
    lanes: dict[str, str],
    accepted: list[str],
    receiver: Receiver,
    taken: dict[tuple[str, str], list[Hook]],
    kills: list[float],
    note: Callable[[str], None],
) -> None:
    rows = await connection.fetch(
        "select subscription_id::text, event_id::text, status, attempts from settled_deliveries"
    )
    ended = {(lanes[row[0]], row[1]): row for row in rows if row[0] in lanes}
    assert len(ended) == len(accepted) * len(lanes), "each is settled, once"
    lost = [key for key, row in ended.items() if row["status"] != "dead" and not taken.get(key)]
    assert lost == [], "settled as delivered, and nobody took it"
    dead = [key for key, row in ended.items() if row["status"] == "dead"]
    assert {row["status"] for row in ended.values()} <= {"delivered", "dead"}
    assert {key for key in taken if key not in ended} == set(), "from nowhere"

    # Attempts: by the record never more than the schedule has; by the receiver, those that died besides.
    assert max(row["attempts"] for row in ended.values()) <= len(DELAYS) + 1
    requests = Counter((hook.path, hook.id) for hook in receiver.hooks)
    assert max(requests.values()) <= len(DELAYS) + 1 + len(kills)

    # Twice: only what was under way, or not settled yet, when a worker died.
    doubled = {key: hooks for key, hooks in taken.items() if len(hooks) > 1}
    for key, hooks in doubled.items():
        for first, second in pairwise(sorted(hooks, key=lambda hook: hook.at)):
            assert any(
                first.at - SETTLING_SECONDS < kill < second.at and kill < first.at + 10 for kill in kills
            ), (key, first.at, second.at)
    under_way = sum(
        sum(kill - SETTLING_SECONDS < hook.at <= kill for hook in receiver.hooks) for kill in kills
    )
    assert sum(len(hooks) - 1 for hooks in doubled.values()) <= under_way
    assert overlapping(receiver, kills) == [], "two workers sent one delivery at once"
    note(
        f"{len(kills)} kills; {len(accepted)} events to {len(lanes)} lanes in {len(receiver.hooks)} requests,"
        f" {len(dead)} dead letters, {sum(len(h) - 1 for h in doubled.values())} taken twice"
        f" of {under_way} under way"
    )
    groups = await connection.fetch("select count(distinct token) from lane_groups group by worker_id")
    assert all(group[0] >= 1 for group in groups)


def overlapping(receiver: Receiver, kills: list[float]) -> list[tuple[str, str]]:
    """Deliveries that were sent anew while an earlier request was unanswered, and nobody had died since."""
    by_delivery: dict[tuple[str, str], list[Hook]] = defaultdict(list)
    for hook in receiver.hooks:
        by_delivery[hook.path, hook.id].append(hook)
    return [
        key
        for key, hooks in by_delivery.items()
        for first, second in pairwise(hooks)
        if (first.answered_at is None or second.at < first.answered_at)
        and not any(first.at <= kill <= second.at for kill in kills)
    ]


@pytest.mark.timeout(120)
async def test_a_frozen_worker_comes_back_as_another(
    delivering: Delivering, note: Callable[[str], None]
) -> None:
    """SIGSTOP for longer than a takeover: the other has its lanes, and it begins anew."""
    service = delivering.service
    service.start()
    frozen = await eventually(delivering.worker_pid)
    async with Receiver(failing_a_third(random.Random(SEED))) as receiver:
        with noting_answers(receiver) as taken:
            base = receiver.url.removesuffix("/hook")
            lanes = [
                await subscribe(service, f"{base}/{number}", retry={"delays": DELAYS}, max_concurrency=10)
                for number in range(LANES)
            ]
            delivering.start_worker()
            connection = await delivering.connect()

            async def shared() -> bool:
                rows = await connection.fetch(
                    "select count(*) from lane_groups where worker_id is not null group by worker_id"
                )
                return [row[0] for row in rows] == [32, 32]

            await eventually(shared, 20)
            accepted: list[str] = []
            stopped = asyncio.Event()
            posting = asyncio.create_task(keep_posting(service, accepted, stopped))
            await eventually(lambda: len(receiver.hooks) > 200, 20)
            old = await connection.fetchval("select id from workers where name like $1", f"%:{frozen}")
            os.kill(frozen, signal.SIGSTOP)
            froze = time.monotonic()
            try:

                async def taken_over() -> bool:
                    return not await connection.fetchval(
                        "select exists (select from lane_groups where worker_id = $1)", old
                    )

                await eventually(taken_over, TAKEOVER_SECONDS + 4)
                moved = len(receiver.hooks)
                await eventually(lambda: len(receiver.hooks) > moved + 200, 20)
            finally:
                os.kill(frozen, signal.SIGCONT)

            async def back() -> bool:
                rows = await connection.fetch(
                    "select id, dead_at from workers where name like $1", f"%:{frozen}"
                )
                return len(rows) == 2 and {row["dead_at"] is None for row in rows} == {True, False}

            await eventually(back, 10)
            await eventually(shared, 20)
            stopped.set()
            await posting
            await eventually(lambda: drained(connection), 40)
            rows = await connection.fetch(
                "select status, count(*) from settled_deliveries where lease_count = 0 group by 1"
            )
            assert {row[0]: row[1] for row in rows} == {"delivered": len(accepted) * len(lanes)}
            assert len(taken) == len(accepted) * len(lanes)
            doubled = sum(len(hooks) - 1 for hooks in taken.values())
            assert overlapping(receiver, [froze]) == []
            # What it had in flight was cut off by its freezing: ten at a time of each lane.
            assert doubled <= 10 * LANES
            note(f"{doubled} taken twice")


@pytest.mark.timeout(90)
async def test_a_worker_that_is_asked_to_stop_finishes_and_gives_back(delivering: Delivering) -> None:
    """SIGTERM: what is in flight is finished and recorded, the other goes on at once, nothing comes twice."""
    service = delivering.service
    service.start()
    leaving = delivering.start_worker()

    async def slow(_: Hook) -> bytes:
        await asyncio.sleep(0.3)
        return OK

    async with Receiver(slow) as receiver:
        for _ in range(LANES):
            await subscribe(service, receiver.url, max_concurrency=10)
        connection = await delivering.connect()

        async def both() -> bool:
            return bool(await connection.fetchval("select count(distinct worker_id) from lane_groups") == 2)

        await eventually(both, 20)
        ids = await post_events(service, 300)
        await eventually(lambda: len(receiver.hooks) > 200, 20)
        asked = time.monotonic()
        leaving.terminate()
        code = await asyncio.to_thread(leaving.wait, 20)
        assert code == 0
        stopped_after = time.monotonic() - asked

        async def all_with_the_other() -> bool:
            return bool(
                await connection.fetchval(
                    "select count(*) from lane_groups g join workers w on w.id = g.worker_id"
                    " where w.dead_at is null and w.name not like $1",
                    f"%:{leaving.pid}",
                )
                == 64
            )

        await eventually(all_with_the_other, TAKEOVER_SECONDS - 1)
        assert stopped_after < 5
        await eventually(lambda: drained(connection), 30)
        assert receiver.counts() == dict.fromkeys(ids, LANES), "each once to each lane"
        assert await connection.fetchval("select count(*) from attempts") == 300 * LANES


POISON = """
import os
from triggers.outbound import client as outbound

send = outbound.Outbound.send

async def deadly(self, url, headers, body, **more):
    if b"poison" in body:
        os.kill(os.getpid(), 9)
    return await send(self, url, headers, body, **more)

outbound.Outbound.send = deadly
"""


@pytest.mark.timeout(120)
async def test_a_delivery_that_kills_its_worker_ends_as_a_dead_letter(
    delivering: Delivering, note: Callable[[str], None]
) -> None:
    """Before a byte of it is sent. It is counted first; the schedule runs out, the others get through."""
    service = delivering.service
    code = service.place / "poison"
    code.mkdir()
    (code / "sitecustomize.py").write_text(POISON)
    paths = [str(code), *filter(None, [service.environment.get("PYTHONPATH")])]
    service.environment["PYTHONPATH"] = os.pathsep.join(paths)
    service.start()
    async with Receiver() as receiver:
        await subscribe(service, receiver.url, retry={"delays": [0.1]})
        await subscribe(service, receiver.url + "/other", retry={"delays": [0.1]}, event_types=["a"])
        first = await eventually(delivering.worker_pid)
        ids = await post_events(service, 50)
        async with service.client(service.first_key()) as client:
            answer = await client.post("/v1/events", {"type": "b", "payload": "poison"})
            assert answer.status == 201
        poison = answer.json["id"]
        ids += await post_events(service, 50)
        connection = await delivering.connect()
        began = time.monotonic()
        await eventually(lambda: drained(connection), 70)
        assert delivering.worker_pid() != first
        row = await connection.fetchrow(
            "select status, reason, attempts from settled_deliveries"
            " where event_id = $1 and lease_count = 0 and status <> 'acknowledged'",
            poison,
        )
        assert tuple(row) == ("dead", "worker_lost (exhausted)", 2)
        assert poison not in receiver.ids
        assert set(ids) <= set(receiver.ids)
        deaths = service.said().count("worker_died")
        assert deaths >= 2
        note(f"a dead letter after {deaths} deaths and {time.monotonic() - began:.0f} s")


@pytest.mark.timeout(180)
@pytest.mark.parametrize("delays", [[], [0.1, 0.1]])
async def test_an_endpoint_that_kills_every_worker_gets_as_many_as_its_schedule_has(
    delivering: Delivering, note: Callable[[str], None], delays: list[float]
) -> None:
    """Each time it has the request, the worker that sent it dies: once uncounted, then counted to the end."""
    service = delivering.service
    service.start()
    killed: list[int] = []

    def answer(hook: Hook) -> bytes | None:
        if b"poison" not in hook.body:
            return OK
        pid = delivering.worker_pid()
        assert pid is not None
        killed.append(pid)
        os.kill(pid, signal.SIGKILL)
        return None

    async with Receiver(answer) as receiver:
        await subscribe(service, receiver.url, retry={"delays": delays}, event_types=["a"])
        ids = await post_events(service, 200)
        async with service.client(service.first_key()) as client:
            made = await client.post("/v1/events", {"type": "a", "payload": "poison"})
            assert made.status == 201
        poison = made.json["id"]
        ids += await post_events(service, 200)
        connection = await delivering.connect()
        began = time.monotonic()
        await eventually(lambda: drained(connection), 120)
        rows = await connection.fetch(
            "select event_id::text, status, reason, attempts from settled_deliveries"
            " where lease_count = 0 and status <> 'acknowledged'"
        )
        ended = {row["event_id"]: (row["status"], row["reason"], row["attempts"]) for row in rows}
        assert ended.pop(poison) == ("dead", "worker_lost (exhausted)", len(delays) + 1)
        assert ended.keys() == set(ids)
        dead = [end for end in ended.values() if end[0] != "delivered"]
        if delays:
            assert dead == []
        # Without a further attempt, what was under way beside it at the second death has used up its own.
        assert set(dead) <= {("dead", "worker_lost (exhausted)", 1)}
        assert len(dead) <= DEFAULT_CONCURRENCY
        assert {each for each, end in ended.items() if end[0] == "delivered"} <= set(receiver.ids)
        assert receiver.counts()[poison] == len(killed) == len(set(killed)) == len(delays) + 2
        note(
            f"a dead letter after {len(killed)} deaths and {time.monotonic() - began:.0f} s,"
            f" {len(dead)} that were under way beside it"
        )


@pytest.mark.timeout(120)
async def test_postgresql_killed_while_delivering(
    delivering: Delivering, note: Callable[[str], None]
) -> None:
    """Nothing is lost, and what was answered meanwhile is recorded when it is back."""
    service = delivering.service
    service.start()
    kills: list[float] = []
    async with Receiver(failing_a_third(random.Random(SEED))) as receiver:
        with noting_answers(receiver) as taken:
            await subscribe(service, receiver.url, retry={"delays": DELAYS}, max_concurrency=4)
            ids = await post_events(service, 1_500)
            for _ in range(2):
                seen = len(receiver.hooks)
                await eventually(lambda before=seen: len(receiver.hooks) > before + 100, 30)
                os.kill(await eventually(service.postmaster_pid, 20), signal.SIGKILL)
                kills.append(time.monotonic())
            await eventually(lambda: len(taken) == len(ids), 60)
            await asyncio.to_thread(wait_for, lambda: service.postmaster_pid() is not None, 20, "PostgreSQL")
            connection = await delivering.connect()
            await eventually(lambda: drained(connection), 30)
            assert {event_id for _, event_id in taken} == set(ids)
            assert await connection.fetchval(
                "select count(*) from settled_deliveries where status = 'delivered'"
            ) == len(ids)
            # Every request that was answered is in the record: none was forgotten with the connection.
            recorded = await connection.fetchval("select count(*) from attempts")
            assert recorded == len(receiver.hooks)
            note(f"{sum(len(hooks) - 1 for hooks in taken.values())} taken twice")
