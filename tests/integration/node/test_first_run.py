"""The organisation and the key that a new database begins with."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from harness import eventually, is_waited_for
from triggers.domain import TENANT_SCOPES, PageRequest, Plan
from triggers.errors import OperatorError
from triggers.keys import organisations
from triggers.keys import store as api_keys
from triggers.node.first_run import FIRST_ORGANISATION, FirstRun, first_run
from triggers.postgres.clock import DatabaseClock
from triggers.postgres.database import Database


async def run(database: Database, clock: DatabaseClock) -> FirstRun | None:
    return await first_run(database, clock, terminal=True, data_dir=None)


async def test_the_first_key_comes_with_its_organisation_or_not_at_all(
    database: Database, clock: DatabaseClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise there would be an organisation without a key, and no later start would create one."""

    async def killed(*_: Any, **__: Any) -> Any:
        raise RuntimeError("killed")

    monkeypatch.setattr(api_keys, "_insert", killed)
    with pytest.raises(RuntimeError, match="killed"):
        await run(database, clock)
    monkeypatch.undo()
    assert not await organisations.exist(database)
    made = await run(database, clock)
    assert made is not None
    assert made.key is not None
    caller = await api_keys.verify(database, made.key)
    assert caller is not None
    assert (caller.org_name, caller.scopes) == (FIRST_ORGANISATION, set(TENANT_SCOPES))
    assert await run(database, clock) is None


async def test_of_nodes_that_start_at_once_one_makes_the_first_key(
    database: Database, clock: DatabaseClock
) -> None:
    made = await asyncio.gather(*[run(database, clock) for _ in range(5)])
    assert len([key for key in made if key is not None]) == 1
    assert len(await organisations.listed(database, PageRequest(None, 10))) == 1


async def test_who_waited_for_another_node_goes_on_without_a_key(
    database: Database, clock: DatabaseClock
) -> None:
    async with database.connection() as other:
        async with other.transaction():
            await organisations.insert(other, clock, FIRST_ORGANISATION, Plan.ENTERPRISE, None)
            late = asyncio.create_task(run(database, clock))
            await eventually(lambda: is_waited_for(other))
        assert await late is None


async def test_without_a_terminal_the_key_is_in_a_file_of_this_user(
    database: Database, clock: DatabaseClock, tmp_path: Path
) -> None:
    (tmp_path / "first-key").write_text("of a run that did not reach its commit")
    (tmp_path / "first-key").chmod(0o644)
    made = await first_run(database, clock, terminal=False, data_dir=tmp_path)
    assert made == FirstRun(key_file=tmp_path / "first-key")
    assert made.key_file is not None
    assert made.key_file.stat().st_mode & 0o777 == 0o600
    assert await api_keys.verify(database, made.key_file.read_text().strip()) is not None


async def test_a_key_that_cannot_be_written_is_not_made(
    database: Database, clock: DatabaseClock, tmp_path: Path
) -> None:
    with pytest.raises(OperatorError, match=r"cannot be written to .*nowhere/first-key: No such file"):
        await first_run(database, clock, terminal=False, data_dir=tmp_path / "nowhere")
    assert not await organisations.exist(database)
    assert await first_run(database, clock, terminal=False, data_dir=tmp_path) is not None


async def test_with_neither_a_terminal_nor_a_directory_no_key_is_made(
    database: Database, clock: DatabaseClock
) -> None:
    assert await first_run(database, clock, terminal=False, data_dir=None) == FirstRun()
    org = await organisations.by_name(database, FIRST_ORGANISATION)
    assert await api_keys.listed(database, org.id, PageRequest(None, 10)) == []
    assert await run(database, clock) is None
