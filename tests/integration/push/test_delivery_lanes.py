"""One lane: what may be sent when, how it follows its subscription, and what it survives."""

from __future__ import annotations

import asyncio
import base64
import gc
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import httpx
import msgspec
import pytest
import structlog

from delivering import NEVER_AGAIN, RING, States, Subscribe, Workers, post, subscribe
from harness import Node, Tenant, Tenants, eventually
from receiving import FAILED, OK, Hook, Receiver, status
from triggers.postgres.clock import DatabaseClock
from triggers.postgres.database import Database
from triggers.postgres.time_bounds import VISIBLE_SECONDS
from triggers.push import breaker
from triggers.push import store as lane_store
from triggers.push.dispatcher import Dispatcher
from triggers.push.lane import Lane
from triggers.push.sender import Senders
from triggers.push.settler import Ended
from triggers.secrets.key_ring import KeyRing
from triggers.subscriptions import changes as subscription_changes
from triggers.subscriptions.store import Subscription


def after(seconds: float, answer: bytes = OK) -> Callable[[Hook], Awaitable[bytes]]:
    """An endpoint that takes its time."""

    async def answering(_: Hook) -> bytes:
        await asyncio.sleep(seconds)
        return answer

    return answering


# ---- limits --------------------------------------------------------------------------------------


async def test_concurrency_is_kept_and_used(
    client: httpx.AsyncClient, receiver: Receiver, subscribed: Subscribe, workers: Workers
) -> None:
    receiver.answer = after(0.05)
    await subscribed(receiver.url, max_concurrency=3)
    await post(client, [{}] * 60)
    await workers.start()
    await eventually(lambda: len(receiver.hooks) == 60, 15)
    assert receiver.most_in_flight == 3


async def test_a_rate_limit_counts_sends_not_answers(
    client: httpx.AsyncClient, receiver: Receiver, subscribed: Subscribe, workers: Workers
) -> None:
    """A slow endpoint gets as many a second as a quick one: they overlap."""
    receiver.answer = after(2.0)
    await subscribed(receiver.url, rate_limit=20)
    await post(client, [{}] * 60)
    await workers.start()
    await eventually(lambda: len(receiver.hooks) == 60, 12)
    first, last = receiver.hooks[0].at, receiver.hooks[-1].at
    assert last - first > 59 / 20 - 0.3
    assert receiver.most_in_flight > 10
    for start in receiver.hooks:
        assert sum(start.at <= hook.at < start.at + 1 for hook in receiver.hooks) <= 20 * 1.1 + 3


async def test_a_lane_whose_rate_lets_it_go_just_after_it_was_asked_does_not_stand_still(
    client: httpx.AsyncClient,
    receiver: Receiver,
    subscribed: Subscribe,
    workers: Workers,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A timer fires early, as one of a busy loop may, and just after the look at the rate time has come."""
    jumped = 0.0
    wait_seconds, offer = Lane.wait_seconds, Dispatcher.offer

    def half(self: Lane, now: datetime) -> float | None:
        wait = wait_seconds(self, now)
        return wait and wait / 2

    def offer_and_wait(self: Dispatcher, lane: Lane) -> None:
        nonlocal jumped
        offer(self, lane)
        if lane.ahead.waiting and not lane.in_line:
            jumped += 1 / 20

    monkeypatch.setattr(Lane, "wait_seconds", half)
    monkeypatch.setattr(Dispatcher, "offer", offer_and_wait)
    monkeypatch.setattr(
        "triggers.push.lane.time", SimpleNamespace(monotonic=lambda: time.monotonic() + jumped)
    )
    await subscribed(receiver.url, rate_limit=20)
    await post(client, [{}] * 30)
    await workers.start()
    await eventually(lambda: len(receiver.hooks) == 30, 10)


# ---- the breaker ---------------------------------------------------------------------------------


async def test_the_breaker_opens_probes_and_closes(
    client: httpx.AsyncClient,
    receiver: Receiver,
    subscribed: Subscribe,
    workers: Workers,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(breaker, "LONGEST_PROBE_SECONDS", 1.0)
    receiver.answer = lambda _: FAILED
    subscription = await subscribed(receiver.url, delays=NEVER_AGAIN, max_concurrency=2)
    await post(client, [{}] * 1_500)
    running = await workers.start()

    async def probing() -> bool:
        row = await database.row(
            "select probe_at, failing_since from subscriptions where id = $1", subscription.id
        )
        return row is not None and row[0] is not None and row[1] is not None

    await eventually(probing, 20)
    until_open = len(receiver.hooks)
    assert breaker.OPENS_AFTER <= until_open <= breaker.OPENS_AFTER + 3
    # Probes come one at a time; most of what waits uses up no attempt.
    await eventually(lambda: len(receiver.hooks) >= until_open + 2, 10)
    assert len(receiver.hooks) <= until_open + 5
    (lane,) = running.worker.lanes
    assert len(lane.ahead.waiting) <= 1, "what waits for the endpoint waits in the database"
    receiver.answer = lambda _: OK
    await eventually(lambda: len(receiver.hooks) >= 1_500, 20)

    async def closed() -> bool:
        return not await probing()

    await eventually(closed, 20)


async def test_probes_go_on_when_the_one_that_was_read_is_used_up(
    client: httpx.AsyncClient,
    receiver: Receiver,
    subscribed: Subscribe,
    workers: Workers,
    database: Database,
    states: States,
) -> None:
    """A worker that finds a breaker open reads one delivery; after its failure it has to read another."""
    receiver.answer = lambda hook: FAILED if hook.number < 2 else OK
    subscription = await subscribed(receiver.url, delays=NEVER_AGAIN)
    await database.fetch(
        "update subscriptions set failing_since = now(), probe_at = now(), probe_delay = 0.5 where id = $1",
        subscription.id,
    )
    await post(client, [{}] * 20)
    await database.fetch("update deliveries set due_at = due_at - interval '1 hour'")
    await workers.start()
    await eventually(lambda: len(receiver.hooks) == 20, 15)

    async def settled() -> bool:
        return await states.settled(subscription.id) == {"delivered": 18}

    await eventually(settled)


async def failing_with_five(
    client: httpx.AsyncClient, workers: Workers, database: Database, subscription: Subscription
) -> tuple[list[str], Lane]:
    """Five events for an endpoint whose next probe is far away, and its lane."""
    await database.fetch(
        "update subscriptions set failing_since = now(), probe_at = now() + interval '50 s', probe_delay = 60"
        " where id = $1",
        subscription.id,
    )
    events = await post(client, [{}] * 5)
    running = await workers.start()
    await eventually(lambda: [lane.breaker.open for lane in running.worker.lanes] == [True])
    (lane,) = running.worker.lanes
    return events, lane


@pytest.mark.parametrize(
    "act",
    ["retry", "retry a cancelled one", "retry all", "replay", "test", "pause and resume", "change", "rotate"],
)
async def test_a_repaired_endpoint_is_tried_at_once(
    client: httpx.AsyncClient,
    receiver: Receiver,
    subscribed: Subscribe,
    workers: Workers,
    database: Database,
    act: str,
) -> None:
    """Nobody who asks for a delivery now has to wait for the next probe."""
    subscription = await subscribed(receiver.url, delays=NEVER_AGAIN)
    events, _ = await failing_with_five(client, workers, database, subscription)
    delivery = f"/v1/deliveries/{events[0]}.{subscription.id}"
    if act == "retry a cancelled one":
        assert (await client.post(f"{delivery}/cancel")).status_code == 200
    path = f"/v1/subscriptions/{subscription.id}"
    job = {"subscription_id": str(subscription.id)}
    requests: dict[str, list[tuple[str, str, Any]]] = {
        "retry": [("POST", f"{delivery}/retry", None)],
        "retry a cancelled one": [("POST", f"{delivery}/retry", None)],
        "retry all": [("POST", "/v1/replays", job | {"action": "retry"})],
        "replay": [("POST", "/v1/replays", job)],
        "test": [("POST", f"{path}/test", None)],
        "pause and resume": [("POST", f"{path}/pause", None), ("POST", f"{path}/resume", None)],
        "change": [("PATCH", path, {"name": "repaired"})],
        "rotate": [("POST", f"{path}/rotate-secret", {})],
    }
    for method, at, body in requests[act]:
        assert (await client.request(method, at, json=body)).status_code < 300
    await eventually(lambda: len(receiver.hooks) >= 5, 10)


async def test_a_cancelled_delivery_costs_no_other_one_an_attempt(
    client: httpx.AsyncClient, receiver: Receiver, subscribed: Subscribe, workers: Workers, database: Database
) -> None:
    subscription = await subscribed(receiver.url, delays=NEVER_AGAIN)
    events, lane = await failing_with_five(client, workers, database, subscription)
    before = lane.target.endpoint.changed_at
    assert (await client.post(f"/v1/deliveries/{events[0]}.{subscription.id}/cancel")).status_code == 200
    await eventually(lambda: lane.target.endpoint.changed_at > before and not lane.stale)
    assert lane.breaker.probe_at == lane.target.endpoint.probe_at
    assert receiver.hooks == []


async def test_failing_for_too_long_disables(
    client: httpx.AsyncClient, receiver: Receiver, subscribed: Subscribe, workers: Workers, states: States
) -> None:
    receiver.answer = lambda _: FAILED
    subscription = await subscribed(receiver.url, delays=[0.1] * 50)
    await workers.start(disable_after=1.0)
    await post(client, [{}])

    async def disabled() -> bool:
        return await states.status(subscription.id) == ("disabled", "failing_too_long")

    await eventually(disabled, 15)
    assert receiver.hooks[-1].at - receiver.hooks[0].at > 0.9


# ---- following the subscription ------------------------------------------------------------------


@pytest.mark.parametrize("change", ["pause", "disable", "delete"])
async def test_no_attempt_begins_more_than_a_second_after(
    client: httpx.AsyncClient,
    receiver: Receiver,
    subscribed: Subscribe,
    workers: Workers,
    database: Database,
    tenant: Tenant,
    change: str,
) -> None:
    receiver.answer = after(0.002)
    subscription = await subscribed(receiver.url, max_concurrency=4)
    subscription_id = str(subscription.id)
    await post(client, [{}] * 5_000)
    await workers.start()
    await eventually(lambda: len(receiver.hooks) > 100, 10)
    if change == "pause":
        await subscription_changes.pause(database, RING, tenant.id, subscription_id)
    elif change == "disable":
        await subscription_changes.disable(database, RING, tenant.id, subscription_id, "enough")
    else:
        await subscription_changes.delete(database, tenant.id, subscription_id)
    answered = time.monotonic()
    # The proof that the pipeline lives: another lane is served, and then again a second later.
    async with Receiver() as other:
        await subscribed(other.url)

        async def served_late() -> bool:
            await post(client, [{}])
            return any(hook.at > answered + 2 for hook in other.hooks)

        await eventually(served_late, 15)
    assert len(receiver.hooks) < 5_000, "it was over before the change: the test tested nothing"
    assert receiver.hooks[-1].at < answered + 1
    if change == "pause":
        await subscription_changes.resume(database, RING, tenant.id, subscription_id)
        receiver.answer = lambda _: OK
        await eventually(lambda: len(receiver.counts()) >= 5_000, 20)


async def test_a_busy_lane_follows_another_url(
    client: httpx.AsyncClient,
    receiver: Receiver,
    subscribed: Subscribe,
    workers: Workers,
    database: Database,
    tenant: Tenant,
    states: States,
) -> None:
    receiver.answer = after(0.005)
    subscription = await subscribed(receiver.url, max_concurrency=4)
    ids = await post(client, [{}] * 2_000)
    await workers.start()
    await eventually(lambda: len(receiver.hooks) > 50, 10)
    async with Receiver() as moved:
        await subscription_changes.patch(
            database,
            RING,
            tenant.id,
            str(subscription.id),
            lambda now: msgspec.structs.replace(now, target_url=moved.url, max_concurrency=64),
        )
        answered = time.monotonic()

        async def all_there() -> bool:
            return await states.settled(subscription.id) == {"delivered": 2_000}

        await eventually(all_there, 20)
        assert receiver.hooks[-1].at < answered + 1
        counts = receiver.counts() + moved.counts()
        assert counts == dict.fromkeys(ids, 1), "each once, here or there"


async def test_an_expired_subscription_is_sent_nothing(
    client: httpx.AsyncClient,
    receiver: Receiver,
    subscribed: Subscribe,
    workers: Workers,
    database: Database,
) -> None:
    subscription = await subscribed(receiver.url)
    await post(client, [{}] * 10)
    await database.fetch(
        "update subscriptions set expires_at = now() - interval '1 second' where id = $1", subscription.id
    )
    async with Receiver() as other:
        await subscribed(other.url)
        await workers.start()
        await post(client, [{}])
        await eventually(lambda: other.hooks, 10)
    assert receiver.hooks == []


async def test_a_lane_whose_secrets_cannot_be_opened_stands_alone(
    client: httpx.AsyncClient,
    receiver: Receiver,
    database: Database,
    clock: DatabaseClock,
    tenant: Tenant,
    subscribed: Subscribe,
    workers: Workers,
    states: States,
) -> None:
    foreign = KeyRing.from_setting(base64.b64encode(bytes(32)).decode())
    lost = await subscribe(database, clock, tenant, "http://127.0.0.1:9/", ring=foreign)
    await subscribed(receiver.url)
    await workers.start()
    ids = await post(client, [{}] * 50)
    await eventually(lambda: receiver.counts() == dict.fromkeys(ids, 1), 10)
    assert await states.pending(lost.id) == 50
    assert await states.attempts(lost.id) == []


# ---- nothing is missed ---------------------------------------------------------------------------


async def test_what_nobody_hinted_at_is_found_behind_a_slow_endpoint(
    client: httpx.AsyncClient,
    receiver: Receiver,
    subscribed: Subscribe,
    workers: Workers,
) -> None:
    """Few new rows behind many in flight, and no hint: looking has to tell the new ones from the known."""
    stuck = asyncio.Event()

    async def wait(hook: Hook) -> bytes:
        if hook.number < 30:
            await stuck.wait()
        return OK

    receiver.answer = wait
    await subscribed(receiver.url)
    await workers.start()
    await post(client, [{}] * 30)
    await eventually(lambda: len(receiver.hooks) == 30, 10)
    # Until they are older than the slice of time that is looked through for new ones.
    await eventually(lambda: time.monotonic() > receiver.hooks[-1].at + VISIBLE_SECONDS + 1, 10)
    await post(client, [{}] * 3)
    await eventually(lambda: len(receiver.hooks) == 33, 10)
    stuck.set()


async def test_a_long_look_holds_up_no_read(
    client: httpx.AsyncClient,
    node: Node,
    receiver: Receiver,
    subscribed: Subscribe,
    workers: Workers,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """To count what came due may take as long as it likes: what is hinted at is read meanwhile."""
    looking = asyncio.Event()

    async def count(*_: object) -> None:
        looking.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(lane_store, "due_lanes", count)
    await subscribed(receiver.url)
    running = await workers.start()
    node.wakeup.listen_for_lanes(running.worker.hint)
    await asyncio.wait_for(looking.wait(), 10)
    await post(client, [{}] * 3)
    await eventually(lambda: len(receiver.hooks) == 3, 10)


async def test_what_was_read_as_the_database_failed_is_read_again(
    client: httpx.AsyncClient,
    database: Database,
    receiver: Receiver,
    subscribed: Subscribe,
    workers: Workers,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Due deliveries were found, their events were not: nobody else tells of what came due long ago."""
    read_contents, failed = lane_store.read_contents, False

    async def fail_once(*arguments: Any) -> Any:
        nonlocal failed
        if arguments[1] and not failed:
            failed = True
            raise ConnectionResetError
        return await read_contents(*arguments)

    monkeypatch.setattr(lane_store, "read_contents", fail_once)
    await subscribed(receiver.url)
    await post(client, [{}] * 3)
    await database.fetch("update deliveries set due_at = now() - interval '1 hour'")
    await workers.start()
    await eventually(lambda: len(receiver.hooks) == 3, 10)
    assert failed


async def test_what_is_settled_is_left_to_no_collector(
    client: httpx.AsyncClient, receiver: Receiver, subscribed: Subscribe, workers: Workers, states: States
) -> None:
    """Thousands a second that know each other in a ring would stop the worker for a tenth of its time."""
    subscription = await subscribed(receiver.url)
    await workers.start()

    async def settled() -> int:
        return (await states.settled(subscription.id)).get("delivered", 0)

    async def post_and_settle(number: int) -> None:
        before = await settled()
        await post(client, [{}] * number)

        async def all_settled() -> bool:
            return await settled() == before + number

        await eventually(all_settled, 10)

    gc.collect()  # what the workers of other tests left is not what this one leaves
    gc.disable()
    try:
        await post_and_settle(20)
        await post_and_settle(1)  # the settler holds its last batch until there is another
        await eventually(lambda: sum(type(each) is Ended for each in gc.get_objects()) <= 1)
    finally:
        gc.enable()


async def test_a_hint_of_an_inbox_is_none_of_the_workers_business(
    client: httpx.AsyncClient,
    node: Node,
    receiver: Receiver,
    subscribed: Subscribe,
    workers: Workers,
) -> None:
    """A message that is made due again is nobody's to send, and its hint reaches the worker all the same."""
    await subscribed(receiver.url)
    running = await workers.start()
    hinted: list[lane_store.LaneId] = []
    node.wakeup.listen_for_lanes(hinted.extend)
    node.wakeup.listen_for_lanes(running.worker.hint)
    (event_id,) = await post(client, [{}])
    inbox_id = (await client.get("/v1/inboxes/default")).json()["id"]
    await client.post(f"/v1/deliveries/{event_id}.{inbox_id}/cancel")
    answer = await client.post(f"/v1/deliveries/{event_id}.{inbox_id}/retry")
    assert answer.status_code == 200, answer.text
    assert inbox_id in {str(lane_id) for _, lane_id in hinted}
    await post(client, [{}])
    await eventually(lambda: len(receiver.hooks) == 2, 10)
    broken = asyncio.create_task(running.worker.ended())
    done, _ = await asyncio.wait({broken}, timeout=0.5)
    broken.cancel()
    assert not done


async def test_a_sender_that_ends_is_noticed(
    client: httpx.AsyncClient,
    receiver: Receiver,
    subscribed: Subscribe,
    workers: Workers,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else its slot would be gone, and with the last one all sending, without a word."""
    await subscribed(receiver.url)
    running = await workers.start()

    async def fault(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Senders, "_send", fault)
    broken = asyncio.create_task(running.worker.ended())
    with structlog.testing.capture_logs() as lines:
        await post(client, [{}])
        await asyncio.wait_for(broken, 10)
    assert [line["task"].split()[0] for line in lines if line["event"] == "background_ended"] == ["sender"]


async def test_a_delivery_that_fails_comes_back_once(
    client: httpx.AsyncClient, receiver: Receiver, subscribed: Subscribe, workers: Workers, states: States
) -> None:
    """Every third request fails, thousands of times: none is lost, none sent again that was taken."""
    taken: list[str] = []

    def every_third(hook: Hook) -> bytes:
        if hook.number % 3 == 0:
            return FAILED
        taken.append(hook.id)
        return OK

    receiver.answer = every_third
    subscription = await subscribed(receiver.url, delays=[0.05] * 30)
    await workers.start()
    ids = await post(client, [{}] * 3_000)
    await eventually(lambda: len(taken) >= 3_000, 30)
    assert sorted(taken) == sorted(ids)

    async def settled() -> bool:
        return await states.settled(subscription.id) == {"delivered": 3_000}

    await eventually(settled)
    assert len(await states.attempts(subscription.id)) == len(receiver.hooks)


# ---- operational events --------------------------------------------------------------------------


async def test_operational_events_go_to_those_who_name_them(
    client: httpx.AsyncClient,
    tenants: Tenants,
    database: Database,
    clock: DatabaseClock,
    subscribed: Subscribe,
    workers: Workers,
    states: States,
) -> None:
    stranger = await tenants.make()
    async with Receiver() as failing, Receiver() as named, Receiver() as everything, Receiver() as foreign:
        failing.answer = lambda hook: status(410) if hook.body == b"2" else FAILED
        dead = await subscribed(failing.url, delays=[], format="raw", event_types=["a"])
        await subscribed(named.url, event_types=["triggers.*"], format="raw")
        await subscribed(everything.url)
        await subscribe(database, clock, stranger, foreign.url, event_types=["triggers.*"])
        # Told of a dead letter and failing itself: of that nobody is told.
        async with Receiver(lambda _: FAILED) as sulking:
            sulky = await subscribed(sulking.url, event_types=["triggers.delivery.dead"], delays=[])
            await workers.start()
            (first,) = await post(client, [{"payload": 1}])
            await eventually(lambda: len(named.hooks) == 1, 10)
            await eventually(lambda: states.settled(sulky.id), 10)
            await post(client, [{"payload": 2}])
            await eventually(lambda: len(named.hooks) == 3, 10)
            await eventually(lambda: len(sulking.hooks) == 2, 10)
        told = [msgspec.json.decode(hook.body) for hook in named.hooks]
        assert told[0] == {
            "event_id": first,
            "subscription_id": str(dead.id),
            "generation": 0,
            "event_type": "a",
            "attempts": 1,
            "reason": "unavailable (exhausted)",
            "status_code": 500,
            "endpoint": failing.url.removesuffix("/hook"),
            "delivery": f"/v1/deliveries/{first}.{dead.id}",
        }
        assert {"subscription_id": str(dead.id), "reason": "gone"} in told[1:]
        assert len(named.hooks) == 3
        await eventually(lambda: len(everything.hooks) == 2, 10)
        assert foreign.hooks == []
        row = await database.row("select count(*) from events where type like 'triggers.%'")
        assert row is not None
        assert row[0] == 3
