"""One look-up over HTTP for a search box."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from triggers.domain import Caller, Scope, check_text, minted_at
from triggers.http.route import Route
from triggers.http.views import Timestamp
from triggers.postgres.database import Database
from triggers.room import Places
from triggers.search import store as search_store
from triggers.search.store import MAX_HITS, Hit, Kind, Matched


class HitView(msgspec.Struct, kw_only=True):
    """A thing that was found."""

    kind: Kind
    id: str
    name: Annotated[str, Meta(description="Of an event or a delivery, the type of the event.")]
    matched: Annotated[Matched, Meta(description="What of it is what was looked for.")]


class SearchAnswer(msgspec.Struct):
    """At most 20 hits, the most exact ones first."""

    data: list[HitView]
    looked_to: Annotated[
        Timestamp | None,
        Meta(
            description="Time of the oldest event whose subject and end of id were looked at, if there are"
            " older ones. Null if all were, and for keys that may not list events."
        ),
    ]


_ORDER = ("id", "dedup_id", "ending", "name", "subject", "part_of_name", "host")


class SearchRoutes:
    """The handler of this room's URL."""

    def __init__(self, database: Database, pages: Places) -> None:
        """`pages` bounds the searches that are under way at once."""
        self._database = database
        self._pages = pages

    async def search(
        self,
        caller: Caller,
        q: Annotated[str, Meta(description="The text to look for.", max_length=255)] = "",
    ) -> SearchAnswer:
        """Find events, deliveries, subscriptions and inboxes by what a person knows of them.

        `q` is an id, the last 8 characters of an id, the ends of both parts of a delivery's id
        (`<8 characters>.<8 characters>`), a name or a key or a part of one, a host, a dedup_id or a subject.
        Ids and dedup_ids are found by an index, a dedup_id as long as the service remembers it. The ends of
        ids and subjects are looked for among the newest 20,000 events, the rest among the first 10,000
        subscriptions and inboxes. The answer has only what the scopes of the key allow to list.
        """
        text = q.strip()
        if not text:
            return SearchAnswer([], None)
        check_text(text, "q", longest=255)
        async with self._pages.hold(caller.org_id):
            hits = await self._hits(caller, text)
            looked_to = None
            if _may_list(caller, Scope.EVENTS_READ):
                looked_to = await search_store.looked_to(self._database, caller.org_id)
        hits.sort(key=lambda hit: _ORDER.index(hit.matched))
        return SearchAnswer(
            [HitView(**hit._asdict()) for hit in hits[:MAX_HITS]],
            None if looked_to is None else minted_at(looked_to),
        )

    async def _hits(self, caller: Caller, text: str) -> list[Hit]:
        hits: list[Hit] = []
        if _may_list(caller, Scope.EVENTS_READ):
            hits += await search_store.events(self._database, caller.org_id, text)
        listed = {"subscription": Scope.SUBSCRIPTIONS, "inbox": Scope.INBOX}
        hits += [
            hit
            for hit in await search_store.subscriptions(self._database, caller.org_id, text)
            if _may_list(caller, listed[hit.kind])
        ]
        if _may_list(caller, Scope.SUBSCRIPTIONS):
            hits += await search_store.deliveries(self._database, caller.org_id, text)
        return hits


def _may_list(caller: Caller, scope: Scope) -> bool:
    return not caller.scopes.isdisjoint({scope, Scope.READ})


ROUTES = (Route("GET", "/v1/search", SearchRoutes.search, None),)
