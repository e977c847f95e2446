"""Redis, which is optional: hints between nodes, and the spent quotas of organisations.

No request waits for it. While it is gone, nodes wake up by polling and limit by themselves; a
FLUSHALL gives every organisation a fresh minute at most.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Protocol
from uuid import UUID

import redis.asyncio
import structlog
from redis.exceptions import RedisError

from triggers.background import Background
from triggers.domain import LaneId
from triggers.errors import SettingsError
from triggers.wakeups.wakeup import Wakeup

log = structlog.get_logger()

CHANNEL = "triggers:wakeup"
PUBLISH_EVERY_SECONDS = 0.005
SHARE_EVERY_SECONDS = 0.1
RETRY_SECONDS = 1.0
MAX_CONNECTIONS = 50
MAX_LANES = 4096
"""Lanes that one message names, 128 KiB; those of a broader fan-out are found by polling."""

# KEYS: one per organisation; ARGV: how much further it reaches now. Answers how far into the
# future each reaches, in microseconds. Redis has the only clock in this, so nodes' clocks may differ. None
# reaches further than a key lives, or a clock put back there would refuse everybody until it has caught up.
_SPEND = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local reaches = {}
for i, key in ipairs(KEYS) do
    local reach = math.max(tonumber(redis.call('GET', key) or 0), now) + tonumber(ARGV[i])
    reach = math.min(reach, now + 120000000)
    redis.call('SET', key, string.format('%d', reach), 'PX', 120000)
    reaches[i] = string.format('%d', reach - now)
end
return reaches
"""


class Spending(Protocol):
    """The limiter of this process, as far as other nodes are concerned."""

    def take_spent(self) -> dict[UUID, float]: ...
    def learn(self, org_id: UUID, reach_seconds: float) -> None: ...
    def forget(self) -> None: ...


def _client(url: str) -> redis.asyncio.Redis:
    try:
        client = redis.asyncio.from_url(
            url,
            max_connections=MAX_CONNECTIONS,
            socket_connect_timeout=5,
            socket_timeout=5,
            health_check_interval=15,
            **({} if url.startswith("unix:") else {"socket_keepalive": True}),
        )
        # It connects to nothing, and refuses unknown parameters.
        client.connection_pool.make_connection()  # type: ignore[no-untyped-call]
    except (ValueError, TypeError, RedisError):
        # The client's own text is left out, because it may quote a part of the password.
        raise SettingsError(
            "TRIGGERS_REDIS_URL must be redis://[user:password@]host:port/database, with parameters that the"
            " Redis client knows. Percent-encode special characters in the password."
        ) from None
    return client


class RedisLink:
    """The connection of this node to Redis. Its loops reconnect by themselves."""

    def __init__(
        self, url: str, wakeup: Wakeup, spending: Spending | None, up: Callable[[bool], None]
    ) -> None:
        """`up` is called with whether Redis answers. `spending` is None if nothing is limited.

        Raises:
            SettingsError: `url` is not the URL of a Redis.
        """
        self._redis = _client(url)
        self._wakeup = wakeup
        self._spending = spending
        self._up = up
        self._hints: set[UUID] = set()
        self._lanes: set[LaneId] = set()
        self._hinted = asyncio.Event()
        self._background = Background()
        wakeup.listen(self._hint)

    async def start(self) -> None:
        """Begin; Redis may come later."""
        for work in (self._publish, self._subscribe, self._share, self._watch):
            self._background.run(f"redis {work.__name__}", self._keep(work))

    async def stop(self) -> None:
        """End, whether or not Redis answers."""
        await self._background.stop()
        await self._redis.aclose()

    async def ping(self) -> bool:
        """Whether Redis answers now."""
        try:
            return bool(await self._redis.ping())
        except (RedisError, OSError):
            return False

    def _hint(self, org_ids: set[UUID], lanes: Sequence[LaneId]) -> None:
        self._hints |= org_ids
        self._lanes.update(lanes[: MAX_LANES - len(self._lanes)])
        self._hinted.set()

    async def _keep(self, work: Callable[[], Awaitable[None]]) -> None:
        down = False
        while True:
            try:
                await work()
            except (RedisError, OSError) as error:
                if not down:
                    log.warning("redis_unreachable", work=work.__name__, error=repr(error))
                down = True
                await asyncio.sleep(RETRY_SECONDS)
            else:
                down = False

    async def _watch(self) -> None:
        """Record whether Redis answers. Only this loop does; others notice an outage later."""
        self._up(await self.ping())
        await asyncio.sleep(RETRY_SECONDS)

    async def _publish(self) -> None:
        await self._hinted.wait()
        self._hinted.clear()
        message = pack_hint(self._hints, self._lanes)
        self._hints, self._lanes = set(), set()
        await self._redis.publish(CHANNEL, message)
        await asyncio.sleep(PUBLISH_EVERY_SECONDS)

    async def _subscribe(self) -> None:
        async with self._redis.pubsub(ignore_subscribe_messages=True) as pubsub:
            await pubsub.subscribe(CHANNEL)
            while True:
                message = await pubsub.get_message(timeout=2.0)
                if message is not None:
                    self._wakeup.receive(*unpack_hint(message["data"]))

    async def _share(self) -> None:
        await asyncio.sleep(SHARE_EVERY_SECONDS)
        if self._spending is None:
            return
        self._spending.forget()
        spent = self._spending.take_spent()
        if not spent:
            return
        keys = [f"triggers:spent:{org_id}" for org_id in spent]
        amounts = [int(seconds * 1_000_000) for seconds in spent.values()]
        # On a Redis Cluster each organisation would be a slot of its own; this asks one server.
        reaches = await self._redis.eval(_SPEND, len(keys), *keys, *amounts)
        for org_id, reach in zip(spent, reaches, strict=True):
            self._spending.learn(org_id, int(reach) / 1_000_000)


def pack_hint(org_ids: Collection[UUID], lanes: Collection[LaneId]) -> bytes:
    """Encode a hint: the number of organisations, their ids, then two ids for each lane."""
    ids = [*org_ids, *(one for lane in lanes for one in lane)]
    return len(org_ids).to_bytes(4) + b"".join(one.bytes for one in ids)


def unpack_hint(message: bytes) -> tuple[set[UUID], list[LaneId]]:
    """Decode a hint of `pack_hint`. From other bytes, return the readable part."""
    whole = range(4, len(message) - 15, 16)
    ids = [UUID(bytes=message[i : i + 16]) for i in whole]
    count = int.from_bytes(message[:4])
    return set(ids[:count]), list(zip(ids[count::2], ids[count + 1 :: 2], strict=False))
