"""What tests of push delivery stand on: workers in the test's own loop, subscriptions, events, questions."""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from typing import Any, TypeAlias
from uuid import UUID

import httpx
import msgspec

from harness import SECRET_KEYS, Tenant
from triggers.domain import AttemptOutcome
from triggers.events import store as event_store
from triggers.outbound.addresses import OutboundPolicy
from triggers.outbound.client import Outbound
from triggers.outbound.dns import LookUps, Resolver, system_resolver
from triggers.postgres.clock import DatabaseClock
from triggers.postgres.database import Database, Row
from triggers.push import ownership_store
from triggers.push import store as lane_store
from triggers.push.ownership import Ownership
from triggers.push.store import Group, Settlement
from triggers.push.worker import Worker, WorkerOptions
from triggers.secrets.key_ring import KeyRing
from triggers.secrets.signing_secrets import Scheme, generate_secret
from triggers.subscriptions import store as subscription_store
from triggers.subscriptions.rules import (
    PushSettings,
    Retry,
    StoredSecret,
    lane_group,
    seal_secrets,
)
from triggers.subscriptions.store import NewSubscription, Subscription

RING = KeyRing.from_setting(SECRET_KEYS)
POLICY = OutboundPolicy(allow=(ipaddress.ip_network("127.0.0.0/8"),), allow_http=True)
NEVER_AGAIN: tuple[float, ...] = (3_600.0,)
"""Delays of a retry that no test lives to see."""

_REASONS = {
    AttemptOutcome.DELIVERED: "delivered",
    AttemptOutcome.RETRY: "unavailable",
    AttemptOutcome.DEAD: "unavailable (exhausted)",
}

Subscribe: TypeAlias = Callable[..., Awaitable[Subscription]]


class RunningWorker:
    """A worker in the test's loop, with a database pool of its own, that can be stopped or die."""

    def __init__(
        self,
        url: str,
        *,
        disable_after: float = 432_000,
        key_ring: KeyRing = RING,
        policy: OutboundPolicy = POLICY,
        slots: int = 512,
        resolver: Resolver = system_resolver,
    ) -> None:
        self.database = Database(url, pool_size=4)
        self._options = (disable_after, key_ring, policy, slots, resolver)
        self.worker: Worker
        self.running = False

    async def start(self) -> None:
        disable_after, key_ring, policy, slots, resolver = self._options
        await self.database.open()
        clock = DatabaseClock()
        await event_store.learn_time(self.database, clock)
        self.worker = Worker(
            self.database,
            clock,
            key_ring,
            Outbound(policy, max_connections=slots, look_ups=LookUps(resolver)),
            WorkerOptions(disable_after, slots=slots),
        )
        await self.worker.start()
        self.running = True

    async def stop(self, seconds: float = 1.0) -> None:
        """In good order. Without effect on one that is dead."""
        if self.running:
            self.running = False
            await self.worker.stop(seconds)
            await self.database.close()

    async def die(self) -> None:
        """All at once, telling nobody: what is in flight is cut, what ended is not recorded."""
        self.running = False
        worker = self.worker
        for background in worker._backgrounds:
            await background.stop()
        await worker._outbound.close()
        await self.database.close()


class Workers(AsyncExitStack):
    """Starts workers, which end with the test."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url

    async def start(self, **options: Any) -> RunningWorker:
        """See RunningWorker."""
        worker = RunningWorker(options.pop("url", self._url), **options)
        await worker.start()
        self.push_async_callback(worker.stop)
        return worker


# ---- subscriptions -------------------------------------------------------------------------------


async def subscribe(
    database: Database,
    clock: DatabaseClock,
    tenant: Tenant,
    url: str,
    *,
    delays: Sequence[float] | None = None,
    deadline: float | None = None,
    signature: Scheme = "v1",
    ring: KeyRing = RING,
    **settings: Any,
) -> Subscription:
    """A push subscription, made as the API makes one."""
    chosen = PushSettings(
        target_url=url,
        retry=Retry(delays=None if delays is None else list(delays), deadline=deadline),
        **settings,
    )
    new = NewSubscription(chosen, signature, generate_secret(signature))
    return await subscription_store.create(database, clock, ring, tenant.id, new)


async def subscribe_many(
    database: Database, clock: DatabaseClock, tenant: Tenant, urls: Sequence[str], types: Sequence[str] = ()
) -> list[UUID]:
    """Many with one statement, beyond what an organisation may have; with `types` one type for each."""
    ids = [clock.mint() for _ in urls]
    secret = StoredSecret(generate_secret("v1"))
    await database.fetch(
        "insert into subscriptions (org_id, id, kind, status_at, created_at, all_types, type_names,"
        " lane_group, target_url, format, signature, secrets)"
        " select $1, id, 'push', now(), now(), name is null, array_remove(array[name], null), lane_group,"
        " url, 'raw', 'v1', secrets"
        " from unnest($2::uuid[], $3::text[], $4::smallint[], $5::bytea[], $6::text[])"
        " as s (id, url, lane_group, secrets, name)",
        tenant.id,
        ids,
        urls,
        [lane_group(each) for each in ids],
        [seal_secrets(RING, tenant.id, each, [secret]) for each in ids],
        list(types) or [None] * len(urls),
    )
    await database.fetch(
        "update organisations set subscription_count = subscription_count + $2,"
        " max_subscriptions = greatest(max_subscriptions, subscription_count + $2) where id = $1",
        tenant.id,
        len(ids),
    )
    return ids


# ---- events --------------------------------------------------------------------------------------


async def post(client: httpx.AsyncClient, events: Iterable[dict[str, Any]]) -> list[str]:
    """Have events accepted, in order; return their ids."""
    ids: list[str] = []
    for batch in _batched([{"type": "a", "payload": None, **event} for event in events], 1_000):
        answer = await client.post("/v1/events/batch", content=msgspec.json.encode(batch))
        results = answer.json()["results"]
        assert {each["status"] for each in results} == {201}, results[:3]
        ids += [each["id"] for each in results]
    return ids


def _batched(items: Sequence[Any], size: int) -> Iterable[Sequence[Any]]:
    for first in range(0, len(items), size):
        yield items[first : first + size]


async def store_many(
    database: Database,
    clock: DatabaseClock,
    tenant: Tenant,
    subscription_id: UUID,
    number: int,
    *,
    ordering_key: str | None = None,
    spread: Sequence[UUID] = (),
) -> None:
    """Events with a delivery each that is due, without the trouble of accepting them.

    With `spread` they go to these subscriptions in turn.
    """
    targets = list(spread) or [subscription_id]
    for first in range(0, number, 10_000):
        ids = [clock.mint() for _ in range(min(10_000, number - first))]
        await database.fetch(
            "with stored as ("
            " insert into events (org_id, id, type, payload)"
            " select $1, id, 'a', '1' from unnest($2::uuid[]) id)"
            " insert into deliveries (org_id, subscription_id, event_id, due_at, accepted_at, payload_size,"
            " lane_group, ordering_key)"
            " select $1, s, id, now(), now(), 1, g, $5 from unnest($2::uuid[], $3::uuid[], $4::smallint[])"
            " as d (id, s, g)",
            tenant.id,
            ids,
            [targets[(first + n) % len(targets)] for n in range(len(ids))],
            [lane_group(targets[(first + n) % len(targets)]) for n in range(len(ids))],
            ordering_key,
        )


# ---- questions -----------------------------------------------------------------------------------


@dataclasses.dataclass
class States:
    """What the database says of deliveries."""

    database: Database

    async def pending(self, subscription_id: UUID | None = None) -> int:
        """How many push deliveries are not settled."""
        row = await self.database.row(
            "select count(*) from deliveries where lane_group is not null"
            " and ($1::uuid is null or subscription_id = $1)",
            subscription_id,
        )
        assert row is not None
        return int(row[0])

    async def settled(self, subscription_id: UUID) -> dict[str, int]:
        """How many settled ones there are of each status."""
        rows = await self.database.fetch(
            "select status, count(*) from settled_deliveries where subscription_id = $1 group by 1",
            subscription_id,
        )
        return {row[0]: row[1] for row in rows}

    async def attempts(self, subscription_id: UUID) -> list[Row]:
        """Every attempt in the order they began."""
        return await self.database.fetch(
            "select * from attempts where subscription_id = $1 order by id", subscription_id
        )

    async def deliveries(self, subscription_id: UUID) -> list[Row]:
        """What is not settled."""
        return await self.database.fetch(
            "select *, now() as now from deliveries where subscription_id = $1 order by event_id",
            subscription_id,
        )

    async def status(self, subscription_id: UUID) -> tuple[str, str | None]:
        """Status and reason of a subscription."""
        row = await self.database.row(
            "select status, status_reason from subscriptions where id = $1", subscription_id
        )
        assert row is not None
        return row[0], row[1]


# ---- settling ------------------------------------------------------------------------------------


class Owner:
    """A worker that owns every group, as the database sees it."""

    def __init__(self, database: Database, clock: DatabaseClock) -> None:
        self.id: UUID = clock.mint()
        self._database = database
        self._clock = clock
        self.groups: dict[int, Group] = {}

    async def take(self) -> None:
        async with self._database.connection() as connection:
            await ownership_store.register(connection, self.id, "test")
            await ownership_store.take(connection, self.id, self._clock.mint())
            self.groups = await ownership_store.owned(connection, self.id)
        assert len(self.groups) == 64

    async def lose(self) -> None:
        """Be declared dead."""
        async with self._database.connection() as connection:
            silent = {self.id: (await ownership_store.heartbeats(connection))[self.id]}
            await ownership_store.bury(connection, silent, 1.0, for_probation=True)

    async def settle(self, *batch: Settlement) -> None:
        async with self._database.connection() as connection:
            await lane_store.settle(connection, self.id, list(self.groups.values()), list(batch))


class Standing(Ownership):
    """Owns what it is given, without beating."""

    def __init__(self, database: Database, clock: DatabaseClock, owner: Owner) -> None:
        super().__init__(
            database,
            clock,
            None,  # type: ignore[arg-type]  # its lanes, of which only a beat tells
            gained=lambda _: None,
            busy=lambda _: False,
        )
        self._groups = owner.groups
        self.worker_id = owner.id


async def settlement(
    states: States, clock: DatabaseClock, outcome: AttemptOutcome, **changed: Any
) -> Settlement:
    """How the one delivery that there is may have ended."""
    row = await states.database.row("select *, now() as now from deliveries where lane_group is not null")
    assert row is not None
    now: datetime = row["now"]
    values: dict[str, Any] = {
        "org_id": row["org_id"],
        "subscription_id": row["subscription_id"],
        "event_id": row["event_id"],
        "generation": row["generation"],
        "lane_group": row["lane_group"],
        "read_attempts": row["attempts"],
        "attempts": row["attempts"] + 1,
        "outcome": outcome,
        "due_at": now + timedelta(seconds=30) if outcome is AttemptOutcome.RETRY else None,
        "reason": _REASONS[outcome],
        "status_code": 500,
        "response": None,
        "duration_ms": 1,
        "attempt_id": clock.mint(),
        "began_at": now,
    }
    return Settlement(**values | changed)
