"""Overviews over HTTP: subscriptions with undelivered events, and the deliveries of an event."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta

from triggers.deliveries import undelivered
from triggers.deliveries.body import DeliveryListed, listed_view
from triggers.deliveries.routes import SubscriptionId, subscription_of
from triggers.deliveries.undelivered import (
    MAX_LOOKED_AT,
    MOST_COUNTED,
    Backlog,
    Behind,
    Sent,
    WantedBehind,
)
from triggers.domain import Caller, Scope, parse_id
from triggers.errors import Invalid, NotFound
from triggers.events import store as event_store
from triggers.http.route import Route
from triggers.http.views import Cursor, Timestamp, make_cursor, optional_timestamp, read_cursor
from triggers.postgres.database import Database

Exact = Annotated[
    bool, Meta(description=f"False if there are more. Each number is counted up to {MOST_COUNTED:,}.")
]


class UndeliveredView(msgspec.Struct, kw_only=True):
    """A subscription or an inbox that has undelivered events."""

    subscription_id: UUID
    kind: Annotated[str, Meta(description="`push` or `inbox`.")]
    name: Annotated[str, Meta(description="The name, or else the key, or else the host of the URL.")]
    status: str
    failing_since: Timestamp | None
    pending: Annotated[int, Meta(description="Number of unsettled deliveries, including leased messages.")]
    pending_exact: Exact
    dead: Annotated[
        int, Meta(description="Number of dead deliveries, without those that were sent again since.")
    ]
    dead_exact: Exact
    oldest_pending: Annotated[
        Timestamp | None, Meta(description="Time when the delivery of the oldest undelivered event was made.")
    ]
    last_reason: Annotated[
        str | None,
        Meta(
            description="The failure of the last attempt. If there is none, the reason of the newest dead"
            " delivery."
        ),
    ]
    last_status_code: int | None


class UndeliveredList(msgspec.Struct):
    """A page of subscriptions."""

    data: list[UndeliveredView]
    next_cursor: str | None


class EventDelivery(DeliveryListed, kw_only=True):
    """The latest generation of a delivery, with its subscription."""

    name: Annotated[str, Meta(description="The name, or else the key, or else the host of the URL.")]
    target_url: str | None
    retry_delays: Annotated[
        list[float] | None,
        Meta(description="Seconds before the second attempt, the third, and so on. Null: the default."),
    ]


class EventDeliveryList(msgspec.Struct):
    """The deliveries of an event."""

    data: list[EventDelivery]
    total: Annotated[int, Meta(description="Number of all deliveries, including those that are not shown.")]
    unsent: Annotated[
        int, Meta(description="Number of subscriptions and inboxes that have no delivery of the event.")
    ]


class OverviewRoutes:
    """Handlers of these URLs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_undelivered(
        self,
        caller: Caller,
        kind: Annotated[
            str, Meta(description="Push subscriptions or inboxes.", pattern="^(push|inbox)$")
        ] = "push",
        only: SubscriptionId = None,
        limit: Annotated[int, Meta(ge=1, le=100, description="Maximum number of items.")] = 50,
        cursor: Cursor = None,
    ) -> UndeliveredList:
        """List the subscriptions that have pending or dead deliveries, worst first.

        Subscriptions that are failing come first, then those with dead deliveries, then those that are paused
        or disabled. Within each of these, the one that has failed or waited longest comes first. The order
        changes while deliveries are made, so a subscription may be on two pages or on none.
        """
        place = _place(cursor)
        wanted = WantedBehind(kind, subscription_of(only), place, limit)
        found = await undelivered.worst(self._database, caller.org_id, wanted)
        counts = await undelivered.backlogs(self._database, caller.org_id, [each.id for each in found])
        views = [_view(each, counts[each.id]) for each in found]
        return UndeliveredList(
            [view for view in views if view.pending or view.dead or not view.dead_exact],
            make_cursor(UUID(int=place + limit)) if len(found) == limit else None,
        )

    async def list_event_deliveries(
        self,
        caller: Caller,
        event_id: str,
        limit: Annotated[int, Meta(ge=1, le=200, description="Maximum number of deliveries.")] = 100,
    ) -> EventDeliveryList:
        """List the deliveries of an event with their subscriptions, those that need attention first.

        Only the latest generation of each delivery is listed.
        """
        stored_id = parse_id(event_id)
        if stored_id is None:
            raise NotFound("No event has this id.")
        found = await undelivered.of_event(self._database, caller.org_id, stored_id, limit)
        event = await event_store.one(self._database, caller.org_id, stored_id)
        if event is None:
            raise NotFound("No event has this id.")
        sent = [_sent(each, event.type) for each in found.first]
        return EventDeliveryList(sent, found.total, found.unsent)


def _place(cursor: str | None) -> int:
    start = read_cursor(cursor)
    place = 0 if start is None else start.int
    if place > MAX_LOOKED_AT:
        raise Invalid("Must be a `next_cursor` of this list.", pointer="cursor")
    return place


def _view(behind: Behind, backlog: Backlog) -> UndeliveredView:
    return UndeliveredView(
        subscription_id=behind.id,
        kind=behind.kind,
        name=behind.name,
        status=behind.status,
        failing_since=optional_timestamp(behind.failing_since),
        pending=backlog.unsettled.number,
        pending_exact=backlog.unsettled.exact,
        dead=backlog.dead.number,
        dead_exact=backlog.dead.exact,
        oldest_pending=optional_timestamp(backlog.oldest_at),
        last_reason=backlog.last_reason,
        last_status_code=backlog.last_status_code,
    )


def _sent(sent: Sent, event_type: str) -> EventDelivery:
    return EventDelivery(
        **msgspec.structs.asdict(listed_view(sent.delivery, event_type)),
        name=sent.name,
        target_url=sent.target_url,
        retry_delays=sent.retry_delays,
    )


ROUTES = (
    Route(
        "GET",
        "/v1/undelivered",
        OverviewRoutes.list_undelivered,
        Scope.SUBSCRIPTIONS,
        or_scope=Scope.READ,
    ),
    Route(
        "GET",
        "/v1/events/{event_id}/deliveries",
        OverviewRoutes.list_event_deliveries,
        Scope.SUBSCRIPTIONS,
        or_scope=Scope.READ,
    ),
)
