"""Statistics after kill -9: at most what was not written is lost, and nothing is counted twice."""

from __future__ import annotations

from collections.abc import Callable

from .processes import Service, ask, wait_for


def accepted(service: Service, key: str) -> int:
    status, found = ask(service.port, "/v1/stats", key)
    assert status == 200, found
    return int(found["totals"]["accepted"])


def send(service: Service, key: str, number: int) -> None:
    batch = [{"type": "a", "payload": each} for each in range(number)]
    status, answer = ask(service.port, "/v1/events/batch", key, batch)
    assert status == 200, answer


def test_a_killed_process_loses_only_what_it_had_not_written(launch: Callable[..., Service]) -> None:
    service = launch()
    service.start()
    key = service.first_key()
    send(service, key, 20)
    wait_for(lambda: accepted(service, key) == 20, 20, "flush")
    send(service, key, 5)
    service.kill()
    service.start()
    kept = accepted(service, key)
    assert 20 <= kept <= 25
    send(service, key, 7)
    wait_for(lambda: accepted(service, key) > kept, 20, "flush")
    assert accepted(service, key) == kept + 7
    assert service.stop() == 0
    service.start()
    assert accepted(service, key) == kept + 7
