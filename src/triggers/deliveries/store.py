"""Storage of deliveries and attempts: lists, retry, cancel, and new generations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

import msgspec

from triggers.domain import (
    AttemptOutcome,
    DeliveryStatus,
    OrgId,
    PageRequest,
    SubscriptionStatus,
    begins_a_minute_before,
    created_at,
)
from triggers.errors import NotFound
from triggers.postgres.database import (
    Connection,
    Database,
    Row,
    only_if,
    statements,
)
from triggers.postgres.time_bounds import CANCEL_SECONDS

_SQL = statements(__name__)

_FIRST_ID: Final = UUID(int=0)
_LAST_ID: Final = UUID(int=(1 << 128) - 1)
_LAST_GENERATION: Final = 2**31 - 1
_SUBSCRIPTIONS_A_PAGE: Final = 100
_SCAN_LIMIT: Final = 5_000
"""Rows that a page may look at where no index leads to the status."""
_REPLAYED_AT_ONCE: Final = 100
"""Minimum number of rows to read of a status in which many deliveries may have been replayed."""

UNHAPPY: Final = frozenset({DeliveryStatus.DEAD, DeliveryStatus.CANCELLED, DeliveryStatus.EXPIRED})
"""Statuses of deliveries that were not delivered. They have their own index, and can be retried."""
UNSETTLED: Final = frozenset({DeliveryStatus.PENDING, DeliveryStatus.LEASED})

_SETTLED: Final = tuple(status for status in DeliveryStatus if status not in UNSETTLED)


def _only_of(statement: str, status: DeliveryStatus | None, statuses: Iterable[DeliveryStatus]) -> str:
    return only_if(statement, **{each.value: each is status for each in statuses})


_WITH_STATUS: Final = {
    status: _SQL["with_unsettled"]
    if status in UNSETTLED
    else _only_of(_SQL["with_settled"], status, _SETTLED)
    for status in DeliveryStatus
}
_OF_STATUS: Final = {
    status: _SQL["unsettled"] if status in UNSETTLED else _only_of(_SQL["settled"], status, UNHAPPY)
    for status in DeliveryStatus
}
_ANY_SETTLED: Final = _only_of(_SQL["settled"], None, UNHAPPY)


class Recipient(msgspec.Struct, frozen=True, kw_only=True):
    """A push subscription or inbox, with the settings that its deliveries depend on."""

    org_id: OrgId
    id: UUID
    kind: str
    key: str | None
    status: SubscriptionStatus
    lane_group: int | None
    event_types: list[str] | None
    filter: str | None
    ordering: str
    ordering_pointer: str | None
    notifies_inbox: UUID | None
    target_url: str | None
    changed_at: datetime

    @property
    def ended(self) -> bool:
        """Whether it can get no new deliveries."""
        return self.status in (SubscriptionStatus.DISABLED, SubscriptionStatus.DELETING)


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One HTTP request to an endpoint."""

    id: UUID
    subscription_id: UUID
    event_id: UUID
    generation: int
    attempt: int
    outcome: AttemptOutcome
    reason: str
    status_code: int | None
    response: str | None
    duration_ms: int
    retry_at: datetime | None

    @classmethod
    def of(cls, row: Row) -> Attempt:
        """From a row of the table `attempts`."""
        values = {name: row[name] for name in cls.__struct_fields__}
        return cls(**values | {"outcome": AttemptOutcome(row["outcome"])})


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One generation of a delivery. `waiting_for` and `next_at` say why it is not settled, and when next.

    `note` is what the consumer of an inbox reported, as it is stored.
    """

    subscription_id: UUID
    kind: str
    event_id: UUID
    generation: int
    status: DeliveryStatus
    reason: str | None
    attempts: int
    lease_count: int
    accepted_at: datetime
    first_attempt_at: datetime | None
    due_at: datetime | None
    settled_at: datetime | None
    note: str | None = None
    waiting_for: str | None = None
    next_at: datetime | None = None


class ListPosition(NamedTuple):
    """A position in the list of deliveries. All deliveries before it are on earlier pages."""

    subscription_id: UUID
    event_id: UUID
    generation: int


class WantedDeliveries(NamedTuple):
    """The deliveries to list: by status, subscription and kind, of events with first_id <= id < end_id.

    None selects all.
    """

    status: DeliveryStatus
    subscription_id: UUID | None
    kind: str | None = None
    first_id: UUID = _FIRST_ID
    end_id: UUID = _LAST_ID


class Page(NamedTuple):
    """A page of deliveries. `last` is the position of the next page, None at the end."""

    deliveries: list[Delivery]
    last: ListPosition | None


class Owed(NamedTuple):
    """An event that needs a delivery."""

    event_id: UUID
    payload_size: int
    ordering_key: str | None


async def recipient(database: Database, org_id: OrgId, subscription_id: UUID | None) -> Recipient:
    """A subscription or inbox by its id, whatever its status.

    Raises:
        NotFound: the organisation never had it.
    """
    async with database.connection() as connection:
        found = await find_recipient(connection, org_id, subscription_id)
    if found is None:
        raise NotFound("No subscription has this id.")
    return found


async def find_recipient(
    connection: Connection, org_id: UUID, subscription_id: UUID | None
) -> Recipient | None:
    """Find a recipient within a transaction. None if there is no such subscription."""
    row = await connection.fetchrow(_SQL["recipient"], org_id, subscription_id)
    if row is None:
        return None
    return Recipient(**{**row, "org_id": OrgId(row["org_id"]), "status": SubscriptionStatus(row["status"])})


async def lock_recipient(
    connection: Connection, org_id: UUID, subscription_id: UUID, *, wait: bool = True
) -> bool:
    """Lock the making of its generations until the transaction ends; False if it is locked already."""
    statement = _SQL["lock_recipient"] if wait else f"{_SQL['lock_recipient']} skip locked"
    return await connection.fetchrow(statement, org_id, subscription_id) is not None


# ---- lists ---------------------------------------------------------------------------------------


async def attempts_of_subscription(
    database: Database, org_id: OrgId, subscription_id: UUID, page: PageRequest
) -> list[Attempt]:
    """Attempts made for a subscription, newest first."""
    rows = await database.fetch(
        _SQL["attempts_of_subscription"], org_id, subscription_id, page.below, page.limit
    )
    return [Attempt.of(row) for row in rows]


async def attempts_of_event(
    database: Database, org_id: OrgId, event_id: UUID, subscription_id: UUID | None, page: PageRequest
) -> list[Attempt]:
    """Attempts made for an event, newest first; of one subscription if it is named."""
    rows = await database.fetch(
        _SQL["attempts_of_event"],
        org_id,
        event_id,
        page.below,
        page.limit,
        subscription_id,
        begins_a_minute_before(event_id),
    )
    return [Attempt.of(row) for row in rows]


async def listed(
    database: Database, org_id: OrgId, wanted: WantedDeliveries, after: ListPosition | None, limit: int
) -> Page:
    """Deliveries of a status, newest event first; of all subscriptions one after the other, youngest first.

    The status of a delivery is that of its latest generation.
    A page may hold fewer than `limit`, even none, and still not be the last.
    """
    status, subscription_id, kind, first_id, end_id = wanted
    if subscription_id is not None:
        owners = [subscription_id]
    else:
        begin = after.subscription_id if after else _LAST_ID
        rows = await database.fetch(_WITH_STATUS[status], org_id, begin, _SUBSCRIPTIONS_A_PAGE, kind)
        owners = [row["id"] for row in rows]
    found: list[Delivery] = []
    budget = _SCAN_LIMIT
    for owner in owners:
        start = after if after and after.subscription_id == owner else ListPosition(owner, end_id, -1)
        # A status with an index of its own is read only as far as it is shown, and past replayed deliveries.
        most = budget
        if status == DeliveryStatus.PENDING:
            most = limit - len(found)
        elif status in UNHAPPY:
            most = max(limit - len(found), _REPLAYED_AT_ONCE)
        rows = await database.fetch(_OF_STATUS[status], org_id, owner, *start[1:], most, first_id, kind)
        for row in rows:
            if row["status"] == status and not row["replayed"]:
                found.append(delivery_of(row))
                if len(found) == limit:
                    return Page(found, _position(row))
        if len(rows) == most:
            return Page(found, _position(rows[-1]))
        budget -= len(rows)
    more = subscription_id is None and len(owners) == _SUBSCRIPTIONS_A_PAGE
    return Page(found, _after_all(owners[-1]) if more else None)


async def generations(
    database: Database, org_id: OrgId, event_id: UUID, subscription_id: UUID
) -> list[Delivery]:
    """All generations of a delivery, latest first. Empty if the delivery does not exist."""
    place = org_id, subscription_id, event_id, _LAST_GENERATION, 100, event_id, None
    async with database.connection() as connection, connection.transaction(isolation="repeatable_read"):
        rows = [
            *await connection.fetch(_SQL["unsettled"], *place),
            *await connection.fetch(_ANY_SETTLED, *place),
        ]
    return sorted(map(delivery_of, rows), key=lambda each: each.generation, reverse=True)


# ---- mending -------------------------------------------------------------------------------------


async def make_due(database: Database, org_id: OrgId, event_id: UUID, subscription_id: UUID) -> bool:
    """Make a pending delivery due now. Return False if it is not pending."""
    return await database.row(_SQL["make_due"], org_id, subscription_id, event_id) is not None


async def cancel(
    database: Database, org_id: OrgId, event_id: UUID, subscription_id: UUID, reason: str
) -> bool:
    """Cancel a delivery that is not settled. Return False if it is settled.

    No attempt begins more than a second after this returned. The delivery's row is taken before the
    subscription's, as settling does, so that the two never wait for each other in a ring.
    """
    async with database.connection() as connection, connection.transaction():
        # Workers look back some seconds for changes: this one must not commit later than that, however
        # many locks it waits for.
        await connection.execute(
            "select set_config('statement_timeout', $1, true)", f"{CANCEL_SECONDS * 1000:.0f}"
        )
        row = await connection.fetchrow(_SQL["cancel"], org_id, subscription_id, event_id, reason)
    return row is not None


async def owe_first(connection: Connection, to: Recipient, owed: Sequence[Owed]) -> list[UUID]:
    """Make generation 0 where there is none, as old as its event; return of which events.

    The caller holds the recipient's lock.
    """
    if not owed:
        return []
    ids = [each.event_id for each in owed]
    rows = await connection.fetch(
        _SQL["owe_first"],
        to.org_id,
        to.id,
        to.lane_group,
        ids,
        [each.payload_size for each in owed],
        [each.ordering_key for each in owed],
        [created_at(event_id) for event_id in ids],
        min(ids),
        max(ids),
    )
    return [row["event_id"] for row in rows]


async def owe_again(
    connection: Connection, to: Recipient, owed: Sequence[Owed], *, only_unhappy: bool
) -> list[UUID]:
    """Make the next generation of what is settled, at the end of the line; return of which events.

    The caller holds the recipient's lock.
    """
    if not owed:
        return []
    rows = await connection.fetch(
        _SQL["owe_again"],
        to.org_id,
        to.id,
        to.lane_group,
        [each.event_id for each in owed],
        [each.payload_size for each in owed],
        [each.ordering_key for each in owed],
        only_unhappy,
    )
    return [row["event_id"] for row in rows]


# ---- rows ----------------------------------------------------------------------------------------


def _after_all(subscription_id: UUID) -> ListPosition:
    return ListPosition(subscription_id, _FIRST_ID, 0)


def _position(row: Row) -> ListPosition:
    return ListPosition(row["subscription_id"], row["event_id"], row["generation"])


def delivery_of(row: Row) -> Delivery:
    """Return the delivery that a row describes."""
    status = DeliveryStatus(row["status"])
    waiting_for, next_at = _wait(row, status) if status in UNSETTLED else (None, None)
    return Delivery(
        subscription_id=row["subscription_id"],
        kind=row["kind"],
        event_id=row["event_id"],
        generation=row["generation"],
        status=status,
        reason=row["reason"],
        attempts=row["attempts"],
        lease_count=row["lease_count"],
        accepted_at=row["accepted_at"],
        first_attempt_at=row["first_attempt_at"],
        due_at=row["due_at"],
        settled_at=row["settled_at"],
        note=row["note"],
        waiting_for=waiting_for,
        next_at=next_at,
    )


def _wait(row: Row, status: DeliveryStatus) -> tuple[str, datetime | None]:
    """The reason why an unsettled delivery waits, and its next time if it waits only for a time."""
    if row["subscription_status"] != SubscriptionStatus.ACTIVE:
        return f"subscription_{row['subscription_status']}", None
    if row["kind"] == "inbox":
        return ("delay" if status == DeliveryStatus.PENDING and not row["due"] else "consumer"), row["due_at"]
    if row["behind"]:
        return "earlier_of_its_key", None
    probe_at = row["probe_at"]
    if probe_at is not None and probe_at > row["due_at"]:
        return "failing_endpoint", probe_at
    return ("its_turn" if row["due"] else "retry_time"), row["due_at"]
