"""Values that are made once for all callers."""

from __future__ import annotations

import asyncio

import pytest

from triggers.http.kept import MOST_KEPT, Kept


class Maker:
    def __init__(self) -> None:
        self.made = 0
        self.fails = False
        self.may_end = asyncio.Event()
        self.may_end.set()

    async def __call__(self) -> int:
        self.made += 1
        made = self.made
        await self.may_end.wait()
        if self.fails:
            raise ZeroDivisionError
        return made


async def test_all_who_ask_get_the_same_value() -> None:
    kept: Kept[int] = Kept()
    make = Maker()
    make.may_end.clear()
    asking = [asyncio.create_task(kept.get("a", make)) for _ in range(100)]
    await asyncio.sleep(0)
    asking[0].cancel()  # the first caller may give up; the others still get the value
    make.may_end.set()
    assert set(await asyncio.gather(*asking[1:])) == {1}
    assert await kept.get("a", make) == 1
    assert await kept.get("b", make) == 2


async def test_a_value_is_made_again_after_its_seconds() -> None:
    kept: Kept[int] = Kept(0.0)
    make = Maker()
    assert [await kept.get("a", make) for _ in range(3)] == [1, 2, 3]


async def test_a_failure_is_not_kept() -> None:
    kept: Kept[int] = Kept()
    make = Maker()
    make.fails = True
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            await kept.get("a", make)
    make.fails = False
    assert await kept.get("a", make) == 3


async def test_how_many_are_kept_is_bounded() -> None:
    kept: Kept[int] = Kept()
    make = Maker()
    for name in range(5 * MOST_KEPT):
        await kept.get(name, make)
    assert len(kept._making) <= MOST_KEPT
    assert len(kept._until) <= MOST_KEPT
