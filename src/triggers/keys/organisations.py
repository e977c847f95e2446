"""Organisations: the tenants and their plans."""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from triggers.domain import (
    PLAN_QUOTAS,
    Organisation,
    OrgId,
    PageRequest,
    Plan,
    check_text,
)
from triggers.errors import Invalid, NameTaken, NotFound
from triggers.postgres.clock import DatabaseClock
from triggers.postgres.database import (
    Connection,
    Database,
    Row,
    statements,
)

_SQL = statements(__name__)


async def create(
    database: Database, clock: DatabaseClock, name: str, plan: Plan, custom_quota: int | None
) -> Organisation:
    """Create an organisation with its default inbox."""
    async with database.connection() as connection:
        return await insert(connection, clock, name, plan, custom_quota)


async def insert(
    connection: Connection, clock: DatabaseClock, name: str, plan: Plan, custom_quota: int | None
) -> Organisation:
    """Create an organisation within a transaction. Raises as `create`."""
    check_text(name, "/name", longest=255)
    _check_quota(plan, custom_quota)
    row = await connection.fetchrow(_SQL["create"], clock.mint(), name, plan, custom_quota, clock.mint())
    if row is None:
        raise NameTaken(f"An organisation named {name!r} already exists.")
    return _organisation(row)


async def listed(database: Database, page: PageRequest) -> list[Organisation]:
    """Organisations in the order of their ids."""
    return [_organisation(row) for row in await database.fetch(_SQL["list"], page.above, page.limit)]


async def by_name(database: Database, name: str) -> Organisation:
    """The organisation of that name, or NotFound."""
    row = await database.row(_SQL["by_name"], name)
    if row is None:
        raise NotFound(f"No organisation is named {name!r}.")
    return _organisation(row)


async def by_id(database: Database, org_id: OrgId) -> Organisation:
    """The organisation of that id, or NotFound."""
    row = await database.row(_SQL["by_id"], org_id)
    if row is None:
        raise NotFound("No organisation has this id.")
    return _organisation(row)


async def existing(database: Database, org_ids: Collection[UUID]) -> set[UUID]:
    """Return which of these organisations exist."""
    return {row["id"] for row in await database.fetch(_SQL["existing"], list(org_ids))}


async def set_plan(database: Database, org_id: OrgId, plan: Plan, custom_quota: int | None) -> Organisation:
    """Change the plan. Every node applies it within a second."""
    _check_quota(plan, custom_quota)
    row = await database.row(_SQL["set_plan"], org_id, plan, custom_quota)
    if row is None:
        raise NotFound("No organisation has this id.")
    return _organisation(row)


async def exist(database: Database) -> bool:
    """Whether there is any organisation."""
    row = await database.row(_SQL["any"])
    return bool(row and row[0])


def quota(plan: str, custom_quota: int | None) -> int | None:
    """Requests per minute that a plan allows, None for no limit."""
    return custom_quota if plan == Plan.ENTERPRISE else PLAN_QUOTAS[Plan(plan)]


def _check_quota(plan: Plan, custom_quota: int | None) -> None:
    if custom_quota is not None and plan != Plan.ENTERPRISE:
        raise Invalid("Only allowed with the plan enterprise.", pointer="/requests_per_minute")
    if custom_quota is not None and not 1 <= custom_quota <= 10_000_000:
        raise Invalid("Must be 1 to 10,000,000 requests per minute.", pointer="/requests_per_minute")


def _organisation(row: Row) -> Organisation:
    return Organisation(
        id=row["id"],
        name=row["name"],
        plan=Plan(row["plan"]),
        requests_per_minute=quota(row["plan"], row["custom_quota"]),
        created_at=row["created_at"],
    )
