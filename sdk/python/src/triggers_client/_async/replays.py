"""Replays: send past events again, as a job."""

from __future__ import annotations

from typing import TYPE_CHECKING

from triggers_client._async.resource import AsyncPages, AsyncResource
from triggers_client.calls import segment
from triggers_client.fields import ReplayFields, ReplayQuery
from triggers_client.models import Replay

if TYPE_CHECKING:
    from typing_extensions import Unpack


class AsyncReplays(AsyncResource):
    """The replays of the organisation."""

    async def create(self, subscription_id: str, **fields: Unpack[ReplayFields]) -> Replay:
        """Begin a replay. It goes on by itself, behind new events."""
        body = {"subscription_id": subscription_id, **fields}
        return await self._call(Replay, "POST", "/v1/replays", body=body)

    async def plan(self, subscription_id: str, **fields: Unpack[ReplayFields]) -> Replay:
        """How much a replay would send, and how long it would take. Nothing is begun."""
        body = {"subscription_id": subscription_id, **fields, "plan_only": True}
        return await self._call(Replay, "POST", "/v1/replays", body=body, repeatable=True)

    def list(self, **query: Unpack[ReplayQuery]) -> AsyncPages[Replay]:
        """List replays and backfills, newest first."""
        return self._pages(Replay, "/v1/replays", query)

    async def get(self, replay_id: str) -> Replay:
        """One replay and its progress."""
        return await self._call(Replay, "GET", f"/v1/replays/{segment(replay_id)}")

    async def cancel(self, replay_id: str) -> Replay:
        """End a replay. What it made so far is delivered."""
        return await self._call(Replay, "DELETE", f"/v1/replays/{segment(replay_id)}")
