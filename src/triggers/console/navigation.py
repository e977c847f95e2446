"""The pages that the navigation leads to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from triggers.console.api import Api
from triggers.deliveries.overview_routes import OverviewRoutes
from triggers.domain import Caller
from triggers.events.routes import EventRoutes
from triggers.inboxes.routes import InboxRoutes
from triggers.keys.routes import KeyRoutes
from triggers.statistics.routes import StatisticsRoutes
from triggers.subscriptions.routes import SubscriptionRoutes
from triggers.system.routes import SystemRoutes


class Place(NamedTuple):
    """A page of the navigation. It is shown to those who may use its handler."""

    name: str
    """Its path within the console, and the name of its icon."""
    word: str
    handler: Callable[..., Any]


PLACES: Final = (
    Place("overview", "Overview", StatisticsRoutes.get_statistics),
    Place("events", "Events", EventRoutes.list_events),
    Place("subscriptions", "Subscriptions", SubscriptionRoutes.list_subscriptions),
    Place("undelivered", "Undelivered", OverviewRoutes.list_undelivered),
    Place("inboxes", "Inboxes", InboxRoutes.list_inboxes),
    Place("access", "Access", KeyRoutes.list_keys),
    Place("organisations", "Organisations", KeyRoutes.admin_list_orgs),
    Place("system", "System", SystemRoutes.get_system),
)


def places_for(api: Api, caller: Caller) -> list[Place]:
    """Return the pages that a caller may see."""
    return [place for place in PLACES if api.may(caller, place.handler)]
