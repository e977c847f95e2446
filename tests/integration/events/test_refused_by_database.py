"""The database refuses an event, because of the event or because of the state of the database."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest

from harness import Node, Tenant, eventually
from triggers.domain import Accepted, EventId, NewEvent, OrgId
from triggers.errors import Invalid, NotFound
from triggers.events import flusher
from triggers.postgres.clock import DatabaseClock
from triggers.postgres.database import Database, is_data_error, is_unavailable

EVENT = {"type": "a", "payload": 1}
REFUSE_ALL = "alter table {table} add constraint refuse_all check (false) not valid"


async def readiness(client: httpx.AsyncClient) -> tuple[int, str | None]:
    answer = await client.get("/readyz")
    return answer.status_code, answer.json().get("checks", {}).get("flusher")


@pytest.mark.parametrize("table", ["events", "dedup", "deliveries"])
async def test_a_database_that_refuses_every_event_refuses_none(
    client: httpx.AsyncClient, database: Database, logs: list[Any], table: str
) -> None:
    """The result does not depend on the row that cannot be stored."""
    await database.fetch(REFUSE_ALL.format(table=table))
    event = EVENT | {"dedup_id": "d"}
    refused = await client.post("/v1/events", json=event)
    assert (refused.status_code, int(refused.headers["retry-after"]) > 0) == (503, True), refused.text
    batch = await client.post("/v1/events/batch", json=[EVENT | {"dedup_id": str(n)} for n in range(200)])
    assert batch.status_code == 503, batch.text
    said = "the database refuses every event: SQLSTATE 23514"
    assert await readiness(client) == (503, said)
    logged = [line["event"] for line in logs]
    assert "event_refused_by_database" not in logged
    assert logged.count("good_event_refused_by_database") < 20, "not for each event of the batch"
    await database.fetch(f"alter table {table} drop constraint refuse_all")
    assert (await client.post("/v1/events", json=event)).status_code == 201
    assert await readiness(client) == (200, None)


async def test_a_node_that_gets_no_events_becomes_ready_again(
    client: httpx.AsyncClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that is not ready gets no events, so it could not find out that the database works again."""
    monkeypatch.setattr(flusher, "REFUSAL_SECONDS", 0.2)
    await database.fetch(REFUSE_ALL.format(table="events"))
    assert (await client.post("/v1/events", json=EVENT)).status_code == 503

    async def ready() -> bool:
        return await readiness(client) == (200, None)

    await eventually(ready)


async def test_only_the_event_that_is_to_blame_is_refused(
    client: httpx.AsyncClient, database: Database
) -> None:
    await database.fetch("alter table events add constraint poison check (type <> 'poison')")
    assert (await client.post("/v1/events", json=EVENT | {"type": "poison"})).status_code == 422
    assert await readiness(client) == (200, None)
    rows = await database.fetch("select type from events union all select 'owed' from deliveries")
    assert rows == [], "the good event is rolled back"


async def test_an_organisation_that_is_gone_does_not_make_the_database_look_bad(
    node: Node, client: httpx.AsyncClient, tenant: Tenant, clock: DatabaseClock, database: Database
) -> None:
    """Its events are in a batch that the database refuses because of the event of another organisation."""
    await database.fetch("alter table events add constraint poison check (type <> 'poison')")

    def event(org_id: UUID, event_type: str) -> NewEvent:
        return NewEvent(org_id=OrgId(org_id), id=EventId(clock.mint()), type=event_type, payload=b"1")

    gone = uuid4()
    events = [event(gone, "a"), event(tenant.id, "poison"), event(tenant.id, "a"), event(gone, "a\0")]
    outcomes = await asyncio.gather(*[node.acceptor.accept(each) for each in events])
    assert [type(each) for each in outcomes] == [NotFound, Invalid, Accepted, Invalid]
    assert await readiness(client) == (200, None)


async def test_a_session_that_cannot_be_set_up_refuses_none(
    node: Node, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such an error has the same SQLSTATE class as wrong data."""

    async def connect(*_: Any) -> Any:
        raise asyncpg.InvalidParameterValueError("invalid value for parameter")

    monkeypatch.setattr(node.database, "connect", connect)
    assert (await client.post("/v1/events", json=EVENT)).status_code == 503


def test_a_missing_partition_is_told_in_every_language() -> None:
    missing = asyncpg.CheckViolationError("keine Partition von Relation „events“ für die Zeile gefunden")
    assert (is_unavailable(missing), is_data_error(missing)) == (True, False)
    violated = asyncpg.CheckViolationError("neue Zeile verletzt Check-Constraint")
    violated.constraint_name = "poison"
    assert (is_unavailable(violated), is_data_error(violated)) == (False, True)
