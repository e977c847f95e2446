"""Endpoints that answer well, badly, late or never: what is recorded, when it is tried again, who notices."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import NamedTuple
from uuid import UUID

import httpx
import pytest
import trustme

from delivering import POLICY, RunningWorker, States, Subscribe, Workers, post
from harness import eventually
from receiving import OK, Hook, Receiver, status
from triggers.postgres.database import Database, Row

DELAY = 50.0
HASTY = dataclasses.replace(POLICY, connect_timeout_seconds=0.6, total_timeout_seconds=0.6)
HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n"
DAY = 86_400
TWO_LINES = b"HTTP/1.1 200 OK\r\nx-two-lines: one\ntwo\r\ncontent-length: 0\r\n\r\n"


def scheduled(left: Row) -> bool:
    """Due by the schedule's delay with its jitter, less the moment that the test took to look."""
    return DELAY * 0.8 - 10 < wait_of(left) <= DELAY * 1.2


def wait_of(left: Row) -> float:
    """Seconds until a delivery is due again."""
    return float((left["due_at"] - left["now"]).total_seconds())


async def test_the_last_attempt_leaves_a_dead_letter(
    client: httpx.AsyncClient, states: States, subscribed: Subscribe, receiver: Receiver, workers: Workers
) -> None:
    receiver.answer = lambda _: status(500)
    subscription = await subscribed(receiver.url, delays=[0.1, 0.2])
    await workers.start()
    await post(client, [{}])
    await eventually(lambda: states.settled(subscription.id), 10)
    attempts = await states.attempts(subscription.id)
    assert [(each["attempt"], each["outcome"], each["reason"]) for each in attempts] == [
        (1, "retry", "unavailable"),
        (2, "retry", "unavailable"),
        (3, "dead", "unavailable (exhausted)"),
    ]
    gaps = [second.at - first.at for first, second in zip(receiver.hooks, receiver.hooks[1:], strict=False)]
    assert gaps[0] >= 0.1 * 0.8
    assert gaps[1] >= 0.2 * 0.8
    assert len({hook.id for hook in receiver.hooks}) == 1
    timestamps = [int(hook.headers["webhook-timestamp"]) for hook in receiver.hooks]
    assert timestamps == sorted(timestamps)
    assert await states.settled(subscription.id) == {"dead": 1}


async def test_what_has_had_more_attempts_than_a_shortened_schedule_has_the_one_it_waits_for(
    client: httpx.AsyncClient,
    database: Database,
    states: States,
    subscribed: Subscribe,
    receiver: Receiver,
    workers: Workers,
) -> None:
    """Nothing dies unsent, and no worker is blamed for it."""
    receiver.answer = lambda _: status(500)
    subscription = await subscribed(receiver.url, delays=[60, 60, 60], event_types=["a"])
    await post(client, [{}])
    await database.fetch("update deliveries set attempts = 2 where subscription_id = $1", subscription.id)
    shortened = await client.patch(f"/v1/subscriptions/{subscription.id}", json={"retry": {"delays": [60]}})
    assert shortened.status_code == 200
    await workers.start()
    await eventually(lambda: states.settled(subscription.id), 10)
    row = await database.row(
        "select status, reason, attempts from settled_deliveries where subscription_id = $1", subscription.id
    )
    assert row is not None
    assert tuple(row) == ("dead", "unavailable (exhausted)", 3)
    assert len(receiver.hooks) == 1


async def test_a_deadline_counts_from_the_first_attempt(
    client: httpx.AsyncClient, states: States, subscribed: Subscribe, receiver: Receiver, workers: Workers
) -> None:
    receiver.answer = lambda _: status(500)
    subscription = await subscribed(receiver.url, delays=[0.1, 60], deadline=20)
    await workers.start()
    await post(client, [{}])
    await eventually(lambda: states.settled(subscription.id), 10)
    assert [each["reason"] for each in await states.attempts(subscription.id)] == [
        "unavailable",
        "unavailable (deadline)",
    ]


@pytest.mark.parametrize("code", [200, 500])
async def test_the_endpoint_says_stop(
    client: httpx.AsyncClient,
    states: States,
    subscribed: Subscribe,
    receiver: Receiver,
    workers: Workers,
    code: int,
) -> None:
    await workers.start()
    receiver.answer = lambda _: status(code, "webhook-delivery: disable")
    subscription = await subscribed(receiver.url)
    await post(client, [{}])
    await eventually(lambda: states.attempts(subscription.id))
    assert await states.settled(subscription.id) == {"delivered" if code == 200 else "dead": 1}
    assert await states.status(subscription.id) == ("disabled", "declined")


# ---- the table: every kind of endpoint at once, in lanes of their own

Misdeed = Callable[[Hook], Awaitable[bytes | None]]


async def _never(_: Hook) -> None:
    await asyncio.Event().wait()


async def _slow_headers(hook: Hook) -> None:
    hook.writer.write(b"HTTP/1.1 200 OK\r\nx-long: ")
    for _ in range(1000):
        hook.writer.write(b"x")
        await asyncio.sleep(0.05)


async def _slow_body(hook: Hook) -> None:
    hook.writer.write(HEAD)
    for _ in range(10):
        await asyncio.sleep(0.5)
        hook.writer.write(b"x")


async def _slow_no(hook: Hook) -> None:
    hook.writer.write(HEAD.replace(b"200 OK", b"500 No"))
    await asyncio.Event().wait()


async def _closes_at_once(hook: Hook) -> None:
    hook.writer.abort()


async def _closes_in_head(hook: Hook) -> None:
    hook.writer.write(HEAD[:20])
    hook.writer.close()


async def _closes_mid_body(hook: Hook) -> None:
    hook.writer.write(HEAD + b"xxx")
    hook.writer.close()


async def _no_http(hook: Hook) -> bytes:
    return b"220 smtp.example ESMTP\r\n"


async def _ten_gigabytes(hook: Hook) -> None:
    hook.writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10737418240\r\n\r\n")
    while not hook.writer.is_closing():
        if hook.writer.get_write_buffer_size() < 1 << 20:
            hook.writer.write(b"x" * (1 << 20))
        await asyncio.sleep(0)


async def _endless_headers(hook: Hook) -> None:
    hook.writer.write(b"HTTP/1.1 200 OK\r\n")
    while not hook.writer.is_closing():
        if hook.writer.get_write_buffer_size() < 1 << 20:
            hook.writer.write(b"x: " + b"y" * 1000 + b"\r\n")
        await asyncio.sleep(0)


async def _answer(answer: bytes) -> bytes:
    # A date is told when it is asked for: the cases may be hours older than the run.
    in_700_seconds = format_datetime(datetime.now(UTC) + timedelta(seconds=700), usegmt=True)
    return answer.replace(b"<in 700 seconds>", in_700_seconds.encode())


class Case(NamedTuple):
    """What an endpoint does, and what is to be recorded of it. `wait`: None for the schedule's own."""

    does: bytes | Misdeed
    outcome: str
    reason: str
    code: int | None
    wait: float | None = None
    cut: str | None = None


def _retried(answer: bytes, reason: str, wait: float | None = None) -> Case:
    return Case(answer, "retry", reason, int(answer.split()[1]), wait)


CASES = [
    *[Case(status(code), "delivered", "delivered", code) for code in (200, 201, 204, 299)],
    _retried(status(301, "location: /0"), "redirect"),
    _retried(status(400), "refused"),
    _retried(status(404), "refused"),
    _retried(status(404, "retry-after: 7"), "refused"),
    _retried(status(429), "throttled"),
    _retried(status(429, "retry-after: 1000"), "throttled", 1_000),
    _retried(status(429, "retry-after: <in 700 seconds>"), "throttled", 700),
    _retried(status(429, "retry-after: 99999999999"), "throttled", 86_400),
    _retried(status(429, "retry-after: -5"), "throttled"),
    _retried(status(429, "retry-after: soon"), "throttled"),
    _retried(status(500), "unavailable"),
    _retried(status(503, "retry-after: 2000.5"), "unavailable", 2_000.5),
    Case(status(500, "webhook-delivery: abort-message"), "dead", "unavailable (aborted)", 500),
    Case(_never, "retry", "timeout", None),
    Case(_slow_headers, "retry", "slow_headers", 200),
    Case(_closes_in_head, "retry", "closed", 200),
    Case(_no_http, "retry", "malformed", None),
    Case(_endless_headers, "retry", "too_large", 200),
    Case(TWO_LINES, "delivered", "delivered", 200, cut="malformed"),
    Case(TWO_LINES.replace(b"200", b"500"), "retry", "unavailable", 500, cut="malformed"),
    Case(_slow_body, "delivered", "delivered", 200, cut="slow_body"),
    Case(_slow_no, "retry", "unavailable", 500, cut="slow_body"),
    Case(_closes_mid_body, "delivered", "delivered", 200, cut="incomplete"),
    Case(_ten_gigabytes, "delivered", "delivered", 200, cut="too_large"),
]


def _resolve(host: str) -> tuple[str, ...]:
    if host == "inside.test":
        return ("10.0.0.1",)
    raise socket.gaierror(socket.EAI_NONAME, "unknown")


async def test_every_answer(
    client: httpx.AsyncClient,
    states: States,
    subscribed: Subscribe,
    receiver: Receiver,
    workers: Workers,
    database: Database,
) -> None:
    def answer(hook: Hook) -> Awaitable[bytes | None]:
        does = CASES[int(hook.path[1:])].does
        return _answer(does) if isinstance(does, bytes) else does(hook)

    receiver.answer = answer
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    by_strangers = Receiver()
    by_strangers.tls = context  # a certificate of an authority that nobody knows
    # Each receiver has a port of its own, so that connections are always new.
    hanging_up = Receiver(_closes_at_once)
    async with by_strangers, hanging_up, Receiver() as well:
        with socket.socket() as bound:
            bound.bind(("127.0.0.1", 0))
            closed_url = f"http://127.0.0.1:{bound.getsockname()[1]}/"
            base = receiver.url.removesuffix("/hook")
            expected = {f"{base}/{number}": case for number, case in enumerate(CASES)} | {
                by_strangers.url: Case(b"", "retry", "tls", None),
                hanging_up.url: Case(_closes_at_once, "retry", "closed", None),
                closed_url: Case(b"", "retry", "connect", None),
                "http://inside.test/": Case(b"", "retry", "forbidden_address", None),
                "http://nowhere.test/": Case(b"", "retry", "dns", None),
            }
            ids = {(await subscribed(url, delays=[DELAY])).id: url for url in expected}
            await subscribed(well.url)
            await workers.start(policy=HASTY, resolver=_resolve)
            (event_id,) = await post(client, [{}])
            # The lane that is well has long been served while others still wait for their answers.
            await eventually(lambda: well.hooks)
            (second,) = await post(client, [{"type": "b"}])
            await eventually(lambda: len(well.hooks) == 2)

            async def all_tried() -> bool:
                row = await database.row(
                    "select count(*) from attempts where event_id = any ($1)", [UUID(event_id), UUID(second)]
                )
                assert row is not None
                return bool(row[0] >= 2 * len(expected) + 2)

            await eventually(all_tried, 20)
    assert well.counts() == {event_id: 1, second: 1}
    wrong = []
    for subscription_id, url in ids.items():
        attempts = await states.attempts(subscription_id)
        left = await states.deliveries(subscription_id)
        settled = await states.settled(subscription_id)
        case = expected[url]
        if not (len(attempts) == 2 and all(_as_expected(case, each) for each in attempts)):
            wrong.append((case, attempts))
        elif case.outcome != "retry":
            if left or settled != {case.outcome: 2}:
                wrong.append((case, settled))
        elif settled or not all(_waits_as_expected(case, each) for each in left) or len(left) != 2:
            wrong.append((case, left))
    assert wrong == []
    came = Counter(CASES[int(hook.path[1:])].does for hook in receiver.hooks)
    assert came == Counter(2 * [case.does for case in CASES]), "a redirect is not followed"
    assert len(hanging_up.hooks) == 2
    assert by_strangers.hooks == []


def _as_expected(case: Case, attempt: Row) -> bool:
    text = attempt["response"] or ""
    return (
        (attempt["outcome"], attempt["reason"], attempt["status_code"])
        == (case.outcome, case.reason, case.code)
        and (attempt["retry_at"] is not None) == (case.outcome == "retry")
        and len(text) < 1_100
        and (case.cut is None or text.endswith(f"[{case.cut}]"))
        and (case.code is not None or "127.0.0" not in text)  # no address is told
    )


def _waits_as_expected(case: Case, left: Row) -> bool:
    on_time = scheduled(left) if case.wait is None else case.wait * 0.7 < wait_of(left) <= case.wait
    return on_time and left["attempts"] == 1 and left["reason"] == case.reason


async def test_gone_disables_at_once(
    client: httpx.AsyncClient, states: States, subscribed: Subscribe, receiver: Receiver, workers: Workers
) -> None:
    """What is queued behind the 410 is never sent; the subscription says why."""
    receiver.answer = lambda hook: status(410) if hook.number >= 3 else OK
    subscription = await subscribed(receiver.url, max_concurrency=1)
    await post(client, [{"payload": n} for n in range(200)])
    running: RunningWorker = await workers.start()

    async def disabled() -> bool:
        return await states.status(subscription.id) == ("disabled", "gone")

    await eventually(disabled)
    await post(client, [{}] * 5)  # it matches nothing more

    async def all_settled() -> bool:
        return await states.settled(subscription.id) == {"delivered": 3, "dead": 1, "cancelled": 196}

    await eventually(all_settled, 20)
    await running.stop()
    assert len(receiver.hooks) == 4
    assert len(await states.attempts(subscription.id)) == 4
