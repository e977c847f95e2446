"""Duties, loops and tasks: what they survive, what they show, how they stop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import structlog

from harness import eventually
from triggers import background
from triggers.background import Background, Duty
from triggers.errors import DatabaseUnavailable


@pytest.fixture
async def work() -> AsyncIterator[Background]:
    made = Background()
    yield made
    await made.stop()


class Scripted:
    """Work that does the next thing of a list each time, and the last one from then on."""

    def __init__(self, *steps: Any) -> None:
        self.times = 0
        self._steps = steps

    async def __call__(self) -> bool | None:
        step = self._steps[min(self.times, len(self._steps) - 1)]
        self.times += 1
        if isinstance(step, Exception):
            raise step
        await asyncio.sleep(0)
        return step


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "PAUSE_SECONDS", 0.01)


async def test_a_duty_survives_whatever_it_meets_and_shows_it_until_it_is_well(work: Background) -> None:
    scripted = Scripted(None, ZeroDivisionError("secret"), ZeroDivisionError("secret"), None)
    work.start(Duty("sums", 0.02, scripted))
    await eventually(lambda: work.trouble == {"sums": "failed: ZeroDivisionError"}, 5)
    await eventually(lambda: scripted.times > 3 and not work.trouble, 5)


async def test_a_duty_with_more_to_do_does_not_wait(work: Background) -> None:
    scripted = Scripted(True, True, True, None)
    work.start(Duty("sweep", 3_600, scripted))
    await eventually(lambda: scripted.times == 4, 5)


async def test_a_loop_outlives_the_database_and_ends_with_a_bug(work: Background) -> None:
    closed: list[bool] = []
    scripted = Scripted(None, DatabaseUnavailable(), None, None, KeyError("bug"))
    with structlog.testing.capture_logs() as logs:
        work.loop("reader", scripted, lambda: closed.append(True))
        await asyncio.wait_for(work.ended(), 5)
    assert work.trouble == {"reader": "ended: KeyError"}
    assert closed == [True]
    assert [line["event"] for line in logs] == ["loop_failed", "background_ended"]


async def test_a_task_that_returns_has_ended_too(work: Background) -> None:
    async def once() -> None:
        await asyncio.sleep(0)

    work.run("sender", once())
    await asyncio.wait_for(work.ended(), 5)
    assert work.trouble == {"sender": "ended"}


async def test_what_is_stopped_is_no_trouble() -> None:
    stopped = Background()
    closed: list[bool] = []
    stopped.start(Duty("sums", 3_600, Scripted(None)))
    stopped.loop("reader", Scripted(None), lambda: closed.append(True))
    stopped.run("sender", asyncio.Event().wait())  # type: ignore[arg-type]
    await asyncio.sleep(0)
    with structlog.testing.capture_logs() as logs:
        await stopped.stop()
    assert (stopped.trouble, closed, logs) == ({}, [True], [])


async def test_nobody_waits_for_work_that_has_ended(work: Background) -> None:
    async def fault() -> None:
        raise ZeroDivisionError

    work.run("settler", fault())
    await asyncio.wait_for(work.unless_ended(asyncio.Event().wait()), 5)  # type: ignore[arg-type]
