"""Changes of push subscriptions: settings, status, secrets, their end. Their lanes follow `changed_at`.

Each change holds the lock of `changing`, so that it sees what the one before made.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final, NamedTuple
from uuid import UUID

from triggers.domain import OrgId, SubscriptionStatus, parse_id
from triggers.errors import Conflict, NotFound
from triggers.postgres.database import Database, Row, statements
from triggers.secrets.key_ring import KeyRing
from triggers.secrets.signing_secrets import Scheme
from triggers.subscriptions.rules import PushSettings, rotated, seal_headers, seal_secrets
from triggers.subscriptions.store import (
    Change,
    Subscription,
    changing,
    count,
    delivery_columns,
    raise_version,
    subscription_of,
    type_columns,
)

_SQL = statements(__name__)

REFERRED_TO_FOR: Final = timedelta(days=1)
"""Time after which a deleted subscription is looked at again. It also is the time for which deleting one
again has the same answer, and in which everything that was in flight is written."""


class Rotation(NamedTuple):
    """The replacement of a secret.

    `make` returns the new secret and its scheme for the present scheme. Both secrets sign during `overlap`.
    """

    make: Callable[[Scheme], tuple[str, Scheme]]
    overlap: timedelta


async def patch(
    database: Database,
    ring: KeyRing,
    org_id: OrgId,
    subscription_id: str,
    edit: Callable[[PushSettings], PushSettings],
) -> Subscription:
    """Change settings to what `edit` makes of the present ones, and raises if they are not valid."""
    async with changing(database, org_id, parse_id(subscription_id)) as change:
        before = await _locked(change, ring, org_id, parse_id(subscription_id))
        _refuse_notices(before)
        return await change_settings(change, ring, before, edit(before.settings))


async def try_endpoint(database: Database, org_id: OrgId, subscription_id: UUID) -> None:
    """Have an endpoint that keeps failing tried at once, and not only when its next probe is due.

    Callers use it after somebody asked for a delivery now, who may have repaired the endpoint.
    """
    await database.fetch(_SQL["try_endpoint"], org_id, subscription_id)


async def change_settings(
    change: Change, ring: KeyRing, before: Subscription, settings: PushSettings
) -> Subscription:
    """Give a locked subscription other settings."""
    row = await change.connection.fetchrow(
        _SQL["change"],
        before.org_id,
        before.id,
        change.now,
        settings.name,
        settings.target_url,
        *type_columns(settings.event_types),
        settings.filter,
        settings.format,
        seal_headers(ring, before.org_id, before.id, settings.headers),
        *delivery_columns(settings),
    )
    if before.settings.needs_judging or settings.needs_judging:
        await raise_version(change, before.org_id)
    return subscription_of(ring, row)


async def pause(database: Database, ring: KeyRing, org_id: OrgId, subscription_id: str) -> Subscription:
    """Send nothing, but keep collecting events. Pausing a paused subscription changes nothing."""
    return await _move(database, ring, org_id, subscription_id, SubscriptionStatus.PAUSED)


async def resume(database: Database, ring: KeyRing, org_id: OrgId, subscription_id: str) -> Subscription:
    """Send the collected events. A subscription that is not paused stays as it is."""
    return await _move(database, ring, org_id, subscription_id, SubscriptionStatus.ACTIVE)


async def disable(
    database: Database, ring: KeyRing, org_id: OrgId, subscription_id: str, reason: str
) -> Subscription:
    """Match no more events, and cancel deliveries. If it is disabled already, the reason stays the same."""
    async with changing(database, org_id, parse_id(subscription_id)) as change:
        before = await _locked(change, ring, org_id, parse_id(subscription_id))
        if before.status == SubscriptionStatus.DISABLED:
            return before
        return await set_status(change, ring, before, SubscriptionStatus.DISABLED, reason)


async def enable(
    database: Database, ring: KeyRing, org_id: OrgId, subscription_id: str
) -> tuple[Subscription, datetime | None]:
    """Match events again from now on. Return the time since when none was matched, if it was disabled.

    Deliveries that have not been cancelled yet are still sent.
    """
    async with changing(database, org_id, parse_id(subscription_id)) as change:
        before = await _locked(change, ring, org_id, parse_id(subscription_id))
        if before.status != SubscriptionStatus.DISABLED:
            return before, None
        if before.settings.expires_at is not None and before.settings.expires_at <= change.now:
            raise Conflict("The subscription has expired. Set a later `expires_at` first.")
        return await set_status(change, ring, before, SubscriptionStatus.ACTIVE, None), before.status_at


async def delete(database: Database, org_id: OrgId, subscription_id: str) -> None:
    """Delete a subscription: it matches no events, and its key is free. Deleting it again changes nothing.

    Raises:
        NotFound: the organisation never had it, or its row is swept already.
    """
    async with changing(database, org_id, parse_id(subscription_id)) as change:
        row = await change.connection.fetchrow(_SQL["locked"], org_id, parse_id(subscription_id))
        if row is None:
            raise NotFound("No subscription has this id.")
        if row["notifies_inbox"] is not None:
            raise Conflict(
                "This subscription sends the notifications of an inbox."
                " To end it, set the `notification_url` of the inbox to null."
            )
        await _end(change, org_id, row)


async def rotate_secret(
    database: Database, ring: KeyRing, org_id: OrgId, subscription_id: str, rotation: Rotation
) -> Subscription:
    """Sign with a new secret, and for a while with the present one too."""
    async with changing(database, org_id, parse_id(subscription_id)) as change:
        before = await _locked(change, ring, org_id, parse_id(subscription_id))
        secret, signature = rotation.make(before.signature)
        secrets = rotated(before.secrets, secret, rotation.overlap, change.now)
        row = await change.connection.fetchrow(
            _SQL["set_secrets"],
            org_id,
            before.id,
            change.now,
            seal_secrets(ring, org_id, before.id, secrets),
            signature,
        )
        return subscription_of(ring, row)


async def set_status(
    change: Change, ring: KeyRing, before: Subscription, status: SubscriptionStatus, reason: str | None
) -> Subscription:
    """Move a locked subscription to another status."""
    row = await change.connection.fetchrow(
        _SQL["set_status"], before.org_id, before.id, change.now, status, reason
    )
    if before.settings.needs_judging:
        await raise_version(change, before.org_id)
    return subscription_of(ring, row)


# ---- notices of inboxes --------------------------------------------------------------------------


async def notices_of(change: Change, ring: KeyRing, org_id: OrgId, inbox_id: UUID) -> Subscription | None:
    """The subscription that sends an inbox's notices, locked."""
    found = await change.connection.fetchval(_SQL["notifying"], org_id, inbox_id)
    return None if found is None else await _locked(change, ring, org_id, found)


async def end_notices(change: Change, org_id: OrgId, inbox_id: UUID) -> None:
    """Delete the subscription that sends an inbox's notices, if there is one."""
    found = await change.connection.fetchval(_SQL["notifying"], org_id, inbox_id)
    if found is not None:
        await _end(change, org_id, await change.connection.fetchrow(_SQL["locked"], org_id, found))


# ---- duties --------------------------------------------------------------------------------------


async def disable_expired(database: Database, limit: int) -> list[tuple[UUID, UUID]]:
    """Disable subscriptions whose time is over, at most `limit`; return their organisations and ids.

    No version is raised: accept looks at the status itself, and one judgement too many harms nothing.
    """
    rows = await database.fetch(_SQL["disable_expired"], limit)
    return [(row["org_id"], row["id"]) for row in rows]


async def sweep_deleted(database: Database, limit: int) -> int:
    """Delete the rows of deleted subscriptions and inboxes to which nothing refers any more.

    At most `limit` are looked at, each once a day, for the first time a day after it was deleted. Returns how
    many were looked at.
    """
    async with database.connection() as connection, connection.transaction():
        # A plan is made while a table may be empty, and kept until it is large.
        await connection.execute("set local enable_seqscan = off")
        row = await connection.fetchrow(_SQL["sweep_deleted"], REFERRED_TO_FOR, limit)
        return int(row["looked_at"])


# ---- parts of changes ----------------------------------------------------------------------------


async def _locked(change: Change, ring: KeyRing, org_id: OrgId, subscription_id: UUID | None) -> Subscription:
    row = await change.connection.fetchrow(_SQL["locked"], org_id, subscription_id)
    if row is None or row["status"] == SubscriptionStatus.DELETING:
        raise NotFound("No subscription has this id.")
    return subscription_of(ring, row)


def _refuse_notices(subscription: Subscription) -> None:
    if subscription.notifies_inbox is not None:
        raise Conflict("This subscription sends the notifications of an inbox. Change the inbox instead.")


async def _move(
    database: Database, ring: KeyRing, org_id: OrgId, subscription_id: str, status: SubscriptionStatus
) -> Subscription:
    """Switch between active and paused, the two states that collect events."""
    async with changing(database, org_id, parse_id(subscription_id)) as change:
        before = await _locked(change, ring, org_id, parse_id(subscription_id))
        _refuse_notices(before)
        if before.status == SubscriptionStatus.DISABLED:
            raise Conflict("The subscription is disabled. Enable it first.")
        if before.status == status:
            return before
        reason = "paused by request" if status == SubscriptionStatus.PAUSED else None
        return await set_status(change, ring, before, status, reason)


async def _end(change: Change, org_id: OrgId, row: Row) -> None:
    """Delete the subscription of a locked row."""
    if row["status"] == SubscriptionStatus.DELETING:
        return
    await change.connection.execute(
        _SQL["set_status"], org_id, row["id"], change.now, SubscriptionStatus.DELETING, "deleted by request"
    )
    await change.connection.execute(_SQL["end_jobs"], org_id, row["id"], change.now)
    await count(change, org_id, -1)
    if row["filter"] is not None or row["ordering_pointer"] is not None:
        await raise_version(change, org_id)
