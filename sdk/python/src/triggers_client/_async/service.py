"""The organisation of the key, numbers over time, search, and the state of the node."""

from __future__ import annotations

from typing import TYPE_CHECKING

from triggers_client._async.resource import AsyncPages, AsyncResource
from triggers_client.calls import Call
from triggers_client.fields import Page, Range
from triggers_client.models import Organisation, Readiness, SearchResult, Statistics, SubscriptionHours

if TYPE_CHECKING:
    from typing_extensions import Unpack


class AsyncStatisticsOf(AsyncResource):
    """Numbers over time."""

    async def get(self, range: Range | None = None, *, subscription: str | None = None) -> Statistics:  # noqa: A002
        """Accepted, delivered and failed events over a time, and how late deliveries were."""
        query = {"range": range, "subscription": subscription}
        return await self._call(Statistics, "GET", "/v1/stats", query=query)

    def subscriptions(self, **query: Unpack[Page]) -> AsyncPages[SubscriptionHours]:
        """The last 24 hours of each subscription, hour by hour."""
        return self._pages(SubscriptionHours, "/v1/stats/subscriptions", query)


class AsyncService(AsyncResource):
    """The service itself, as this key sees it."""

    async def organisation(self) -> Organisation:
        """The organisation and the scopes of the API key."""
        return await self._call(Organisation, "GET", "/v1/org")

    async def search(self, text: str) -> SearchResult:
        """Find events, deliveries, subscriptions and inboxes by ids, names and other texts."""
        return await self._call(SearchResult, "GET", "/v1/search", query={"q": text})

    async def ready(self, *, verbose: bool = False) -> Readiness:
        """Whether the node takes requests. Raises Unavailable if it does not, at once."""
        query = {"verbose": "1" if verbose else None}
        return await self._call(Readiness, "GET", "/readyz", query=query, retry_seconds=0)

    async def live(self) -> None:
        """Return if the node answers. Raises ConnectionFailed if it does not, at once."""
        await self._transport.call(Call("GET", "/livez", retry_seconds=0))

    async def metrics(self) -> str:
        """The metrics in the text format of Prometheus."""
        return (await self._transport.call(Call("GET", "/metrics"))).content.decode()
