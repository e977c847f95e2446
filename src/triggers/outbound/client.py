"""Sends requests to strangers: the client that the worker uses.

`Outbound.send` returns a value for everything that an endpoint, a name or a proxy can do. Only permitted
addresses are reached: only `dial` connects sockets, only to address literals, and `Destinations` has allowed
each of these literals, or it is the operator's own proxy. There is no second resolver, redirect, proxy from
the environment or cookie that could lead elsewhere, and a kept-alive connection is used again only for the
address to which it was opened.
"""

import asyncio
from ipaddress import ip_address
from typing import Final
from uuid import UUID

from triggers.errors import Invalid
from triggers.outbound.addresses import OutboundPolicy, permitted
from triggers.outbound.connection import EndpointConnection, status_in
from triggers.outbound.connector import Connector
from triggers.outbound.deadlines import Deadlines
from triggers.outbound.destinations import Destination, Destinations
from triggers.outbound.dns import LookUps
from triggers.outbound.pool import KeptAlive, Pool, PoolKey
from triggers.outbound.proxy import EgressProxy
from triggers.outbound.request import RequestHeaders, request_bytes
from triggers.outbound.result import DETAILS, Answered, Failed, NoConnection, Reason, Result
from triggers.outbound.slots import Slots

TEXT_LIMIT: Final = 1024
BYTES_SHOWN: Final = 64
"""Number of bytes that are shown of an answer that is not HTTP."""
TICK_SECONDS: Final = 0.1
_KEPT_ALIVE: Final = KeptAlive()
_LOOK_UPS: Final = LookUps()


class Outbound:
    """Belongs to one event loop: made inside it, ended with `close`. One request on its way:

    slot taken  ─▶ addresses known ─┬─ kept connection, unless `fresh` ─▶ exchange ──▶ Result
          │               │         └─ new connection ────────────────────▶ exchange ──▶ Result
          └───────────────┴── NoConnection, at any step before an exchange ────────────▶ Failed
    """

    def __init__(
        self,
        policy: OutboundPolicy,
        *,
        max_connections: int = 512,
        kept_alive: KeptAlive = _KEPT_ALIVE,
        look_ups: LookUps = _LOOK_UPS,
        trust_pem: str | None = None,
    ) -> None:
        """`max_connections` counts idle ones too. `trust_pem`: further root certificates."""
        self._loop = asyncio.get_running_loop()
        self._policy = policy
        self._destinations = Destinations(policy, look_ups)
        self._proxy = (
            None
            if policy.proxy_url is None
            else EgressProxy(policy.proxy_url, look_ups, policy.connect_timeout_seconds)
        )
        self._connector = Connector(policy, self._proxy, trust_pem)
        self._pool = Pool(kept_alive._replace(connections=min(kept_alive.connections, max_connections)))
        self._slots = Slots(max_connections)
        self._deadlines = Deadlines(min(TICK_SECONDS, policy.total_timeout_seconds / 10))
        self._closed = False

    async def send(
        self, url: str, headers: RequestHeaders, body: bytes, *, org: UUID, fresh: bool = False
    ) -> Result:
        """POSTs `body`, once. Raises nothing that an endpoint, a name or a proxy could provoke.

        `org` is the organisation of the look-up. `fresh`: use a new connection, which cannot be stale.
        Host, length and connection headers are set here, never by the caller.
        """
        began = self._loop.time()
        try:
            destination = self._destinations.of(url)
            request = request_bytes(destination.start, headers, body)
            if not self._slots.take():
                await self._slots.wait(began + self._policy.total_timeout_seconds)
            try:
                return await self._send(destination, request, org, began, fresh)
            finally:
                self._slots.leave()
        except Invalid as error:
            return Failed(Reason.INVALID, error.message, self._loop.time() - began)
        except NoConnection as error:
            return Failed(error.reason, error.detail, self._loop.time() - began)

    async def close(self) -> None:
        """Closes every connection; what is in flight ends as closed."""
        self._closed = True
        self._deadlines.close()
        self._pool.close()
        self._destinations.close()
        if self._proxy is not None:
            self._proxy.close()

    async def _send(
        self, destination: Destination, request: bytes, org: UUID, began: float, fresh: bool
    ) -> Result:
        deadline = began + self._policy.total_timeout_seconds
        keys = self._destinations.known(destination, began)
        if keys is None:
            keys = await self._destinations.find(destination, org, deadline)
        if not fresh:
            for key in keys:
                connection = self._pool.take(key)
                if connection is not None:
                    return await self._exchange(connection, key, request, began, deadline)
        if self._closed:
            raise NoConnection(Reason.BUSY, "The sender is stopping.")
        self._pool.make_room(self._slots.free)
        connection, key = await self._connector.open_any(destination.target, keys, deadline)
        return await self._exchange(connection, key, request, began, deadline)

    async def _exchange(
        self, connection: EndpointConnection, key: PoolKey, request: bytes, began: float, deadline: float
    ) -> Result:
        if self._closed:
            connection.abort()
        self._deadlines.begin(connection, deadline)
        whole = False
        try:
            reason = await connection.exchange(request)
            whole = reason is None
            seconds = self._loop.time() - began
            if connection.status:
                return Answered(
                    connection.status,
                    _text_of(connection.body),
                    seconds,
                    connection.retry_after,
                    connection.delivery_control,
                    reason,
                )
            return _without_head(reason or Reason.MALFORMED, connection, key, seconds)
        finally:
            self._deadlines.end(connection)
            if whole and connection.reusable and not connection.closed and not self._closed:
                self._pool.keep(key, connection)
            else:
                connection.abort()


def _without_head(reason: Reason, connection: EndpointConnection, key: PoolKey, seconds: float) -> Result:
    """The result of an exchange in which no whole head came, but perhaps the beginning of one."""
    head = connection.head
    status = status_in(head) if head else None
    detail = DETAILS[reason]
    if reason is Reason.CLOSED and head:
        detail = "The endpoint closed the connection before the headers of its answer were complete."
    if reason is Reason.MALFORMED:
        if status is not None and 200 <= status < 600:
            return Answered(status, "", seconds, cut=reason)
        # If only the operator permits an address, its answer may be a secret of the operator's network.
        if head and permitted(ip_address(key.address)) is not None:
            shown = head[:BYTES_SHOWN].decode("latin-1").encode("unicode_escape").decode()
            detail = f"{detail} It begins with: {shown}"
    return Failed(reason, detail, seconds, status, reason is Reason.CLOSED and connection.stale)


def _text_of(body: bytes) -> str:
    if not body:
        return ""
    text = body[:TEXT_LIMIT].decode("utf-8", "replace").replace("\0", "\ufffd")
    encoded = text.encode()
    # A replacement character takes three bytes, and the cut may fall inside a character.
    return text if len(encoded) <= TEXT_LIMIT else encoded[:TEXT_LIMIT].decode("utf-8", "ignore")
