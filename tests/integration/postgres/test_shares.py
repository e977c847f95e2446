"""Organisations share the connections of the pool: one that asks for all leaves some for others."""

from __future__ import annotations

import asyncio
from uuid import UUID, uuid4

import pytest

from harness import eventually
from triggers.errors import DatabaseUnavailable
from triggers.fairness.room import acting_for
from triggers.postgres import database as pools
from triggers.postgres.database import Database

POOL = 10
"""The size of the pool that tests have."""


async def hold(database: Database, org_id: UUID | None, leave: asyncio.Event) -> None:
    acting_for.set(org_id)
    async with database.connection():
        await leave.wait()


async def test_beside_organisations_that_ask_for_all_a_newcomer_has_a_connection_at_once(
    database: Database,
) -> None:
    room = database._places.room
    assert room.capacity == POOL
    leave = asyncio.Event()
    holding = []
    for share in (5, 2, 1):
        org_id = uuid4()
        holding += [asyncio.create_task(hold(database, org_id, leave)) for _ in range(3 * POOL)]
        await eventually(lambda org_id=org_id, share=share: room.held(org_id) == share)  # type: ignore[misc]
    acting_for.set(uuid4())
    async with asyncio.timeout(2):
        assert await database.row("select 1") is not None
    acting_for.set(None)
    async with asyncio.timeout(2):
        assert await database.row("select 1") is not None, "for nobody in particular"
    leave.set()
    await asyncio.gather(*holding)
    assert room.taken == 0


async def test_one_that_works_for_nobody_has_all_connections(database: Database) -> None:
    leave = asyncio.Event()
    holding = [asyncio.create_task(hold(database, None, leave)) for _ in range(POOL)]
    await eventually(lambda: database._places.room.taken == POOL)
    leave.set()
    await asyncio.gather(*holding)
    assert database._places.room.taken == 0


async def test_waiting_for_a_connection_has_a_limit(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pools, "ACQUIRE_SECONDS", 0.1)
    leave = asyncio.Event()
    holding = [asyncio.create_task(hold(database, None, leave)) for _ in range(POOL)]
    await eventually(lambda: database._places.room.taken == POOL)
    with pytest.raises(DatabaseUnavailable):
        await database.row("select 1")
    leave.set()
    await asyncio.gather(*holding)
    assert database._places.room.taken == 0
    assert not database._places._line
