"""The search over HTTP."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from triggers.domain import Caller, Scope, check_text, minted_at
from triggers.fairness.room import Places
from triggers.http.route import Route
from triggers.http.views import Timestamp
from triggers.postgres.database import Database
from triggers.search import store as search_store
from triggers.search.store import MAX_HITS, Hit, Kind, Matched


class HitView(msgspec.Struct, kw_only=True):
    """A thing that was found."""

    kind: Kind
    id: str
    name: Annotated[
        str, Meta(description="The name. For an event or a delivery, it is the type of the event.")
    ]
    matched: Annotated[Matched, Meta(description="The part of the hit that matches `q`.")]


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
        """`pages` bounds the searches that are under way at the same time."""
        self._database = database
        self._pages = pages

    async def search(
        self,
        caller: Caller,
        q: Annotated[str, Meta(description="The text to look for.", max_length=255)] = "",
    ) -> SearchAnswer:
        """Find events, deliveries, subscriptions and inboxes by ids, names and other texts.

        `q` is an id, the last 8 characters of an id, the last 8 characters of both parts of a delivery's id
        (`<8 characters>.<8 characters>`), a dedup_id, a subject, or a name, key or host or a part of it.
        A dedup_id is found as long as the service remembers it. Subjects and the ends of ids are searched in
        the newest 20,000 events. Names, keys, hosts and ids of subscriptions and inboxes are searched in the
        first 10,000 of them. The answer contains only things that the scopes of the key allow to list.
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
