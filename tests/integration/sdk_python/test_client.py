"""The client against a real node: sending, lists, errors, and what is repeated."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from harness import Node, Tenant, Tenants, eventually, free_port
from serving import running
from triggers_client import (
    AsyncTriggers,
    ConnectionFailed,
    OutcomeUnknown,
    RateLimited,
    Refused,
    Triggers,
    TriggersError,
    Unavailable,
)
from triggers_client.decoding import decode
from triggers_client.models import Event, Problem


async def test_an_event_is_sent_and_found(triggers: AsyncTriggers) -> None:
    sent = await triggers.events.send(
        "order.paid", {"total": 1.5}, source="/shop", occurred_at=datetime(2026, 1, 2, tzinfo=UTC)
    )
    assert not sent.duplicate
    assert sent.dedup_id
    assert isinstance(sent.created_at, datetime)
    found = await triggers.events.explain(sent.id)
    assert found.payload == {"total": 1.5}
    assert found.occurred_at == datetime(2026, 1, 2, tzinfo=UTC)
    assert found.explanations is not None
    assert found.explanations[0].matched
    assert found.deliveries[0].kind == "inbox"
    assert await triggers.events.payload(sent.id) == b'{"total":1.5}'
    assert (await triggers.events.send("order.paid", {"total": 1.5}, dedup_id=sent.dedup_id)).duplicate


async def test_a_list_goes_over_its_pages(triggers: AsyncTriggers, blocking: Triggers) -> None:
    report = await triggers.events.send_many({"type": "n", "payload": n} for n in range(7))
    listed = [event.id async for event in triggers.events.list(type="n", limit=3)]
    assert listed == [item.id for item in reversed(report.items)]
    assert [len(page.data) async for page in triggers.events.list(type="n", limit=3).pages()] == [3, 3, 1]

    def listed_by_the_other_half() -> list[str]:
        with blocking:
            return [event.id for event in blocking.events.list(type="n", limit=3)]

    assert await asyncio.to_thread(listed_by_the_other_half) == listed


async def test_each_event_of_many_is_reported(triggers: AsyncTriggers) -> None:
    await triggers.events.send("n", 1, dedup_id="a")
    events: list[dict[str, Any]] = [
        {"type": "n", "payload": 1, "dedup_id": "a"},
        {"type": "n", "payload": 2, "dedup_id": "a"},
        {"type": "n", "payload": float("nan")},
        {"type": "", "payload": 3},
        {"type": "n", "payload": "x" * 300_000},
        *({"type": "n", "payload": n} for n in range(1_500)),
    ]
    report = await triggers.events.send_many(events)
    assert [item.index for item in report.items] == list(range(1_505))
    assert report.items[0].duplicate
    assert [item.index for item in report.failed] == [1, 2, 3, 4]
    errors = [item.error for item in report.failed]
    assert [getattr(error, "code", None) for error in errors] == [
        "dedup-conflict",
        None,
        "invalid",
        "too-large",
    ]
    assert "not JSON" in str(errors[1])
    assert len({item.id for item in report.accepted}) == 1_501
    with pytest.raises(Refused):
        report.raise_for_failures()


async def test_a_batch_of_only_bad_events_is_reported_by_item(triggers: AsyncTriggers) -> None:
    report = await triggers.events.send_many([{"type": "", "payload": 1}, {"type": "", "payload": 2}])
    assert [type(item.error) for item in report.items] == [Refused, Refused]
    assert "/type" in str(report.items[0].error)


async def test_a_refusal_says_what_is_wrong(triggers: AsyncTriggers) -> None:
    with pytest.raises(Refused) as refused:
        await triggers.subscriptions.create("not a url")
    error = refused.value
    assert (error.status, error.code) == (422, "invalid")
    assert error.problem is not None
    assert error.problem.errors is not None
    assert error.problem.errors[0].pointer == "/target_url"
    assert error.request_id
    assert error.request_id == error.problem.request_id
    await triggers.events.send("n", 1, dedup_id="a")
    with pytest.raises(Refused) as conflict:
        await triggers.events.send("n", 2, dedup_id="a")
    assert conflict.value.code == "dedup-conflict"


async def test_the_other_resources_answer(triggers: AsyncTriggers, tenant: Tenant) -> None:
    made = await triggers.subscriptions.create("http://127.0.0.1:9/hooks", key="shop", retry={"delays": [1]})
    assert made.secret is not None
    assert made.secret not in repr(made)
    assert made.retry.delays == [1]
    assert (await triggers.subscriptions.change(made.id, max_concurrency=3)).max_concurrency == 3
    sent = await triggers.events.send("order", 1)
    delivery_id = f"{sent.id}.{made.id}"
    assert (await triggers.deliveries.get(delivery_id)).target_url == "http://127.0.0.1:9/hooks"
    assert [each.id async for each in triggers.deliveries.list(kind="push")] == [delivery_id]
    assert (await triggers.deliveries.cancel(delivery_id)).status == "cancelled"
    assert (await triggers.events.deliveries(sent.id)).total == 2
    assert (await triggers.subscriptions.dry_run(event_types=["order"])).matched == 1
    assert (await triggers.events.dry_run("order", 1)).matched == 2
    assert len(await triggers.subscriptions.samples(limit=1)) == 1
    rotated = await triggers.subscriptions.rotate_secret(made.id, overlap_seconds=5)
    assert rotated.secret not in {None, made.secret}
    assert (await triggers.replays.plan(made.id, since=datetime(2026, 1, 1, tzinfo=UTC))).id is None
    key = await triggers.keys.create(name="reader", scopes=["read"])
    assert key.key is not None
    assert key.key not in repr(key)
    assert key.id in {each.id async for each in triggers.keys.list()}
    assert (await triggers.keys.revoke(key.id)).revoked_at is not None
    assert (await triggers.service.organisation()).name == tenant.name
    assert (await triggers.service.search("shop")).data[0].id == made.id
    assert (await triggers.service.ready()).status in {"ready", "degraded"}
    assert "triggers_" in await triggers.service.metrics()
    assert (await triggers.statistics.get("1h")).range == "1h"
    await triggers.subscriptions.delete(made.id)
    await triggers.subscriptions.delete(made.id)


async def test_inboxes_and_leases(triggers: AsyncTriggers) -> None:
    await triggers.inboxes.ensure("work", event_types=["job"])
    await triggers.events.send_many({"type": "job", "payload": n} for n in range(3))
    inbox = triggers.inbox("work")
    lease = await inbox.lease(lease_limit=2, lease_seconds=60, consumer="me")
    assert lease.lease_id is not None
    assert [message.payload for message in lease.results] == [0, 1]
    assert [held.consumer async for held in inbox.leases()] == ["me"]
    await inbox.ack(lease.lease_id, message_ids=[lease.results[0].id])
    await inbox.reject(lease.lease_id, "bad")
    assert [
        message.message_attributes.error_message async for message in inbox.messages(status="quarantined")
    ] == ["bad"]
    assert len((await inbox.redrive()).results) == 1
    with pytest.raises(Refused) as over:
        await inbox.extend(lease.lease_id)
    assert over.value.code == "lease-over"
    counted = await triggers.inboxes.get("work", backlog=True)
    assert counted.backlog is not None
    assert counted.backlog.messages == 2
    waiting = [event.id async for event in triggers.inboxes.unacknowledged()]
    assert (await triggers.inboxes.acknowledge(waiting)).acknowledged == 3


async def test_a_stream_shows_what_happens(triggers: AsyncTriggers) -> None:
    frames: list[Any] = []

    async def follow() -> None:
        async for frame in triggers.events.stream(type="seen.*"):
            frames.append(frame)  # noqa: PERF401 - it never ends

    following = asyncio.create_task(follow())

    async def shown() -> bool:
        await triggers.events.send("seen.now", 1)
        return bool(frames)

    await eventually(shown, 10)
    following.cancel()
    assert frames[0].event == "accepted"
    assert frames[0].data["type"] == "seen.now"


# ---- what is repeated --------------------------------------------------------------------------------


class Faulty:
    """An app that fails as often as it is told to, then answers as the service would."""

    def __init__(self, *failures: tuple[int, list[tuple[bytes, bytes]]], answer: bytes = b"{}") -> None:
        self.failures = list(failures)
        self.answer = answer
        self.bodies: list[bytes] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = (await receive())["body"]
        self.bodies.append(body)
        status, headers = self.failures.pop(0) if self.failures else (200, [])
        content = self.answer if status == 200 else b"{}"
        length = [(b"content-length", b"%d" % len(content))]
        await send({"type": "http.response.start", "status": status, "headers": [*headers, *length]})
        await send({"type": "http.response.body", "body": content})


@asynccontextmanager
async def client_of(app: Any, **options: Any) -> AsyncIterator[AsyncTriggers]:
    async with (
        running(app) as (_, (host, port)),
        AsyncTriggers(f"http://{host}:{port}", "key", **options) as client,
    ):
        yield client


SENT = (
    b'{"id":"1","type":"n","dedup_id":"d","duplicate":false,'
    b'"created_at":"2026-01-01T00:00:00.000Z","new":[1]}'
)


async def test_a_send_is_repeated_with_the_same_dedup_id() -> None:
    app = Faulty((503, [(b"retry-after", b"0")]), (429, [(b"retry-after", b"0")]), (502, []), answer=SENT)
    async with client_of(app) as client:
        sent = await client.events.send("n", 1)
    assert len(app.bodies) == 4
    assert len(set(app.bodies)) == 1
    assert sent.status == "accepted"
    assert sent.raw["new"] == [1]


async def test_nothing_is_repeated_that_might_be_done_twice() -> None:
    app = Faulty((503, [(b"retry-after", b"0")]))
    async with client_of(app) as client:
        with pytest.raises(Unavailable):
            await client.keys.create()
    app_of_conflicts = Faulty((409, []))
    async with client_of(app_of_conflicts) as client:
        with pytest.raises(Refused):
            await client.events.send("n", 1)
    assert (len(app.bodies), len(app_of_conflicts.bodies)) == (1, 1)


async def test_a_try_that_was_not_answered_makes_the_outcome_unknown_unless_it_only_reads() -> None:
    def unanswered() -> Faulty:
        return Faulty((503, [(b"retry-after", b"0")]), (429, [(b"retry-after", b"3600")]))

    async with client_of(unanswered()) as client:
        with pytest.raises(OutcomeUnknown):
            await client.events.send("n", 1)
    async with client_of(unanswered()) as client:
        with pytest.raises(RateLimited):
            await client.events.get("1")
    async with client_of(unanswered(), retry_seconds=0) as client:
        with pytest.raises(Unavailable):
            await client.events.send("n", 1)


async def test_a_long_wait_is_left_to_the_caller() -> None:
    app = Faulty((429, [(b"retry-after", b"3600")]))
    async with client_of(app) as client:
        with pytest.raises(RateLimited) as limited:
            await client.events.send("n", 1)
    assert limited.value.retry_after == 3600
    assert len(app.bodies) == 1


async def test_an_answer_that_never_comes_is_an_unknown_outcome() -> None:
    async def silent(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.Event().wait()

    async with client_of(silent, timeout=0.1, retry_seconds=0) as client:
        with pytest.raises(OutcomeUnknown) as unknown:
            await client.events.send("n", 1)
    assert unknown.value.request_id


async def test_a_service_that_is_not_there() -> None:
    async with AsyncTriggers(f"http://127.0.0.1:{free_port()}", "key", retry_seconds=0) as client:
        with pytest.raises(ConnectionFailed) as failed:
            await client.events.send("n", 1)
        assert failed.value.request_id
        (item,) = (await client.events.send_many([{"type": "n", "payload": 1}])).failed
    assert isinstance(item.error, ConnectionFailed)


async def test_a_send_waits_for_a_node_that_starts(make_node: Callable[..., Any], tenant: Tenant) -> None:
    first: Node = await make_node()
    port = int(first.url.rsplit(":", 1)[1])

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
            inner_writer.write(await reader.read(65_536))
            writer.write(await inner_reader.read(65_536))
            await writer.drain()
            inner_writer.close()
        finally:
            writer.close()

    chosen = free_port()
    async with AsyncTriggers(f"http://127.0.0.1:{chosen}", tenant.key, retry_seconds=10) as client:
        sending = asyncio.create_task(client.events.send("n", 1))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(sending), 0.1)
        async with await asyncio.start_server(forward, "127.0.0.1", chosen):
            assert not (await sending).duplicate


async def test_another_program_is_recognised() -> None:
    async with client_of(Faulty(answer=b"<html>"), retry_seconds=0) as client:
        with pytest.raises(OutcomeUnknown, match="does not come from Triggers"):
            await client.events.get("1")
    async with client_of(Faulty(answer=b"{}"), retry_seconds=0) as client:
        with pytest.raises(OutcomeUnknown, match="lacks id"):
            await client.events.get("1")
    for wrong in (b"<html>", b"{}", b"[]", b'{"results": []}'):
        async with client_of(Faulty(answer=wrong), retry_seconds=0) as client:
            (item,) = (await client.events.send_many([{"type": "n", "payload": 1}])).failed
        assert isinstance(item.error, OutcomeUnknown)


async def test_a_limit_is_reported(node: Node, tenants: Tenants) -> None:
    limited = await tenants.make(requests_per_minute=60)
    async with AsyncTriggers(node.url, limited.key, retry_seconds=0) as client:
        with pytest.raises(RateLimited) as reached:
            for _ in range(200):
                await client.service.organisation()
        assert reached.value.retry_after >= 1
        report = await client.events.send_many([{"type": "n", "payload": 1}])
        assert isinstance(report.items[0].error, RateLimited)


# ---- settings ----------------------------------------------------------------------------------------


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIGGERS_URL", "https://events.example/base/")
    monkeypatch.setenv("TRIGGERS_API_KEY", " zap_test_1\n")
    options = Triggers()._transport.options
    assert (options.url, options.api_key) == ("https://events.example/base", "zap_test_1")
    assert "zap_test_1" not in repr(options)
    monkeypatch.delenv("TRIGGERS_API_KEY")
    with pytest.raises(TriggersError, match="TRIGGERS_API_KEY"):
        Triggers()
    for url in ("ftp://host", "http://user:password@host", "http://host?q", "http://"):
        with pytest.raises(TriggersError, match="TRIGGERS_URL") as wrong:
            Triggers(url, "key")
        assert "password" not in str(wrong.value)


async def test_no_name_leads_to_another_path() -> None:
    client = AsyncTriggers("http://127.0.0.1:1", "key", retry_seconds=0)
    for name in ("", ".", ".."):
        with pytest.raises(TriggersError, match="is not an id or a key"):
            await client.events.get(name)
        with pytest.raises(TriggersError, match="is not an id or a key"):
            client.inbox(name)


def test_httpx_is_imported_at_the_first_call_and_nothing_of_the_service_ever() -> None:
    code = (
        "import sys, triggers_client as t\n"
        "c = t.Triggers('http://127.0.0.1:1', 'key', retry_seconds=0)\n"
        "print('httpx' in sys.modules)\n"
        "try: c.events.send('n', 1)\n"
        "except t.ConnectionFailed: pass\n"
        "others = [m for m in sys.modules if m.split('.')[0] in {'triggers', 'cryptography', 'flask'}]\n"
        "print('httpx' in sys.modules, others)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n") == ["False", "True []", ""]


def test_answers_of_other_versions_are_read() -> None:
    old = {"type": "t", "code": "c", "title": "T", "status": 400, "detail": "d"}
    assert decode(Problem, {**old, "unheard_of": {"a": 1}}).errors is None
    with pytest.raises(ValueError, match="lacks id"):
        decode(Event, {"type": "n"})
