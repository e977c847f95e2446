"""Two hundred consumers on one inbox, and a checker over everything that they were answered.

No clock of a consumer plays a part. When a hold began and ends is what the server's answers say
(`leased_until`, less the seconds asked for); what happened before what is the order in which one
process sent requests and received answers.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from . import wire
from .processes import Service
from .wire import Client, whole_inbox

MESSAGES = 2000
CONSUMERS = 200
PATH = "/v1/inboxes/default/messages"
SHORT_SECONDS = 1
LONG_SECONDS = 120
ROUNDING = timedelta(milliseconds=1)  # answers name times to the millisecond, cut off


@dataclass
class Hold:
    """One message under one lease. `answered` and the like are places in the one order of events."""

    message: str
    lease_id: str
    lease_count: int
    began: datetime
    ends: datetime
    answered: int
    released: int | None = None  # when the release was sent
    acked: int | None = None  # when the acknowledgement was answered


@dataclass
class History:
    """Every hold by message, and what stale leases were answered."""

    holds: defaultdict[str, list[Hold]] = field(default_factory=lambda: defaultdict(list))
    said_done: set[str] = field(default_factory=set)  # what the server said was acknowledged before
    members_sent: set[str] = field(default_factory=set)
    stale_tried: Counter[str] = field(default_factory=Counter)
    anomalies: list[str] = field(default_factory=list)
    acked: int = 0
    empty_leases: int = 0

    def __post_init__(self) -> None:
        self._moments = itertools.count()

    def moment(self) -> int:
        return next(self._moments)


class Consumer:
    """Leases, and does with each lease what a consumer might: finish it, give it back, die, come too late."""

    def __init__(self, client: Client, history: History, chance: random.Random, done: asyncio.Event) -> None:
        self._client = client
        self._history = history
        self._chance = chance
        self._done = done

    async def run(self) -> None:
        while not self._done.is_set():
            holds = await self._lease()
            if holds:
                await self._try_stale_leases(holds)
                await self._chance.choices(
                    (self._finish, self._finish_some, self._give_back, self._abandon), (6, 2, 2, 2)
                )[0](holds)

    async def _lease(self) -> list[Hold]:
        seconds = self._chance.choice((SHORT_SECONDS, LONG_SECONDS, LONG_SECONDS, LONG_SECONDS))
        wanted = self._chance.randrange(1, 20)
        status, lease = await self._post(
            "lease", {"lease_seconds": seconds, "lease_limit": wanted, "wait_seconds": 1}
        )
        if lease["lease_id"] is None:
            assert (status, lease["results"]) == (200, [])
            self._history.empty_leases += 1
            return []
        assert status == 201
        assert 1 <= len(lease["results"]) <= wanted
        ends = datetime.fromisoformat(lease["leased_until"])
        answered = self._history.moment()
        holds = [
            Hold(
                message=message["id"],
                lease_id=lease["lease_id"],
                lease_count=message["message_attributes"]["lease_count"],
                began=ends - timedelta(seconds=seconds),
                ends=ends,
                answered=answered,
            )
            for message in lease["results"]
        ]
        for hold in holds:
            self._history.holds[hold.message].append(hold)
        return holds

    async def _finish(self, holds: list[Hold]) -> None:
        await self._ack(holds[0].lease_id, holds)

    async def _finish_some(self, holds: list[Hold]) -> None:
        """Acknowledge half by name, then give the rest back."""
        half = holds[: len(holds) // 2]
        if half:
            await self._ack(half[0].lease_id, half, [hold.message for hold in half])
        await self._give_back(holds[len(half) :])

    async def _give_back(self, holds: list[Hold]) -> None:
        sent = self._history.moment()
        _, answer = await self._post(
            "release", {"lease_id": holds[0].lease_id, "message_ids": [hold.message for hold in holds]}
        )
        released = {each["id"] for each in answer.get("results", ())}
        for hold in holds:
            if hold.message in released:
                hold.released = sent

    async def _abandon(self, holds: list[Hold]) -> None:
        """Make it end soon, and never come back: whoever gets the messages next tries this lease."""
        if holds[0].ends - holds[0].began > timedelta(seconds=SHORT_SECONDS):
            status, answer = await self._post(
                "extend", {"lease_id": holds[0].lease_id, "lease_seconds": SHORT_SECONDS}
            )
            if status == 201:
                for hold in holds:
                    hold.ends = datetime.fromisoformat(answer["leased_until"])

    async def _ack(self, lease_id: str, holds: list[Hold], ids: list[str] | None = None) -> None:
        status, answer = await self._post(
            "ack", {"lease_id": lease_id} | ({} if ids is None else {"message_ids": ids})
        )
        settled = {each["id"] for each in answer.get("results", ())}
        assert (status == 201) == bool(settled)
        if status == 200:
            self._history.said_done |= {hold.message for hold in holds}
        answered = self._history.moment()
        for hold in holds:
            if hold.message in settled:
                settled.remove(hold.message)
                if hold.acked is not None:
                    self._history.anomalies.append(f"{hold} was acknowledged twice")
                hold.acked = answered
                self._history.acked += 1
        if settled:
            self._history.anomalies.append(f"{lease_id} settled {settled}, which it never held")
        if self._history.acked >= MESSAGES:
            self._done.set()

    async def _try_stale_leases(self, holds: list[Hold]) -> None:
        """For a message that somebody held before, try what only the holder may."""
        for hold in holds:
            before = [each for each in self._history.holds[hold.message] if each.lease_id != hold.lease_id]
            if not before:
                continue
            await self._try_stale_lease(before[-1])
            return

    async def _try_stale_lease(self, stale: Hold) -> None:
        verb = self._chance.choice(("ack", "release", "extend"))
        body: dict[str, Any] = {"lease_id": stale.lease_id}
        if verb == "extend":
            body["lease_seconds"] = LONG_SECONDS
            if any(
                len(self._history.holds[other.message]) == other.lease_count for other in self._with(stale)
            ):
                return  # it may still hold other messages, and then it may be extended
        else:
            body["message_ids"] = [stale.message]
        status, answer = await self._post(verb, body)
        self._history.stale_tried[verb] += 1
        if status == 200 and verb != "extend" and not answer["results"]:
            self._history.said_done.add(stale.message)
        elif status != 409:
            self._history.anomalies.append(f"stale {verb} of {stale}: {status} {answer}")

    def _with(self, hold: Hold) -> list[Hold]:
        """The other messages of the same lease."""
        every = itertools.chain.from_iterable(self._history.holds.values())
        return [each for each in every if each.lease_id == hold.lease_id and each is not hold]

    async def _post(self, verb: str, body: dict[str, Any]) -> tuple[int, Any]:
        self._history.members_sent |= set(body)
        answer = await self._client.post(f"{PATH}/{verb}", body)
        assert answer.status in (200, 201, 409), answer
        return answer.status, answer.json


def judge(history: History, sent: set[str]) -> list[str]:
    """Everything in the history that a message with one holder at a time could not have caused."""
    wrong = list(history.anomalies)
    if set(history.holds) != sent:
        wrong.append(f"leased but not sent, or the other way round: {set(history.holds) ^ sent}")
    for message, holds in history.holds.items():
        holds.sort(key=lambda hold: hold.lease_count)
        if [hold.lease_count for hold in holds] != list(range(1, len(holds) + 1)):
            wrong.append(f"{message}: two leases of one count, or one that nobody was told of: {holds}")
        for one, following in itertools.pairwise(holds):
            expired = following.began >= one.ends - ROUNDING
            given_back = one.released is not None and one.released < following.answered
            if not expired and not given_back:
                wrong.append(f"held twice at once: {one} and {following}")
        acks = [hold for hold in holds if hold.acked is not None]
        if len(acks) != 1:
            wrong.append(f"{message} was acknowledged {len(acks)} times")
        elif acks[0] is not holds[-1]:
            wrong.append(f"{message} was settled by a lease that was no longer the last: {holds}")
    acked = {message for message, holds in history.holds.items() if any(hold.acked for hold in holds)}
    if unacked := history.said_done - acked:
        wrong.append(f"said to be acknowledged before, and never were: {unacked}")
    return wrong


async def send(client: Client, count: int) -> set[str]:
    ids = set()
    for first in range(0, count, 1000):
        events = [{"type": "work.item", "payload": {"n": first + n}} for n in range(1000)]
        answer = await client.post("/v1/events/batch", events)
        ids |= {each["id"] for each in answer.json["results"]}
    return ids


async def test_one_holder_at_a_time(shared: Service, note: Callable[[str], None]) -> None:
    key = shared.tenant()
    history = History()
    done = asyncio.Event()
    async with shared.client(key) as client:
        sent = await send(client, MESSAGES)
    wire.headers_sent.clear()
    clients = [shared.client(key, timeout=60) for _ in range(CONSUMERS)]
    try:
        async with asyncio.timeout(100), asyncio.TaskGroup() as group:
            for number, client in enumerate(clients):
                consumer = Consumer(client, history, random.Random(number), done)
                group.create_task(consumer.run())
    finally:
        for client in clients:
            await client.close()

    most = max(len(holds) for holds in history.holds.values())
    note(
        f"{sum(map(len, history.holds.values()))} holds of {MESSAGES} messages, at most {most} of one;"
        f" {history.empty_leases} empty leases; stale leases tried: {dict(history.stale_tried)}"
    )
    assert judge(history, sent) == []
    assert history.acked == MESSAGES
    assert min(history.stale_tried[verb] for verb in ("ack", "release", "extend")) > 5
    assert any(hold.released for holds in history.holds.values() for hold in holds)
    # Nothing that a consumer sends could carry its clock.
    assert history.members_sent == {
        "lease_id",
        "lease_limit",
        "lease_seconds",
        "message_ids",
        "wait_seconds",
    }
    assert wire.headers_sent == {"Authorization", "Content-Length", "Content-Type", "Host"}

    async with shared.client(key) as client:
        assert await whole_inbox(client) == []
        for message in random.Random(1).sample(sorted(sent), 20):
            (delivery,) = (await client.get(f"/v1/events/{message}")).json["deliveries"]
            assert delivery["status"] == "acknowledged"
            assert delivery["lease_count"] == len(history.holds[message])


def test_the_checker_finds_what_it_looks_for() -> None:
    """A checker that finds nothing might be one that looks at nothing."""
    began = datetime(2026, 1, 1, tzinfo=UTC)

    def hold(count: int, second: float, **more: Any) -> Hold:
        start = began + timedelta(seconds=second)
        return Hold("m", f"lease {count}", count, start, start + timedelta(seconds=10), count, **more)

    def wrong(*holds: Hold) -> list[str]:
        history = History()
        history.holds["m"] = list(holds)
        return judge(history, {"m"})

    assert wrong(hold(1, 0), hold(2, 10, acked=9)) == []
    assert wrong(hold(1, 0, released=1), hold(2, 5, acked=9)) == []
    assert "held twice" in wrong(hold(1, 0), hold(2, 5, acked=9))[0]
    assert "held twice" in wrong(hold(1, 0, released=3), hold(2, 5, acked=9))[0]
    assert "two leases of one count" in wrong(hold(1, 0), hold(1, 20, acked=9))[0]
    assert "0 times" in wrong(hold(1, 0))[0]
    assert "2 times" in wrong(hold(1, 0, acked=5), hold(2, 20, acked=9))[0]
    history = History(said_done={"m"})
    history.holds["m"] = [hold(1, 0)]
    assert "never were" in judge(history, {"m"})[-1]
    assert "no longer the last" in wrong(hold(1, 0, acked=5), hold(2, 20))[0]
