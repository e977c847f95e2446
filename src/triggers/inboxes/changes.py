"""Creating, changing and deleting inboxes, with the push subscriptions that send notifications.

An inbox with a `notification_url` has a hidden push subscription beside it, which `notifies_inbox`
names. It wishes for the same events and follows every change of the inbox, so that a notice is a
delivery like any other: signed, guarded, retried, and seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from triggers.domain import OrgId, SubscriptionStatus, check_inbox_key
from triggers.errors import Conflict, DatabaseUnavailable, NameTaken, NotFound
from triggers.inboxes.store import DEFAULT_LEASE_SECONDS, Inbox, inbox_of
from triggers.postgres.clock import DatabaseClock
from triggers.postgres.database import Database, Row, statements
from triggers.secrets.key_ring import KeyRing
from triggers.secrets.signing_secrets import generate_secret
from triggers.subscriptions import changes as subscription_changes
from triggers.subscriptions import store as subscription_store
from triggers.subscriptions.rules import PushSettings
from triggers.subscriptions.store import (
    Change,
    NewSubscription,
    changing,
    type_columns,
)

_SQL = statements(__name__)


class NewInbox(NamedTuple):
    """A new inbox with validated settings. It never expires if `expires_in_seconds` is None."""

    key: str
    event_types: list[str] | None = None
    filter: str | None = None
    notification_url: str | None = None
    max_leases: int | None = None
    default_lease_seconds: int = DEFAULT_LEASE_SECONDS
    expires_in_seconds: int | None = None


class Changed(NamedTuple):
    """An inbox after a change. `secret` signs its notifications, and is set only if it is new."""

    inbox: Inbox
    secret: str | None = None


class Notices(NamedTuple):
    """The state of the subscription that sends the notifications of an inbox."""

    subscription_id: UUID
    status: str
    status_reason: str | None


async def create(
    database: Database, clock: DatabaseClock, ring: KeyRing, org_id: OrgId, new: NewInbox
) -> Changed:
    """Create an inbox, which collects events from now on.

    Raises:
        Invalid: a bad key.
        NameTaken: the key is in use.
        Conflict: the organisation has reached its limit of subscriptions.
    """
    check_inbox_key(new.key)
    async with changing(database, org_id) as change:
        room = change.room
        expired = await change.connection.fetchval(_SQL["expired_with_key"], org_id, new.key)
        if expired is not None and await _end_expired(change, org_id, expired):
            room = await subscription_store.room(change, org_id)
        if not room:
            raise Conflict("The organisation has reached its limit of inboxes and subscriptions.")
        row = await change.connection.fetchrow(
            _SQL["insert"],
            org_id,
            clock.mint(),
            new.key,
            change.now,
            *type_columns(new.event_types),
            new.filter,
            new.notification_url,
            new.max_leases,
            new.default_lease_seconds,
            _expiry(change, new.expires_in_seconds),
        )
        if row is None:
            raise NameTaken(f"An inbox with the key {new.key!r} already exists.")
        await subscription_store.count(change, org_id, 1)
        if new.filter is not None:
            await subscription_store.raise_version(change, org_id)
        inbox = inbox_of(row)
        return Changed(inbox, await _notify(change, clock, ring, inbox))


async def patch(
    database: Database, clock: DatabaseClock, ring: KeyRing, inbox: Inbox, changes: dict[str, Any]
) -> Changed:
    """Change settings of an inbox. Omitted fields stay as they are. `expires_in_seconds` counts from now.

    Raises:
        Conflict: it is being deleted, or there is no room for the subscription that sends notices.
    """
    async with changing(database, inbox.org_id, inbox.id) as change:
        before = await _locked(change, inbox)
        if "expires_in_seconds" in changes:
            expires_at = _expiry(change, changes["expires_in_seconds"])
            changes = {**changes, "expires_at": expires_at}
            del changes["expires_in_seconds"]
        wanted = msgspec.structs.replace(before, **changes)
        row = await change.connection.fetchrow(
            _SQL["change"],
            inbox.org_id,
            inbox.id,
            change.now,
            *type_columns(wanted.event_types),
            wanted.filter,
            wanted.notification_url,
            wanted.default_lease_seconds,
            wanted.expires_at,
        )
        if _is_matched_otherwise(before, wanted):
            await subscription_store.raise_version(change, inbox.org_id)
        changed = inbox_of(row)
        return Changed(changed, await _notify(change, clock, ring, changed))


async def renew(database: Database, inbox: Inbox, seconds: int) -> Inbox | None:
    """Let an inbox expire `seconds` from now. None if it has expired or was deleted meanwhile."""
    async with changing(database, inbox.org_id, inbox.id) as change:
        try:
            await _locked(change, inbox)
        except (NotFound, Conflict):
            return None
        row = await change.connection.fetchrow(
            _SQL["renew"], inbox.org_id, inbox.id, change.now, _expiry(change, seconds)
        )
        return inbox_of(row)


async def pause(database: Database, ring: KeyRing, inbox: Inbox, reason: str) -> Inbox:
    """Pause an inbox: only present messages can be leased, and no notifications are sent."""
    return await _move(database, ring, inbox, SubscriptionStatus.PAUSED, reason)


async def resume(database: Database, ring: KeyRing, inbox: Inbox) -> Inbox:
    """Resume an inbox."""
    return await _move(database, ring, inbox, SubscriptionStatus.ACTIVE, None)


async def delete(database: Database, inbox: Inbox) -> Inbox:
    """Mark an inbox for deletion: it matches nothing, and its key is free. Its messages follow."""
    async with changing(database, inbox.org_id, inbox.id) as change:
        before = await _locked(change, inbox, "The inbox is being deleted already.")
        return await _end(change, before, "deleted by request")


async def delete_expired(database: Database, limit: int) -> list[tuple[UUID, UUID]]:
    """Delete inboxes whose time is over, at most `limit`, each in a transaction of its own.

    Returns the organisations and the ids of those that this call deleted.

    Raises:
        DatabaseUnavailable: one could not be deleted. All others of the call were tried before.
    """
    deleted, failure = [], None
    for row in await database.fetch(_SQL["expired"], limit):
        org_id = OrgId(row["org_id"])
        try:
            async with changing(database, org_id, row["id"]) as change:
                if await _end_expired(change, org_id, row["id"]):
                    deleted.append((row["org_id"], row["id"]))
        except DatabaseUnavailable as error:  # somebody holds its lock: the others do not wait
            failure = error
        except NotFound:  # its organisation was deleted, and it will be with it
            continue
    if failure is not None:
        raise failure
    return deleted


async def notices(database: Database, org_id: OrgId, inbox_ids: Sequence[UUID]) -> dict[UUID, Notices]:
    """The subscriptions that send the notifications of these inboxes, by inbox."""
    if not inbox_ids:
        return {}
    rows = await database.fetch(_SQL["notices"], org_id, inbox_ids)
    return {row["notifies_inbox"]: Notices(row["id"], row["status"], row["status_reason"]) for row in rows}


async def _move(
    database: Database, ring: KeyRing, inbox: Inbox, after: SubscriptionStatus, reason: str | None
) -> Inbox:
    """Pause or resume an inbox, and the subscription that sends its notifications."""
    paused, active = SubscriptionStatus.PAUSED, SubscriptionStatus.ACTIVE
    before = active if after == paused else paused
    async with changing(database, inbox.org_id, inbox.id) as change:
        present = await _locked(change, inbox)
        if present.status != before:
            raise Conflict(f"The inbox is {present.status}.")
        row = await _set_status(change, present, after, reason)
        sender = await subscription_changes.notices_of(change, ring, inbox.org_id, inbox.id)
        if sender is not None and sender.status == before:
            await subscription_changes.set_status(change, ring, sender, after, reason)
        return inbox_of(row)


async def _set_status(change: Change, inbox: Inbox, status: SubscriptionStatus, reason: str | None) -> Row:
    row: Row = await change.connection.fetchrow(
        _SQL["set_status"], inbox.org_id, inbox.id, change.now, status, reason
    )
    if inbox.filter is not None:
        await subscription_store.raise_version(change, inbox.org_id)
    return row


async def _end(change: Change, inbox: Inbox, reason: str) -> Inbox:
    row = await _set_status(change, inbox, SubscriptionStatus.DELETING, reason)
    await subscription_store.count(change, inbox.org_id, -1)
    await subscription_changes.end_notices(change, inbox.org_id, inbox.id)
    return inbox_of(row)


async def _end_expired(change: Change, org_id: OrgId, inbox_id: UUID) -> bool:
    """Delete an inbox if it has expired, as seen under the lock. Return whether it was deleted."""
    row = await change.connection.fetchrow(_SQL["locked"], org_id, inbox_id)
    if row is None or not row["expired"] or row["status"] == SubscriptionStatus.DELETING:
        return False
    await _end(change, inbox_of(row), "expired")
    return True


def _expiry(change: Change, seconds: int | None) -> datetime | None:
    return None if seconds is None else change.now + timedelta(seconds=seconds)


def _is_matched_otherwise(before: Inbox, after: Inbox) -> bool:
    """Whether events must be matched anew. A consumer that only renews its inbox causes no such work."""
    if before.filter is None and after.filter is None:
        return False
    return (before.filter, before.event_types) != (after.filter, after.event_types)


async def _locked(change: Change, inbox: Inbox, refusal: str = "The inbox is being deleted.") -> Inbox:
    row = await change.connection.fetchrow(_SQL["locked"], inbox.org_id, inbox.id)
    if row is None:
        raise NotFound("No inbox has this id or key.")
    found = inbox_of(row)
    if found.status == SubscriptionStatus.DELETING:
        raise Conflict(refusal)
    return found


async def _notify(change: Change, clock: DatabaseClock, ring: KeyRing, inbox: Inbox) -> str | None:
    """Adapt the notifications to the settings of the inbox. Return the secret of a new subscription."""
    sender = await subscription_changes.notices_of(change, ring, inbox.org_id, inbox.id)
    if inbox.notification_url is None:
        if sender is not None:
            await subscription_changes.end_notices(change, inbox.org_id, inbox.id)
        return None
    wanted = PushSettings(
        target_url=inbox.notification_url,
        name=f"notices of the inbox {inbox.key}",
        event_types=inbox.event_types,
        filter=inbox.filter,
    )
    if sender is None:
        room = await subscription_store.room(change, inbox.org_id)
        secret = generate_secret()
        new = NewSubscription(wanted, "v1", secret, status=inbox.status, notifies_inbox=inbox.id)
        await subscription_store.insert(change._replace(room=room), clock, ring, inbox.org_id, new)
        return secret
    if sender.settings != wanted:
        await subscription_changes.change_settings(change, ring, sender, wanted)
    if sender.settings.target_url != wanted.target_url and sender.status == SubscriptionStatus.DISABLED:
        # The old endpoint failed; the new one has not been tried yet.
        await subscription_changes.set_status(change, ring, sender, inbox.status, None)
    return None
