"""What the routes of subscriptions promise, kept by a real worker: changes reach it within a second."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any
from uuid import UUID

import httpx
import pytest
import standardwebhooks

from delivering import RunningWorker, Workers, post
from harness import eventually
from receiving import Hook, Receiver, status
from triggers.deliveries import ending
from triggers.postgres.database import Connection, Database
from triggers.push import ownership, ownership_store
from triggers.push import store as lane_store
from triggers.push.lane import Lane


async def subscribe(client: httpx.AsyncClient, url: str, **fields: Any) -> dict[str, Any]:
    answer = await client.post("/v1/hooks", json={"target_url": url, **fields})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def verifies(hook: Hook, secret: str) -> bool:
    try:
        standardwebhooks.Webhook(secret).verify(hook.body, hook.headers)
    except standardwebhooks.WebhookVerificationError:
        return False
    return True


async def test_a_test_is_sent_and_its_attempt_answered(
    client: httpx.AsyncClient, workers: Workers, receiver: Receiver
) -> None:
    await workers.start()
    made = await subscribe(client, receiver.url, event_types=["never"], headers={"X-Team": "a"})
    answer = await client.post(f"/v1/hooks/{made['id']}/test")
    assert answer.status_code == 200, answer.text
    attempt = answer.json()["attempt"]
    assert (attempt["outcome"], attempt["status_code"], attempt["attempt"]) == ("delivered", 204, 1)
    (hook,) = receiver.hooks
    assert hook.id == answer.json()["event_id"]
    assert hook.headers["x-team"] == "a"
    assert verifies(hook, made["secret"])


async def test_a_test_that_fails_says_how(
    client: httpx.AsyncClient, workers: Workers, receiver: Receiver
) -> None:
    await workers.start()
    receiver.answer = lambda _: status(500)
    made = await subscribe(client, receiver.url)
    attempt = (await client.post(f"/v1/hooks/{made['id']}/test")).json()["attempt"]
    assert (attempt["outcome"], attempt["status_code"]) == ("retry", 500)
    assert attempt["retry_at"] is not None


async def test_both_secrets_sign_while_a_rotation_overlaps(
    client: httpx.AsyncClient, workers: Workers, receiver: Receiver
) -> None:
    await workers.start()
    made = await subscribe(client, receiver.url)
    path = f"/v1/hooks/{made['id']}"
    assert (await client.post(f"{path}/test")).status_code == 200
    second = (await client.post(f"{path}/rotate-secret")).json()["secret"]
    third = (await client.post(f"{path}/rotate-secret")).json()["secret"]

    async def both() -> bool:
        assert (await client.post(f"{path}/test")).status_code == 200
        return all(verifies(receiver.hooks[-1], secret) for secret in (made["secret"], second, third))

    await eventually(both, 5)
    await client.post(f"{path}/rotate-secret", json={"overlap_seconds": 0})

    async def neither() -> bool:
        assert (await client.post(f"{path}/test")).status_code == 200
        return not any(verifies(receiver.hooks[-1], secret) for secret in (made["secret"], second, third))

    await eventually(neither, 5)


async def test_an_old_secret_signs_nothing_after_its_end(
    client: httpx.AsyncClient, workers: Workers, receiver: Receiver
) -> None:
    """A lane that is busy all the time is told of the end by nobody else."""
    await workers.start()
    made = await subscribe(client, receiver.url)
    path = f"/v1/hooks/{made['id']}"
    await client.post(f"{path}/rotate-secret", json={"overlap_seconds": 2})

    async def alone() -> bool:
        await post(client, [{}])
        return bool(receiver.hooks) and not verifies(receiver.hooks[-1], made["secret"])

    assert not await alone()
    await eventually(alone, 8)


async def test_a_worker_that_stood_still_learns_what_it_missed(
    client: httpx.AsyncClient, workers: Workers, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long ago it last looked: nobody else has buried it, and its lanes are still its own."""
    monkeypatch.setattr(ownership, "CHANGES_SECONDS", 0.5)
    monkeypatch.setattr(ownership, "LONG_LOOK_EVERY_SECONDS", 3_600.0)
    running = await workers.start()
    made = await subscribe(client, receiver.url)
    await post(client, [{}])
    await eventually(lambda: len(receiver.hooks) == 1)
    beat, still, moving = ownership_store.beat, asyncio.Event(), asyncio.Event()

    async def stand_still(connection: Connection, worker_id: UUID, lanes: int) -> Any:
        still.set()
        await moving.wait()
        return await beat(connection, worker_id, lanes)

    monkeypatch.setattr(ownership_store, "beat", stand_still)
    await asyncio.wait_for(still.wait(), 5)
    await client.post(f"/v1/hooks/{made['id']}/pause")
    await asyncio.sleep(1.5)
    moving.set()
    await eventually(lambda: {lane.target.endpoint.status for lane in lanes(running)} == {"paused"}, 5)


async def test_a_change_that_overtakes_a_read_of_the_settings_is_followed(
    client: httpx.AsyncClient, workers: Workers, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Settings that were read just before a pause, and come to the lane after the pause was heard of."""
    endpoints, reading, paused = lane_store.endpoints, asyncio.Event(), asyncio.Event()

    async def slowly(connection: Connection, ids: Any) -> Any:
        found = await endpoints(connection, ids)
        reading.set()
        await paused.wait()
        return found

    monkeypatch.setattr(lane_store, "endpoints", slowly)
    running = await workers.start()
    made = await subscribe(client, receiver.url)
    await asyncio.wait_for(reading.wait(), 5)
    await client.post(f"/v1/hooks/{made['id']}/pause")
    await asyncio.sleep(1)  # the beat hears of it meanwhile
    paused.set()
    await eventually(
        lambda: [lane.target.endpoint.status for lane in lanes(running) if not lane.stale] == ["paused"], 5
    )


def lanes(running: RunningWorker) -> list[Lane]:
    return list(running.worker.lanes)


async def test_nothing_begins_a_second_after_a_pause_and_all_comes_after_the_resume(
    client: httpx.AsyncClient, workers: Workers, receiver: Receiver
) -> None:
    await workers.start()
    made = await subscribe(client, receiver.url, event_types=["a"])
    path = f"/v1/hooks/{made['id']}"
    sent = await post(client, [{}] * 20)
    await eventually(lambda: set(receiver.ids) == set(sent))
    await client.post(f"{path}/pause")
    await asyncio.sleep(1)
    kept = await post(client, [{}] * 20)
    await subscribe(client, receiver.url, event_types=["b"])
    (alive,) = await post(client, [{"type": "b"}])
    await eventually(lambda: alive in receiver.ids)
    assert set(receiver.ids) == {*sent, alive}
    shown = (await client.get(path)).json()
    assert shown["oldest_pending"] is not None
    await client.post(f"{path}/resume")
    await eventually(lambda: set(kept) <= set(receiver.ids))
    await eventually(lambda: _settled(client, path))


async def _settled(client: httpx.AsyncClient, path: str) -> bool:
    return (await client.get(path)).json()["oldest_pending"] is None


@pytest.mark.parametrize("verb", ["disable", "delete"])
async def test_nothing_begins_a_second_after_the_end(
    client: httpx.AsyncClient, workers: Workers, receiver: Receiver, verb: str
) -> None:
    await workers.start()
    receiver.answer = lambda _: status(500)
    made = await subscribe(client, receiver.url, retry={"delays": [0.05] * 50})
    await post(client, [{}] * 5)
    await eventually(lambda: len(receiver.hooks) > 10)
    path = f"/v1/hooks/{made['id']}"
    await (client.delete(path) if verb == "delete" else client.post(f"{path}/disable"))
    await asyncio.sleep(1)
    seen = len(receiver.hooks)
    await asyncio.sleep(0.5)
    assert len(receiver.hooks) == seen


async def test_another_url_is_where_it_goes_from_then_on(
    client: httpx.AsyncClient, workers: Workers, receiver: Receiver
) -> None:
    await workers.start()
    async with Receiver() as old:
        old.answer = lambda _: status(503)
        made = await subscribe(client, old.url, retry={"delays": [0.2] * 50})
        sent = await post(client, [{}] * 3)
        await eventually(lambda: set(old.ids) == set(sent))
        began = time.monotonic()
        await client.patch(f"/v1/hooks/{made['id']}", json={"target_url": receiver.url})
        await eventually(lambda: set(receiver.ids) == set(sent))
        assert time.monotonic() - began < 5


async def test_notices_of_an_inbox_are_thin_and_signed(
    client: httpx.AsyncClient, workers: Workers, receiver: Receiver
) -> None:
    await workers.start()
    answer = await client.post(
        "/v1/inboxes", json={"key": "work", "event_types": ["a"], "notification_url": receiver.url}
    )
    inbox = answer.json()
    await post(client, [{"payload": {"n": 1}}] * 3)
    await eventually(lambda: _noticed(receiver) == 3)
    for hook in receiver.hooks:
        assert verifies(hook, inbox["notification_secret"])
        notice = json.loads(hook.body)
        assert sorted(notice) == ["inbox_id", "received_message_count", "redelivery"]
        assert notice["inbox_id"] == inbox["id"]


async def test_a_message_beside_one_whose_attempts_are_used_up_has_its_own(
    client: httpx.AsyncClient, workers: Workers, receiver: Receiver, database: Database
) -> None:
    """One notice tells of both, and fails for both: the last attempt of the one is the first of the other."""
    receiver.answer = lambda _: status(500)
    answer = await client.post(
        "/v1/inboxes", json={"key": "work", "event_types": ["a"], "notification_url": receiver.url}
    )
    assert answer.status_code == 201
    old, new = await post(client, [{}] * 2)
    await database.fetch(
        "update deliveries set attempts = 8, due_at = now() - interval '1 minute'"
        " where event_id = $1 and lane_group is not null",
        UUID(old),
    )
    await workers.start()

    async def outcomes() -> bool:
        rows = await database.fetch("select event_id, attempt, outcome from attempts")
        found = {(str(row["event_id"]), row["attempt"]): row["outcome"] for row in rows}
        return found == {(old, 9): "dead", (new, 1): "retry"}

    await eventually(outcomes, 10)


def _noticed(receiver: Receiver) -> int:
    return sum(json.loads(hook.body)["received_message_count"] for hook in receiver.hooks)


async def test_a_tombstone_is_no_lane(client: httpx.AsyncClient, database: Database) -> None:
    made = await subscribe(client, "https://receiver.example/")
    org = (await client.get("/v1/org")).json()["id"]
    lane = (UUID(org), UUID(made["id"]))
    async with database.connection() as connection:
        assert [each.id for each in await lane_store.endpoints(connection, [lane])] == [lane[1]]
    assert (await client.delete(f"/v1/hooks/{made['id']}")).status_code == 204
    await database.fetch(
        "update subscriptions set status_at = now() - interval '1 minute' where id = $1", lane[1]
    )
    await ending.follow(database, 1000)
    async with database.connection() as connection:
        assert await lane_store.endpoints(connection, [lane]) == []
