"""The attack over raw sockets on a real service: callers, endpoint and victim, and the verdict."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from acceptance.processes import Service, ask
from fuzz import bodies
from fuzz.attack import CONNECTIONS, Attack
from fuzz.callers import Known
from fuzz.endpoint import HostileEndpoint
from fuzz.victim import Victim
from fuzz.watching import Processes, log_errors
from harness import eventually

PLANS = ("free", "free", "pro", "business", "enterprise", "enterprise")
ENDPOINTS_OF_A_TENANT = 4
KNOWN_ENDPOINTS = 2
"""Of so many of them callers know the id, and may pause, disable or delete them; the others last."""
FIRST_EVENTS = 50
SAMPLE_EVERY_SECONDS = 2.0
PROGRESS_EVERY_SECONDS = 10.0
TO_DRAIN_SECONDS = 90.0
"""How long the victim's last events may take to arrive once the attack has ended."""
USUAL_SECONDS = 1.0
"""An answer of the idle service takes some milliseconds; no machine makes this much of that."""
LEAST_ACCEPTED = 0.5
"""Part of the victim's posts that must be accepted: the rest may be refused while the attack lasts."""

Say = Callable[[str], None]


async def run(service: Service, seconds: float, seed: str, say: Say) -> list[str]:
    """Attack a service that has not started yet; return what is wrong with it afterwards."""
    service.environment["TRIGGERS_OUTBOUND_ALLOW"] = "127.0.0.0/8"
    service.environment["TRIGGERS_OUTBOUND_ALLOW_HTTP"] = "1"
    service.start("--log-level", "warning")
    processes = Processes(service)
    async with HostileEndpoint(seed) as endpoint, Victim(service) as victim:
        known = await _prepare(service, endpoint)
        attack = Attack(service.port, known, seed)
        await _while_watched(attack, _watch(seconds, processes, attack, endpoint, victim, say))
        await victim.stop_posting()
        wrong, lines = processes.growth()
        wrong += await _drain(victim)
        wrong += _answers(service, known)
    wrong += processes.deaths()
    wrong += [f"the log says: {line}" for line in log_errors(service)[:10]]
    wrong += [f"answered {each.status} to {each.talk}: {each.sent!r}" for each in attack.faults[:10]]
    tried = sum(victim.outcomes.values())
    if len(victim.accepted) < LEAST_ACCEPTED * tried:
        wrong.append(f"of the victim's {tried} posts {len(victim.accepted)} were accepted")
    for line in (*lines, *_told(attack, endpoint, victim)):
        say(line)
    return wrong


async def _prepare(service: Service, endpoint: HostileEndpoint) -> Known:
    """Organisations that attack, their subscriptions to the hostile endpoint, and events for it."""
    real = bodies.lines()
    _, document = await asyncio.to_thread(ask, service.port, "/openapi.json")
    routes = [(method.upper(), path) for path, item in document["paths"].items() for method in item]
    known = Known(routes, [], real)
    keys: list[str | None] = [None]
    for number, plan in enumerate(PLANS):
        key = await asyncio.to_thread(service.tenant, plan)
        keys.append(key)
        async with service.client(key) as client:
            for n in range(ENDPOINTS_OF_A_TENANT):
                settings = {
                    "target_url": f"{endpoint.url}/{number}/{n}",
                    "retry": {"delays": [1, 2, 5] if n else []},
                    "ordering": "key" if n == 1 else "none",
                }
                made = await client.post("/v1/subscriptions", settings)
                assert made.status == 201, made
                if n < KNOWN_ENDPOINTS:
                    known.ids.append(made.json["id"])
            for n in range(FIRST_EVENTS):
                posted = await client.post("/v1/events", real[(number * FIRST_EVENTS + n) % len(real)])
                if posted.status == 201:
                    known.ids.append(posted.json["id"])
    known.keys = keys
    return known


async def _while_watched(attack: Attack, watching: Coroutine[Any, Any, None]) -> None:
    """Attack until `watching` ends. An error in the fuzzer itself comes out of it."""
    tasks = {asyncio.create_task(attack.run()), asyncio.create_task(watching)}
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _watch(
    seconds: float,
    processes: Processes,
    attack: Attack,
    endpoint: HostileEndpoint,
    victim: Victim,
    say: Say,
) -> None:
    """Sample the memory, and say now and then how far it is."""
    began = time.monotonic()
    said = began
    while (now := time.monotonic()) - began < seconds:
        memory = processes.sample()
        if now - said >= PROGRESS_EVERY_SECONDS:
            said = now
            say(
                f"{now - began:4.0f} s: {attack.talks.total():,} connections, {attack.statuses.total():,}"
                f" answers, {endpoint.requests:,} deliveries to the hostile endpoint,"
                f" victim {len(victim.accepted):,} accepted, {victim.missing()[0]:,} on their way; {memory}"
            )
        await asyncio.sleep(min(SAMPLE_EVERY_SECONDS, max(0.0, seconds - (now - began))))


async def _drain(victim: Victim) -> list[str]:
    """Wait until all of the victim's events have arrived and are acknowledged."""
    with suppress(AssertionError):
        await eventually(lambda: not any(victim.missing()), TO_DRAIN_SECONDS)
    undelivered, unread = victim.missing()
    wrong = [f"{undelivered} of the victim's events were not delivered"] if undelivered else []
    return wrong + ([f"{unread} of the victim's events were not acknowledged"] if unread else [])


def _answers(service: Service, known: Known) -> list[str]:
    """Whether requests are answered as fast as usual again."""
    times = []
    for path in ("/livez", "/v1/org", "/v1/subscriptions") * 7:
        began = time.monotonic()
        answer = ask(service.port, path, known.keys[-1])
        times.append(time.monotonic() - began)
        if answer is None or answer[0] != 200:
            return [f"at the end {path} was answered with {answer}"]
    median = statistics.median(times)
    return [f"at the end an answer took {median:.1f} s"] if median > USUAL_SECONDS else []


def _told(attack: Attack, endpoint: HostileEndpoint, victim: Victim) -> list[str]:
    """What was done."""
    return [
        f"{CONNECTIONS} callers: {_counts(attack.talks)}; refused {attack.refused}",
        f"answers: {_counts(attack.statuses)}",
        f"hostile endpoint: {_counts(endpoint.done)}",
        f"victim: {len(victim.accepted):,} accepted; posts: {_counts(victim.outcomes)}",
    ]


def _counts(counter: Counter[str] | Counter[int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in sorted(counter.items(), key=str))
