"""When settlements are written: together where nobody waits, at once where somebody does."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from harness import eventually
from triggers.postgres.clock import DatabaseClock
from triggers.push import settler
from triggers.push.settler import ENOUGH, Ended, Settler


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many settlements each transaction had."""
    written: list[int] = []

    async def write(_: Settler, batch: list[Ended]) -> None:
        written.append(len(batch))

    monkeypatch.setattr(Settler, "_until_written", write)
    monkeypatch.setattr(settler, "count", lambda *_: None)
    monkeypatch.setattr(settler, "GATHER_SECONDS", 60)
    return written


async def test_what_ends_waits_for_company_until_somebody_waits_for_it(batches: list[int]) -> None:
    nothing: Any = None
    settling = Settler(nothing, DatabaseClock(), nothing)
    running = asyncio.create_task(settling.run())
    for _ in range(3):
        settling.put(Ended(nothing, "a", lambda _: None))
        await asyncio.sleep(0)
    assert batches == []
    settling.put(Ended(nothing, "a", lambda _: None), urgent=True)
    await eventually(lambda: batches == [4], 5)
    for _ in range(ENOUGH):
        settling.put(Ended(nothing, "a", lambda _: None))
    await eventually(lambda: batches == [4, ENOUGH], 5)
    settling.put(Ended(nothing, "a", lambda _: None))
    await settling.finish()
    assert batches == [4, ENOUGH, 1]
    running.cancel()
