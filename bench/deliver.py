"""Deliveries a second from a backlog, beside what clients alone reach against the same receiver."""

from __future__ import annotations

from typing import Any

import uvloop

from bench import database, outbound
from bench.findings import Findings, Ratio, Row
from bench.processes import Service, fill, place
from bench.pushing import OPEN, drain, subscribe, subscribe_all, without_inbox
from bench.receiver import Receiver, receiver

IN_FLIGHT = 64
LANES_EACH = 1000
BATCH = 1000
CLIENTS = {
    f"bare connections, {IN_FLIGHT} in flight": outbound.ours_raw,
    "our client alone": outbound.ours,
    "pyreqwest alone": outbound.pyreqwest_pinned,
}


def run(*, quick: bool) -> Findings:
    """One lane, many lanes with one delivery each, and one event to a thousand lanes."""
    backlog, organisations = (10_000, 1) if quick else (50_000, 10)
    found = Findings("deliver: from a backlog, one worker, receiver nginx")
    with place() as home, receiver() as nginx, Service(home, **OPEN) as service:
        requests = 5_000 if quick else 20_000
        before = [_alone(nginx, client, requests) for client in CLIENTS.values()]
        one = one_lane(service, nginx, backlog)
        keys = make_lanes(service, nginx, organisations)
        each = one_each(service, nginx, keys)
        fan_out = _fan_out(service, nginx, keys[0])
        after = [_alone(nginx, client, requests) for client in CLIENTS.values()]
    raw, ours, library = alone = [
        max(rows, key=lambda row: float(row["per second"])) for rows in zip(before, after, strict=True)
    ]
    found.rows = [
        *({"": name, **row} for name, row in zip(CLIENTS, alone, strict=True)),
        {"": "one lane", **one},
        {"": f"{organisations * LANES_EACH:,} lanes with one each", **each},
        {"": f"one event to {LANES_EACH:,} lanes", **fan_out},
    ]
    found.at_least("one lane per second", one["per second"], 5_000)
    found.at_least("one lane to pyreqwest alone", one["per second"] / library["per second"], 0.5)
    found.ratios.append(Ratio("one lane to our client alone", one["per second"] / ours["per second"]))
    found.ratios.append(Ratio("one lane to bare connections", one["per second"] / raw["per second"]))
    found.at_least("many lanes to one lane", each["per second"] / one["per second"], 0.5)
    found.at_least("one event to many, to one lane", fan_out["per second"] / one["per second"], 0.5)
    found.notes.append("every attempt recorded; rates as nginx counted them, without the first tenth")
    return found


def _alone(nginx: Receiver, client: Any, requests: int) -> Row:
    rate, cpu = uvloop.run(outbound.measure(client, nginx.port, requests, IN_FLIGHT))
    return {"per second": rate, "worker µs": cpu}


def one_lane(service: Service, nginx: Receiver, backlog: int) -> Row:
    """Collected while the subscription is paused, delivered when it is resumed."""
    key = without_inbox(service)
    subscription = subscribe(service, key, nginx.url + "/hook")
    service.must("POST", f"/v1/subscriptions/{subscription}/pause", key=key)
    received = nginx.received()
    fill(service, key, backlog)
    # For up to a second a worker may not know of the pause, and the first events are delivered at once.
    backlog -= nginx.received() - received
    resume = f"/v1/subscriptions/{subscription}/resume"
    return drain(service, nginx, backlog, lambda: service.must("POST", resume, key=key))


def make_lanes(
    service: Service, nginx: Receiver, organisations: int, lanes_each: int = LANES_EACH
) -> list[str]:
    """Lanes of new organisations, each for a type of its own; return the keys of the organisations."""
    keys = [without_inbox(service) for _ in range(organisations)]
    database.value(service, "update organisations set max_subscriptions = $1", 2 * lanes_each)
    subscribe_all(
        service,
        (
            (key, {"target_url": f"{nginx.url}/{lane}", "event_types": [f"lane.{lane}", "to.all"]})
            for key in keys
            for lane in range(lanes_each)
        ),
    )
    return keys


def one_each(
    service: Service, nginx: Receiver, keys: list[str], lanes_each: int = LANES_EACH, times: int = 1
) -> Row:
    """So many deliveries to each lane, sent in batches."""
    events = [{"type": f"lane.{lane}", "payload": {"lane": lane}} for lane in range(lanes_each)]

    def post() -> None:
        for _ in range(times):
            for first in range(0, lanes_each, BATCH):
                for key in keys:
                    service.must("POST", "/v1/events/batch", events[first : first + BATCH], key)

    return drain(service, nginx, times * len(keys) * lanes_each, post)


def _fan_out(service: Service, nginx: Receiver, key: str) -> Row:
    event = {"type": "to.all", "payload": {}}
    return drain(service, nginx, LANES_EACH, lambda: service.must("POST", "/v1/events", event, key))
