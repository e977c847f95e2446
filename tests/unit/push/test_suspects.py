"""Which deliveries may have killed a worker, by values."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

from triggers.push.store import Due, Group
from triggers.push.suspects import FIRST, Suspicion

from .test_dispatcher import make_due

LANE, OTHER = (uuid4(), uuid4()), (uuid4(), uuid4())
SECOND = timedelta(seconds=1)


def due_of(lost: bool = False) -> Due:
    due = make_due(*LANE)
    due.lost = lost
    return due


def group_of(due: Due, later: timedelta = SECOND) -> Group:
    """One whose last owner was lost so much after the delivery was due."""
    return Group(1, uuid4(), probation=False, suspects_until=due.due_at + later)


def test_without_a_death_nothing_is_a_suspect() -> None:
    group = Group(1, uuid4(), probation=False)
    assert Suspicion().choose(group, LANE, [due_of()]) == (False, 0)


def test_what_was_due_before_the_death_is() -> None:
    due = due_of()
    assert Suspicion().choose(group_of(due), LANE, [due]) == (True, 1)
    assert Suspicion().choose(group_of(due, timedelta(0)), LANE, [due]) == (True, 1)
    assert Suspicion().choose(group_of(due, -SECOND), LANE, [due]) == (False, 0)


def test_what_was_counted_and_never_heard_of_always_is() -> None:
    """It counts for none of the first: counting it moved the time at which it is due."""
    due = due_of(lost=True)
    assert Suspicion().choose(group_of(due, -SECOND), LANE, [due]) == (True, 0)
    assert Suspicion().choose(Group(1, uuid4(), probation=False), LANE, [due]) == (True, 0)


def test_the_first_of_each_lane() -> None:
    suspicion, due = Suspicion(), due_of()
    group = group_of(due)
    found = [suspicion.choose(group, LANE, [due]) for _ in range(FIRST + 1)]
    assert found == [(True, 1)] * FIRST + [(False, 0)]
    assert suspicion.choose(group, OTHER, [due]) == (True, 1)
    assert suspicion.choose(group, LANE, [due_of(lost=True)]) == (True, 0)


def test_what_was_not_counted_is_chosen_again() -> None:
    suspicion, due = Suspicion(), due_of()
    group = group_of(due)
    assert suspicion.choose(group, LANE, [due] * FIRST) == (True, FIRST)
    assert suspicion.choose(group, LANE, [due]) == (False, 0)
    suspicion.give_back(group, LANE, 2)
    assert suspicion.choose(group, LANE, [due] * 3) == (True, 2)


def test_another_takeover_begins_anew() -> None:
    suspicion, due = Suspicion(), due_of()
    before, after = group_of(due), group_of(due)
    suspicion.choose(before, LANE, [due] * FIRST)
    assert suspicion.choose(after, LANE, [due]) == (True, 1)
    suspicion.give_back(before, LANE, FIRST)  # comes late, and changes nothing
    assert suspicion.choose(after, LANE, [due] * FIRST) == (True, FIRST - 1)
