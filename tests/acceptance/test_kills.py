"""Writers at full speed while `serve` and PostgreSQL are killed: what was answered is what is there.

The history that the writers record is judged as Jepsen judges a queue: every write was answered
yes, answered no, or is unknown, and after a full drain nothing of yes is missing, nothing of no
is there, and nothing came from nowhere.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from harness import eventually

from .processes import Service
from .wire import Answer, Client, InboxItem, NotSent, Unknown, whole_inbox

SEED = int(os.environ.get("ACCEPTANCE_SEED", random.SystemRandom().randrange(10**6)))
VICTIMS = ("serve",) * 9 + ("postmaster",) * 9 + ("both",) * 3
WRITERS = 16
BATCH_WRITERS = 1
RECOVERY_SECONDS = 40
RETRY_SECONDS = 0.02


@dataclass
class History:
    """What was sent, by the value that each payload carries, and what the answers said of it."""

    payloads: dict[str, bytes] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)  # of what was answered 2xx
    rejected: set[str] = field(default_factory=set)  # of what was answered a definite 4xx
    unknown: set[str] = field(default_factory=set)  # sent once, without a whole or a definite answer
    statuses: Counter[int] = field(default_factory=Counter)
    unanswered: int = 0
    anomalies: list[str] = field(default_factory=list)

    def accept(self, value: str, event_id: str) -> None:
        if self.ids.setdefault(value, event_id) != event_id:
            self.anomalies.append(f"{value} was answered with {self.ids[value]} and then with {event_id}")


class Writer:
    """One client that sends events of every sort, one after the other."""

    def __init__(self, client: Client, name: str, history: History, chance: random.Random) -> None:
        self._client = client
        self._name = name
        self._history = history
        self._chance = chance
        self._keyed: list[str] = []
        self._values = (f"{name}-{number}" for number in itertools.count())

    async def run(self, stopped: asyncio.Event, actions: dict[Callable[[Writer], Any], int]) -> None:
        while not stopped.is_set():
            (action,) = self._chance.choices(list(actions), list(actions.values()))
            await action(self)

    async def send_keyed(self) -> None:
        """An event with a dedup_id, sent until the answer is definite."""
        value = self._new_value()
        answer, repeated = await self._send_until_definite(self._event(value, dedup_id=value))
        if answer.status not in (200, 201) or (answer.status == 200 and not repeated):
            self._note(value, answer)
        self._history.accept(value, answer.json["id"])
        self._keyed.append(value)

    async def send_free(self) -> None:
        """An event without a dedup_id, sent once."""
        value = self._new_value()
        answer = await self._send_once(self._event(value))
        if answer is None or answer.status == 503:
            self._history.unknown.add(value)
        elif answer.status == 201:
            self._history.accept(value, answer.json["id"])
        else:
            self._note(value, answer)

    async def send_again(self) -> None:
        """An event that was accepted long ago: the same answer, and no second event."""
        if self._keyed:
            value = self._chance.choice(self._keyed)
            answer, _ = await self._send_until_definite(self._event(value, dedup_id=value))
            if answer.status != 200 or not answer.json["duplicate"]:
                self._note(value, answer)
            self._history.accept(value, answer.json["id"])

    async def send_clash(self) -> None:
        """Other content under a dedup_id that is taken."""
        if self._keyed:
            taken = self._chance.choice(self._keyed)
            value = self._new_value()
            answer, _ = await self._send_until_definite(self._event(value, dedup_id=taken))
            if answer.status != 409 or answer.json["original_id"] != self._history.ids[taken]:
                self._note(value, answer)
            self._history.rejected.add(value)

    async def send_bad(self) -> None:
        """An event that breaks a rule, under a dedup_id that nobody else has."""
        value = self._new_value()
        good = self._event(value, dedup_id=value)
        bad = self._chance.choice((good[:-1], good.replace(b'"type":"kept.', b'"type":"triggers.')))
        answer, _ = await self._send_until_definite(bad)
        if answer.status not in (400, 422):
            self._note(value, answer)
        self._history.rejected.add(value)

    async def send_batch(self) -> None:
        """Many with a dedup_id and a bad one, sent until every answer is definite."""
        values = [self._new_value() for _ in range(self._chance.randrange(2, 60))]
        *good, bad = values
        items = [self._event(value, dedup_id=value) for value in good]
        items.insert(self._chance.randrange(len(items) + 1), self._event(bad, kind="triggers.bad"))
        bad_at = next(index for index, item in enumerate(items) if b"triggers.bad" in item)
        body = b"[" + b",".join(items) + b"]"
        while True:
            answer, _ = await self._send_until_definite(body, "/v1/events/batch")
            if "results" not in answer.json:
                self._note(bad, answer)
                return
            results = answer.json["results"]
            rejected = results.pop(bad_at)
            if rejected["status"] == 422:
                self._history.rejected.add(bad)
            elif rejected["status"] != 503:
                self._note(bad, answer)
            for value, result in zip(good, results, strict=True):
                if result["status"] in (200, 201):
                    self._history.accept(value, result["id"])
                elif result["status"] != 503:
                    self._note(value, answer)
            if all(result["status"] != 503 for result in (rejected, *results)):
                self._keyed += good
                return

    # ---- steps -----------------------------------------------------------------------------------

    def _new_value(self) -> str:
        """A payload that can be told from every other one; its spaces and digits have to survive."""
        value = next(self._values)
        padding = "ä" * self._chance.randrange(400)
        spaces = " " * self._chance.randrange(3)
        text = f'{{{spaces}"value" :\t"{value}","padding":"{padding}","n":1.{"0" * len(spaces)}10}}'
        self._history.payloads[value] = text.encode()
        return value

    def _event(self, value: str, dedup_id: str | None = None, kind: str = "kept.event") -> bytes:
        key = b"" if dedup_id is None else b'"dedup_id":"%b",' % dedup_id.encode()
        return b'{"type":"%b",%b"payload":%b}' % (kind.encode(), key, self._history.payloads[value])

    async def _send_until_definite(self, body: bytes, path: str = "/v1/events") -> tuple[Answer, bool]:
        """The first answer that is not a 503, and whether one before it may have been carried out."""
        repeated = False
        while True:
            answer = await self._send_once(body, path)
            if answer is not None and answer.status != 503:
                return answer, repeated
            repeated = True
            await asyncio.sleep(RETRY_SECONDS)

    async def _send_once(self, body: bytes, path: str = "/v1/events") -> Answer | None:
        try:
            answer = await self._client.post(path, body)
        except NotSent:
            await asyncio.sleep(RETRY_SECONDS)
            return None
        except Unknown:
            self._history.unanswered += 1
            return None
        self._history.statuses[answer.status] += 1
        if answer.status == 503 and "retry-after" not in answer.headers:
            self._note("503", answer)
        return answer

    def _note(self, value: str, answer: Answer) -> None:
        self._history.anomalies.append(f"{value}: {answer.status} {answer.body[:300]!r}")


SINGLE_ACTIONS = {
    Writer.send_keyed: 70,
    Writer.send_free: 15,
    Writer.send_again: 5,
    Writer.send_clash: 5,
    Writer.send_bad: 5,
}
BATCH_ACTIONS = {Writer.send_batch: 1}


async def torment(service: Service, history: History, chance: random.Random) -> list[float]:
    """Kill at random moments, some of them before the last kill has healed; return the times to heal."""
    victims = list(VICTIMS)
    chance.shuffle(victims)
    healed = []
    killed_at: float | None = None
    accepted = len(history.ids)
    for victim in victims:
        if killed_at is None or chance.random() < 0.8:
            await eventually(lambda before=accepted: _goes_on(service, history, before), RECOVERY_SECONDS)
            if killed_at is not None:
                healed.append(time.monotonic() - killed_at)
        await asyncio.sleep(chance.uniform(0.0, 1.2))  # the random moment
        accepted = len(history.ids)
        if victim in ("postmaster", "both"):
            os.kill(await eventually(lambda: _postmaster(service), RECOVERY_SECONDS), signal.SIGKILL)
        if victim in ("serve", "both"):
            if (listening := service.api_pid()) is not None:
                os.kill(listening, signal.SIGKILL)
            service.kill()
            accepted = len(history.ids)
            service.launch()
        killed_at = time.monotonic()
    await eventually(lambda: _goes_on(service, history, accepted), RECOVERY_SECONDS)
    return healed


def _goes_on(service: Service, history: History, before: int) -> bool:
    """Whether more was accepted."""
    _start_again(service)
    return len(history.ids) > before


def _postmaster(service: Service) -> int | None:
    """The next one to kill, once there is one."""
    _start_again(service)
    return service.postmaster_pid()


def _start_again(service: Service) -> None:
    """Start a `serve` again that lost PostgreSQL while it started; it ends by itself for nothing else."""
    assert service.process is not None
    if service.process.poll() is not None:
        assert "answers on" not in service.said(), f"it was up, and ended by itself:\n{service.said()}"
        assert service.process.returncode == 1, service.said()
        service.launch()


def judge(history: History, listed: list[InboxItem]) -> dict[str, Any]:
    """What is wrong, by the names that Jepsen gives it; empty when all is well."""
    values = [msgspec.json.decode(each.payload)["value"] for each in listed]
    there = dict(zip(values, listed, strict=True))
    attempted = set(history.payloads) - history.rejected
    found = {
        "lost": sorted(set(history.ids) - set(there)),
        "doubled": [value for value, count in Counter(values).items() if count > 1],
        "answered no, but there": sorted(history.rejected & set(there)),
        "from nowhere": sorted(set(there) - attempted),
        "under another id": [
            v for v, event_id in history.ids.items() if v in there and there[v].id != event_id
        ],
        "other bytes": [v for v, each in there.items() if bytes(each.payload) != history.payloads.get(v)],
        "one id twice": [i for i, count in Counter(each.id for each in listed).items() if count > 1],
        "answers": history.anomalies[:10],
    }
    return {name: wrong for name, wrong in found.items() if wrong}


async def all_event_ids(client: Client) -> list[str]:
    found: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = await client.get("/v1/events?order=asc&limit=1000" + (f"&cursor={cursor}" if cursor else ""))
        found += [event["id"] for event in page.json["events"]]
        cursor = page.json["next_cursor"]
    return found


@pytest.mark.timeout(300)
async def test_every_answer_holds_after_kill_minus_9(
    launch: Callable[..., Service], note: Callable[[str], None]
) -> None:
    note(f"seed {SEED}; ACCEPTANCE_SEED={SEED} chooses the same victims")
    chance = random.Random(SEED)
    service = launch(fresh=True)
    service.start()
    key = service.first_key()
    history = History()
    stopped = asyncio.Event()
    clients = [service.client(key) for _ in range(WRITERS)]
    writing = []
    for number, client in enumerate(clients):
        writer = Writer(client, f"w{number}", history, random.Random(SEED * 100 + number))
        actions = BATCH_ACTIONS if number < BATCH_WRITERS else SINGLE_ACTIONS
        writing.append(asyncio.create_task(writer.run(stopped, actions)))
    began = time.monotonic()
    try:
        healed = await torment(service, history, chance)
        stopped.set()
        async with asyncio.timeout(RECOVERY_SECONDS):
            await asyncio.gather(*writing)
    finally:
        for task in writing:
            task.cancel()
        await asyncio.gather(*writing, return_exceptions=True)
        for client in clients:
            await client.close()
    note(
        f"{len(VICTIMS)} times killed in {time.monotonic() - began:.0f} s;"
        f" {len(history.ids)} accepted, {len(history.rejected)} rejected, {history.unanswered} unanswered,"
        f" statuses {dict(history.statuses)}; back after at most {max(healed):.1f} s"
    )
    await eventually(lambda: not service.living_orphans(), 30)
    assert len(history.ids) > 1000
    assert history.rejected
    assert history.unanswered, "no kill met a request: the test tested nothing"

    async with service.client(key) as client:
        listed = await whole_inbox(client)
        assert judge(history, listed) == {}
        ids = [each.id for each in listed]
        assert await all_event_ids(client) == ids, "the log and the inbox hold the same"
        recovered = history.unknown & {msgspec.json.decode(each.payload)["value"] for each in listed}
        note(f"{len(recovered)} of {len(history.unknown)} unknown ones were stored")
        for first in range(0, len(ids), 1000):
            acked = (await client.post("/v1/ack", {"event_ids": ids[first : first + 1000]})).json
            assert acked["acknowledged"] == len(acked["results"])
        assert await whole_inbox(client) == []
