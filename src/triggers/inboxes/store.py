"""Inboxes and their messages: claims, lists, re-driving and expiry. `settlement_store.py` ends leases."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

import msgspec

from triggers.deliveries import store as delivery_store
from triggers.domain import (
    MAX_PAGE_BYTES,
    OrgId,
    PageRequest,
    SubscriptionStatus,
    check_text,
    parse_id,
)
from triggers.errors import Invalid, NotFound
from triggers.events import store as event_store
from triggers.postgres.database import (
    Connection,
    Database,
    Row,
    statements,
)
from triggers.postgres.read_position import ReadPosition

_SQL = statements(__name__)
DEFAULT_LEASE_SECONDS = 300
"""Duration of a lease if neither the request nor the inbox names one."""
_SCAN_LIMIT = 5_000
_FIRST_ID = UUID(int=0)


class Inbox(msgspec.Struct, frozen=True, kw_only=True):
    """A pull subscription."""

    org_id: OrgId
    id: UUID
    key: str
    status: SubscriptionStatus
    status_reason: str | None
    status_at: datetime
    created_at: datetime
    event_types: list[str] | None
    filter: str | None
    filter_error: str | None
    filter_error_at: datetime | None
    notification_url: str | None
    max_leases: int | None
    default_lease_seconds: int = DEFAULT_LEASE_SECONDS
    expires_at: datetime | None = None

    @property
    def paused_reason(self) -> str | None:
        """Why it is paused, if it is."""
        return self.status_reason if self.status == SubscriptionStatus.PAUSED else None


class Message(NamedTuple):
    """An inbox message, without its payload. `status` is in the inbox's words."""

    event_id: UUID
    status: str
    lease_count: int
    leased_until: datetime | None = None
    reason: str | None = None
    lease_id: UUID | None = None
    consumer: str | None = None
    given_back: bool = False
    """Whether a consumer released it in a lease that does not count."""


class MessagePage(NamedTuple):
    """A page of messages. `last` is the event id where the next page begins, None at the end."""

    messages: list[Message]
    last: UUID | None


class Claim(NamedTuple):
    """A request for up to `limit` messages, leased for `seconds` by the database's clock.

    `consumer` is the name that the consumer gave itself.
    """

    lease_id: UUID
    seconds: float
    limit: int
    consumer: str | None = None


class HeldLease(NamedTuple):
    """A lease that has not ended, with the number of its messages."""

    id: UUID
    messages: int
    leased_until: datetime
    consumer: str | None


class LeasePage(NamedTuple):
    """A page of leases. `last` is the id where the next page begins, None at the end."""

    leases: list[HeldLease]
    last: UUID | None


class Positions:
    """The position where claims of each inbox begin to read, for a limited number of inboxes."""

    MAX_INBOXES = 20_000

    def __init__(self) -> None:
        self._known: OrderedDict[UUID, ReadPosition] = OrderedDict()

    def start(self, inbox_id: UUID) -> datetime:
        """The due time from which this claim reads."""
        due_at, _ = self._of(inbox_id).start(time.monotonic())
        return due_at

    def found(self, inbox_id: UUID, first_due: datetime, now: datetime) -> None:
        """Note the first due time that a claim found."""
        self._of(inbox_id).note((first_due, UUID(int=0)), now)

    def _of(self, inbox_id: UUID) -> ReadPosition:
        position = self._known.setdefault(inbox_id, ReadPosition())
        self._known.move_to_end(inbox_id)
        if len(self._known) > self.MAX_INBOXES:
            self._known.popitem(last=False)
        return position


# ---- inboxes -------------------------------------------------------------------------------------


async def find(database: Database, org_id: OrgId, id_or_key: str) -> Inbox:
    """Find an inbox by its id or key. An inbox that is being deleted is found only by its id.

    Raises:
        NotFound: the organisation has none such.
    """
    try:
        check_text(id_or_key, "", longest=100)
    except Invalid:  # no key can be so, and PostgreSQL cannot even be asked for a NUL
        raise NotFound("No inbox has this id or key.") from None
    row = await database.row(_SQL["inbox"], org_id, parse_id(id_or_key), id_or_key)
    if row is None:
        raise NotFound("No inbox has this id or key.")
    return inbox_of(row)


async def listed(
    database: Database, org_id: OrgId, page: PageRequest, *, key: str | None, status: str | None
) -> list[Inbox]:
    """A page of inboxes in the order of their creation."""
    rows = await database.fetch(_SQL["list_inboxes"], org_id, page.above, key, status, page.limit)
    return [inbox_of(row) for row in rows]


# ---- leases --------------------------------------------------------------------------------------


class NobodyWaits(Exception):
    """A claim was rolled back, because its caller no longer waits for the answer."""


async def claim(database: Database, positions: Positions, inbox: Inbox, wanted: Claim) -> list[Message]:
    """Lease due messages. No other request must have the same lease id."""
    async with database.connection() as connection:
        return await _claim(connection, positions, inbox, wanted)


async def claim_or_repeat(
    database: Database,
    positions: Positions,
    inbox: Inbox,
    wanted: Claim,
    is_awaited: Callable[[], bool],
) -> list[Message]:
    """Lease due messages. If a lease with this id has not ended, return it unchanged.

    `is_awaited`: whether the caller still waits for the answer. It is asked before the commit, because after
    the commit a repetition of the request may have been answered with the lease, also by another node.

    Raises:
        NobodyWaits: the caller no longer waits. Nothing was leased.
    """
    async with database.connection() as connection, connection.transaction():
        await connection.execute("select pg_advisory_xact_lock($1)", (wanted.lease_id.int >> 64) - (1 << 63))
        rows = await connection.fetch(_SQL["held"], inbox.org_id, inbox.id, wanted.lease_id)
        if rows:
            return [leased_message(row) for row in rows]
        leased = await _claim(connection, positions, inbox, wanted)
        if leased:
            await connection.execute(_SQL["reopen"], inbox.org_id, inbox.id, wanted.lease_id)
            if not is_awaited():
                raise NobodyWaits
        return leased


async def _claim(connection: Connection, positions: Positions, inbox: Inbox, wanted: Claim) -> list[Message]:
    values = [
        MAX_PAGE_BYTES,
        wanted.limit,
        wanted.lease_id,
        timedelta(seconds=wanted.seconds),
        inbox.max_leases,
        wanted.consumer,
    ]
    while True:
        if inbox.status == SubscriptionStatus.PAUSED:
            rows = await connection.fetch(
                _SQL["claim_paused"], inbox.org_id, inbox.id, _id_ceiling(inbox.status_at), *values
            )
        else:
            start = positions.start(inbox.id)
            rows = await connection.fetch(_SQL["claim"], inbox.org_id, inbox.id, start, *values)
            if rows:
                positions.found(inbox.id, rows[0]["was_due_at"], rows[0]["now"])
        leased = [leased_message(row) for row in rows if row["due_at"] is not None]
        if leased or not rows:
            return leased


async def leases(database: Database, inbox: Inbox, page: PageRequest) -> LeasePage:
    """List the leases of an inbox that have not ended, in the order of their ids.

    A page looks at _SCAN_LIMIT leased messages at most. It may therefore have fewer leases than its limit,
    even none, and not be the last one. No more than _SCAN_LIMIT messages of a lease are counted.
    """
    rows = await database.fetch(_SQL["leases"], inbox.org_id, inbox.id, page.above, _SCAN_LIMIT)
    more = bool(rows) and rows[0]["looked_at"] == _SCAN_LIMIT
    if more and len(rows) > 1:
        rows.pop()  # it may have more messages, and begins the next page
    found: list[HeldLease] = []
    for row in rows:
        if row["messages"]:
            found.append(HeldLease(row["lease_id"], row["messages"], row["leased_until"], row["consumer"]))
            if len(found) == page.limit:
                return LeasePage(found, found[-1].id)
    return LeasePage(found, rows[-1]["lease_id"] if more else None)


async def redrive(
    database: Database, inbox: Inbox, ids: Sequence[UUID] | None, start: UUID | None, limit: int
) -> list[UUID]:
    """Make quarantined messages available again, as a new generation; return which, oldest first.

    Without ids the oldest, from the event `start` on.
    """
    async with database.connection() as connection, connection.transaction():
        # Alone with the inbox: a retry of the same message may make the same generation.
        await delivery_store.lock_recipient(connection, inbox.org_id, inbox.id)
        rows = await connection.fetch(_SQL["redrive"], inbox.org_id, inbox.id, ids, limit, start or _FIRST_ID)
    return sorted(row["event_id"] for row in rows)


async def holds_any(database: Database, inbox: Inbox) -> bool:
    """Whether a paused inbox still has unsettled messages from before the pause, leased or not."""
    row = await database.row(_SQL["holds_any"], inbox.org_id, inbox.id, _id_ceiling(inbox.status_at))
    return bool(row and row[0])


# ---- lists ---------------------------------------------------------------------------------------


async def messages(
    database: Database, inbox: Inbox, page: PageRequest, *, status: str | None, newest_first: bool
) -> MessagePage:
    """Unsettled messages by age; with a status only those that have it. Changes nothing.

    A page may hold fewer messages than its limit, even none, and still not be the last.
    """
    direction = "newest_first" if newest_first else "oldest_first"
    start, limit = (page.below if newest_first else page.above), page.limit
    if status == "quarantined":
        rows = await database.fetch(_SQL[f"quarantined_{direction}"], inbox.org_id, inbox.id, start, limit)
        found = [Message(row["event_id"], status, row["lease_count"], None, row["reason"]) for row in rows]
        fitting = await _fitting(database, inbox, found)
        more = fitting < len(found) or len(found) == limit
        return MessagePage(found[:fitting], found[fitting - 1].event_id if more else None)
    scan = limit if status is None else _SCAN_LIMIT
    rows = await database.fetch(_SQL[direction], inbox.org_id, inbox.id, start, scan)
    found = []
    size = 0
    for row in rows:
        message = _listed(row)
        if status is None or message.status == status:
            size += row["payload_size"]
            if size > MAX_PAGE_BYTES and found:
                return MessagePage(found, found[-1].event_id)
            found.append(message)
            if len(found) == limit:
                return MessagePage(found, message.event_id)
    return MessagePage(found, rows[-1]["event_id"] if len(rows) == scan else None)


async def _fitting(database: Database, inbox: Inbox, found: Sequence[Message]) -> int:
    """Return how many of these settled messages fit into a page. Their rows do not contain their size."""
    sizes = await event_store.payload_sizes(database, inbox.org_id, [message.event_id for message in found])
    total = 0
    for index, message in enumerate(found):
        total += sizes.get(message.event_id, 0)
        if total > MAX_PAGE_BYTES and index:
            return index
    return len(found)


# ---- the end of messages -----------------------------------------------------------------------


async def expire_messages(
    database: Database, start: tuple[UUID, UUID], limit: int, retention: timedelta
) -> tuple[int, tuple[UUID, UUID] | None]:
    """Expire messages of default inboxes older than `retention`, at most `limit`, looking at as many inboxes.

    Begins with the inbox `start`, by organisation and id. Returns how many, and with which inbox the
    next piece begins, None after the last.
    """
    row = await database.row(_SQL["expire_messages"], *start, limit, retention)
    assert row is not None
    if row["found"] == limit:
        return row["expired"], tuple(row["stopped"])
    return row["expired"], tuple(row["last"]) if row["inboxes"] > limit else None


# ---- rows ----------------------------------------------------------------------------------------


def _id_ceiling(moment: datetime) -> UUID:
    return UUID(int=(int(moment.timestamp() * 1000) + 1) << 80)


def leased_message(row: Row) -> Message:
    """The message that a row of `deliveries` describes, which is leased."""
    return Message(row["event_id"], "leased", row["lease_count"], row["due_at"], given_back=row["given_back"])


def _listed(row: Row) -> Message:
    leased = row["status"] == "leased" and not row["due"]
    return Message(
        row["event_id"],
        "leased" if leased else "available",
        row["lease_count"],
        row["due_at"] if leased else None,
        lease_id=row["lease_id"] if leased else None,
        consumer=row["consumer"] if leased else None,
        given_back=row["given_back"],
    )


def inbox_of(row: Row) -> Inbox:
    """The inbox that a row of `subscriptions` describes. One that has expired counts as being deleted."""
    return Inbox(
        org_id=OrgId(row["org_id"]),
        id=row["id"],
        key=row["key"],
        status=SubscriptionStatus.DELETING if row["expired"] else SubscriptionStatus(row["status"]),
        status_reason=row["status_reason"],
        status_at=row["status_at"],
        created_at=row["created_at"],
        event_types=row["event_types"],
        filter=row["filter"],
        filter_error=row["filter_error"],
        filter_error_at=row["filter_error_at"],
        notification_url=row["notification_url"],
        max_leases=row["max_leases"],
        default_lease_seconds=row["default_lease_seconds"] or DEFAULT_LEASE_SECONDS,
        expires_at=row["expires_at"],
    )
