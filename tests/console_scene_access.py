"""What the pages of access, of organisations and of the system are looked at with."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID, uuid4

from harness import Node, Tenant, Tenants
from triggers.domain import TENANT_SCOPES, OrgId, Plan, Scope
from triggers.keys import store as api_keys
from triggers.keys.store import NewKey
from triggers.postgres.clock import DatabaseClock
from triggers.postgres.database import Database

HOSTILE_NAME = "<script>alert(5)</script> \u202egpj.exe"


class Access(NamedTuple):
    """Ids of what there is to look at."""

    sender: UUID
    reader: Tenant
    revoked: UUID
    operator: Tenant
    others: list[Tenant]


async def furnish_access(node: Node, database: Database, clock: DatabaseClock, tenant: Tenant) -> Access:
    """Give an organisation some keys and sessions, and add an operator and organisations that are in use."""
    sender = await _key(database, clock, tenant, NewKey({Scope.EVENTS_WRITE}, "billing service", live=True))
    await _run(
        database, "update api_keys set last_used_at = now() - interval '3 min' where id = $1", sender.id
    )
    soon = datetime.now(UTC) + timedelta(hours=23)
    await _key(database, clock, tenant, NewKey({Scope.INBOX, Scope.READ}, "warehouse", expires_at=soon))
    await _key(database, clock, tenant, NewKey(TENANT_SCOPES, HOSTILE_NAME))
    revoked = await _key(database, clock, tenant, NewKey({Scope.EVENTS_WRITE}, "old laptop"))
    await api_keys.revoke(database, tenant.id, revoked.id)
    read = await _key(database, clock, tenant, NewKey({Scope.READ, Scope.EVENTS_READ}, "Ada, read-only"))
    assert read.key is not None
    reader = Tenant(tenant.id, tenant.name, read.key, read.id)
    await node.sessions.open_with_key(reader.key)
    tenants = Tenants(database, clock)
    operator = await tenants.make(name="operator", scopes=list(Scope))
    others = [
        await tenants.make(name="Northwind Traders", plan=Plan.PRO),
        await tenants.make(name="Contoso", plan=Plan.FREE),
        await tenants.make(name=HOSTILE_NAME, plan=Plan.BUSINESS),
    ]
    for number, other in enumerate(others):
        await _used(database, other.id, 12_400 * (number + 1) ** 2, 0 if number else 100_000)
    return Access(sender.id, reader, revoked.id, operator, others)


async def add_worker(database: Database, *, silent_seconds: float = 0) -> None:
    """Register a worker that owns all groups of lanes."""
    worker_id, token = uuid4(), uuid4()
    await _run(
        database,
        "insert into workers values ($1, 'delivery-1.internal:4711', now() - interval '3 d',"
        " now() - make_interval(secs => $2), null, 214)",
        worker_id,
        float(silent_seconds),
    )
    await _run(database, "update lane_groups set worker_id = $1, token = $2", worker_id, token)


async def _key(database: Database, clock: DatabaseClock, tenant: Tenant, new: NewKey) -> api_keys.ApiKey:
    async with database.connection() as connection:
        return await api_keys.create(connection, clock, tenant.id, new)


async def _used(database: Database, org_id: OrgId, accepted: int, backlog: int) -> None:
    minute = "date_trunc('minute', now()) + interval '1 min'"  # later than the samples of the node itself
    whole = UUID(int=0)
    await _run(
        database,
        "insert into statistics_minutes (org_id, subscription_id, began_at, process_id, accepted)"
        f" values ($1, $2, {minute}, $3, $4)",
        org_id,
        whole,
        uuid4(),
        accepted,
    )
    if backlog:
        await _run(
            database,
            "insert into statistics_minutes (org_id, subscription_id, began_at, process_id, backlog)"
            f" values ($1, $2, {minute}, $2, $3)",
            org_id,
            whole,
            backlog,
        )
    await _run(
        database,
        "insert into statistics_minutes (org_id, subscription_id, began_at, process_id, backlog)"
        f" values ($1, $1, {minute}, $1, 0) on conflict do nothing",
        whole,
    )


async def _run(database: Database, statement: str, *values: object) -> None:
    await database.fetch(statement, *values)
