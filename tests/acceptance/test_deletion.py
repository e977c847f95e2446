"""A large organisation is deleted, and every process is killed in the middle of it: nothing of it remains."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import asyncpg
import pytest

from triggers.keys.deletion import OWNED

from .processes import Service, ask, wait_for

ROWS = 40_000
FILL = """
with stored as (
    insert into events (org_id, id, type, payload)
    select $1, (lpad(to_hex((extract(epoch from now()) * 1000)::bigint), 12, '0') || '7000' || '8000'
        || lpad(to_hex(n), 12, '0'))::uuid, 'a', '1'
    from generate_series(1, $2) n
    returning id
), owed as (
    insert into deliveries (org_id, subscription_id, event_id, due_at, accepted_at, payload_size)
    select $1, s.id, stored.id, now(), now(), 1 from stored, subscriptions s where s.org_id = $1
)
insert into dedup select $1, id::text, id, '', now() + interval '1 day' from stored
"""


class Rows:
    """Asks the database of a service, on a connection for each question."""

    def __init__(self, url: str) -> None:
        self._url = url

    def ask(self, statement: str, *values: Any) -> Any:
        return asyncio.run(self._ask(statement, values))

    async def _ask(self, statement: str, values: tuple[Any, ...]) -> Any:
        connection = await asyncpg.connect(self._url)
        try:
            return await connection.fetchval(statement, *values)
        finally:
            await connection.close()

    def of(self, org_id: str) -> dict[str, int]:
        return {
            table.name: self.ask(f"select count(*) from {table.name} where org_id = $1", org_id)
            for table in OWNED
            if not table.name.startswith("statistics_")
        }


@pytest.mark.timeout(180)
def test_a_deletion_survives_the_death_of_every_process(
    launch: Callable[..., Service], note: Callable[[str], None]
) -> None:
    service = launch()
    service.start()
    second = launch(name="second", database_url=service.database_url())
    second.start()
    victim, neighbour = service.tenant(), service.tenant()
    rows = Rows(service.database_url())
    ids = {}
    for key in (victim, neighbour):
        ids[key] = ask(service.port, "/v1/org", key)[1]["id"]
        rows.ask(FILL, ids[key], ROWS if key == victim else 100)
    before = rows.of(ids[neighbour])
    assert ask(second.port, f"/v1/admin/orgs/{ids[victim]}", service.admin_key(), method="DELETE")[0] == 202
    wait_for(lambda: ask(service.port, "/v1/org", victim)[0] == 401, 1.5, "refusal on the other node")
    rows.ask("update deleted_organisations set due_at = now()")
    count = "select count(*) from events where org_id = $1"
    wait_for(lambda: 0 < rows.ask(count, ids[victim]) < ROWS, 60, "beginning of the deletion")
    assert ask(service.port, "/v1/events", neighbour, {"type": "a", "payload": 1})[0] == 201
    second.kill()
    service.kill()
    service.start()
    rows = Rows(service.database_url())
    left = rows.ask(count, ids[victim])
    assert left > 0, "it was killed in the middle"
    note(f"{left:,} of {ROWS:,} events were left when the processes were killed")
    emptied = "select emptied_at is not null from deleted_organisations where id = $1"
    wait_for(lambda: rows.ask(emptied, ids[victim]), 60, "end of the deletion")
    assert not any(rows.of(ids[victim]).values())
    after = rows.of(ids[neighbour])
    assert after["events"] == before["events"] + 1
    assert after["dedup"] == before["dedup"] == 100
    assert after["deliveries"] == before["deliveries"] + 1
    assert ask(service.port, "/v1/org", neighbour)[0] == 200
    assert ask(service.port, "/v1/org", victim)[0] == 401
