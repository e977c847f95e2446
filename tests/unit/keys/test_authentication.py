"""What a node remembers of keys, and whom it looks up, with a database that is a function of the test."""

from __future__ import annotations

import asyncio
import math
import uuid
from typing import Any

import pytest

from triggers.domain import Caller, KeyId, OrgId, Plan
from triggers.errors import Unauthenticated, Unavailable
from triggers.fairness.room import acting_for
from triggers.keys import authentication, lookups
from triggers.keys.authentication import KeyCache, key_from

GOOD = b"zap_live_good"
CALLER = Caller(
    org_id=OrgId(uuid.uuid4()),
    org_name="o",
    plan=Plan.ENTERPRISE,
    requests_per_minute=None,
    key_id=KeyId(uuid.uuid4()),
    key_prefix="zap_live_goo",
    scopes=frozenset(),
    expires_at=math.inf,
)


class Keys:
    """In the place of the module `api_keys`: knows one key; strangers wait while it does not answer."""

    PREFIX_LENGTH = authentication.api_keys.PREFIX_LENGTH

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self.worked_for: list[uuid.UUID | None] = []
        self.answering = asyncio.Event()
        self.answering.set()

    async def verify(self, database: Any, key: str) -> Caller | None:
        self.asked.append(key.encode())
        self.worked_for.append(acting_for.get())
        if key.encode() == GOOD:
            return CALLER
        await self.answering.wait()
        return None


class Clock:
    def now(self) -> float:
        return 0.0


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> Keys:
    known = Keys()
    monkeypatch.setattr(authentication, "api_keys", known)
    return known


@pytest.fixture
def cache() -> KeyCache:
    """One that trusts what it remembers, without a loop that reads the version."""
    made: Any = KeyCache(None, Clock())  # type: ignore[arg-type]
    made._read_at = math.inf
    return made  # type: ignore[no-any-return]


def stranger(number: int) -> bytes:
    return b"zap_live_stranger_%d" % number


async def test_unknown_keys_push_out_only_their_own_kind(
    cache: KeyCache, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookups, "MAX_REMEMBERED", 10)
    await cache.caller(GOOD)
    for number in range(25):
        for _ in range(2):
            with pytest.raises(Unauthenticated):
                await cache.caller(stranger(number))
        assert len(cache._unknown) <= 10
    assert len(keys.asked) == 26, "each was looked up once"
    await cache.caller(GOOD)
    assert len(keys.asked) == 26, "and the good one is still remembered"


async def test_unknown_keys_hold_up_only_their_own_kind(
    cache: KeyCache, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookups, "MAX_LOOKUPS_WAITING", 10)
    await cache.caller(GOOD)
    keys.answering.clear()
    flood = [asyncio.create_task(cache.caller(stranger(number))) for number in range(25)]
    try:
        done, waiting = await asyncio.wait(flood, return_when=asyncio.FIRST_COMPLETED)
        assert (len(done), len(waiting)) == (15, 10)
        assert {type(each.exception()) for each in done} == {Unavailable}
        cache._read_at = -math.inf  # what it remembers counts no more, as after a change of any key
        assert await asyncio.wait_for(cache.caller(GOOD), 5) == CALLER
        assert not any(each.done() for each in waiting)
    finally:
        keys.answering.set()
        await asyncio.gather(*flood, return_exceptions=True)


@pytest.mark.parametrize("key", [b"", b"x" * 11, b"x" * 513, "é".encode() * 20])
def test_what_no_key_can_be_is_not_looked_up(key: bytes) -> None:
    for fields in ({b"authorization": b"Bearer " + key}, {b"x-api-key": key}):
        with pytest.raises(Unauthenticated):
            key_from(fields)


@pytest.mark.parametrize("key", [b"x" * 12, b"x" * 512, b"an imported key, as it likes"])
def test_an_imported_key_may_be_anything_else(key: bytes) -> None:
    assert key_from({b"authorization": b"Bearer " + key}) == key_from({b"x-api-key": key}) == key


async def test_a_look_up_works_for_no_organisation(cache: KeyCache, keys: Keys) -> None:
    """The first one to ask is not the only one that waits for it."""
    org_id = uuid.uuid4()
    acting_for.set(org_id)
    assert await cache.caller(GOOD) is CALLER
    assert keys.worked_for == [None]
    assert acting_for.get() == org_id
