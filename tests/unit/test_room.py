"""Shares of bounded memory: a greedy tenant gets a half, and another one still finds room."""

from __future__ import annotations

from collections import Counter
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from triggers.room import Room

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
