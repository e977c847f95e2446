"""The look-ups of the search. Each uses an index or looks at a bounded number of rows."""

from __future__ import annotations

import re
from itertools import islice, product
from typing import Final, Literal, NamedTuple, TypeAlias
from uuid import UUID

from triggers.domain import OrgId, parse_id
from triggers.events import store as event_store
from triggers.postgres.database import Database, statements
from triggers.subscriptions.shown_name import shown_name

_SQL = statements(__name__)

MAX_HITS: Final = 20
MAX_EVENTS: Final = 20_000
"""Number of the newest events in which subjects and the ends of ids are searched."""
MAX_SUBSCRIPTIONS: Final = 10_000
_ENDING: Final = re.compile("[0-9a-f]{8}")

Kind: TypeAlias = Literal["event", "delivery", "subscription", "inbox"]
Matched: TypeAlias = Literal["id", "ending", "name", "part_of_name", "host", "dedup_id", "subject"]


class Hit(NamedTuple):
    """A thing that was found. The name of an event or a delivery is the event's type."""

    kind: Kind
    id: str
    name: str
    matched: Matched


async def subscriptions(database: Database, org_id: OrgId, text: str) -> list[Hit]:
    """Find subscriptions and inboxes by id, end of the id, or a part of name, key or host."""
    rows = await database.fetch(_SQL["subscriptions"], org_id, MAX_SUBSCRIPTIONS, text.lower(), 2 * MAX_HITS)
    return [
        Hit(
            "inbox" if row["kind"] == "inbox" else "subscription",
            str(row["id"]),
            shown_name(row["name"], row["key"], row["target_url"]),
            row["matched"],
        )
        for row in rows
    ]


async def events(database: Database, org_id: OrgId, text: str) -> list[Hit]:
    """Find events by id, dedup_id, end of the id, or subject."""
    event_id = parse_id(text)
    if event_id is not None:
        rows = await database.fetch(_SQL["event"], org_id, event_id)
        return [Hit("event", str(row["id"]), row["type"], "id") for row in rows]
    rows = await database.fetch(_SQL["deduplicated"], org_id, text)
    found = [Hit("event", str(row["id"]), row["type"], "dedup_id") for row in rows]
    if _ENDING.fullmatch(text.lower()):
        found += await _by_ending(database, org_id, text.lower())
    rows = await database.fetch(_SQL["about"], org_id, MAX_EVENTS, text, MAX_HITS)
    return found + [Hit("event", str(row["id"]), row["type"], "subject") for row in rows]


async def deliveries(database: Database, org_id: OrgId, text: str) -> list[Hit]:
    """Find deliveries by id, or by the ends of both parts of the id: `<8 characters>.<8 characters>`."""
    first, dot, second = text.lower().partition(".")
    if not dot:
        return []
    event_id, subscription_id = parse_id(first), parse_id(second)
    if event_id is not None and subscription_id is not None:
        return await _delivery(database, org_id, event_id, subscription_id, "id")
    if not (_ENDING.fullmatch(first) and _ENDING.fullmatch(second)):
        return []
    events = await _by_ending(database, org_id, first)
    if not events:
        return []
    owners = [hit for hit in await subscriptions(database, org_id, second) if hit.matched == "ending"]
    found: list[Hit] = []
    # One pair, unless two ids end alike, so pairs beyond the bound do not matter.
    for event, owner in islice(product(events, owners), MAX_HITS):
        found += await _delivery(database, org_id, UUID(event.id), UUID(owner.id), "ending")
    return found


async def looked_to(database: Database, org_id: OrgId) -> UUID | None:
    """Return the oldest event that the look-ups reach, or None if they reach all events."""
    row = await database.row(_SQL["looked_to"], org_id, MAX_EVENTS - 1)
    return None if row is None else row["id"]


async def _delivery(
    database: Database, org_id: OrgId, event_id: UUID, subscription_id: UUID, matched: Matched
) -> list[Hit]:
    rows = await database.fetch(_SQL["delivery"], org_id, event_id, subscription_id)
    return [Hit("delivery", f"{event_id}.{subscription_id}", row["type"] or "", matched) for row in rows]


async def _by_ending(database: Database, org_id: OrgId, ending: str) -> list[Hit]:
    rows = await database.fetch(_SQL["ending"], org_id, MAX_EVENTS, ending, MAX_HITS)
    types = await event_store.types(database, org_id, [row["id"] for row in rows])
    return [Hit("event", str(row["id"]), types.get(row["id"], ""), "ending") for row in rows]
