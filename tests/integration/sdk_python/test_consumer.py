"""Consumers of both halves against a real node: what becomes of a message, and of a lease."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import httpx
import pytest

from harness import Node, Tenant, eventually
from relaying import Relay
from triggers_client import AsyncConsumer, AsyncTriggers, Consumer, Message, Refused, Triggers
from triggers_client.consuming.message import as_reason
from triggers_client.consuming.settings import ConsumerSettings, delay_seconds

LEASE_SECONDS = 2


@pytest.fixture
async def jobs(triggers: AsyncTriggers) -> Callable[..., Any]:
    """Sends messages to the inbox `work`: `await jobs(0, 1, 2)`."""
    await triggers.inboxes.create("work", event_types=["job"])

    async def send(*payloads: object) -> list[str]:
        report = await triggers.events.send_many({"type": "job", "payload": each} for each in payloads)
        return [str(item.id) for item in report.items]

    return send


@asynccontextmanager
async def running(consumer: AsyncConsumer | Consumer) -> AsyncIterator[None]:
    """Run a consumer of either half, and stop it at the end."""
    if isinstance(consumer, AsyncConsumer):
        run = asyncio.create_task(consumer.run())
    else:
        run = asyncio.create_task(asyncio.to_thread(consumer.run))
    try:
        yield
    finally:
        consumer.stop()
        await asyncio.wait_for(run, 10)


async def statuses(triggers: AsyncTriggers) -> list[tuple[str, int, str | None]]:
    """Status, lease count and reason of every message that is not acknowledged."""
    inbox = triggers.inbox("work")
    return [
        (each.status, each.message_attributes.lease_count, each.message_attributes.error_message)
        for listed in (inbox.messages(), inbox.messages(status="quarantined"))
        async for each in listed
    ]


def settled(triggers: AsyncTriggers, *expected: tuple[str, int, str | None]) -> Callable[[], Any]:
    async def check() -> bool:
        return await statuses(triggers) == list(expected)

    return check


async def test_what_a_handler_returns_from_is_acknowledged(triggers: AsyncTriggers, jobs: Any) -> None:
    handled: list[Message] = []

    @triggers.inbox("work").consumer(concurrency=3, name="me")
    async def work(message: Message) -> None:
        handled.append(message)

    async with running(work):
        ids = await jobs(*range(20))
        await eventually(lambda: len(handled) == 20, 10)
        await eventually(settled(triggers), 10)
    assert sorted(message.id for message in handled) == sorted(ids)
    assert {message.type for message in handled} == {"job"}
    assert "payload" not in repr(handled[0])


async def test_handlers_of_the_other_half_run_in_threads(
    triggers: AsyncTriggers, blocking: Triggers, jobs: Any
) -> None:
    together = threading.Barrier(4, timeout=10)
    threads: set[str] = set()

    @blocking.inbox("work").consumer(concurrency=4, max_attempts=1)
    def work(message: Message) -> None:
        threads.add(threading.current_thread().name)
        together.wait()
        if message.payload == 3:
            raise StopIteration

    await jobs(0, 1, 2, 3)
    async with running(work):
        reason = "RuntimeError: The handler raised StopIteration()."
        await eventually(settled(triggers, ("quarantined", 1, reason)), 10)
    assert len(threads) == 4


async def test_what_a_handler_raises_from_comes_again_and_is_rejected_at_last(
    triggers: AsyncTriggers, jobs: Any
) -> None:
    times: list[float] = []

    @triggers.inbox("work").consumer(max_attempts=2, lease_seconds=LEASE_SECONDS)
    async def work(message: Message) -> None:
        times.append(time.monotonic())
        raise ValueError(f"no\nsuch {message.payload}")

    await jobs("thing")
    async with running(work):
        await eventually(settled(triggers, ("quarantined", 2, "ValueError: no such thing")), 10)
    assert len(times) == 2
    assert 0.9 < times[1] - times[0] < 5


async def test_a_message_that_killed_its_consumers_is_rejected_without_a_handler(
    triggers: AsyncTriggers, jobs: Any
) -> None:
    handled: list[Message] = []

    @triggers.inbox("work").consumer(max_attempts=1)
    async def work(message: Message) -> None:
        handled.append(message)

    await jobs("poison")
    lease = await triggers.inbox("work").lease(lease_seconds=1)  # and dies
    assert lease.results
    async with running(work):
        await eventually(settled(triggers, ("quarantined", 2, "Leased 2 times, and never finished")), 10)
    assert not handled


async def test_a_handler_can_reject(triggers: AsyncTriggers, blocking: Triggers, jobs: Any) -> None:
    @blocking.inbox("work").consumer()
    def work(message: Message) -> None:
        message.reject(f"bad\x00 {'x' * 300}")

    await jobs(1)
    async with running(work):
        reason = ("bad " + "x" * 300)[:255]
        await eventually(settled(triggers, ("quarantined", 1, reason)), 10)


async def test_a_note_that_is_refused_does_not_keep_the_message(triggers: AsyncTriggers, jobs: Any) -> None:
    @triggers.inbox("work").consumer()
    async def work(message: Message) -> None:
        message.note = {"text": "x" * 5_000}

    await jobs(1)
    async with running(work):
        await eventually(settled(triggers), 10)


async def test_a_lease_is_renewed_while_the_handler_works(triggers: AsyncTriggers, jobs: Any) -> None:
    ended = asyncio.Event()

    @triggers.inbox("work").consumer(lease_seconds=LEASE_SECONDS)
    async def work(message: Message) -> None:
        await asyncio.sleep(LEASE_SECONDS + 1.5)
        assert not message.lease_lost.is_set()
        ended.set()

    await jobs(1)
    async with running(work):
        await asyncio.wait_for(ended.wait(), 10)
        await eventually(settled(triggers), 10)


async def test_a_lost_lease_cancels_the_handler(triggers: AsyncTriggers, jobs: Any) -> None:
    seen: list[Message] = []
    cancelled = asyncio.Event()

    @triggers.inbox("work").consumer(lease_seconds=LEASE_SECONDS, concurrency=1)
    async def work(message: Message) -> None:
        seen.append(message)
        if len(seen) == 1:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                cancelled.set()
                raise

    await jobs(1)
    async with running(work):
        await eventually(lambda: seen)
        await triggers.inbox("work").revoke(seen[0].lease_id)
        await asyncio.wait_for(cancelled.wait(), 10)
        assert seen[0].lease_lost.is_set()
        await eventually(lambda: len(seen) == 2, 10)
        await eventually(settled(triggers), 10)


async def test_a_handler_in_a_thread_is_told_that_its_lease_is_lost(
    triggers: AsyncTriggers, blocking: Triggers, jobs: Any
) -> None:
    told: list[float] = []
    begun: list[float] = []

    @blocking.inbox("work").consumer(lease_seconds=LEASE_SECONDS, max_seconds=1.5, concurrency=2)
    def work(message: Message) -> None:
        begun.append(time.monotonic())
        if message.lease_count == 1:
            assert message.lease_lost.wait(10)
            told.append(time.monotonic())

    await jobs(1)
    async with running(work):
        await eventually(lambda: len(begun) == 2, 10)
        await eventually(settled(triggers), 10)
    assert told[0] < begun[1]
    assert told[0] - begun[0] < 1.9


async def test_an_outage_is_told_before_another_consumer_begins(
    node: Node, tenant: Tenant, relay: Relay, triggers: AsyncTriggers, jobs: Any
) -> None:
    held: list[Message] = []
    told: list[float] = []
    begun: list[float] = []
    may_end = asyncio.Event()

    @AsyncTriggers(relay.url, tenant.key).inbox("work").consumer(lease_seconds=LEASE_SECONDS, concurrency=1)
    async def cut_off(message: Message) -> None:
        held.append(message)
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            told.append(time.monotonic())
            await may_end.wait()  # a handler that does not obey goes on

    @Triggers(relay.url, tenant.key).inbox("work").consumer(lease_seconds=LEASE_SECONDS, concurrency=1)
    def cut_off_thread(message: Message) -> None:
        held.append(message)
        assert message.lease_lost.wait(10)
        told.append(time.monotonic())

    @triggers.inbox("work").consumer(lease_seconds=LEASE_SECONDS)
    async def other(message: Message) -> None:
        begun.append(time.monotonic())

    await jobs(1, 2)
    async with running(cut_off_thread), running(cut_off):
        await eventually(lambda: len(held) == 2, 10)
        relay.passes.clear()
        async with running(other):
            await eventually(lambda: len(begun) == 2, 10)
        assert len(told) == 2
        assert max(told) < min(begun)
        may_end.set()
        relay.passes.set()
    assert await statuses(triggers) == []


async def test_a_consumer_stops_although_the_service_is_silent(
    tenant: Tenant, relay: Relay, triggers: AsyncTriggers, jobs: Any
) -> None:
    begun = asyncio.Event()

    @AsyncTriggers(relay.url, tenant.key).inbox("work").consumer(concurrency=2)
    async def work(message: Message) -> None:
        relay.passes.clear()
        begun.set()
        await asyncio.sleep(60)

    await jobs(1)
    run = asyncio.create_task(work.run())
    await asyncio.wait_for(begun.wait(), 10)
    began = time.monotonic()
    work.stop(now=True)
    await asyncio.wait_for(run, 10)
    assert time.monotonic() - began < 7


async def test_no_error_of_a_handler_ends_the_consumer(
    triggers: AsyncTriggers, blocking: Triggers, jobs: Any
) -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise ValueError

    errors = [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError(), Mute(), GeneratorExit()]

    @triggers.inbox("work").consumer(max_attempts=1)
    async def work(message: Message) -> None:
        raise errors[message.payload]

    @blocking.inbox("work").consumer(max_attempts=1)
    def work_in_threads(message: Message) -> None:
        raise errors[message.payload]

    async def rejected(count: int) -> bool:
        return [status for status, *_ in await statuses(triggers)] == ["quarantined"] * count

    await jobs(*range(5))
    async with running(work):
        await eventually(lambda: rejected(5), 10)
    await jobs(*range(5))
    async with running(work_in_threads):
        await eventually(lambda: rejected(10), 10)
    assert ("quarantined", 1, "Mute") in await statuses(triggers)


async def test_a_number_that_python_refuses_does_not_stop_the_consumer(
    node: Node, tenant: Tenant, triggers: AsyncTriggers, jobs: Any
) -> None:
    handled: list[Any] = []
    digits = "9" * 20_000
    body = f'{{"type": "job", "payload": {{"number": {digits}, "other": 1}}}}'
    async with httpx.AsyncClient(base_url=node.url) as client:
        sent = await client.post(
            "/v1/events", content=body, headers={"authorization": f"Bearer {tenant.key}"}
        )
    assert sent.status_code == 201

    @triggers.inbox("work").consumer()
    async def work(message: Message) -> None:
        handled.append(message.payload)

    async with running(work):
        await eventually(settled(triggers), 10)
    assert handled == [{"number": Decimal(digits), "other": 1}]


async def test_stopping_lets_handlers_finish_and_releases_the_rest(
    triggers: AsyncTriggers, jobs: Any
) -> None:
    stopped = asyncio.Event()
    begun: list[str] = []
    finished: list[str] = []
    cancelled: list[str] = []

    @triggers.inbox("work").consumer(concurrency=2, drain_seconds=1)
    async def work(message: Message) -> None:
        begun.append(message.payload)
        try:
            await (stopped.wait() if message.payload == "short" else asyncio.sleep(60))
            finished.append(message.payload)
        except asyncio.CancelledError:
            cancelled.append(message.payload)
            raise

    await jobs("short", "long", "never")
    async with running(work):
        await eventually(lambda: len(begun) == 2)
        work.stop()
        stopped.set()
    assert (finished, cancelled) == (["short"], ["long"])
    assert await statuses(triggers) == [("available", 0, None)] * 2, (
        "a lease that only stopped does not count"
    )


async def test_a_handler_in_a_thread_that_is_stopped_acknowledges_nothing(
    triggers: AsyncTriggers, blocking: Triggers, jobs: Any
) -> None:
    begun: list[Message] = []

    @blocking.inbox("work").consumer(concurrency=1, drain_seconds=0.2)
    def work(message: Message) -> None:
        begun.append(message)
        message.lease_lost.wait(10)

    await jobs(1)
    async with running(work):
        await eventually(lambda: begun)
    assert await statuses(triggers) == [("available", 0, None)]


async def test_a_message_that_outlives_its_consumers_is_not_rejected(
    triggers: AsyncTriggers, jobs: Any
) -> None:
    counts: list[int] = []
    may_end = asyncio.Event()

    @triggers.inbox("work").consumer(concurrency=1, max_attempts=1)
    async def work(message: Message) -> None:
        counts.append(message.lease_count)
        await may_end.wait()

    await jobs("long")
    for deployment in range(3):
        run = asyncio.create_task(work.run())
        await eventually(lambda deployment=deployment: len(counts) == deployment + 1)
        work.stop(now=True)
        await asyncio.wait_for(run, 5)
    may_end.set()
    async with running(work):
        await eventually(settled(triggers), 10)
    assert counts == [1, 1, 1, 1]


async def test_a_long_poll_that_is_stopped_keeps_no_message(triggers: AsyncTriggers, jobs: Any) -> None:
    @triggers.inbox("work").consumer(concurrency=4)
    async def work(message: Message) -> None:
        raise AssertionError("nothing is there to handle")

    for _ in range(3):
        async with running(work):
            await asyncio.sleep(0.05)
    await jobs(1)
    assert await statuses(triggers) == [("available", 0, None)]


async def test_an_inbox_that_does_not_exist_ends_the_run(triggers: AsyncTriggers) -> None:
    @triggers.inbox("nowhere").consumer()
    async def work(message: Message) -> None: ...

    with pytest.raises(Refused) as refused:
        await asyncio.wait_for(work.run(), 10)
    assert refused.value.status == 404


async def test_a_paused_inbox_is_waited_for(triggers: AsyncTriggers, jobs: Any) -> None:
    handled = asyncio.Event()

    @triggers.inbox("work").consumer()
    async def work(message: Message) -> None:
        handled.set()

    await triggers.inboxes.pause("work")
    async with running(work):
        await jobs(1)
        await triggers.inboxes.resume("work")
        await asyncio.wait_for(handled.wait(), 40)


async def test_a_handler_can_be_called_by_a_test(node: Node, tenant: Tenant) -> None:
    client = AsyncTriggers(node.url, tenant.key)

    @client.inbox("work").consumer()
    async def double(message: Message) -> object:
        return message.payload * 2

    message = Message("id", "job", 4, None, 1, "lease", "work")  # type: ignore[arg-type]
    assert await double(message) == 8
    with pytest.raises(TypeError, match="Triggers"):
        client.inbox("work").consumer()(lambda message: None)  # type: ignore[arg-type,return-value]
    with pytest.raises(TypeError, match="AsyncTriggers"):
        Triggers(node.url, tenant.key).inbox("work").consumer()(double._handler)


def test_the_schedule() -> None:
    assert [delay_seconds(count) for count in (0, 1, 2, 3, 9, 10, 10_000)] == [1, 1, 2, 4, 256, 300, 300]
    assert as_reason("\x00") == "no reason given"
    assert as_reason("\ud800a") == "a"
    for wrong in ({"concurrency": 0}, {"lease_seconds": 0}, {"max_attempts": 0}, {"max_seconds": 0}):
        with pytest.raises(ValueError):
            ConsumerSettings(**wrong)
