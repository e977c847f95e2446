"""Storage of push subscriptions: finds, lists and creates them. `changes.py` changes and deletes them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, NamedTuple, cast
from uuid import UUID

import msgspec

from triggers.domain import (
    Format,
    OrgId,
    PageRequest,
    SubscriptionStatus,
    first_id_at,
    parse_id,
)
from triggers.errors import (
    Conflict,
    DatabaseUnavailable,
    NameTaken,
    NotFound,
)
from triggers.postgres.clock import DatabaseClock
from triggers.postgres.database import (
    Connection,
    Database,
    Row,
    statements,
)
from triggers.postgres.time_bounds import ACCEPTS_ENDED, COMMIT_SECONDS
from triggers.secrets.key_ring import KeyRing
from triggers.secrets.signing_secrets import Scheme
from triggers.subscriptions.rules import (
    Ordering,
    PushSettings,
    Retry,
    StoredSecret,
    lane_group,
    open_headers,
    open_secrets,
    seal_headers,
    seal_secrets,
)

_SQL = statements(__name__)

BACKFILL_RATE = 1_000
"""Deliveries a second that a start in the past makes."""


class Subscription(msgspec.Struct, frozen=True, kw_only=True):
    """A push subscription. `next_due` is when the first of its deliveries is due, sent or not."""

    org_id: OrgId
    id: UUID
    key: str | None
    status: SubscriptionStatus
    status_reason: str | None
    status_at: datetime
    created_at: datetime
    changed_at: datetime
    settings: PushSettings
    signature: Scheme
    secrets: list[StoredSecret]
    filter_error: str | None
    filter_error_at: datetime | None
    last_success_at: datetime | None
    failing_since: datetime | None
    probe_at: datetime | None
    notifies_inbox: UUID | None
    oldest_pending: datetime | None = None
    next_due: datetime | None = None


class NewSubscription(NamedTuple):
    """A subscription to be made, of settings and a secret that were checked.

    `start` is the first event that it is given of the past.
    """

    settings: PushSettings
    signature: Scheme
    secret: str
    key: str | None = None
    start: UUID | None = None
    status: SubscriptionStatus = SubscriptionStatus.ACTIVE
    notifies_inbox: UUID | None = None


class WantedSubscriptions(NamedTuple):
    """The subscriptions to list: with this key and this status. None selects all.

    `failing`: only active ones whose endpoint has failed since its last success.
    """

    key: str | None = None
    status: str | None = None
    failing: bool = False


class Change(NamedTuple):
    """A change of subscriptions under way: its connection, and its moment on the database's clock."""

    connection: Connection
    now: datetime
    room: bool
    """Whether the organisation may have one more subscription."""


@asynccontextmanager
async def changing(
    database: Database, org_id: OrgId, subscription_id: UUID | None = None
) -> AsyncIterator[Change]:
    """Begin a transaction with the locks for changing an organisation's subscriptions, and one of these.

    The organisation is locked before the subscription, so that two changes never cause a deadlock. The time
    of the change is read after both locks are held, because workers look for changes only a bounded time
    back.

    Raises:
        DatabaseUnavailable: more than COMMIT_SECONDS have passed since that time. Nothing is changed.
    """
    async with database.connection() as connection, connection.transaction():
        row = await connection.fetchrow(_SQL["lock"], org_id)
        if row is None:
            raise NotFound("No organisation has this id.")
        if subscription_id is not None:
            await connection.execute(_SQL["lock_subscription"], org_id, subscription_id)
        asked_at = time.monotonic()
        yield Change(connection, await connection.fetchval(_SQL["now"]), row["room"])
        if time.monotonic() - asked_at > COMMIT_SECONDS:
            raise DatabaseUnavailable(retry_after=2)


# ---- looking -------------------------------------------------------------------------------------


async def find(database: Database, ring: KeyRing, org_id: OrgId, subscription_id: str) -> Subscription:
    """A subscription by its id.

    Raises:
        NotFound: the organisation has none such, or had it and deleted it.
    """
    row = await database.row(_SQL["one"], org_id, parse_id(subscription_id), None)
    if row is None or row["status"] == SubscriptionStatus.DELETING:
        raise NotFound("No subscription has this id.")
    return subscription_of(ring, row)


async def by_key(database: Database, ring: KeyRing, org_id: OrgId, key: str) -> Subscription | None:
    """A subscription by its key."""
    row = await database.row(_SQL["one"], org_id, None, key)
    return None if row is None else subscription_of(ring, row)


async def listed(
    database: Database,
    ring: KeyRing,
    org_id: OrgId,
    page: PageRequest,
    wanted: WantedSubscriptions,
) -> list[Subscription]:
    """Subscriptions in the order they were made."""
    rows = await database.fetch(_SQL["list"], org_id, page.above, *wanted, page.limit)
    return [subscription_of(ring, row) for row in rows]


# ---- making --------------------------------------------------------------------------------------


async def create(
    database: Database, clock: DatabaseClock, ring: KeyRing, org_id: OrgId, new: NewSubscription
) -> Subscription:
    """Make a subscription.

    Raises:
        NameTaken: the key is in use.
        Conflict: the organisation has all the subscriptions it may have.
    """
    async with changing(database, org_id) as change:
        return await insert(change, clock, ring, org_id, new)


async def insert(
    change: Change, clock: DatabaseClock, ring: KeyRing, org_id: OrgId, new: NewSubscription
) -> Subscription:
    """Make a subscription within a change. Raises as `create`."""
    if not change.room:
        raise Conflict("The organisation has reached its limit of inboxes and subscriptions.")
    subscription_id = clock.mint()
    settings = new.settings
    row = await change.connection.fetchrow(
        _SQL["insert"],
        org_id,
        subscription_id,
        new.key,
        new.status,
        change.now,
        lane_group(subscription_id),
        settings.name,
        settings.target_url,
        *type_columns(settings.event_types),
        settings.filter,
        settings.format,
        new.signature,
        seal_secrets(ring, org_id, subscription_id, [StoredSecret(new.secret)]),
        seal_headers(ring, org_id, subscription_id, settings.headers),
        *delivery_columns(settings),
        new.notifies_inbox,
    )
    if row is None:
        raise NameTaken(f"A subscription with the key {new.key!r} already exists.")
    await count(change, org_id, 1)
    if settings.needs_judging:
        await raise_version(change, org_id)
    if new.start is not None:
        await _backfill(change, org_id, clock.mint(), subscription_id, new.start)
    return subscription_of(ring, row)


async def _backfill(change: Change, org_id: OrgId, job_id: UUID, subscription_id: UUID, start: UUID) -> None:
    # An accept whose statement began after our commit sees the subscription, and our commit waits for no more
    # locks. An accept that began before it has made its ids by then, and ends within ACCEPT_SECONDS. So the
    # job begins when all of those have ended, and its range contains all their ids. Other accepts may have
    # created deliveries within this range already, so the job looks for these.
    settled_at = change.now + ACCEPTS_ENDED
    await change.connection.execute(
        _SQL["backfill"],
        org_id,
        job_id,
        subscription_id,
        start,
        max(start, first_id_at(settled_at)),
        BACKFILL_RATE,
        settled_at,
        change.now,
    )


async def count(change: Change, org_id: OrgId, step: int) -> None:
    """Increase or decrease the number of the organisation's subscriptions by one."""
    await change.connection.execute(_SQL["count"], org_id, step)


async def room(change: Change, org_id: OrgId) -> bool:
    """Whether the organisation may have one more subscription. Those that this change created count."""
    row = await change.connection.fetchrow(_SQL["lock"], org_id)
    return bool(row["room"])


async def raise_version(change: Change, org_id: OrgId) -> None:
    """Have accept judge the organisation's events anew: it stores none that was judged before this."""
    await change.connection.execute(_SQL["raise_version"], org_id)


# ---- rows ----------------------------------------------------------------------------------------


def type_columns(patterns: Sequence[str] | None) -> tuple[list[str] | None, list[str], list[str], bool]:
    """Checked patterns as they were asked for, and taken apart into names, prefixes and whether all match."""
    if patterns is None:
        return None, [], [], True
    names = [p for p in patterns if not p.endswith("*")]
    prefixes = [p[:-1] for p in patterns if p.endswith(".*")]
    return list(patterns), names, prefixes, "*" in patterns


def delivery_columns(settings: PushSettings) -> Collection[Any]:
    """How a subscription is delivered, in the order of the statements that write it."""
    return (
        settings.ordering,
        settings.ordering_key,
        settings.max_concurrency,
        settings.rate_limit,
        settings.retry.delays,
        settings.retry.deadline,
        settings.expires_at,
    )


def subscription_of(ring: KeyRing, row: Row) -> Subscription:
    """A subscription from its row, its secrets and headers opened."""
    org_id, subscription_id = OrgId(row["org_id"]), row["id"]
    return Subscription(
        org_id=org_id,
        id=subscription_id,
        key=row["key"],
        status=SubscriptionStatus(row["status"]),
        status_reason=row["status_reason"],
        status_at=row["status_at"],
        created_at=row["created_at"],
        changed_at=row["changed_at"],
        settings=PushSettings(
            target_url=row["target_url"],
            name=row["name"],
            event_types=row["event_types"],
            filter=row["filter"],
            format=cast("Format", row["format"]),
            headers=open_headers(ring, org_id, subscription_id, row["headers"]),
            ordering=cast("Ordering", row["ordering"]),
            ordering_key=row["ordering_pointer"],
            max_concurrency=row["max_concurrency"],
            rate_limit=row["rate_limit"],
            retry=Retry(delays=row["retry_delays"], deadline=row["retry_deadline"]),
            expires_at=row["expires_at"],
        ),
        signature=cast("Scheme", row["signature"]),
        secrets=open_secrets(ring, org_id, subscription_id, row["secrets"]),
        filter_error=row["filter_error"],
        filter_error_at=row["filter_error_at"],
        last_success_at=row["last_success_at"],
        failing_since=row["failing_since"],
        probe_at=row["probe_at"],
        notifies_inbox=row["notifies_inbox"],
        oldest_pending=row.get("oldest_pending"),
        next_due=row.get("next_due"),
    )


async def has_event(database: Database, org_id: OrgId, event_id: UUID) -> bool:
    """Whether the organisation has this event, for a subscription to begin after it."""
    return await database.row(_SQL["has_event"], org_id, event_id) is not None
