"""Streams of real processes: a node that dies or stops, and a worker in a process of its own."""

from __future__ import annotations

import uuid
from collections.abc import Callable

from harness import Tenant, eventually
from receiving import Receiver
from streaming import OpenStream, streaming
from triggers.domain import OrgId

from .processes import Service, ask

STREAM = "/v1/stream"
INBOX = "/v1/inboxes/default/events"


def send(service: Service, key: str) -> str:
    status, answer = ask(service.port, "/v1/events", key, {"type": "order.paid", "payload": 1})
    assert status == 201, answer
    return str(answer["id"])


async def shows(stream: OpenStream, event_id: str, *names: str) -> None:
    """Wait until a stream has shown all of this of an event."""
    await eventually(
        lambda: {each.name for each in stream.frames if each.data.get("event_id") == event_id} >= set(names),
        20,
    )


async def test_a_stream_comes_back_on_another_node_after_its_node_was_killed(
    launch: Callable[..., Service],
) -> None:
    service = launch()
    service.environment |= {"TRIGGERS_OUTBOUND_ALLOW": "127.0.0.0/8", "TRIGGERS_OUTBOUND_ALLOW_HTTP": "1"}
    service.start()
    key = service.tenant()
    first, second = (launch(name=name, database_url=service.database_url()) for name in ("first", "second"))
    first.start()
    second.start()
    tenant = Tenant(OrgId(uuid.uuid4()), "", key, uuid.uuid4())
    async with Receiver() as receiver:
        made = ask(service.port, "/v1/subscriptions", key, {"target_url": receiver.url})
        assert made[0] == 201, made
        url = f"http://127.0.0.1:{first.port}"
        async with streaming(url, STREAM, tenant) as stream, streaming(url, INBOX, tenant) as inbox:
            await shows(stream, send(service, key), "accepted", "attempt")
            await inbox.until(1)
            first.kill()
            await stream.end()
            await inbox.end()
            last_id = stream.frames[-1].id
        assert last_id is not None
        missed = send(service, key)

        url = f"http://127.0.0.1:{second.port}"
        async with (
            streaming(url, STREAM, tenant, headers={"last-event-id": last_id}) as stream,
            streaming(url, INBOX, tenant) as inbox,
        ):
            assert (await stream.until(1))[0].name == "gap"
            assert (await inbox.until(1))[0].data["count"] == 2, "which it missed"
            event_id = send(service, key)
            await shows(stream, event_id, "accepted", "attempt")
            assert missed not in {each["event_id"] for each in stream.named("accepted")}
            assert second.stop(20) == 0
            await stream.end()
            await inbox.end()
            assert stream.whole
            assert inbox.whole
