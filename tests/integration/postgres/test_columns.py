"""`Column`: arrays that the driver does not search. See docs/adr/0005-array-columns.md."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from triggers.postgres.database import Column, Database, DriverUUID, columns

NOW = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
BROKEN = (
    "asyncpg no longer goes through an array exactly twice, first in search of arrays within it and then to"
    " write it. Column shows it nothing the first time, so now it sends wrong arrays: make `columns` in"
    " postgres/database.py return plain tuples, and measure again (docs/adr/0005-array-columns.md)."
)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("uuid", [UUID(int=1), DriverUUID(bytes(16)), None]),
        ("text", ["a", "", None, "ü"]),
        ("bytea", [b"a", b"", None]),
        ("integer", [1, None, -1]),
        ("bigint", [0, 1 << 40]),
        ("smallint", [3]),
        ("timestamptz", [NOW, None]),
        ("text", []),
    ],
)
async def test_what_a_column_holds_arrives(database: Database, kind: str, values: list[Any]) -> None:
    async with database.connection() as connection:
        column = Column(values)
        # The second statement is a repetition with the same arguments, as after a statement that failed.
        for _ in range(2):
            arrived = await connection.fetchval(f"select $1::{kind}[]", column)
            assert arrived == values, BROKEN


class Counting:
    """An array that counts how often it was gone through."""

    def __init__(self, values: list[int]) -> None:
        self.values = values
        self.times = 0

    def __len__(self) -> int:
        return len(self.values)

    def __iter__(self) -> Iterator[int]:
        self.times += 1
        return iter(self.values)


async def test_the_driver_goes_through_an_array_twice(database: Database) -> None:
    async with database.connection() as connection:
        array = Counting([1, 2])
        assert await connection.fetchval("select $1::integer[]", array) == [1, 2]
        assert array.times == 2, BROKEN


async def test_rows_become_columns_to_be_unnested_together(database: Database) -> None:
    rows = [(1, None, "a"), (2, None, None)]
    async with database.connection() as connection:
        found = await connection.fetch(
            "select * from unnest($1::integer[], $2::text[], $3::text[])", *columns(rows)
        )
    assert [tuple(row) for row in found] == rows, BROKEN
