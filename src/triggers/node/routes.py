"""The tables of all rooms, joined: every URL with its method, its scope, and the room that answers it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from triggers.console import routes as console
from triggers.deliveries import overview_routes as delivery_overviews
from triggers.deliveries import routes as deliveries
from triggers.events import routes as events
from triggers.guides import routes as guides
from triggers.http.route import Route
from triggers.inboxes import default_inbox, messages
from triggers.inboxes import routes as inboxes
from triggers.keys import routes as keys
from triggers.node import operator_routes
from triggers.previews import delivery_tests, event_routes
from triggers.previews import routes as previews
from triggers.replays import routes as replays
from triggers.search import routes as search
from triggers.sessions import routes as sessions
from triggers.sessions.cookie import CONSOLE_PATH
from triggers.statistics import routes as statistics
from triggers.streams import routes as streams
from triggers.subscriptions import routes as subscriptions
from triggers.system import routes as system

ROOMS: Final[Mapping[str, tuple[Route, ...]]] = {
    "events": events.ROUTES,
    "inboxes": (*default_inbox.ROUTES, *inboxes.ROUTES, *messages.ROUTES),
    "subscriptions": subscriptions.ROUTES,
    "previews": (*previews.ROUTES, *delivery_tests.ROUTES, *event_routes.ROUTES),
    "deliveries": (*deliveries.ROUTES, *delivery_overviews.ROUTES),
    "replays": replays.ROUTES,
    "statistics": statistics.ROUTES,
    "streams": streams.ROUTES,
    "search": search.ROUTES,
    "keys": keys.ROUTES,
    "sessions": sessions.ROUTES,
    "system": system.ROUTES,
    "console": console.ROUTES,
    "guides": guides.ROUTES,
    "node": operator_routes.ROUTES,
}

ROUTES: Final[tuple[Route, ...]] = tuple(route for table in ROOMS.values() for route in table)

CONSOLE_ROUTES: Final = (CONSOLE_PATH, f"/v1{CONSOLE_PATH}/")
"""The beginnings of the paths that `TRIGGERS_CONSOLE=off` removes."""


def listed() -> list[tuple[str, Route]]:
    """Every row with the name of its room, in the order of paths."""
    rows = [(room, route) for room, table in ROOMS.items() for route in table]
    return sorted(rows, key=lambda row: (row[1].path, row[1].method))


def bind(*handlers: object, room: str | None = None) -> list[Route]:
    """Return rows that are bound to the objects whose classes have their handlers.

    With `room`, these are the rows of this room. Without it, these are all rows except those of the console,
    because the console needs the bound rows of the other rooms.

    Raises:
        KeyError: none of the objects has the class of a handler.
    """
    tables = [table for name, table in ROOMS.items() if (name == room if room else name != "console")]
    by_class = {type(each).__qualname__: each for each in handlers}
    return [
        route.bound(by_class[route.handler.__qualname__.partition(".")[0]])
        for table in tables
        for route in table
    ]
