"""What /readyz and /metrics say when background work fails."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from harness import Node, eventually
from triggers.keys import store as api_keys
from triggers.replays import store as replay_store


async def fail(*_: Any) -> Any:
    raise ZeroDivisionError("of ours")


async def test_a_duty_that_fails_makes_a_node_degraded_until_it_is_well(
    node: Node, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(replay_store, "waiting", fail)

        async def degraded() -> bool:
            answer = await client.get("/readyz")
            assert answer.status_code == 200
            found: dict[str, Any] = answer.json()
            return found["status"] == "degraded" and found["checks"]["replays"] == "failed: ZeroDivisionError"

        await eventually(degraded, 10)
        assert 'triggers_background_trouble{work="replays"} 1.0' in (await client.get("/metrics")).text

    async def well() -> bool:
        return bool((await client.get("/readyz")).json() == {"status": "ready"})

    await eventually(well, 10)
    assert 'work="replays"' not in (await client.get("/metrics")).text


async def test_a_node_that_cannot_follow_keys_is_not_ready(
    node: Node, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_keys, "version", fail)

    async def not_ready() -> bool:
        answer = await client.get("/readyz")
        return (
            answer.status_code == 503
            and answer.json()["checks"].get("key version") == "failed: ZeroDivisionError"
        )

    await eventually(not_ready, 10)


async def test_a_node_whose_flusher_has_ended_is_not_ready(
    node: Node, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node.acceptor._queues, "take_late", fail_at_once)
    for _ in ("its caller waits", "it comes later"):
        refused = await client.post("/v1/events", json={"type": "a", "payload": 1})
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert refused.json()["detail"] == "The service is stopping; nothing was accepted."
    answer = await client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["checks"]["flusher"] == "ended: ZeroDivisionError"
    assert node.acceptor.waiting == (0, 0)


async def test_an_event_in_the_hands_of_a_flusher_that_ends_is_answered_too(
    node: Node, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be stored, so the answer must not say that it is not."""
    monkeypatch.setattr(node.acceptor._flusher, "store", fail)
    refused = await client.post("/v1/events", json={"type": "a", "payload": 1})
    assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
    assert "nothing was accepted" not in refused.json()["detail"]


def fail_at_once(*_: Any) -> Any:
    raise ZeroDivisionError("of ours")
