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
    with pytest.raises(httpx.ReadTimeout):  # nobody is left to answer it
        await client.post("/v1/events", json={"type": "a", "payload": 1}, timeout=0.5)
    answer = await client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["checks"]["flusher"] == "ended: ZeroDivisionError"


def fail_at_once(*_: Any) -> Any:
    raise ZeroDivisionError("of ours")
