"""API keys of the organisation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from triggers_client._async.resource import AsyncPages, AsyncResource
from triggers_client.calls import segment
from triggers_client.fields import KeyFields, Page
from triggers_client.models import ApiKey

if TYPE_CHECKING:
    from typing_extensions import Unpack


class AsyncKeys(AsyncResource):
    """The API keys of the organisation."""

    async def create(self, **fields: Unpack[KeyFields]) -> ApiKey:
        """Make a key. Only this answer and `rotate` contain the `key` itself."""
        return await self._call(ApiKey, "POST", "/v1/keys", body=fields)

    def list(self, **query: Unpack[Page]) -> AsyncPages[ApiKey]:
        """List the keys."""
        return self._pages(ApiKey, "/v1/keys", query)

    async def rotate(self, key_id: str, *, overlap_seconds: int | None = None) -> ApiKey:
        """Make a key with the same scopes. The old one works for `overlap_seconds`; a day by default."""
        body = {} if overlap_seconds is None else {"overlap_seconds": overlap_seconds}
        return await self._call(ApiKey, "POST", f"/v1/keys/{segment(key_id)}/rotate", body=body)

    async def revoke(self, key_id: str) -> ApiKey:
        """Revoke a key. It stops working within a second."""
        return await self._call(ApiKey, "DELETE", f"/v1/keys/{segment(key_id)}")
