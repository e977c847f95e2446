"""The steps of the performance session, with what it says that each of them saves."""

from __future__ import annotations

from typing import NamedTuple

KEY = "zap_test_benchmark_key_for_load_testing_purposes_only_12345"
PREFIX_LENGTH = 12


class Step(NamedTuple):
    """A switch of the app, and the milliseconds per request that the session claims for it."""

    name: str
    title: str
    claimed: str
    at_least_ms: float
    why_less: str
    by_organisations: bool = False
    """Whether it saves more the more organisations there are."""


STEPS = (
    Step(
        "sha256",
        "SHA-256 instead of bcrypt",
        "~240 ms",
        240,
        "One bcrypt takes less here, or the machine was busy.",
    ),
    Step(
        "prefix",
        "look-up by an indexed prefix",
        "~247 ms with many organisations",
        247,
        "After step 1 a comparison costs microseconds. The claim is the time of one more bcrypt, which "
        "no request does any more.",
        by_organisations=True,
    ),
    Step(
        "engine-pool",
        "20 + 10 pooled connections to PostgreSQL",
        "~10 ms",
        10,
        "A new connection to a PostgreSQL on the same machine costs less, and the ping before each use "
        "takes back a part.",
    ),
    Step(
        "redis-pool",
        "50 pooled connections to Redis",
        "~2–5 ms",
        2,
        "A new connection to a Redis on the same machine costs less than one over a network.",
    ),
    Step(
        "no-refresh",
        "no refresh after the commit",
        "~5–10 ms",
        5,
        "The refresh is one SELECT by primary key, over a connection that is open already.",
    ),
    Step(
        "indexes",
        "the other four of the five indexes",
        "~20 ms for indexed queries",
        20,
        "`POST /events` uses one of them, for the `dedup_id`. Its saving grows with the number of stored "
        "events, which the session does not name.",
    ),
)
"""In the order of the session. Its seventh step moves one key to the new hash, and makes nothing faster.

It lists the index of the prefix under two steps; here it belongs to the look-up, which needs it.
"""


def up_to(count: int) -> tuple[str, ...]:
    """The switches that are on after so many steps."""
    return tuple(step.name for step in STEPS[:count])
