"""Shares of bounded memory: a greedy tenant gets a half, and another one still finds room."""

from __future__ import annotations

import asyncio
from collections import Counter
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from triggers.fairness.room import Line, Places, Room

A, B, C, D = (UUID(int=n) for n in range(1, 5))


def fill(room: Room, org_id: UUID) -> int:
    """Take by ones until there is no more; return how much that was."""
    taken = 0
    while room.take(org_id, 1):
        taken += 1
    return taken


def test_one_gets_a_half_and_the_next_of_what_is_left() -> None:
    room = Room(120)
    assert [fill(room, org_id) for org_id in (A, B, C)] == [60, 30, 15]


def test_those_who_take_in_turn_get_as_much_each() -> None:
    room = Room(120)
    for _ in range(40):
        assert room.take(A, 1)
        assert room.take(B, 1)
    assert not room.take(A, 1)
    assert not room.take(B, 1)


def test_whoever_holds_nothing_gets_what_fits() -> None:
    room = Room(100)
    assert room.take(A, 90)
    assert not room.take(A, 1)
    assert not room.take(B, 11)
    assert room.take(B, 10)
    assert not room.take(C, 1)


def test_what_is_given_back_is_there_again() -> None:
    room = Room(10)
    assert room.take(A, 5)
    assert not room.take(A, 1)
    room.give_back(A, 2)
    assert room.take(A, 2)
    room.give_back(A, 5)
    assert (room.taken, room._held) == (0, {})


@given(st.lists(st.tuples(st.sampled_from([A, B, C, D]), st.integers(-20, 20))))
def test_nobody_holds_more_than_is_free_but_by_one_taking(steps: list[tuple[UUID, int]]) -> None:
    room = Room(100)
    held = Counter[UUID]()
    for org_id, amount in steps:
        if amount < 0:
            room.give_back(org_id, back := min(-amount, held[org_id]))
            held[org_id] -= back
            continue
        before, free = held[org_id], 100 - held.total() - amount
        fits = amount == 0 or (before + amount <= free if before else free >= 0)
        assert room.take(org_id, amount) is fits
        held[org_id] += amount * fits
        assert room.taken == held.total() <= 100


def test_what_one_may_hold_is_what_it_can_take() -> None:
    room = Room(120)
    for org_id in (A, B, C):
        most = room.most(org_id)
        assert fill(room, org_id) == most == room.most(org_id)
        assert not room.has_room(org_id)
        assert room.has_room(D)


def test_tenants_have_turns() -> None:
    line: Line[str] = Line()
    for name in ("a1", "a2", "a3", "b1", "c1", "b2", "a1"):
        line.add({"a": A, "b": B, "c": C}[name[0]], name)
    assert line.remove(B, "b1")
    assert not line.remove(B, "b1")
    taken = []
    while (found := line.next()) is not None:
        taken.append(found[1])
    assert taken == ["a1", "b2", "c1", "a2", "a3"]
    assert not line


def test_one_that_may_not_have_its_turn_is_passed_over() -> None:
    line: Line[str] = Line()
    line.add(A, "a")
    line.add(B, "b")
    assert line.next(lambda org_id: org_id == B) == (B, "b")
    assert line.next(lambda org_id: org_id == B) is None
    assert line.next() == (A, "a")


async def enter(places: Places, org_id: UUID, leave: asyncio.Event, inside: list[UUID]) -> None:
    async with places.hold(org_id):
        inside.append(org_id)
        await leave.wait()


async def settle() -> None:
    """Let every task go as far as it can."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_the_next_place_is_for_one_that_holds_none() -> None:
    places = Places(3)
    inside: list[UUID] = []
    leaves = [asyncio.Event() for _ in range(10)]
    tasks = [
        asyncio.create_task(enter(places, org_id, leave, inside))
        for org_id, leave in zip((A, A, A, B, C, C, D, A, D), leaves, strict=False)
    ]
    await settle()
    assert inside == [A, B, C]
    leaves[0].set()
    await settle()
    assert inside == [A, B, C, D]
    tasks[1].cancel()  # the second task of A waits
    leaves[3].set()
    leaves[4].set()
    await settle()
    assert inside[4:] == [A, C], "in turns, and each one as long as another one stays free for newcomers"
    for leave in leaves:
        leave.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert places.room.taken == 0
    assert not places._line


async def test_a_place_given_to_one_that_gives_up_is_given_on() -> None:
    places = Places(1)
    inside: list[UUID] = []
    leave = asyncio.Event()
    first = asyncio.create_task(enter(places, A, leave, inside))
    await settle()
    second = asyncio.create_task(enter(places, B, leave, inside))
    third = asyncio.create_task(enter(places, C, leave, inside))
    await settle()
    leave.set()
    while places.room.held(A):  # noqa: ASYNC110 - until the exact moment at which the second task gets the place
        await asyncio.sleep(0)
    second.cancel()
    await asyncio.gather(first, second, third, return_exceptions=True)
    assert inside == [A, C]
    assert places.room.taken == 0


@given(st.lists(st.tuples(st.sampled_from([A, B, C, D]), st.booleans()), max_size=40), st.integers(1, 8))
def test_of_places_none_is_lost(steps: list[tuple[UUID, bool]], capacity: int) -> None:
    async def run() -> None:
        places = Places(capacity)
        inside: list[UUID] = []
        tasks: list[tuple[asyncio.Task[None], asyncio.Event]] = []
        for number, (org_id, gives_up) in enumerate(steps):
            leave = asyncio.Event()
            tasks.append((asyncio.create_task(enter(places, org_id, leave, inside)), leave))
            if number % 3 == 0:
                await settle()
            task, leave = tasks[len(tasks) // 2]
            if gives_up:
                task.cancel()
            else:
                leave.set()
        for _, leave in tasks:
            leave.set()
        await asyncio.gather(*[task for task, _ in tasks], return_exceptions=True)
        assert places.room.taken == 0
        assert not places._line

    asyncio.run(run())
