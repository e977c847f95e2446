"""Deliveries: look up, retry, cancel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from triggers_client._async.resource import AsyncPages, AsyncResource
from triggers_client.calls import segment
from triggers_client.fields import DeliveryQuery, UndeliveredQuery
from triggers_client.models import DeliveryDetail, ListedDelivery, Undelivered

if TYPE_CHECKING:
    from typing_extensions import Unpack


class AsyncDeliveries(AsyncResource):
    """The deliveries of the organisation. An id is `<event id>.<subscription id>`."""

    def list(self, **query: Unpack[DeliveryQuery]) -> AsyncPages[ListedDelivery]:
        """List deliveries of one status; the pending ones by default."""
        return self._pages(ListedDelivery, "/v1/deliveries", query)

    async def get(self, delivery_id: str) -> DeliveryDetail:
        """One delivery, with its last attempt and its earlier generations."""
        return await self._call(DeliveryDetail, "GET", f"/v1/deliveries/{segment(delivery_id)}")

    async def retry(self, delivery_id: str) -> DeliveryDetail:
        """Send a delivery again, now."""
        return await self._call(DeliveryDetail, "POST", f"/v1/deliveries/{segment(delivery_id)}/retry")

    async def cancel(self, delivery_id: str) -> DeliveryDetail:
        """Cancel a pending delivery."""
        return await self._call(DeliveryDetail, "POST", f"/v1/deliveries/{segment(delivery_id)}/cancel")

    def undelivered(self, **query: Unpack[UndeliveredQuery]) -> AsyncPages[Undelivered]:
        """List subscriptions with pending or dead deliveries, worst first."""
        return self._pages(Undelivered, "/v1/undelivered", query)
