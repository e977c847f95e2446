"""The client: where the service is, and its resources."""

from __future__ import annotations

from types import TracebackType

from triggers_client._async.deliveries import AsyncDeliveries
from triggers_client._async.events import AsyncEvents
from triggers_client._async.inbox import AsyncInboxHandle
from triggers_client._async.inboxes import AsyncInboxes
from triggers_client._async.keys import AsyncKeys
from triggers_client._async.replays import AsyncReplays
from triggers_client._async.service import AsyncService, AsyncStatisticsOf
from triggers_client._async.subscriptions import AsyncSubscriptions
from triggers_client._async.transport import AsyncTransport
from triggers_client.calls import options


class AsyncTriggers:
    """A client of the service. It can be used by any number of callers, and opens no connection before the
    first call.
    """

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        timeout: float = 30.0,
        retry_seconds: float = 30.0,
    ) -> None:
        """`url` and `api_key` are read from TRIGGERS_URL and TRIGGERS_API_KEY if they are not given.

        `timeout`: seconds for one answer. `retry_seconds`: for so long a request is repeated that may succeed
        later; 0 repeats none.

        Raises:
            TriggersError: there is no API key, or the URL is wrong.
        """
        self._transport = AsyncTransport(options(url, api_key, timeout, retry_seconds))
        self.events = AsyncEvents(self._transport)
        self.subscriptions = AsyncSubscriptions(self._transport)
        self.deliveries = AsyncDeliveries(self._transport)
        self.inboxes = AsyncInboxes(self._transport)
        self.replays = AsyncReplays(self._transport)
        self.keys = AsyncKeys(self._transport)
        self.statistics = AsyncStatisticsOf(self._transport)
        self.service = AsyncService(self._transport)

    def inbox(self, name: str) -> AsyncInboxHandle:
        """One inbox, by its key or its id, to lease messages from and to consume."""
        return AsyncInboxHandle(self._transport, name)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._transport.aclose()

    async def __aenter__(self) -> AsyncTriggers:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
