"""The URLs of events. Handlers that read events are here; those that accept events are in `accept.py`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta
from starlette.responses import Response

from triggers.domain import (
    Caller,
    Scope,
    check_text,
    created_at,
    first_id_at,
    minted_at,
    parse_id,
    type_matches,
)
from triggers.errors import Invalid, NotFound
from triggers.events import listing
from triggers.events import store as event_store
from triggers.events.accept import AcceptApp, EventAccepted
from triggers.events.batch_answer import BatchAnswer
from triggers.events.body import EventBody
from triggers.events.cloudevents import CloudEventBody
from triggers.events.consumer_note import Note, shown_note
from triggers.events.listing import EventFilter
from triggers.events.matching import judge_again
from triggers.events.store import EventRange, StoredEvent
from triggers.fairness.pace import do
from triggers.fairness.room import Places
from triggers.http.parameters import Query
from triggers.http.route import Answer, Route
from triggers.http.views import (
    FIRST_PAGE,
    Order,
    PageQuery,
    Timestamp,
    make_cursor,
    moment_of,
    optional_timestamp,
    raw,
    read_cursor,
)
from triggers.postgres.database import Database
from triggers.subscriptions.payload_filter import FilterInput, Verdict

_BEYOND = UUID(int=(1 << 128) - 1)


class EventView(msgspec.Struct, kw_only=True):
    """An event without its payload."""

    id: UUID
    type: str
    dedup_id: str | None
    source: str | None
    subject: str | None
    ordering_key: str | None
    occurred_at: Timestamp | None
    created_at: Timestamp
    payload_size: int


class DeliveryView(msgspec.Struct, kw_only=True):
    """The delivery of an event to one subscription. While it is pending, `due_at` is its next attempt."""

    subscription_id: UUID
    kind: str
    key: str | None
    generation: int
    status: str
    reason: str | None
    lease_count: int
    attempts: int
    due_at: Timestamp | None
    settled_at: Timestamp | None
    note: Note


class Explanation(msgspec.Struct, kw_only=True):
    """Why a subscription has a delivery of the event, or has none."""

    subscription_id: UUID
    kind: str
    key: str | None
    status: str
    matched: bool
    why: str


class EventDetail(EventView, kw_only=True, omit_defaults=True):
    """An event with its payload and its deliveries. `explanations` is present only with `?explain`."""

    attributes: Annotated[
        dict[str, str | bool | int] | None,
        Meta(description="`dataschema` and extension attributes of an event that came as a CloudEvent."),
    ]
    payload: Annotated[
        Any, Meta(description="Omitted if the key has the scope `read` without `events:read`.")
    ] = UNSET
    deliveries: list[DeliveryView]
    explanations: list[Explanation] | None = None


class EventPage(msgspec.Struct):
    """A page of events."""

    events: list[EventView]
    next_cursor: str | None
    looked_to: Annotated[
        Timestamp | None,
        Meta(description="Time of the last event that the page looked at. Null if there was none."),
    ]


class EventRoutes:
    """Handlers of this room's URLs that read events. Those that accept events are in `accept.py`."""

    def __init__(self, database: Database, pages: Places) -> None:
        """`pages` bounds the lists with a filter that are under way at once."""
        self._database = database
        self._pages = pages

    async def list_events(  # noqa: PLR0913, PLR0917 - each is a parameter of the query
        self,
        caller: Caller,
        event_type: Annotated[
            str,
            Query("type"),
            Meta(
                description="Only events of this type. A pattern such as `order.*` selects several types.",
                max_length=255,
            ),
        ]
        | None = None,
        subject: Annotated[str, Meta(description="Only events with exactly this subject.", max_length=255)]
        | None = None,
        dedup_id: Annotated[str, Meta(description="Only events with exactly this dedup_id.", max_length=255)]
        | None = None,
        undelivered: Annotated[
            str,
            Meta(
                description="Only events with a delivery that is unsettled, dead, cancelled or expired. It"
                " needs no value, and cannot be combined with `order=asc`."
            ),
        ]
        | None = None,
        since: Annotated[str, Meta(description="Accepted at or after this time.")] | None = None,
        until: Annotated[str, Meta(description="Accepted before this time.")] | None = None,
        order: Order = "desc",
        asked: PageQuery = FIRST_PAGE,
    ) -> EventPage:
        """List events, newest first by default.

        Each request searches at most 20,000 events. So with a filter, a page can be short or empty although
        more events follow: continue while `next_cursor` is not null. `looked_to` is the time of the last
        event that was searched.
        """
        wanted = EventFilter(event_type, subject, dedup_id)
        for name, text in (("type", event_type), ("subject", subject), ("dedup_id", dedup_id)):
            if text is not None:
                check_text(text, name, longest=255)
        newest_first = order == "desc"
        within = _range(
            read_cursor(asked.cursor), moment_of(since, "since"), moment_of(until, "until"), newest_first
        )
        if undelivered is not None and not newest_first:
            raise Invalid("Must be `desc` together with `undelivered`.", pointer="order")
        if undelivered is None and wanted == EventFilter():
            page = await listing.page_of(self._database, caller.org_id, within, wanted, asked.limit)
        else:
            find = listing.page_of if undelivered is None else listing.undelivered
            async with self._pages.hold(caller.org_id):
                page = await find(self._database, caller.org_id, within, wanted, asked.limit)
        return EventPage(
            [EventView(**_members(event)) for event in page.events],
            make_cursor(page.looked_to if page.more else None),
            None if page.looked_to is None else minted_at(page.looked_to),
        )

    async def get_event(
        self,
        caller: Caller,
        event_id: str,
        explain: Annotated[
            str,
            Meta(description="Explain for every subscription why it matched or not. It needs no value."),
        ]
        | None = None,
    ) -> EventDetail:
        """Get an event with its payload and its delivery to every subscription.

        A key with the scope `read` but without `events:read` gets the event without its payload.
        """
        shows_payload = Scope.EVENTS_READ in caller.scopes
        event = await self._find(caller, event_id)
        payload = await event_store.payload(self._database, caller.org_id, event.id)
        states = await event_store.deliveries_of_event(self._database, caller.org_id, event.id)
        return EventDetail(
            **_members(event),
            attributes=None if event.attributes is None else msgspec.json.decode(event.attributes),
            payload=raw(payload or b"null") if shows_payload else UNSET,
            deliveries=[
                DeliveryView(
                    subscription_id=state.subscription_id,
                    kind=state.kind,
                    key=state.key,
                    generation=state.generation,
                    status=state.status,
                    reason=state.reason,
                    lease_count=state.lease_count,
                    attempts=state.attempts,
                    due_at=optional_timestamp(state.due_at),
                    settled_at=optional_timestamp(state.settled_at),
                    note=shown_note(state.note),
                )
                for state in states
            ],
            explanations=(
                None if explain is None else await self._explain(caller, event, payload or b"null", states)
            ),
        )

    async def get_payload(self, caller: Caller, event_id: str) -> Response:
        """Get the payload of an event, with exactly the bytes that were sent."""
        found = parse_id(event_id)
        payload = None if found is None else await event_store.payload(self._database, caller.org_id, found)
        if payload is None:
            raise NotFound("No event has this id.")
        return Response(payload, media_type="application/json")

    async def _find(self, caller: Caller, event_id: str) -> StoredEvent:
        found = parse_id(event_id)
        event = None if found is None else await event_store.one(self._database, caller.org_id, found)
        if event is None:
            raise NotFound("No event has this id.")
        return event

    async def _explain(
        self,
        caller: Caller,
        event: StoredEvent,
        payload: bytes,
        states: list[event_store.DeliveryState],
    ) -> list[Explanation]:
        """Explain by the current settings. An existing delivery proves that the event matched at the time."""
        delivered = {state.subscription_id for state in states}
        seen = FilterInput(payload, event.type, event.source, event.subject)
        explanations = []
        for candidate in await event_store.candidates(self._database, caller.org_id):
            matched = candidate.id in delivered
            fits = type_matches(event.type, candidate.event_types)
            if matched:
                why = (
                    "it takes all types"
                    if candidate.event_types is None
                    else f"matched by {', '.join(candidate.event_types)}"
                )
            elif candidate.created_at > created_at(event.id):
                why, fits = "the subscription was created after the event", False
            elif not fits:
                allowed = candidate.event_types or ["the types it may see"]
                why = f"{event.type} matches none of {', '.join(allowed)}"
            else:
                why = (
                    f"it is {candidate.status} and would get the event now; its settings or its status were"
                    " different when the event was accepted"
                )
            if candidate.filter is not None and (matched or fits):
                verdict = await do(judge_again(candidate.filter, seen), caller.org_id)
                said = _said(verdict, shows_reason=Scope.EVENTS_READ in caller.scopes)
                why = f"{why}; {said}" if matched or verdict.matched else said
            explanations.append(
                Explanation(
                    subscription_id=candidate.id,
                    kind=candidate.kind,
                    key=candidate.key,
                    status=candidate.status,
                    matched=matched,
                    why=why,
                )
            )
        return explanations


def _range(
    after: UUID | None, since: datetime | None, until: datetime | None, newest_first: bool
) -> EventRange:
    """The events of a time range that come after the last one of the previous page."""
    lowest = first_id_at(since) if since else UUID(int=0)
    below = first_id_at(until) if until else _BEYOND
    if after is not None and newest_first:
        below = min(below, after)
    elif after is not None:
        lowest = max(lowest, UUID(int=min(after.int, _BEYOND.int - 1) + 1))
    return EventRange(lowest, below, newest_first)


def _said(verdict: Verdict, *, shows_reason: bool) -> str:
    """The result of the current filter, which may be newer than the event.

    The reason of a failure may quote the payload.
    """
    if verdict.failure is not None:
        reason = f": {verdict.failure}" if shows_reason else ""
        return f"the current filter fails on it, which counts as a match{reason}"
    return f"the current filter {'matches' if verdict.matched else 'does not match'} it"


def _members(event: StoredEvent) -> dict[str, Any]:
    members = msgspec.structs.asdict(event)
    members["occurred_at"] = optional_timestamp(event.occurred_at)
    members["created_at"] = minted_at(event.id)
    del members["attributes"]
    return members


_LINES = Annotated[str, Meta(description="One JSON event per line.")]

_ALL_ACCEPTED = Answer(200, "Every event is stored, now or before.", BatchAnswer)
_SOME_ACCEPTED = Answer(
    207,
    "Some events are stored, others are not. `Retry-After` is present if some may be accepted later.",
    BatchAnswer,
    ("Retry-After",),
)

ROUTES = (
    Route(
        "POST",
        "/v1/events",
        AcceptApp.accept_single,
        Scope.EVENTS_WRITE,
        201,
        (
            Answer(201, "The event is stored.", EventAccepted, ("Location",)),
            Answer(
                200,
                "The event was stored before, with this id; or every event of a batch is stored.",
                EventAccepted | BatchAnswer,
                ("Location",),
            ),
            _SOME_ACCEPTED,
            Answer(409, "The `dedup_id` was used for other content. `original_id` is the id of that event."),
        ),
        also=("/events",),
        takes={
            "application/json": EventBody,
            "application/cloudevents+json": CloudEventBody,
            "application/cloudevents-batch+json": list[CloudEventBody],
        },
    ),
    Route(
        "POST",
        "/v1/events/batch",
        AcceptApp.accept_batch,
        Scope.EVENTS_WRITE,
        answers=(
            _ALL_ACCEPTED,
            _SOME_ACCEPTED,
            Answer(409, "The `dedup_id` of every event was used for other content. `results` has the ids."),
        ),
        takes={
            "application/json": list[EventBody],
            "application/x-ndjson": _LINES,
            "application/cloudevents-batch+json": list[CloudEventBody],
        },
    ),
    Route(
        "GET",
        "/v1/events",
        EventRoutes.list_events,
        Scope.EVENTS_READ,
        also=("/events",),
        or_scope=Scope.READ,
    ),
    Route(
        "GET",
        "/v1/events/{event_id}",
        EventRoutes.get_event,
        Scope.EVENTS_READ,
        or_scope=Scope.READ,
    ),
    Route("GET", "/v1/events/{event_id}/payload", EventRoutes.get_payload, Scope.EVENTS_READ),
)
