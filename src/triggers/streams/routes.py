"""The URLs of streams. The answer of each goes on, and consists of Server-Sent Events."""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta
from starlette.responses import Response

from triggers.domain import Caller, Scope, check_text
from triggers.errors import Invalid
from triggers.http.event_stream import HEADERS, MEDIA_TYPE, EventStream, Outbox, StreamLimits
from triggers.http.parameters import Query
from triggers.http.request import Request
from triggers.http.route import Answer, Route
from triggers.inboxes import store as inbox_store
from triggers.inboxes.lease_queue import refuse_deleting
from triggers.inboxes.routes import inbox_route
from triggers.postgres.clock import DatabaseClock
from triggers.postgres.database import Database
from triggers.streams.frames import StreamKind, gap, opening
from triggers.streams.stream import Output, Wanted
from triggers.streams.streams import Streams

ALL_KINDS: Final = ",".join(StreamKind)
_LAST_ID: Final = b"last-event-id"


class StreamRoutes:
    """Handlers of this room's URLs."""

    def __init__(
        self, database: Database, clock: DatabaseClock, streams: Streams, limits: StreamLimits | None = None
    ) -> None:
        self._database = database
        self._clock = clock
        self._streams = streams
        self._limits = limits or StreamLimits()

    async def stream_changes(
        self,
        request: Request,
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
        kind: Annotated[
            str,
            Meta(
                description="What to show, separated by commas: `accepted` events, each `attempt`, and"
                " deliveries that are `dead`.",
                max_length=100,
            ),
        ] = ALL_KINDS,
    ) -> Response:
        """Stream what happens, as Server-Sent Events with ids and states, and without payloads.

        The events `accepted`, `attempt` and `dead` have JSON data. The stream is not a log. It shows what
        happens while it is open, at most 50 frames per second. If there are more, `sampled` says how many
        were left out. If the request has the header `Last-Event-ID`, the first frame is `gap`: frames may be
        missing. The lists show what happened meanwhile.
        """
        if event_type is not None:
            check_text(event_type, "type", longest=255)
        wanted = Wanted(_kinds(kind), event_type)
        frame_id = self._clock.mint()
        begins = opening(frame_id)
        if _LAST_ID in request.fields:
            begins += gap("reconnected").text
        return await self._answer(request, caller, wanted, begins)

    async def stream_inbox(self, request: Request, caller: Caller, inbox: str) -> Response:
        """Stream the numbers of messages that become available in an inbox, as Server-Sent Events.

        The data of each is `{inbox_id, count}`. The first one counts the messages that are available already.
        Each later one counts those that have become available since. Messages that come within a fraction of
        a second are counted together, up to 1,000. Nothing is leased. While the inbox is paused, nothing
        comes.
        """
        found = await inbox_store.find(self._database, caller.org_id, inbox)
        refuse_deleting(found)
        return await self._answer(request, caller, Wanted(inbox_id=found.id), opening())

    async def _answer(self, request: Request, caller: Caller, wanted: Wanted, begins: bytes) -> Response:
        if request.method == "HEAD":
            return Response(media_type=MEDIA_TYPE, headers=HEADERS)
        outbox = Outbox(self._limits)
        outbox.put(begins)
        output = Output(lambda frame: outbox.put(frame.text), outbox.end)
        stream = await self._streams.open(caller, wanted, output)
        return EventStream(outbox, lambda: self._streams.close(stream))


def _kinds(text: str) -> frozenset[StreamKind]:
    try:
        return frozenset(StreamKind(each) for each in text.split(","))
    except ValueError:
        raise Invalid(f"Must be one or more of `{ALL_KINDS}`, separated by commas.", pointer="kind") from None


_STREAM: Final = "The stream, which ends when the API key is revoked or the service stops."

ROUTES = (
    Route(
        "GET",
        "/v1/stream",
        StreamRoutes.stream_changes,
        Scope.EVENTS_READ,
        answers=(Answer(200, _STREAM),),
        media_type=MEDIA_TYPE,
        or_scope=Scope.READ,
    ),
    inbox_route(
        "GET",
        "/{inbox}/events",
        StreamRoutes.stream_inbox,
        answers=(Answer(200, _STREAM), Answer(409, "The inbox is being deleted.")),
    )._replace(media_type=MEDIA_TYPE),
)
