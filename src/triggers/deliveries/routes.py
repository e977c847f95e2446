"""Deliveries and their attempts over HTTP: listing, retrying, cancelling."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from typing import Annotated, Any
from uuid import UUID

import msgspec
from msgspec import Meta

from triggers.deliveries import store as delivery_store
from triggers.deliveries.body import (
    AttemptList,
    DeliveryDetail,
    DeliveryList,
    attempt_view,
    attempts_view,
    listed_view,
    record_view,
)
from triggers.deliveries.owing import owe_once_more
from triggers.deliveries.store import (
    UNHAPPY,
    UNSETTLED,
    Delivery,
    ListPosition,
    Recipient,
    WantedDeliveries,
)
from triggers.domain import (
    Caller,
    DeliveryStatus,
    PageRequest,
    Scope,
    first_id_at,
    parse_id,
)
from triggers.errors import Conflict, Invalid, NotFound
from triggers.events import store as event_store
from triggers.http.parameters import Query
from triggers.http.route import Answer, Method, Route
from triggers.http.views import (
    FIRST_PAGE,
    Limit,
    PageQuery,
    Timestamp,
    moment_of,
    page_request,
)
from triggers.postgres.database import Database
from triggers.subscriptions.changes import try_endpoint
from triggers.subscriptions.routes import subscription_route
from triggers.wakeups.wakeup import Wakeup

PositionCursor = Annotated[str, Meta(description="The previous `next_cursor`.", max_length=100)] | None
Status = Annotated[
    str,
    Meta(
        description="`pending` is undelivered. `dead`, `cancelled` and `expired` can be retried.",
        pattern="^(pending|leased|delivered|acknowledged|dead|cancelled|expired)$",
    ),
]
SubscriptionId = (
    Annotated[
        str,
        Query("subscription_id"),
        Meta(description="Only those of this subscription or inbox.", max_length=36),
    ]
    | None
)
DeliveryKind = (
    Annotated[
        str,
        Meta(
            description="Only those of push subscriptions, or only those of inboxes.",
            pattern="^(push|inbox)$",
        ),
    ]
    | None
)
_NO_DELIVERY = "No delivery has this id. An id has the form `<event id>.<subscription id>`."
_CURSOR = re.compile("[A-Za-z0-9_-]{48}")  # 36 bytes, which need no padding


class DeliveryRoutes:
    """Handlers of this room's URLs."""

    def __init__(self, database: Database, wakeup: Wakeup) -> None:
        self._database = database
        self._wakeup = wakeup

    async def list_subscription_attempts(
        self, caller: Caller, subscription_id: str, asked: PageQuery = FIRST_PAGE
    ) -> AttemptList:
        """List the delivery attempts of a subscription, newest first."""
        to = await delivery_store.recipient(self._database, caller.org_id, parse_id(subscription_id))
        page = page_request(asked)
        found = await delivery_store.attempts_of_subscription(self._database, caller.org_id, to.id, page)
        return attempts_view(found, page)

    async def list_event_attempts(
        self,
        caller: Caller,
        event_id: str,
        only: SubscriptionId = None,
        asked: PageQuery = FIRST_PAGE,
    ) -> AttemptList:
        """List the delivery attempts of an event, newest first."""
        event = parse_id(event_id)
        if event is None or await event_store.one(self._database, caller.org_id, event) is None:
            raise NotFound("No event has this id.")
        page = page_request(asked)
        found = await delivery_store.attempts_of_event(
            self._database, caller.org_id, event, subscription_of(only), page
        )
        return attempts_view(found, page)

    async def list_deliveries(
        self,
        caller: Caller,
        status: Status = "pending",
        only: SubscriptionId = None,
        kind: DeliveryKind = None,
        since: Annotated[Timestamp, Meta(description="Only of events accepted at or after this time.")]
        | None = None,
        until: Annotated[Timestamp, Meta(description="Only of events accepted before this time.")]
        | None = None,
        limit: Limit = 100,
        cursor: PositionCursor = None,
    ) -> DeliveryList:
        """List deliveries with one status. Undelivered ones have a reason and the time of the next attempt.

        The status is that of the latest generation: a dead letter that was replayed is no longer `dead`.
        The order is newest event first. Without `subscription_id` the list goes through the subscriptions,
        newest first.
        A page may hold fewer than `limit` deliveries, even none, and still have a `next_cursor`.
        """
        page = await delivery_store.listed(
            self._database,
            caller.org_id,
            WantedDeliveries(DeliveryStatus(status), subscription_of(only), kind, *_range(since, until)),
            _read_position(cursor),
            limit,
        )
        types = await event_store.types(
            self._database, caller.org_id, [delivery.event_id for delivery in page.deliveries]
        )
        return DeliveryList(
            [listed_view(delivery, types.get(delivery.event_id)) for delivery in page.deliveries],
            None if page.last is None else _write_position(page.last),
        )

    async def get_delivery(self, caller: Caller, delivery_id: str) -> DeliveryDetail:
        """Get a delivery by its id, `<event id>.<subscription id>`."""
        return await self._detail(caller, *_parsed(delivery_id))

    async def retry_delivery(self, caller: Caller, delivery_id: str) -> DeliveryDetail:
        """Retry a delivery now.

        A pending delivery becomes due immediately. A dead, cancelled or expired delivery is sent again, as
        its next generation. If the endpoint keeps failing, it is tried at once with one delivery, and gets
        the others when that one has arrived.
        """
        event_id, subscription_id = _parsed(delivery_id)
        latest = await self._latest(caller, event_id, subscription_id)
        to = await delivery_store.recipient(self._database, caller.org_id, subscription_id)
        if to.ended:
            raise Conflict(f"The subscription is {to.status}, so nothing is sent to it.")
        if latest.status == DeliveryStatus.LEASED:
            raise Conflict("A consumer has leased this message. It is available again when the lease ends.")
        if latest.status in UNSETTLED:
            await delivery_store.make_due(self._database, caller.org_id, event_id, subscription_id)
        elif latest.status not in UNHAPPY:
            raise Conflict(
                f"The delivery is {latest.status}. To send it again, create a replay with `only: all`."
            )
        elif not await self._owe_again(to, event_id):
            raise Conflict("The event is no longer stored.")
        await try_endpoint(self._database, caller.org_id, subscription_id)
        self._wakeup.give({caller.org_id}, [(caller.org_id, subscription_id)])
        return await self._detail(caller, event_id, subscription_id)

    async def cancel_delivery(self, caller: Caller, delivery_id: str) -> DeliveryDetail:
        """Cancel a delivery that is not settled. Cancelling it again changes nothing.

        No attempt begins more than one second after the answer. An attempt in flight may still arrive.
        """
        event_id, subscription_id = _parsed(delivery_id)
        latest = await self._latest(caller, event_id, subscription_id)
        if latest.status in UNSETTLED:
            cancelled = await delivery_store.cancel(
                self._database, caller.org_id, event_id, subscription_id, "cancelled by request"
            )
            latest = latest if cancelled else await self._latest(caller, event_id, subscription_id)
        if latest.status not in UNSETTLED and latest.status != DeliveryStatus.CANCELLED:
            raise Conflict(f"The delivery is already {latest.status}.")
        return await self._detail(caller, event_id, subscription_id)

    async def _owe_again(self, to: Recipient, event_id: UUID) -> bool:
        """Create the next generation unless another request did. Return False if the event is gone."""
        return (
            await owe_once_more(self._database, to, event_id)
            or await event_store.one(self._database, to.org_id, event_id) is not None
        )

    async def _latest(self, caller: Caller, event_id: UUID, subscription_id: UUID) -> Delivery:
        return (await self._generations(caller, event_id, subscription_id))[0]

    async def _detail(self, caller: Caller, event_id: UUID, subscription_id: UUID) -> DeliveryDetail:
        latest, *earlier = await self._generations(caller, event_id, subscription_id)
        types = await event_store.types(self._database, caller.org_id, [event_id])
        to = await delivery_store.recipient(self._database, caller.org_id, subscription_id)
        last = await delivery_store.attempts_of_event(
            self._database, caller.org_id, event_id, subscription_id, PageRequest(None, 1)
        )
        return DeliveryDetail(
            **msgspec.structs.asdict(listed_view(latest, types.get(event_id))),
            target_url=to.target_url,
            last_attempt=attempt_view(last[0]) if last else None,
            earlier=[record_view(delivery) for delivery in earlier],
        )

    async def _generations(self, caller: Caller, event_id: UUID, subscription_id: UUID) -> list[Delivery]:
        found = await delivery_store.generations(self._database, caller.org_id, event_id, subscription_id)
        if not found:
            raise NotFound(_NO_DELIVERY)
        return found


# ---- steps ---------------------------------------------------------------------------------------


def _parsed(delivery_id: str) -> tuple[UUID, UUID]:
    event_id, _, subscription_id = delivery_id.partition(".")
    event, subscription = parse_id(event_id), parse_id(subscription_id)
    if event is None or subscription is None:
        raise NotFound(_NO_DELIVERY)
    return event, subscription


def subscription_of(text: str | None) -> UUID | None:
    """The id to filter a list by. A text that is not a valid id matches nothing."""
    return None if text is None else parse_id(text) or UUID(int=0)


def _range(since: str | None, until: str | None) -> tuple[UUID, UUID]:
    """The first id of the events to list deliveries of, and the id where they end."""
    first, end = moment_of(since, "since"), moment_of(until, "until")
    return first_id_at(first) if first else UUID(int=0), first_id_at(end) if end else UUID(int=(1 << 128) - 1)


# ---- cursors -------------------------------------------------------------------------------------


def _write_position(position: ListPosition) -> str:
    place = position.subscription_id.bytes + position.event_id.bytes + position.generation.to_bytes(4, "big")
    return base64.urlsafe_b64encode(place).decode()


def _read_position(cursor: str | None) -> ListPosition | None:
    if cursor is None:
        return None
    if _CURSOR.fullmatch(cursor):  # the decoder passes over what is no letter of its own
        place = base64.urlsafe_b64decode(cursor)
        generation = int.from_bytes(place[32:], "big")
        if generation < 2**31:
            return ListPosition(UUID(bytes=place[:16]), UUID(bytes=place[16:32]), generation)
    raise Invalid("Must be a `next_cursor` of this list.", pointer="cursor")


def _route(method: Method, path: str, handler: Callable[..., Any], *answers: Answer) -> Route:
    or_scope = Scope.READ if method == "GET" else None
    return Route(
        method, f"/v1/deliveries{path}", handler, Scope.SUBSCRIPTIONS, answers=answers, or_scope=or_scope
    )


ROUTES = (
    subscription_route("GET", "/{subscription_id}/attempts", DeliveryRoutes.list_subscription_attempts),
    Route(
        "GET",
        "/v1/events/{event_id}/attempts",
        DeliveryRoutes.list_event_attempts,
        Scope.SUBSCRIPTIONS,
        or_scope=Scope.READ,
    ),
    _route("GET", "", DeliveryRoutes.list_deliveries),
    _route("GET", "/{delivery_id}", DeliveryRoutes.get_delivery),
    _route(
        "POST",
        "/{delivery_id}/retry",
        DeliveryRoutes.retry_delivery,
        Answer(
            409,
            "The delivery was delivered or is leased, its subscription has ended, or its event is gone.",
        ),
    ),
    _route(
        "POST",
        "/{delivery_id}/cancel",
        DeliveryRoutes.cancel_delivery,
        Answer(409, "The delivery is already settled, with another status than cancelled."),
    ),
)
