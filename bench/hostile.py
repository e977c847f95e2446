"""What an organisation feels of an attack by another, by a caller without a key, or by an endpoint."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing.synchronize import Event
from typing import Any, NamedTuple

import uvloop

from bench import attacks, database
from bench.findings import Findings, Row
from bench.probe import Probe, Taken
from bench.processes import BenchError, Service, fill, free_port, place
from bench.pushing import OPEN, subscribe, without_inbox

RATE = 50
PATIENCE_SECONDS = 10
HEAD_START_SECONDS = 3
"""Some attacks take a moment until they are at their worst."""
SUBSCRIPTIONS = 999
FILTERS = 60
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


class Attack(NamedTuple):
    """`prepare` makes what the attacker owns, and returns what `run` takes after the API's port."""

    name: str
    run: Callable[..., Awaitable[None]]
    prepare: Callable[[Service], tuple[Any, ...]]


def run(*, quick: bool) -> Findings:
    """Each attack on a service of its own, beside the same probe without it."""
    seconds = 3 if quick else 10
    found = Findings(f"hostile: a victim posts {RATE} events/s and receives them, without and with an attack")
    for attack in ATTACKS:
        with place() as home, Service(home, **OPEN) as service:
            row, quiet, attacked = uvloop.run(_attacked(service, attack, seconds))
        found.rows.append({"": attack.name, **row})
        for name, times, least in (("P50", 2, 20), ("P99", 5, 100)):
            allowed = max(times * quiet[f"received {name} ms"], least)
            found.below(f"{attack.name}: {name} ms", attacked[f"received {name} ms"], allowed)
        found.below(f"{attack.name}: events lost", row["lost"], 1)
    found.notes.append(
        "P50 and P99: sent → received; an event that is lost counts as long as it was waited for"
    )
    found.notes.append("MiB: memory of the API before the attack, and the highest until after it")
    return found


async def _attacked(service: Service, attack: Attack, seconds: float) -> tuple[Row, Row, Row]:
    """What is shown, and what the victim felt before and meanwhile."""
    async with Probe() as probe:
        key = service.organisation()
        subscribe(service, key, probe.url, format="raw")
        arguments = attack.prepare(service)
        await probe.send(service.port, key, rate=RATE, seconds=1)
        quiet = await probe.send(service.port, key, rate=RATE, seconds=seconds)
        workers = await _workers(service)
        memory = service.api_memory_mib()["now"]
        with _under_way(attack.run, HEAD_START_SECONDS + seconds + 1, service.port, *arguments) as begun:
            if not await asyncio.to_thread(begun.wait, 30):
                raise BenchError(f"{attack.name}: the attack did not begin.")
            await asyncio.sleep(HEAD_START_SECONDS)
            attacked = await probe.try_send(
                service.port, key, rate=RATE, seconds=seconds, patience_seconds=PATIENCE_SECONDS
            )
        row = {
            **{f"quiet {name}": value for name, value in _felt(quiet).items()},
            **_felt(attacked),
            "lost": attacked.lost,
            "why": ", ".join(f"{number} × {fault}" for fault, number in attacked.faults.most_common(2)),
            "workers died": await _workers(service) - workers,
            "MiB before": memory,
            "MiB highest": service.api_memory_mib()["highest"],
        }
        return row, quiet.row(), attacked.row()


def _felt(taken: Taken) -> Row:
    row = taken.row()
    return {f"{name} ms": row[f"received {name} ms"] for name in ("P50", "P99")}


async def _workers(service: Service) -> int:
    """How many were ever started: each registers once, and its successor again."""
    return int(await asyncio.to_thread(database.value, service, "select count(*) from workers"))


@contextmanager
def _under_way(attack: Callable[..., Awaitable[None]], seconds: float, *arguments: Any) -> Iterator[Event]:
    """Run it in a process of its own, so that the probe is not held up; yields what is set at its start."""
    context = multiprocessing.get_context("spawn")
    begun = context.Event()
    process = context.Process(target=_bounded, args=(begun, attack, seconds, arguments), daemon=True)
    process.start()
    try:
        yield begun
    finally:
        process.join(seconds)
        process.kill()
        process.join()


def _bounded(begun: Event, attack: Callable[..., Awaitable[None]], seconds: float, arguments: Any) -> None:
    async def within() -> None:
        begun.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await attack(*arguments)

    uvloop.run(within())


# ---- what the attackers own ----------------------------------------------------------------------


def _endpoint(begin: bytes, then: bytes) -> Callable[[Service], tuple[Any, ...]]:
    """A subscription of an endpoint that tries again soon; the endpoint itself is part of the attack."""

    def prepare(service: Service) -> tuple[Any, ...]:
        key, port = without_inbox(service), free_port()
        subscribe(service, key, f"http://127.0.0.1:{port}/", retry={"delays": [0.5] * 40})
        return key, port, begin, then

    return prepare


def _five_hanging(service: Service) -> tuple[list[str], int]:
    """Five tenants whose subscriptions lead to an endpoint that is part of the attack."""
    keys, port = [without_inbox(service) for _ in range(5)], free_port()
    for number, key in enumerate(keys):
        subscribe(service, key, f"http://127.0.0.1:{port}/{number}", max_concurrency=1_000)
    return keys, port


def _many_paused(service: Service, number: int, **settings: Any) -> str:
    """A tenant with this number of subscriptions. They are paused, so that deliveries are not part of the
    attack."""
    key = without_inbox(service)

    def subscribe_paused(_: int) -> None:
        made = subscribe(service, key, "http://127.0.0.1:9/", **settings)
        service.must("POST", f"/v1/subscriptions/{made}/pause", key=key)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(subscribe_paused, range(number)))
    return key


def _same_pointers(service: Service) -> tuple[str]:
    return (_many_paused(service, SUBSCRIPTIONS, ordering="key", ordering_key="/k"),)


def _many_filters(service: Service) -> tuple[str]:
    """Sixty filters that no event matches, so that only the evaluation of filters is attacked."""
    key = without_inbox(service)
    for number in range(FILTERS):
        subscribe(
            service, key, "http://127.0.0.1:9/", filter=f"payload.lines.exists(l, l.price > {1000 + number})"
        )
    return (key,)


def _much_to_try(service: Service) -> tuple[str]:
    key = service.organisation()
    fill(service, key, 1000)
    return (key,)


def _nothing(*arguments: Any) -> Callable[[Service], tuple[Any, ...]]:
    """An attacker that needs no key."""
    return lambda _: arguments


ATTACKS = [
    Attack(
        "1 answer: endless trailer",
        attacks.endless_answer,
        _endpoint(CHUNKED + b"2\r\nok\r\n0\r\nX: ", attacks.LETTERS),
    ),
    Attack(
        "1 answer: endless chunk extension",
        attacks.endless_answer,
        _endpoint(CHUNKED + b"2;", attacks.EXTENSION),
    ),
    Attack("1 answer: endless interim answers", attacks.endless_answer, _endpoint(b"", attacks.INTERIM)),
    Attack("3 request: endless trailer", attacks.endless_trailers, _nothing(b"X: ", attacks.LETTERS)),
    Attack("3 request: small trailers", attacks.endless_trailers, _nothing(b"", attacks.FIELDS)),
    Attack(
        "4 worst batches, free plan",
        attacks.worst_batches,
        lambda service: (service.organisation("free"), attacks.FREE_PLAN_SECONDS),
    ),
    Attack("4 worst batches, no limit", attacks.worst_batches, lambda service: (service.organisation(), 0.0)),
    Attack("5 one pointer, 999 subscriptions", attacks.same_pointers, _same_pointers),
    Attack("filters: twelve batches with sixty", attacks.filtered_batches, _many_filters),
    Attack("filters: forty dry runs", attacks.dry_runs, _much_to_try),
    Attack("6 unread pipelines", attacks.unread_pipelines, _nothing()),
    Attack(
        "7 gzip without its end",
        attacks.withheld_ends,
        lambda service: ([service.organisation("free") for _ in range(2)],),
    ),
    Attack("8 endpoints that hang, five tenants", attacks.hanging_endpoints, _five_hanging),
    Attack("9 /docs under random hosts", attacks.random_hosts, _nothing()),
    Attack(
        "10 events to a thousand subscriptions",
        attacks.broad_events,
        lambda service: (_many_paused(service, SUBSCRIPTIONS),),
    ),
]
"""The numbers name what is attacked: 1 the worker, 3 the head of a request, 4 the splitting of batches,
5 ordering keys, 6 requests on one connection, 7 the room of what waits to be stored, 8 the slots for
requests to endpoints, 9 routes that need no key, 10 fan-out. Silent name servers are a test in
tests/integration/push, because they need a resolver of their own."""
