"""FIFO by key: what is in front is settled before what is behind it is sent, whoever dies on the way."""

from __future__ import annotations

import random
from collections import defaultdict
from itertools import pairwise

import httpx
import pytest

from delivering import NEVER_AGAIN, States, Subscribe, Workers, post, store_many
from harness import Tenant, eventually
from receiving import FAILED, OK, Hook, Receiver, status
from triggers.postgres.clock import DatabaseClock
from triggers.postgres.database import Database

KEYS = 100
EVENTS = 10_000
BEHIND = 100_000


def number_of(hook: Hook) -> int:
    """The place of an event in the order of acceptance, which its payload says."""
    return int(hook.body)


@pytest.mark.timeout(180)
async def test_each_key_in_order_with_failures_and_deaths(
    client: httpx.AsyncClient, receiver: Receiver, subscribed: Subscribe, workers: Workers, states: States
) -> None:
    chance = random.Random(11)
    keys = [f"k{chance.randrange(KEYS)}" for _ in range(EVENTS)]
    taken: dict[str, list[int]] = defaultdict(list)
    again: list[int] = []
    seen: set[int] = set()

    def answer(hook: Hook) -> bytes:
        number = number_of(hook)
        if chance.random() < 0.1:
            return FAILED
        if number in seen:
            again.append(number)
        else:
            seen.add(number)
            taken[keys[number]].append(number)
        return OK

    receiver.answer = answer
    subscription = await subscribed(receiver.url, format="raw", ordering="key", delays=[0.05] * 50)
    await post(client, [{"payload": n, "ordering_key": key} for n, key in enumerate(keys)])
    running = await workers.start()
    for death in (True, False):  # a second one would put its group on probation for a minute
        before = len(seen)
        await eventually(lambda least=before + 1_500: len(seen) > least, 60)
        await (running.die() if death else running.stop())
        running = await workers.start()
    await eventually(lambda: len(seen) == EVENTS, 120)

    async def settled() -> bool:
        return await states.settled(subscription.id) == {"delivered": EVENTS}

    await eventually(settled)
    for key, numbers in taken.items():
        assert numbers == sorted(numbers), key
    # What came again was under way as a worker died: at most one of each key.
    assert len(again) <= 2 * KEYS


async def test_a_whole_subscription_in_order(
    client: httpx.AsyncClient, receiver: Receiver, subscribed: Subscribe, workers: Workers
) -> None:
    """No pointer and no key: one line, in which one is sent at a time."""
    failures = {3, 50, 51}

    def answer(hook: Hook) -> bytes:
        number = number_of(hook)
        if number in failures:
            failures.discard(number)
            return FAILED
        return OK

    receiver.answer = answer
    await subscribed(receiver.url, format="raw", ordering="key", delays=[0.1] * 9)
    await workers.start()
    await post(client, [{"payload": n} for n in range(200)])
    await eventually(lambda: len(receiver.hooks) == 203, 30)
    numbers = [number_of(hook) for hook in receiver.hooks]
    assert numbers == sorted(numbers)
    assert {n for n in numbers if numbers.count(n) == 2} == {3, 50, 51}
    assert receiver.most_in_flight == 1


@pytest.mark.timeout(180)
async def test_a_poisoned_key_stops_nobody_else(
    client: httpx.AsyncClient,
    receiver: Receiver,
    subscribed: Subscribe,
    workers: Workers,
    database: Database,
    clock: DatabaseClock,
    tenant: Tenant,
    states: States,
) -> None:
    """Its first fails for hours, a hundred thousand wait behind it; six hundred keys pass on either side."""
    receiver.answer = lambda hook: FAILED if hook.body == b"1" else OK
    subscription = await subscribed(receiver.url, format="raw", ordering="key", delays=NEVER_AGAIN)
    await store_many(database, clock, tenant, subscription.id, BEHIND, ordering_key="m poison")
    await database.fetch("analyze deliveries")
    await workers.start()
    await eventually(lambda: receiver.hooks, 20)
    keys = [f"{side} {n}" for side in "az" for n in range(600)]
    ids = await post(client, [{"payload": 2, "ordering_key": key} for key in keys * 2])
    await eventually(lambda: len(receiver.hooks) == 1 + len(ids), 60)
    assert receiver.counts() == dict.fromkeys(ids, 1) | {receiver.hooks[0].id: 1}
    order = {event_id: place for place, event_id in enumerate(receiver.ids)}
    for first, second in zip(ids, ids[len(keys) :], strict=False):
        assert order[first] < order[second]
    assert len(await states.attempts(subscription.id)) <= 1 + len(ids)


@pytest.mark.parametrize("how", ["dead", "cancelled"])
async def test_what_ended_frees_its_key(
    client: httpx.AsyncClient,
    receiver: Receiver,
    subscribed: Subscribe,
    workers: Workers,
    states: States,
    how: str,
) -> None:
    bad = status(500, "webhook-delivery: abort-message") if how == "dead" else FAILED
    receiver.answer = lambda hook: bad if hook.body == b"0" else OK
    subscription = await subscribed(receiver.url, format="raw", ordering="key", delays=NEVER_AGAIN)
    await workers.start()
    (first, *_) = await post(client, [{"payload": n, "ordering_key": "k"} for n in range(5)])
    await eventually(lambda: receiver.hooks)
    if how == "cancelled":
        await eventually(lambda: states.attempts(subscription.id))
        assert len(receiver.hooks) == 1
        answer = await client.post(f"/v1/deliveries/{first}.{subscription.id}/cancel")
        assert answer.status_code == 200, answer.text
    await eventually(lambda: len(receiver.hooks) == 5, 15)
    assert [number_of(hook) for hook in receiver.hooks] == [0, 1, 2, 3, 4]
    assert all(first.at <= second.at for first, second in pairwise(receiver.hooks))


@pytest.mark.parametrize("cancelled", [False, True])
async def test_what_is_live_waits_for_the_past(
    client: httpx.AsyncClient, receiver: Receiver, workers: Workers, database: Database, cancelled: bool
) -> None:
    """A subscription that is given the past gets it before what came since, but for what has no order."""
    await post(client, [{"payload": n} for n in range(5)])
    settings = {
        "target_url": receiver.url,
        "ordering": "key",
        "format": "raw",
        "start": "2020-01-01T00:00:00Z",
    }
    answer = await client.post("/v1/subscriptions", json=settings)
    assert answer.status_code == 201, answer.text
    await post(client, [{"payload": n} for n in range(5, 8)])
    await workers.start()
    assert (await client.post(f"/v1/subscriptions/{answer.json()['id']}/test")).status_code == 200
    assert [hook.headers["webhook-id"] for hook in receiver.hooks] == [receiver.hooks[0].id], "only the test"
    receiver.hooks.clear()
    (job,) = (await client.get("/v1/replays")).json()["data"]
    if cancelled:
        await client.delete(f"/v1/replays/{job['id']}")
    else:
        await database.fetch("update replays set not_before = now()")  # no accept is under way
    first = 5 if cancelled else 0
    await eventually(lambda: [number_of(hook) for hook in receiver.hooks] == list(range(first, 8)), 10)
