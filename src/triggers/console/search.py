"""Finds things for the search box with the search of the API, and names the pages that show them."""

from __future__ import annotations

from typing import Final, NamedTuple

from triggers.console.api import Api
from triggers.domain import Caller
from triggers.search.routes import HitView, SearchRoutes

_EXACT: Final = ("id", "dedup_id", "name")


class SearchHit(NamedTuple):
    """Something that was found, and the path of its page."""

    kind: str
    name: str
    note: str
    path: str


class Found(NamedTuple):
    """The hits. Events before `looked_to` were looked for only by id and dedup_id."""

    hits: list[SearchHit]
    looked_to: str | None


async def find(api: Api, caller: Caller, text: str) -> Found:
    """Return all hits. If something has the text as its id, `dedup_id` or name, return only such hits."""
    answer = await api.ask(caller, SearchRoutes.search, q=text)
    exact = [each for each in answer.data if each.matched in _EXACT]
    hits = {hit.path: hit for hit in map(_hit, exact or answer.data)}
    return Found(list(hits.values()), answer.looked_to)


def _hit(found: HitView) -> SearchHit:
    event_id, _, subscription_id = found.id.partition(".")
    paths = {
        "event": f"/events/{event_id}",
        "delivery": f"/events/{event_id}#delivery-{subscription_id}",
        "subscription": f"/subscriptions/{event_id}",
        "inbox": f"/inboxes/{event_id}",
    }
    return SearchHit(found.kind.capitalize(), found.name, found.id, paths[found.kind])
