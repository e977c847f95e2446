"""Whose turn it is: shares of organisations and of lanes, without anything that is sent."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime
from uuid import UUID, uuid4

from triggers.push.dispatcher import Dispatcher
from triggers.push.lane import Lane, Target
from triggers.push.signature import Signer
from triggers.push.store import Due, Endpoint
from triggers.secrets.signing_secrets import generate_secret, read_secret

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
SIGNER = Signer([read_secret(generate_secret("v1"))])


def make_lane(org_id: UUID, waiting: int, **settings: object) -> Lane:
    """A lane with deliveries that are due."""
    lane_id = uuid4()
    endpoint: dict[str, object] = {
        "org_id": org_id,
        "id": lane_id,
        "lane_group": 0,
        "status": "active",
        "status_at": NOW,
        "changed_at": NOW,
        "target_url": "https://example.com/",
        "format": "raw",
        "signature": "v1",
        "secrets": b"",
        "headers": None,
        "ordering": "none",
        "max_concurrency": 1_000,
        "rate_limit": None,
        "retry_delays": None,
        "retry_deadline": None,
        "expires_at": None,
        "failing_since": None,
        "probe_at": None,
        "probe_delay": None,
        "notifies_inbox": None,
        **settings,
    }
    lane = Lane(Target.of(Endpoint(**endpoint), SIGNER, []))  # type: ignore[arg-type]
    lane.ahead.add([make_due(org_id, lane_id) for _ in range(waiting)])
    return lane


def make_due(org_id: UUID, lane_id: UUID) -> Due:
    return Due(
        org_id=org_id,
        subscription_id=lane_id,
        event_id=uuid4(),
        generation=0,
        attempts=0,
        first_attempt_at=None,
        due_at=NOW,
        accepted_at=NOW,
        payload_size=1,
    )


def make_dispatcher(slots: int) -> Dispatcher:
    return Dispatcher(slots, lambda: NOW)


async def take_all(dispatcher: Dispatcher) -> list[Lane]:
    """What is handed out at once to as many senders as there are slots, until nothing more may go."""
    taken: list[Lane] = []
    while dispatcher.in_flight < dispatcher.slots:
        try:
            async with asyncio.timeout(0.02):
                lane, _ = await dispatcher.next()
        except TimeoutError:
            break
        taken.append(lane)
    return taken


async def test_one_alone_leaves_half() -> None:
    dispatcher = make_dispatcher(64)
    dispatcher.offer(make_lane(uuid4(), 500))
    assert len(await take_all(dispatcher)) == 32


async def test_who_comes_finds_a_slot() -> None:
    dispatcher = make_dispatcher(64)
    dispatcher.offer(make_lane(uuid4(), 500))
    await take_all(dispatcher)
    newcomer = make_lane(uuid4(), 1)
    dispatcher.offer(newcomer)
    assert await take_all(dispatcher) == [newcomer]


async def test_many_organisations_take_turns() -> None:
    dispatcher = make_dispatcher(64)
    lanes = [make_lane(uuid4(), 500) for _ in range(8)]
    for lane in lanes:
        dispatcher.offer(lane)
    taken = Counter(lane.org_id for lane in await take_all(dispatcher))
    assert set(taken.values()) == {7}


async def test_a_third_while_another_waits() -> None:
    """If two organisations have much to send, each holds at most a third, so a third stays free."""
    dispatcher = make_dispatcher(64)
    for lane in [make_lane(uuid4(), 500) for _ in range(2)]:
        dispatcher.offer(lane)
    taken = Counter(lane.org_id for lane in await take_all(dispatcher))
    assert set(taken.values()) == {21}
    third = make_lane(uuid4(), 5)
    dispatcher.offer(third)
    assert await take_all(dispatcher) == [third] * 5


async def test_beside_eight_that_hold_all_they_can_a_newcomer_begins_at_once() -> None:
    dispatcher = make_dispatcher(512)
    held = []
    for _ in range(8):  # in turn, so that each finds only the slots that the others left
        dispatcher.offer(make_lane(uuid4(), 1_000))
        held.append(len(await take_all(dispatcher)))
    assert held == [256, 128, 64, 32, 16, 8, 4, 2]
    newcomer = make_lane(uuid4(), 10)
    dispatcher.offer(newcomer)
    assert await take_all(dispatcher) == [newcomer]


async def test_beyond_that_a_newcomer_is_next() -> None:
    """All slots are held by organisations that have more to send. The first free slot goes to an organisation
    that holds none, in the order in which they came."""
    dispatcher = make_dispatcher(16)
    greedy = []
    while dispatcher.in_flight < 16:
        dispatcher.offer(make_lane(uuid4(), 1_000))
        greedy += await take_all(dispatcher)
    greedy.reverse()  # the last two hold one slot each, and none afterwards
    newcomers = [make_lane(uuid4(), 10) for _ in range(2)]
    for lane in newcomers:
        dispatcher.offer(lane)
    assert await take_all(dispatcher) == []
    for newcomer, ended in zip(newcomers, greedy, strict=False):
        dispatcher.done(ended)
        assert await take_all(dispatcher) == [newcomer]


async def test_lanes_of_one_organisation_share_too() -> None:
    """A hundred hanging lanes, then a new one of the same organisation."""
    org_id = uuid4()
    dispatcher = make_dispatcher(64)
    greedy = make_lane(org_id, 500)
    dispatcher.offer(greedy)
    first, _ = await dispatcher.next()
    assert first is greedy
    other = make_lane(org_id, 500)
    dispatcher.offer(other)
    taken = Counter(lane.id for lane in await take_all(dispatcher))
    # A quarter of what the organisation may have for each, while both wait.
    assert taken == {greedy.id: 7, other.id: 8}


async def test_concurrency_of_a_lane() -> None:
    dispatcher = make_dispatcher(64)
    lane = make_lane(uuid4(), 500, max_concurrency=3)
    dispatcher.offer(lane)
    assert len(await take_all(dispatcher)) == 3
    dispatcher.done(lane)
    assert await take_all(dispatcher) == [lane]


async def test_what_was_given_back_comes_first_again() -> None:
    dispatcher = make_dispatcher(64)
    lane = make_lane(uuid4(), 3, max_concurrency=1)
    dispatcher.offer(lane)
    lane, due = await dispatcher.next()
    dispatcher.give_back(lane, due)
    _, again = await dispatcher.next()
    assert again is due
    assert dispatcher.in_flight == 1


async def test_every_waiter_is_woken_and_none_is_forgotten() -> None:
    """Waiters that gave up are passed over; the others get what there is."""
    dispatcher = make_dispatcher(64)
    waiting = [asyncio.create_task(dispatcher.next()) for _ in range(10)]
    await asyncio.sleep(0)
    for task in waiting[::2]:
        task.cancel()
    await asyncio.gather(*waiting[::2], return_exceptions=True)
    dispatcher.offer(make_lane(uuid4(), 5))
    async with asyncio.timeout(1):
        found = await asyncio.gather(*waiting[1::2])
    assert len({due.event_id for _, due in found}) == 5


async def test_idle_when_nothing_is_in_flight() -> None:
    dispatcher = make_dispatcher(64)
    async with asyncio.timeout(1):
        await dispatcher.idle()
    lane = make_lane(uuid4(), 2)
    dispatcher.offer(lane)
    await dispatcher.next()
    waiting = asyncio.create_task(dispatcher.idle())
    await asyncio.sleep(0)
    assert not waiting.done()
    lane.ahead.waiting.clear()
    dispatcher.done(lane)
    async with asyncio.timeout(1):
        await waiting


async def test_shares_are_forgotten_with_their_work() -> None:
    dispatcher = make_dispatcher(64)
    lanes = [make_lane(uuid4(), 1) for _ in range(100)]
    for lane in lanes:
        dispatcher.offer(lane)
        taken, _ = await dispatcher.next()
        dispatcher.done(taken)
    assert dispatcher._line == {}
    assert dispatcher.in_flight == 0
