"""Finds events and deliveries by their ids, and subscriptions by name, key, host or id."""

from __future__ import annotations

from typing import Final, NamedTuple
from uuid import UUID

from triggers.console.api import Api
from triggers.console.health import host_of, name_of
from triggers.domain import Caller, parse_id
from triggers.errors import NotFound
from triggers.events.routes import EventRoutes
from triggers.subscriptions.body import SubscriptionView
from triggers.subscriptions.routes import SubscriptionRoutes

MAX_LOOKED_AT: Final = 1_000
"""Maximum number of subscriptions that a search by name looks through."""
MAX_HITS: Final = 50


class Hit(NamedTuple):
    """Something that was found, and the path of its page."""

    kind: str
    name: str
    note: str
    path: str


async def find(api: Api, caller: Caller, text: str) -> list[Hit]:
    """Find everything that the text may mean. Exact names hide partial ones."""
    event_id, dot, subscription_id = text.partition(".")
    if (found := parse_id(event_id)) is not None:
        if dot and parse_id(subscription_id) is not None:
            return await _event(api, caller, found, f"#delivery-{subscription_id}")
        return [*await _event(api, caller, found), *await _subscription(api, caller, found)]
    return await _named(api, caller, text)


async def _event(api: Api, caller: Caller, event_id: UUID, fragment: str = "") -> list[Hit]:
    if not api.may(caller, EventRoutes.get_event):
        return []
    try:
        event = await api.ask(caller, EventRoutes.get_event, event_id=str(event_id))
    except NotFound:
        return []
    return [Hit("Event", event.type, str(event.id), f"/events/{event.id}{fragment}")]


async def _subscription(api: Api, caller: Caller, subscription_id: UUID) -> list[Hit]:
    if not api.may(caller, SubscriptionRoutes.get_subscription):
        return []
    try:
        found = await api.ask(
            caller, SubscriptionRoutes.get_subscription, subscription_id=str(subscription_id)
        )
    except NotFound:
        return []
    return [_hit(found)]


async def _named(api: Api, caller: Caller, text: str) -> list[Hit]:
    if not api.may(caller, SubscriptionRoutes.list_subscriptions):
        return []
    listed = await api.ask(caller, SubscriptionRoutes.list_subscriptions, limit=str(MAX_LOOKED_AT))
    wanted = text.casefold()
    exact, partly = [], []
    for each in listed.data:
        names = [name.casefold() for name in (each.name, each.key, host_of(each)) if name]
        if wanted in names:
            exact.append(_hit(each))
        elif any(wanted in name for name in names) or wanted == str(each.id)[-8:]:
            partly.append(_hit(each))
    return (exact or partly)[:MAX_HITS]


def _hit(found: SubscriptionView) -> Hit:
    return Hit("Subscription", name_of(found), host_of(found), f"/subscriptions/{found.id}")
