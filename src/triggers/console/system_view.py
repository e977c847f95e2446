"""Describes the state of the service in sentences. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from triggers.console.words import counted, duration, size
from triggers.system.body import SystemState

_SILENT_SECONDS: Final = 4.0
"""A worker that has written no heartbeat for this time is declared dead by another one."""
_LONG_TRANSACTION_SECONDS: Final = 900.0
_OLD_XMIN: Final = 10_000_000
_NEARLY_ALL: Final = 0.9
_IN_OWN_WORDS: Final = frozenset({"disk", "redis"})
"""Checks that have sentences of their own here."""


def problems_of(state: SystemState) -> list[str]:
    """Return everything that needs the operator's attention, each in a sentence."""
    return [*_of_processes(state), *_of_postgres(state), *_of_this_process(state)]


def tell(state: SystemState) -> str:
    """Return one sentence that says how the service does if nothing needs attention."""
    pool, groups = state.postgresql.pool, state.groups.total
    workers = (
        f"1 worker owns all {groups} groups of lanes"
        if len(state.workers) == 1
        else f"{len(state.workers)} workers share {groups} groups of lanes"
    )
    answers = (
        "1 process answers requests"
        if len(state.api_processes) == 1
        else f"{len(state.api_processes)} processes answer requests"
    )
    return (
        f"Everything works: {answers}, {workers}, and {pool.in_use} of {pool.most} database connections are"
        " in use."
    )


def _of_processes(state: SystemState) -> Iterator[str]:
    if not state.workers:
        yield "No worker runs, so nothing is sent."
    elif state.groups.without_owner:
        yield (
            f"{state.groups.without_owner} of {state.groups.total} groups of lanes have no worker. This takes"
            " a few seconds after a worker has started or stopped."
        )
    for worker in state.workers:
        if worker.heartbeat_age_seconds > _SILENT_SECONDS:
            yield f"The worker {worker.name} has been silent for {duration(worker.heartbeat_age_seconds)}."


def _of_postgres(state: SystemState) -> Iterator[str]:
    found = state.postgresql
    if found.pool.in_use >= found.pool.most:
        yield (
            f"All {counted(found.pool.most, 'database connection')} of this process are in use, so requests"
            " wait. TRIGGERS_POOL_SIZE sets the number."
        )
    if found.connections >= _NEARLY_ALL * found.max_connections:
        yield f"PostgreSQL has {found.connections} of at most {found.max_connections} connections."
    if (found.oldest_transaction_seconds or 0) > _LONG_TRANSACTION_SECONDS:
        yield (
            f"A transaction has been open for {duration(found.oldest_transaction_seconds or 0)}. Vacuum"
            " cannot remove rows that died since then."
        )
    elif found.oldest_xmin_age > _OLD_XMIN:
        yield (
            f"The oldest snapshot is {found.oldest_xmin_age:,} transactions old. Vacuum cannot remove rows"
            " that died since then."
        )


def _of_this_process(state: SystemState) -> Iterator[str]:
    if state.redis == "down":
        yield "Redis cannot be reached, so processes find new deliveries by polling."
    disk = state.disk
    if disk is not None and disk.free_bytes < disk.least_free_bytes:
        yield (
            f"Only {size(disk.free_bytes)} of the disk are free. Events are refused below"
            f" {size(disk.least_free_bytes)}."
        )
    for name, found in state.checks.items():
        if found != "ok" and name not in _IN_OWN_WORDS:
            yield f"{name.capitalize()}: {found}."
