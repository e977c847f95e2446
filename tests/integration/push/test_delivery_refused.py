"""Settlements that the database refuses for their data: they hold up no other, and the worker goes on."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import msgspec
import pytest

from delivering import NEVER_AGAIN, Owner, Standing, States, Subscribe, Workers, post, settlement
from harness import eventually
from receiving import OK, Hook, Receiver
from triggers.background import Background
from triggers.domain import AttemptOutcome
from triggers.postgres.clock import DatabaseClock
from triggers.postgres.database import Database
from triggers.push import attempt as attempts
from triggers.push import store as lane_store
from triggers.push.retry import Progress, Schedule
from triggers.push.settler import Disabling, Ended, Settler
from triggers.push.store import Settlement
from triggers.subscriptions.store import Subscription

URL = "http://127.0.0.1:9/"
MANY = 300
SCHEDULE = Schedule((50.0, 500.0))
NO_TEAPOTS = "alter table attempts add constraint no_teapots check (status_code <> 418)"
NOTHING_AT_ALL = "alter table attempts add constraint nothing_at_all check (event_id <> '{}')"
NO_DEAD = "alter table settled_deliveries add constraint no_dead check (status <> 'dead')"
NO_DELAY = "alter table deliveries add constraint no_delay check (reason <> 'internal')"
NO_NEWS = "alter table events add constraint no_news check (type <> 'triggers.delivery.dead')"
POISONED = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison"
GONE = b"HTTP/1.1 410 Gone\r\ncontent-length: 6\r\n\r\npoison"
NO_POISON = "alter table attempts add constraint no_poison check (response <> 'poison')"


class Settling:
    """A settler whose writes are counted and whose answers are kept, and what it settles."""

    def __init__(
        self, client: httpx.AsyncClient, states: States, clock: DatabaseClock, subscription_id: UUID
    ) -> None:
        self._client = client
        self._states = states
        self._clock = clock
        self._subscription_id = subscription_id
        self.settler: Settler
        self.writes = 0
        self.written: dict[UUID, Settlement | None] = {}
        """By event: with what each was settled."""

    async def arrived(self, number: int) -> list[Settlement]:
        """Settlements of so many new deliveries, each as of a first attempt that arrived."""
        ids = {UUID(each) for each in await post(self._client, [{}] * number)}
        like = await settlement(self._states, self._clock, AttemptOutcome.DELIVERED, status_code=200)
        like.progress = Progress(SCHEDULE, 1, like.began_at)
        return [
            msgspec.structs.replace(
                like,
                event_id=row["event_id"],
                attempt_id=self._clock.mint(),
                read_attempts=row["attempts"],
                attempts=row["attempts"] + 1,
            )
            for row in await self._states.deliveries(self._subscription_id)
            if row["event_id"] in ids
        ]

    def put(self, settlement: Settlement, disable: Disabling | None = None) -> None:
        """Have it settled."""

        def note(written: Settlement | None) -> None:
            self.written[settlement.event_id] = written

        self.settler.put(Ended(settlement, "a", note, disable))

    async def settle(self, *settlements: Settlement) -> None:
        """All of them in one batch, to the end."""
        before = len(self.written)
        for each in settlements:
            self.put(each)
        await eventually(lambda: len(self.written) == before + len(settlements), 20)


@pytest.fixture
async def subscription(subscribed: Subscribe) -> Subscription:
    return await subscribed(URL)


@pytest.fixture
async def settling(
    client: httpx.AsyncClient,
    subscription: Subscription,
    states: States,
    clock: DatabaseClock,
    owner: Owner,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Settling]:
    made = Settling(client, states, clock, subscription.id)
    made.settler = Settler(states.database, clock, Standing(states.database, clock, owner))
    settle = lane_store.settle

    async def counted(*values: Any) -> Any:
        made.writes += 1
        return await settle(*values)

    monkeypatch.setattr(lane_store, "settle", counted)
    background = Background()
    background.run("settler", made.settler.run())
    yield made
    await made.settler.finish()
    await background.stop()


@pytest.mark.parametrize(
    "guilty",
    [
        {"response": "a\0b"},
        {"response": "\ud800"},
        {"status_code": 2**31},
        {"duration_ms": 2**31},
        {"status_code": 418},
    ],
    ids=[
        "a NUL",
        "half a character",
        "a status beyond the column",
        "a duration beyond the column",
        "a check",
    ],
)
async def test_one_that_is_refused_holds_up_no_other_and_is_written_as_a_fault_of_ours(
    settling: Settling,
    subscription: Subscription,
    states: States,
    clock: DatabaseClock,
    database: Database,
    logs: list[Any],
    guilty: dict[str, Any],
) -> None:
    await database.fetch(NO_TEAPOTS)
    batch = await settling.arrived(MANY)
    batch[MANY // 3] = refused = msgspec.structs.replace(batch[MANY // 3], **guilty)
    began = clock.now()
    await settling.settle(*batch)
    ended = clock.now()
    assert await states.settled(subscription.id) == {"delivered": MANY - 1}
    (left,) = await states.deliveries(subscription.id)
    assert (left["event_id"], left["attempts"], left["reason"]) == (refused.event_id, 1, "internal")
    assert began + 40 <= left["due_at"].timestamp() <= ended + 60, "by the schedule, from when it was judged"
    (attempt,) = [each for each in await states.attempts(subscription.id) if each["reason"] == "internal"]
    assert (attempt["event_id"], attempt["outcome"], attempt["attempt"]) == (refused.event_id, "retry", 1)
    assert (attempt["status_code"], attempt["response"], attempt["id"]) == (None, None, refused.attempt_id)
    written = settling.written[refused.event_id]
    assert written is not None
    assert written.due_at == left["due_at"]
    assert [line["event"] for line in logs if line["event"].startswith("settlement_")] == [
        "settlement_refused"
    ]
    # The whole, two halves of each that is refused, and the one that is written again; a little more if the
    # settler took them as two batches.
    assert settling.writes <= 2 * math.ceil(math.log2(MANY)) + 3


async def test_the_last_attempt_of_a_schedule_is_a_dead_letter_if_it_is_refused(
    settling: Settling,
    subscription: Subscription,
    states: States,
    database: Database,
) -> None:
    await database.fetch(NO_TEAPOTS)
    (last,) = await settling.arrived(1)
    last.status_code, last.progress = 418, Progress(Schedule(()), 1)
    await settling.settle(last)
    assert await states.settled(subscription.id) == {"dead": 1}
    (attempt,) = await states.attempts(subscription.id)
    assert attempt["reason"] == "internal (exhausted)"


async def test_the_word_of_an_endpoint_stands_although_its_answer_is_refused(
    settling: Settling,
    subscription: Subscription,
    states: States,
    database: Database,
) -> None:
    await database.fetch(NO_TEAPOTS)
    (one,) = await settling.arrived(1)
    one.status_code = 418
    settling.put(one, disable=Disabling("gone", URL))
    await eventually(lambda: settling.written)
    assert await states.status(subscription.id) == ("disabled", "gone")


def _skipped(logs: Sequence[Any]) -> list[str]:
    return [line["event_id"] for line in logs if line["event"] == "settlement_skipped"]


@pytest.mark.parametrize("what", ["the attempt", "what is told of it", "the dead letter"])
async def test_one_that_is_refused_twice_is_put_off_and_the_settler_goes_on(
    settling: Settling,
    subscription: Subscription,
    subscribed: Subscribe,
    states: States,
    clock: DatabaseClock,
    database: Database,
    logs: list[Any],
    what: str,
) -> None:
    """It does not end, but each attempt counts and it waits longer each time."""
    await subscribed(URL, event_types=["triggers.delivery.dead"])
    batch = await settling.arrived(20)
    refused = batch[7]
    began = refused.began_at
    await database.fetch(
        {
            "the attempt": NOTHING_AT_ALL.format(refused.event_id),
            "what is told of it": NO_NEWS,
            "the dead letter": NO_DEAD,
        }[what]
    )
    for number, age, wait in ((1, 0, 300), (2, 2_000, 2_000), (3, 1_000_000, 86_400)):
        progress = Progress(Schedule(()), number, began - timedelta(seconds=age))
        refused.read_attempts, refused.attempts, refused.progress = number - 1, number, progress
        refused.outcome, refused.attempt_id = AttemptOutcome.DEAD, clock.mint()
        await settling.settle(*(batch if number == 1 else [refused]))
        (left,) = await states.deliveries(subscription.id)
        assert (left["event_id"], left["attempts"], left["reason"]) == (refused.event_id, number, "internal")
        assert left["first_attempt_at"] == began
        assert abs((left["due_at"] - left["now"]).total_seconds() - wait) < 10
        del settling.written[refused.event_id]
    assert await states.settled(subscription.id) == {"delivered": 19}
    assert refused.event_id not in [each["event_id"] for each in await states.attempts(subscription.id)]
    assert _skipped(logs) == [str(refused.event_id)] * 3
    await settling.settle(*await settling.arrived(1))
    assert await states.settled(subscription.id) == {"delivered": 20}


async def test_one_whose_row_cannot_be_changed_either_stays_as_it_is(
    settling: Settling,
    subscription: Subscription,
    states: States,
    database: Database,
    logs: list[Any],
) -> None:
    (one,) = await settling.arrived(1)
    one.outcome, one.progress = AttemptOutcome.DEAD, Progress(Schedule(()), 1)
    await database.fetch(NO_DEAD)
    await database.fetch(NO_DELAY)
    before = await states.deliveries(subscription.id)
    await settling.settle(one)
    assert settling.written == {one.event_id: None}
    assert [dict(row) | {"now": 0} for row in await states.deliveries(subscription.id)] == [
        dict(row) | {"now": 0} for row in before
    ]
    assert _skipped(logs) == [str(one.event_id)]


async def test_where_no_request_was_made_nothing_is_written_again(
    settling: Settling,
    subscription: Subscription,
    states: States,
    database: Database,
    logs: list[Any],
) -> None:
    await database.fetch(NO_DEAD)
    (one,) = await settling.arrived(1)
    one.outcome, one.attempt_id, one.progress = AttemptOutcome.DEAD, None, None
    await settling.settle(one)
    assert (settling.written, settling.writes) == ({one.event_id: None}, 1)
    assert await states.pending(subscription.id) == 1
    assert _skipped(logs) == [str(one.event_id)]


# ---- in a worker ---------------------------------------------------------------------------------


async def test_a_worker_tries_again_what_was_refused_until_its_schedule_ends(
    client: httpx.AsyncClient,
    receiver: Receiver,
    subscribed: Subscribe,
    workers: Workers,
    states: States,
    database: Database,
) -> None:
    await database.fetch(NO_POISON)
    subscription = await subscribed(receiver.url, delays=[0.05, 0.05])
    ids = await post(client, [{}] * 50)
    receiver.answer = lambda hook: POISONED if hook.id == ids[10] else OK
    await workers.start()

    async def settled() -> bool:
        return await states.settled(subscription.id) == {"delivered": 49, "dead": 1}

    await eventually(settled, 20)
    assert receiver.counts()[ids[10]] == 3
    assert len(receiver.hooks) == 52
    attempts = [each for each in await states.attempts(subscription.id) if str(each["event_id"]) == ids[10]]
    assert [(each["outcome"], each["reason"]) for each in attempts] == [
        ("retry", "internal"),
        ("retry", "internal"),
        ("dead", "internal (exhausted)"),
    ]
    row = await database.row(
        "select failing_since, probe_at from subscriptions where id = $1", subscription.id
    )
    assert row is not None
    assert tuple(row) == (None, None), "the endpoint is not at fault"


@pytest.mark.parametrize("ordering", ["none", "key"])
async def test_what_cannot_be_recorded_is_not_sent_again_at_once(
    client: httpx.AsyncClient,
    receiver: Receiver,
    subscribed: Subscribe,
    workers: Workers,
    states: States,
    database: Database,
    logs: list[Any],
    ordering: str,
) -> None:
    subscription = await subscribed(receiver.url, delays=NEVER_AGAIN, ordering=ordering)
    ids = await post(client, [{"ordering_key": str(n)} for n in range(20)])
    await database.fetch(NOTHING_AT_ALL.format(ids[3]))
    running = await workers.start()
    await eventually(lambda: _skipped(logs) == [ids[3]], 20)
    for number in (30, 40, 50):  # each is read after what was skipped, and some from the beginning
        await post(client, [{"ordering_key": str(n)} for n in range(100, 110)])

        async def all_others() -> bool:
            return await states.settled(subscription.id) == {"delivered": number - 1}  # noqa: B023

        await eventually(all_others, 20)
    assert receiver.counts()[ids[3]] == 1
    (left,) = await states.deliveries(subscription.id)
    assert not running.worker.ownership._busy(left["lane_group"]), "its group can be given away"


async def test_what_cannot_be_recorded_is_sent_again_later(
    client: httpx.AsyncClient,
    receiver: Receiver,
    subscribed: Subscribe,
    workers: Workers,
    states: States,
    database: Database,
    logs: list[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(attempts, "PUT_OFF_SECONDS", 1.0)
    subscription = await subscribed(receiver.url, delays=NEVER_AGAIN)
    (id_,) = await post(client, [{}])
    await database.fetch(NOTHING_AT_ALL.format(id_))
    await workers.start()
    await eventually(lambda: _skipped(logs), 20)
    await database.fetch("alter table attempts drop constraint nothing_at_all")
    await eventually(lambda: states.settled(subscription.id), 20)
    assert await states.settled(subscription.id) == {"delivered": 1}
    first, second = receiver.hooks[:2]
    assert second.at - first.at >= 1.0


async def test_a_lane_that_was_disabled_in_memory_alone_goes_on(
    client: httpx.AsyncClient,
    receiver: Receiver,
    subscribed: Subscribe,
    workers: Workers,
    states: States,
    database: Database,
    logs: list[Any],
) -> None:
    """The disabling that an answer asks for is stored with its attempt, or not at all."""
    subscription = await subscribed(receiver.url, delays=NEVER_AGAIN)
    (gone,) = await post(client, [{}])
    await database.fetch(NOTHING_AT_ALL.format(gone))

    def answer(hook: Hook) -> bytes:
        return GONE if hook.id == gone else OK

    receiver.answer = answer
    await workers.start()
    await eventually(lambda: _skipped(logs) == [gone], 20)
    await post(client, [{}] * 5)

    async def others_arrived() -> bool:
        return await states.settled(subscription.id) == {"delivered": 5}

    await eventually(others_arrived, 20)
    assert await states.status(subscription.id) == ("active", None)
