"""What streams show: accepted events, attempts, dead letters and available messages, of one organisation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import httpx
import pytest

from delivering import Workers, subscribe
from harness import Node, RedisServer, Tenant, Tenants, eventually
from receiving import FAILED, Receiver
from streaming import OpenStream, streaming
from triggers.domain import Scope
from triggers.postgres.clock import DatabaseClock
from triggers.postgres.database import Database

STREAM = "/v1/stream"
INBOX = "/v1/inboxes/default/events"


async def send(node: Node, tenant: Tenant, event_type: str = "order.paid", number: int = 1) -> list[str]:
    async with node.client(tenant) as client:
        events = [{"type": event_type, "payload": {"secret": "payload"}} for _ in range(number)]
        results = (await client.post("/v1/events/batch", json=events)).json()["results"]
        return [each["id"] for each in results]


async def shows(stream: OpenStream, event_id: str) -> None:
    """Wait until the last frame is about this event."""
    await eventually(lambda: stream.frames and stream.frames[-1].data.get("event_id") == event_id)


async def test_an_event_its_attempts_and_its_death_are_shown(
    node: Node,
    tenant: Tenant,
    database: Database,
    clock: DatabaseClock,
    workers: Workers,
    receiver: Receiver,
) -> None:
    receiver.answer = lambda _: FAILED
    await workers.start()
    made = await subscribe(database, clock, tenant, receiver.url, delays=[0.1])
    async with streaming(node.url, STREAM, tenant) as stream:
        assert stream.status == 200
        assert stream.headers["content-type"].startswith("text/event-stream")
        assert stream.headers["cache-control"] == "no-store"
        [event_id] = await send(node, tenant)
        await stream.until(4)
        assert stream.opening.startswith(b"retry: 1000\nid: ")
        about = {"event_id": event_id, "type": "order.paid"}
        delivery = about | {"subscription_id": str(made.id), "generation": 0}
        assert stream.named("accepted") == [about]
        assert stream.named("attempt") == [
            delivery | {"attempt": 1, "outcome": "retry"},
            delivery | {"attempt": 2, "outcome": "dead"},
        ]
        assert stream.named("dead") == [delivery]
        assert b"payload" not in stream.body
        assert all(UUID(each.id) for each in stream.frames if each.id is not None)


async def test_a_quarantined_message_is_dead_too(node: Node, tenant: Tenant) -> None:
    async with node.client(tenant) as client:
        [event_id] = await send(node, tenant)
        async with streaming(node.url, f"{STREAM}?kind=dead", tenant) as stream:
            lease = (await client.post("/v1/inboxes/default/messages/lease")).json()["lease_id"]
            rejected = {"lease_id": lease, "reason": "poison"}
            await client.post("/v1/inboxes/default/messages/reject", json=rejected)
            [frame] = await stream.until(1)
            assert (frame.name, frame.data["event_id"], frame.data["type"]) == (
                "dead",
                event_id,
                "order.paid",
            )


async def test_only_wanted_types_and_kinds_are_shown(node: Node, tenant: Tenant) -> None:
    asked = {"order.*": "order.paid", "order.paid": "order.paid", "*": "user.made", "user.made": "user.made"}
    for pattern, last in asked.items():
        async with streaming(node.url, f"{STREAM}?kind=accepted&type={pattern}", tenant) as stream:
            await send(node, tenant, "user.made")
            await send(node, tenant, "order.paid")
            [final] = await send(node, tenant, last)
            await shows(stream, final)
            found = {each.data["type"] for each in stream.frames}
            assert found == ({"user.made", "order.paid"} if pattern == "*" else {last})
    async with streaming(node.url, f"{STREAM}?kind=dead", tenant) as stream:
        async with streaming(node.url, f"{STREAM}?kind=accepted,dead", tenant) as other:
            await send(node, tenant)
            await other.until(1)
        assert stream.frames == []


@pytest.mark.parametrize("query", ["kind=", "kind=accepted,", "kind=lost", "type=", "types=a"])
async def test_a_wrong_parameter_is_refused(client: httpx.AsyncClient, query: str) -> None:
    assert (await client.get(f"{STREAM}?{query}")).status_code == 422


async def test_what_happened_before_is_not_shown(node: Node, tenant: Tenant) -> None:
    await send(node, tenant, number=10)
    async with streaming(node.url, STREAM, tenant) as stream:
        [event_id] = await send(node, tenant)
        [frame] = await stream.until(1)
        assert frame.data["event_id"] == event_id


async def test_what_is_committed_late_is_shown_and_nothing_twice(
    node: Node, tenant: Tenant, database: Database, clock: DatabaseClock
) -> None:
    """Ids are made before they are stored, so an event can appear below others that were shown before."""
    early = clock.mint()
    async with streaming(node.url, f"{STREAM}?kind=accepted", tenant) as stream:
        shown = await send(node, tenant, number=5)
        await stream.until(5)
        await database.fetch(
            "insert into events (org_id, id, type, payload) values ($1, $2, 'late', '{}')", tenant.id, early
        )
        await stream.until(6)
        shown += [str(early), *await send(node, tenant)]
        await stream.until(7)
        assert [each.data["event_id"] for each in stream.frames] == shown


async def test_after_a_reconnection_the_first_frame_says_that_others_may_be_missing(
    node: Node, tenant: Tenant
) -> None:
    async with streaming(node.url, STREAM, tenant, headers={"last-event-id": "x\u00e9"}) as stream:
        await send(node, tenant)
        frames = await stream.until(2)
        assert [each.name for each in frames] == ["gap", "accepted"]
        assert frames[0].data == {"reason": "reconnected"}


async def test_organisations_are_never_mixed(node: Node, tenants: Tenants) -> None:
    mine, theirs = await tenants.make(), await tenants.make()
    async with (
        streaming(node.url, STREAM, mine) as stream,
        streaming(node.url, STREAM, theirs) as other,
        streaming(node.url, INBOX, mine) as inbox,
    ):
        own, foreign = await send(node, mine, number=3), await send(node, theirs, number=3)
        await stream.until(3)
        await other.until(3)
        await inbox.until(1)
        assert [each.data["event_id"] for each in stream.frames] == own
        assert [each.data["event_id"] for each in other.frames] == foreign
        await send(node, mine)
        await stream.until(4)
        await eventually(lambda: sum(each.data["count"] for each in inbox.frames) == 4)
        async with node.client(theirs) as client:
            inbox_id = inbox.frames[0].data["inbox_id"]
            assert (await client.get(f"/v1/inboxes/{inbox_id}/events")).status_code == 404


async def test_scopes_are_those_of_other_lists(node: Node, tenants: Tenants) -> None:
    tenant = await tenants.make()
    for scope, may in {
        Scope.READ: {STREAM, INBOX},
        Scope.EVENTS_READ: {STREAM},
        Scope.INBOX: {INBOX},
        Scope.EVENTS_WRITE: set[str](),
    }.items():
        key = await tenants.key_of(tenant.id, tenant.name, [scope])
        for path in (STREAM, INBOX):
            async with streaming(node.url, path, key) as stream:
                assert stream.status == (200 if path in may else 403), (scope, path)


async def test_head_and_options_are_answered_like_on_other_routes(
    node: Node, tenant: Tenant, client: httpx.AsyncClient
) -> None:
    for path in (STREAM, INBOX):
        async with streaming(node.url, path, tenant, method="HEAD") as stream:
            await stream.end()
            assert stream.status == 200
            assert stream.headers["content-type"].startswith("text/event-stream")
            assert stream.body == b""
        answer = await client.options(path)
        assert (answer.status_code, answer.headers["allow"]) == (204, "GET, HEAD, OPTIONS")
    assert len(node.streams._streams) == 0


# ---- inboxes ------------------------------------------------------------------------------------


def counted(stream: OpenStream) -> int:
    return sum(each.data["count"] for each in stream.frames)


async def test_messages_are_counted_when_they_become_available(node: Node, tenant: Tenant) -> None:
    messages = "/v1/inboxes/default/messages"
    await send(node, tenant, number=2)
    async with node.client(tenant) as client, streaming(node.url, INBOX, tenant) as stream:
        inbox = (await client.get("/v1/inboxes", params={"key": "default"})).json()["data"][0]["id"]
        [first] = await stream.until(1)
        assert first.name == "message"
        assert first.data == {"inbox_id": inbox, "count": 2}
        await send(node, tenant, number=3)
        await eventually(lambda: counted(stream) == 5)
        # Leased messages are available again when they are released, and when their lease ends.
        lease = (await client.post(f"{messages}/lease", json={"lease_limit": 2})).json()["lease_id"]
        await client.post(f"{messages}/release", json={"lease_id": lease})
        await eventually(lambda: counted(stream) == 7)
        await client.post(f"{messages}/lease", json={"lease_limit": 1, "lease_seconds": 1})
        await eventually(lambda: counted(stream) == 8)
        assert b"payload" not in stream.body


async def test_what_comes_in_a_burst_is_one_frame(node: Node, tenant: Tenant) -> None:
    async with streaming(node.url, INBOX, tenant) as stream:
        for _ in range(10):
            await send(node, tenant, number=40)
        await eventually(lambda: counted(stream) == 400)
        assert len(stream.frames) < 10
        async with streaming(node.url, INBOX, tenant) as other:
            await send(node, tenant, number=700)
            await eventually(lambda: counted(other) == 1_100)
        async with streaming(node.url, INBOX, tenant) as third:
            [frame] = await third.until(1)
            assert frame.data["count"] == 1_000, "counts are capped"


async def test_a_paused_inbox_announces_what_it_collected_when_it_is_resumed(
    node: Node, tenant: Tenant
) -> None:
    async with node.client(tenant) as client, streaming(node.url, INBOX, tenant) as stream:
        await send(node, tenant)
        await eventually(lambda: counted(stream) == 1)
        await client.post("/v1/inboxes/default/pause")
        async with streaming(node.url, f"{STREAM}?kind=accepted", tenant) as alive:
            await send(node, tenant, number=2)
            await alive.until(2)
        assert counted(stream) == 1
        await client.post("/v1/inboxes/default/resume")
        await eventually(lambda: counted(stream) == 4, 15)


async def test_the_stream_of_a_deleted_inbox_ends(node: Node, tenant: Tenant) -> None:
    async with node.client(tenant) as client:
        made = (await client.post("/v1/inboxes", json={"key": "mine"})).json()
        path = f"/v1/inboxes/{made['id']}/events"
        async with streaming(node.url, path, tenant) as stream:
            assert (await client.delete("/v1/inboxes/mine")).status_code == 202
            await stream.end()
            assert stream.whole
        assert (await client.get(path)).status_code in (404, 409)


# ---- several nodes ------------------------------------------------------------------------------


@pytest.mark.parametrize("with_redis", [True, False])
async def test_another_node_shows_it_too_with_redis_or_without(
    make_node: Callable[..., Any], tenant: Tenant, redis_of_our_own: RedisServer, with_redis: bool
) -> None:
    settings = {"redis_url": redis_of_our_own.url}
    if not with_redis:
        redis_of_our_own.kill()
    node, other = await make_node(**settings), await make_node(**settings)
    async with streaming(other.url, STREAM, tenant) as stream, streaming(other.url, INBOX, tenant) as inbox:
        [event_id] = await send(node, tenant)
        [frame] = await stream.until(1)
        assert frame.data["event_id"] == event_id
        await inbox.until(1)


async def test_nothing_is_read_without_an_open_stream(node: Node, tenant: Tenant) -> None:
    async with streaming(node.url, STREAM, tenant), streaming(node.url, STREAM, tenant):
        assert len(node.streams._readers) == 3, "both share their readers"
    await eventually(lambda: not node.streams._streams)
    assert node.streams._readers == {}
    assert node.wakeup._waiters == {}
