"""A window finds each row once, in whatever order rows become visible, and remembers a bounded number."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from uuid import UUID

from triggers.domain import first_id_at
from triggers.streams.window import MAX_SEEN, Window

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def id_at(seconds: float, number: int = 0) -> UUID:
    return UUID(int=first_id_at(NOW + timedelta(seconds=seconds)).int + number)


def look(window: Window[UUID, UUID], visible: set[UUID], seconds: float) -> list[UUID]:
    """A look at what is visible: the youngest rows after the start."""
    rows = sorted(row for row in visible if row > window.start)[-MAX_SEEN:]
    return window.new({row: row for row in rows}, NOW + timedelta(seconds=seconds))


def test_every_row_is_found_once_though_it_becomes_visible_late() -> None:
    chance = random.Random(1)
    lag = 5.0
    window: Window[UUID, UUID] = Window(lag, first_id_at, NOW)
    # When it becomes visible, by id: up to the lag later.
    appears = {id_at(n / 10, 1): n / 10 + chance.uniform(0, lag) for n in range(1_000)}
    found: list[UUID] = []
    for tick in range(1_200):
        now = tick / 10
        visible = {row for row, moment in appears.items() if moment <= now}
        new = look(window, visible, now)
        assert new == sorted(new)
        found += new
        assert len(window._seen) <= 10 * lag + 2
    assert sorted(found) == sorted(appears)


def test_what_it_remembers_is_bounded() -> None:
    window: Window[UUID, UUID] = Window(60.0, first_id_at, NOW)
    visible: set[UUID] = set()
    found = 0
    for tick in range(20):
        visible |= {id_at(tick, n + 1) for n in range(1_000)}
        found += len(look(window, visible, tick))
        assert len(window._seen) < MAX_SEEN
    assert found == len(visible), "each was among the youngest when it became visible"
    assert look(window, visible, 20) == []


def test_a_window_never_goes_back() -> None:
    window: Window[UUID, UUID] = Window(5.0, first_id_at, NOW)
    start = window.start
    look(window, set(), 100)
    later = window.start
    assert later > start
    look(window, set(), 50)
    assert window.start == later
