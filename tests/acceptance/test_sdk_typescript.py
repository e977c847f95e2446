"""A consumer with the TypeScript library through kill -9 of the node: no message is lost."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable

import typescript

from .processes import Service, ask, wait_for

MESSAGES = 300


def test_a_consumer_loses_nothing_when_the_node_is_killed(launch: Callable[..., Service]) -> None:
    package = typescript.build()
    service = launch()
    service.start()
    key = service.tenant()
    status, _ = ask(service.port, "/v1/inboxes", key, {"key": "work"})
    assert status == 201
    environment = {
        **os.environ,
        "TRIGGERS_URL": f"http://127.0.0.1:{service.port}",
        "TRIGGERS_API_KEY": key,
        "INBOX": "work",
    }
    printed = service.place / "consumer.out"
    with printed.open("wb") as out, (service.place / "consumer.err").open("wb") as errors:
        consumer = subprocess.Popen(
            [typescript.node(), "built/consumer.js"], cwd=package, env=environment, stdout=out, stderr=errors
        )
    try:

        def handled() -> set[str]:
            return set(printed.read_text().split())

        def send(first: int) -> None:
            events = [{"type": "a", "payload": {"n": n}} for n in range(first, first + MESSAGES // 2)]
            answer = ask(service.port, "/v1/events/batch", key, events)
            assert answer is not None
            assert answer[0] == 200

        send(0)
        wait_for(lambda: len(handled()) > 20, 20, "handled messages")
        service.kill()
        assert len(handled()) < MESSAGES // 2, "the kill came too late to interrupt anything"
        service.start()
        send(MESSAGES // 2)
        wait_for(lambda: len(handled()) >= MESSAGES, 60, "end of the messages")
        assert handled() == {str(n) for n in range(MESSAGES)}
        assert consumer.poll() is None
        consumer.terminate()
        assert consumer.wait(20) == 0, (service.place / "consumer.err").read_text()
        assert "stopped" in printed.read_text()
        status, inbox = ask(service.port, "/v1/inboxes/work?backlog=", key)
        assert (status, inbox["backlog"]["messages"], inbox["backlog"]["quarantined"]) == (200, 0, 0)
    finally:
        consumer.kill()
        consumer.wait()
