"""Long work shares a part of each turn of the loop, and organisations have turns one after another."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref
from uuid import UUID

import pytest

from triggers.fairness import pace
from triggers.fairness.pace import Steps, breathe, do, do_first

ADA, BOB = UUID(int=1), UUID(int=2)


@pytest.fixture(autouse=True)
def each_step_takes_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "TURN_SECONDS", 0.0)


def work(name: str, steps: int, done: list[str]) -> Steps[str]:
    for _ in range(steps):
        done.append(name)
        yield
    return name


async def test_the_result_is_that_of_the_work() -> None:
    assert await do(work("a", 3, []), ADA) == "a"
    assert await do_first(work("a", 3, [])) == "a"


class Body:
    """Something large that steps hold."""


async def test_work_that_failed_in_line_keeps_nothing_alive() -> None:
    """Otherwise bodies that are refused stay in memory until a garbage collection, which may be minutes."""
    bodies: list[weakref.ref[Body]] = []

    def refuse() -> Steps[None]:
        body = Body()
        bodies.append(weakref.ref(body))
        yield
        raise ValueError(body)

    async def answer() -> str:
        try:
            await do(refuse(), ADA)
        except ValueError as error:
            return type(error).__name__
        return ""

    gc.disable()
    try:
        assert await asyncio.gather(*[answer() for _ in range(3)]) == ["ValueError"] * 3
        await asyncio.sleep(0)
        assert [each() for each in bodies] == [None] * 3
    finally:
        gc.enable()


async def test_organisations_have_turns_however_much_work_each_has() -> None:
    done: list[str] = []
    works = [do(work("a", 6, done), ADA) for _ in range(10)] + [do(work("b", 6, done), BOB)]
    await asyncio.gather(*works)
    last = len(done) - 1 - done[::-1].index("b")
    assert done[: last + 1].count("a") <= 6 + 1 + 1, done
    assert done.count("a") == 60


async def test_all_long_work_together_has_one_step_in_a_turn_of_the_loop() -> None:
    done: list[str] = []
    works = [asyncio.create_task(do(work("a", 5, done), UUID(int=n))) for n in range(8)]
    most = seen = 0
    while not all(each.done() for each in works):
        await asyncio.sleep(0)
        most, seen = max(most, len(done) - seen), len(done)
    assert seen == 40
    assert most == 1


async def test_work_goes_on_within_its_part_of_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "TURN_SECONDS", 3600.0)
    done: list[str] = []
    task = asyncio.create_task(do(work("a", 50, done), ADA))
    await asyncio.sleep(0)
    assert task.done()


async def test_the_turn_of_a_task_that_was_cancelled_goes_to_the_next() -> None:
    done: list[str] = []
    first = asyncio.create_task(do(work("a", 100, done), ADA))
    await asyncio.sleep(0)
    waiting = [asyncio.create_task(do(work(name, 3, done), BOB)) for name in "bcde"]
    await asyncio.sleep(0)
    for each in waiting[::2]:
        each.cancel()
    for _ in range(20):  # this includes the one whose turn has come, but that has not run yet
        if waiting[1].cancel():
            await asyncio.sleep(0)
    assert await asyncio.wait_for(waiting[3], 10) == "e"
    assert await asyncio.wait_for(first, 10) == "a"


@pytest.mark.parametrize("turns_before", range(6))
async def test_cancelled_at_any_moment_it_holds_up_nobody(turns_before: int) -> None:
    done: list[str] = []
    works = [asyncio.create_task(do(work("a", 50, done), UUID(int=n))) for n in range(3)]
    for _ in range(turns_before):
        await asyncio.sleep(0)
    works[1].cancel()
    assert await asyncio.wait_for(asyncio.gather(works[0], works[2]), 10) == ["a", "a"]


async def test_what_breathes_stands_in_the_same_line() -> None:
    done: list[str] = []

    async def breathing() -> None:
        for _ in range(3):
            await breathe(BOB)
            done.append("b")

    await asyncio.gather(do(work("a", 9, done), ADA), breathing())
    assert "".join(done).startswith("aababab")


async def test_what_everybody_waits_for_stands_in_no_line() -> None:
    done: list[str] = []
    tenants = [asyncio.create_task(do(work("a", 50, done), UUID(int=n))) for n in range(20)]
    await asyncio.sleep(0)
    await do_first(work("first", 5, done))
    assert len(done) <= 5 + 7
    await asyncio.gather(*tenants)


async def test_a_step_that_fails_keeps_no_turn() -> None:
    def failing() -> Steps[None]:
        yield
        raise ZeroDivisionError

    done: list[str] = []
    found = await asyncio.gather(do(failing(), ADA), do(work("b", 3, done), BOB), return_exceptions=True)
    assert isinstance(found[0], ZeroDivisionError)
    assert found[1] == "b"


async def test_a_turn_ends_after_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(pace, "TURN_SECONDS", 5.0)
    monkeypatch.setattr(time, "monotonic", lambda: now)
    done: list[str] = []

    def ticking() -> Steps[None]:
        nonlocal now
        for _ in range(12):
            now += 1
            done.append("tick")
            yield

    task = asyncio.create_task(do(ticking(), ADA))
    await asyncio.sleep(0)
    assert len(done) == 5
    await task
