"""What the parts that deliver share: subscriptions, and how fast the receiver gets what is due."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from bench import database
from bench.findings import Row
from bench.processes import BenchError, Service
from bench.receiver import Receiver

OPEN = {"outbound_allow": "127.0.0.0/8", "outbound_allow_http": "1"}
"""Settings with which deliveries may reach this machine."""
PATIENCE_SECONDS = 120


def subscribe(service: Service, key: str, url: str, **more: Any) -> str:
    """Make a push subscription; return its id."""
    return str(service.must("POST", "/v1/subscriptions", {"target_url": url, **more}, key)["id"])


def subscribe_all(service: Service, bodies: Iterable[tuple[str, dict[str, Any]]]) -> None:
    """Make many: a key and a body each."""
    with ThreadPoolExecutor(8) as pool:
        for done in [
            pool.submit(service.must, "POST", "/v1/subscriptions", body, key) for key, body in bodies
        ]:
            done.result()


def without_inbox(service: Service) -> str:
    """A key of an organisation whose default inbox is off: what is accepted is for subscriptions alone."""
    key = service.organisation()
    service.must("DELETE", "/v1/inboxes/default", key=key)
    return key


def drain(service: Service, receiver: Receiver, deliveries: int, begin: Callable[[], Any]) -> Row:
    """Watch so many deliveries arrive that `begin` sets off: their rate from the first tenth to the last,
    and what each cost. The start is left out: how soon a worker hears of work is another figure."""
    before, cpu, nginx = receiver.received(), service.cpu(), receiver.cpu()
    moments: list[tuple[float, int]] = [(time.monotonic(), 0)]
    deadline = moments[0][0] + PATIENCE_SECONDS
    with ThreadPoolExecutor(1) as pool:
        begun_by = pool.submit(begin)
        while moments[-1][1] < deliveries:
            time.sleep(0.005)
            moments.append((time.monotonic(), receiver.received() - before))
            if moments[-1][0] > deadline:
                raise BenchError(
                    f"{moments[-1][1]} of {deliveries} deliveries arrived; left over: {_left_over(service)}"
                )
        begun_by.result()
    used = service.cpu().since(cpu).per(deliveries)
    begun = next(moment for moment in moments if moment[1] >= deliveries / 10)
    ended = moments[-1]
    return {
        "deliveries": deliveries,
        "per second": (ended[1] - begun[1]) / max(ended[0] - begun[0], 0.001),
        "seconds": ended[0] - moments[0][0],
        "worker µs": used["worker µs"],
        "postgres µs": used["postgres µs"],
        "nginx µs": (receiver.cpu() - nginx) / deliveries * 1e6,
    }


def _left_over(service: Service) -> str:
    """What is not settled, and when it is tried next: a retry that waits is no delivery that is stuck."""
    return str(
        database.value(
            service,
            "select json_agg(f) from (select status, attempts, count(*), min(due_at) - now() as due_in"
            " from deliveries where lane_group is not null group by status, attempts) f",
        )
    )
