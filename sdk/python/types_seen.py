"""What users' type checkers see. `make check` runs mypy on it, and nothing runs it."""

from __future__ import annotations

from datetime import datetime, timezone

from typing_extensions import assert_type

from triggers_client import AsyncConsumer, AsyncTriggers, Consumer, Message, Triggers, Webhook, verify
from triggers_client.models import Event, EventDetail, Lease, SentEvent, Subscription
from triggers_client.receivers import django, flask, starlette
from triggers_client.reports import SendReport


def blocking(client: Triggers) -> None:
    """The synchronous half."""
    assert_type(client.events.send("n", {"a": 1}, subject="s"), SentEvent)
    assert_type(client.events.get("id"), EventDetail)
    assert_type(client.events.get("id").occurred_at, datetime | None)
    since = datetime.now(timezone.utc)
    assert_type([event for event in client.events.list(type="n", since=since)], list[Event])  # noqa: C416
    assert_type(client.events.send_many([{"type": "n", "payload": 1}]), SendReport)
    assert_type(client.subscriptions.create("https://a.example", format="raw"), Subscription)
    assert_type(client.inbox("a").lease(lease_seconds=5), Lease)
    client.events.send("n", 1, sbject="s")  # type: ignore[call-arg]
    client.events.list(order="up")  # type: ignore[arg-type]
    client.subscriptions.create("https://a.example", format="xml")  # type: ignore[arg-type]
    client.inbox("a").consumer(concurency=8)  # type: ignore[call-arg]

    @client.inbox("a").consumer(concurrency=8)
    def handle(message: Message) -> None: ...

    assert_type(handle, Consumer)
    assert_type(handle.run(), None)


async def asynchronous(client: AsyncTriggers) -> None:
    """The asynchronous half."""
    assert_type(await client.events.send("n", 1), SentEvent)
    assert_type([event async for event in client.events.list()], list[Event])
    assert_type([page.data async for page in client.events.list().pages()], list[list[Event]])

    @client.inbox("a").consumer()
    async def handle(message: Message) -> None: ...

    assert_type(handle, AsyncConsumer)

    @client.inbox("a").consumer()  # type: ignore[arg-type]
    def wrong(message: Message) -> None: ...


def receiving() -> None:
    """Webhooks and receivers."""
    assert_type(verify({}, b"", ["whsec_"]), Webhook)
    assert_type(verify({}, b"", "whsec_").type, str | None)

    def handle(webhook: Webhook) -> None: ...

    flask.receiver("whsec_")(handle)
    django.receiver("whsec_")(handle)
    starlette.receiver("whsec_")(handle)
    verify({}, "", "whsec_")  # type: ignore[arg-type]
