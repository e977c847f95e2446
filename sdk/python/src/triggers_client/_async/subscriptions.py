"""Push subscriptions: settings, secrets, tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from triggers_client._async.resource import AsyncPages, AsyncResource
from triggers_client.calls import Call, segment
from triggers_client.fields import (
    DryRunFields,
    Page,
    RotateSecretFields,
    SampleQuery,
    SubscriptionFields,
    SubscriptionPatch,
    SubscriptionQuery,
)
from triggers_client.models import Attempt, DryRun, EnabledSubscription, Subscription, TestDelivery

if TYPE_CHECKING:
    from typing_extensions import Unpack


class AsyncSubscriptions(AsyncResource):
    """The push subscriptions of the organisation."""

    async def create(self, target_url: str, **fields: Unpack[SubscriptionFields]) -> Subscription:
        """Create a subscription. Only this answer and `rotate_secret` contain the `secret`."""
        body = {"target_url": target_url, **fields}
        return await self._call(Subscription, "POST", "/v1/subscriptions", body=body)

    async def ensure(self, target_url: str, **fields: Unpack[SubscriptionFields]) -> Subscription:
        """Create a subscription unless one with this `key` exists. The `secret` is there if it is new.

        Raises:
            Refused: one with the key exists, and has other settings.
        """
        body = {"target_url": target_url, **fields}
        return await self._call(Subscription, "PUT", "/v1/subscriptions", body=body)

    def list(self, **query: Unpack[SubscriptionQuery]) -> AsyncPages[Subscription]:
        """List subscriptions in the order of their creation."""
        return self._pages(Subscription, "/v1/subscriptions", query)

    async def get(self, subscription_id: str) -> Subscription:
        """One subscription."""
        return await self._call(Subscription, "GET", f"/v1/subscriptions/{segment(subscription_id)}")

    async def change(self, subscription_id: str, **changes: Unpack[SubscriptionPatch]) -> Subscription:
        """Change settings. What is not given stays as it is."""
        path = f"/v1/subscriptions/{segment(subscription_id)}"
        return await self._call(Subscription, "PATCH", path, body=changes)

    async def delete(self, subscription_id: str) -> None:
        """Delete a subscription, and cancel its pending deliveries."""
        await self._transport.call(Call("DELETE", f"/v1/subscriptions/{segment(subscription_id)}"))

    async def pause(self, subscription_id: str) -> Subscription:
        """Send nothing until `resume`. Events are kept meanwhile."""
        path = f"/v1/subscriptions/{segment(subscription_id)}/pause"
        return await self._call(Subscription, "POST", path, repeatable=True)

    async def resume(self, subscription_id: str) -> Subscription:
        """Send again after `pause`."""
        path = f"/v1/subscriptions/{segment(subscription_id)}/resume"
        return await self._call(Subscription, "POST", path, repeatable=True)

    async def disable(self, subscription_id: str, *, reason: str | None = None) -> Subscription:
        """Match no events, and cancel what is pending, until `enable`."""
        path = f"/v1/subscriptions/{segment(subscription_id)}/disable"
        body = None if reason is None else {"reason": reason}
        return await self._call(Subscription, "POST", path, body=body, repeatable=True)

    async def enable(self, subscription_id: str) -> EnabledSubscription:
        """Match events again from now on. The answer names the time that was missed."""
        path = f"/v1/subscriptions/{segment(subscription_id)}/enable"
        return await self._call(EnabledSubscription, "POST", path)

    async def rotate_secret(self, subscription_id: str, **fields: Unpack[RotateSecretFields]) -> Subscription:
        """Make a new signing secret. For `overlap_seconds` both secrets sign."""
        path = f"/v1/subscriptions/{segment(subscription_id)}/rotate-secret"
        return await self._call(Subscription, "POST", path, body=fields)

    async def test(self, subscription_id: str) -> TestDelivery:
        """Send an event of type `triggers.test`. The answer has its first attempt, if that ended soon."""
        path = f"/v1/subscriptions/{segment(subscription_id)}/test"
        return await self._call(TestDelivery, "POST", path)

    async def dry_run(self, **rules: Unpack[DryRunFields]) -> DryRun:
        """List those of the last events that these types and this filter would match."""
        return await self._call(DryRun, "POST", "/v1/subscriptions/dry-run", body=rules, repeatable=True)

    def attempts(self, subscription_id: str, **query: Unpack[Page]) -> AsyncPages[Attempt]:
        """List the attempts of a subscription, newest first."""
        return self._pages(Attempt, f"/v1/subscriptions/{segment(subscription_id)}/attempts", query)

    async def samples(self, **query: Unpack[SampleQuery]) -> Any:
        """The bodies of the newest events as they would be delivered, decoded."""
        return (await self._transport.call(Call("GET", "/v1/samples", query=query))).json()
