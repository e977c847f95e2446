"""What the console is looked at with: an organisation whose events met every fate, some minutes ago."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from delivering import subscribe
from harness import Tenant
from triggers.domain import EventId, NewEvent, first_id_at
from triggers.events import store as event_store
from triggers.postgres.clock import DatabaseClock
from triggers.postgres.database import Database

PAYLOAD = (
    b'{"id":"in_1Pz8f2LkdIwHu7ix","amount_due":12900000000000000000001,"currency":"eur","attempt_count":2,'
    b'"paid":false,"tax":19.50,"customer":{"id":"cus_Q4yTz","name":"Ada Lovelace","email":"ada@example.com",'
    b'"address":{"city":"London","country":"GB"}},"lines":[{"sku":"seat","quantity":12,"price":9.90},'
    b'{"sku":"support","quantity":1,"price":249.00}],"next_payment_attempt":null,"metadata":{}}'
)
HOSTILE = (
    '{{"<script>alert(1)</script>":"</pre><img src=x onerror=alert(2)>",'
    '"file":"annex\u202egpj.exe","zero\u200bwidth":"a\\u0000b","hx-on:click":"{{{{ 7 * 7 }}}}",'
    '"line":"{}","deep":{}1{}}}'
).format("x" * 200_000, "[" * 60, "]" * 60)


class Try(NamedTuple):
    """An attempt to be stored: how long ago, its outcome, reason, status, and the delay until the next."""

    seconds_ago: float
    outcome: str
    reason: str
    status: int | None = None
    delay: float | None = None
    response: str | None = None
    duration_ms: int = 84


class Scene(NamedTuple):
    """Ids of what there is to look at."""

    failing: UUID
    delivered: UUID
    dead: UUID
    hostile: UUID
    billing: UUID
    audit: UUID
    paused: UUID
    disabled: UUID


async def furnish(database: Database, clock: DatabaseClock, tenant: Tenant) -> Scene:
    """Make the scene."""

    async def made(url: str, **settings: object) -> UUID:
        return (await subscribe(database, clock, tenant, url, **settings)).id  # type: ignore[arg-type]

    billing = await made(
        "https://api.example.com/hooks/billing", name="billing", event_types=["invoice.*", "order.paid"]
    )
    audit = await made("https://audit.example.net/v2/events", name="audit log")
    crm = await made("https://hooks.crm.example/in/8f2a", name="CRM", event_types=["invoice.*", "customer.*"])
    paused = await made("https://warehouse.example.org/triggers", name="warehouse", event_types=["invoice.*"])
    disabled = await made("https://old.example.com/hook", name="legacy ERP", event_types=["erp.*"])
    await _run(
        database,
        "update subscriptions set created_at = now() - interval '9 d', status_at = now() - interval '9 d',"
        " changed_at = now() - interval '9 d', last_success_at = now() - interval '40 s' where org_id = $1",
        tenant.id,
    )
    await _run(
        database,
        "update subscriptions set failing_since = now() - interval '6 min',"
        " last_success_at = now() - interval '20 min' where id = $1",
        billing,
    )
    await _run(
        database,
        "update subscriptions set status = 'paused', status_at = now() - interval '2 h' where id = $1",
        paused,
    )
    await _run(
        database,
        "update subscriptions set status = 'disabled', status_at = now() - interval '2 d',"
        " status_reason = 'no success for 5 days' where id = $1",
        disabled,
    )

    for number in range(24):
        kind = ("customer.updated", "order.paid", "order.shipped", "session.started")[number % 4]
        event = await _accept(database, tenant, 5400 - number * 190, kind, b'{"n":%d}' % number, number)
        await _settle_all(database, tenant, event, 5400 - number * 190)
    dead = await _accept(database, tenant, 700, "invoice.created", PAYLOAD, 25)
    await _settle(database, tenant, dead, audit, [Try(699.9, "delivered", "delivered", 200)], "delivered")
    await _settle(database, tenant, dead, crm, [Try(699.8, "delivered", "delivered", 204)], "delivered")
    await _settle(
        database,
        tenant,
        dead,
        billing,
        [Try(699.9, "dead", "gone (gone)", 410, response='{"error":"endpoint removed"}')],
        "dead",
    )
    delivered = await _accept(database, tenant, 420, "customer.created", b'{"id":"cus_Q4yTz"}', 26)
    await _settle_all(database, tenant, delivered, 420)
    hostile = await _accept(database, tenant, 410, "order.refunded", HOSTILE.encode(), 27)
    await _settle(
        database,
        tenant,
        hostile,
        audit,
        [
            Try(
                409,
                "dead",
                "refused (exhausted)",
                400,
                response="<script>alert(3)</script> \u202eevil " + "y" * 900,
            )
        ],
        "dead",
    )
    failing = await _accept(database, tenant, 397, "invoice.payment_failed", PAYLOAD, 28)
    answer = (
        '{"error":{"code":"upstream_unavailable","message":"The ledger is being migrated. Try again later."}}'
    )
    await _try(
        database,
        tenant,
        failing,
        billing,
        [
            Try(396.9, "retry", "unavailable", 503, 5, answer, 112),
            Try(391.5, "retry", "timeout", None, 30, "no answer within 20 s", 20_000),
            Try(341.0, "retry", "unavailable", 503, 120, answer, 96),
            Try(216.0, "retry", "unavailable", 503, 460, answer, 141),
        ],
    )
    await _settle(
        database,
        tenant,
        failing,
        audit,
        [Try(396.8, "retry", "connect", None, 5), Try(391.2, "delivered", "delivered", 200)],
        "delivered",
    )
    await _settle(database, tenant, failing, crm, [Try(396.9, "delivered", "delivered", 204)], "delivered")
    return Scene(failing, delivered, dead, hostile, billing, audit, paused, disabled)


async def _run(database: Database, statement: str, *values: object) -> None:
    await database.fetch(statement, *values)


async def _accept(
    database: Database, tenant: Tenant, seconds_ago: float, kind: str, payload: bytes, number: int
) -> UUID:
    """An event of the past, with its deliveries."""
    moment = datetime.now(UTC) - timedelta(seconds=seconds_ago)
    event_id = UUID(int=first_id_at(moment).int | (0xA1B2C3D4E5F6 + 7919 * number))
    event = NewEvent(
        org_id=tenant.id,
        id=EventId(event_id),
        type=kind,
        payload=payload,
        source="/billing/ledger" if number % 3 else None,
        subject=f"cus_Q4yT{number}" if number % 2 else None,
        dedup_id=f"evt-{number}-9f21" if number > 24 else None,
    )
    async with database.connection() as connection:
        await event_store.accept(connection, DatabaseClock(), event_store.Batch([event]), timedelta(days=1))
    await _run(
        database,
        "update deliveries set accepted_at = $2 where event_id = $1 and lane_group is not null",
        event_id,
        moment,
    )
    return event_id


async def _try(database: Database, tenant: Tenant, event_id: UUID, to: UUID, tries: Sequence[Try]) -> None:
    now = datetime.now(UTC)
    for number, each in enumerate(tries, start=1):
        began = now - timedelta(seconds=each.seconds_ago)
        ended = began + timedelta(milliseconds=each.duration_ms)
        retry_at = None if each.delay is None else ended + timedelta(seconds=each.delay)
        await _run(
            database,
            "insert into attempts (org_id, subscription_id, id, event_id, generation, attempt, outcome,"
            " reason, status_code, response, duration_ms, retry_at, worker_id)"
            " values ($1, $2, $3, $4, 0, $5, $6, $7, $8, $9, $10, $11, $1)",
            tenant.id,
            to,
            UUID(int=first_id_at(began).int | (0x51000 + number * 7 + to.int % 4096)),
            event_id,
            number,
            each.outcome,
            each.reason,
            each.status,
            each.response,
            each.duration_ms,
            retry_at,
        )
        await _run(
            database,
            "update deliveries set attempts = $3, first_attempt_at = coalesce(first_attempt_at, $4),"
            " reason = $5, due_at = coalesce($6, due_at) where event_id = $1 and subscription_id = $2",
            event_id,
            to,
            number,
            began,
            each.reason,
            retry_at,
        )


async def _settle(
    database: Database, tenant: Tenant, event_id: UUID, to: UUID, tries: Sequence[Try], status: str
) -> None:
    await _try(database, tenant, event_id, to, tries)
    ended = datetime.now(UTC) - timedelta(seconds=tries[-1].seconds_ago - tries[-1].duration_ms / 1000)
    await _run(
        database,
        "with gone as (delete from deliveries where event_id = $1 and subscription_id = $2 returning *)"
        " insert into settled_deliveries (org_id, subscription_id, event_id, generation, status, reason,"
        " lease_count, attempts, accepted_at, first_attempt_at, settled_at)"
        " select org_id, subscription_id, event_id, generation, $3, $4, 0, attempts, accepted_at,"
        " first_attempt_at, $5 from gone",
        event_id,
        to,
        status,
        None if status == "delivered" else tries[-1].reason,
        ended,
    )


async def _settle_all(database: Database, tenant: Tenant, event_id: UUID, seconds_ago: float) -> None:
    rows = await database.fetch(
        "select subscription_id from deliveries d join subscriptions s on s.id = d.subscription_id"
        " where event_id = $1 and s.kind = 'push'",
        event_id,
    )
    for row in rows:
        done = Try(seconds_ago - 0.08, "delivered", "delivered", 200)
        await _settle(database, tenant, event_id, row["subscription_id"], [done], "delivered")
