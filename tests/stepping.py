"""How long the steps of long work take."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from triggers.errors import MalformedBody, TooLarge
from triggers.fairness.pace import Steps

MOST_SECONDS = 0.010
"""The bound of a step."""
TRIES = 10


def longest_step(make: Callable[[], Steps[Any]]) -> float:
    """The CPU seconds of the longest step. The work is done again until that is below MOST_SECONDS.

    Each time the work must have the same steps. Of each step the shortest time counts: on a machine that is
    shared, CPU time too is longer than what the work takes.
    """
    least: list[float] = []
    for _ in range(TRIES):
        seconds = _seconds_of_steps(make())
        least = [min(pair) for pair in zip(least, seconds, strict=True)] if least else seconds
        if max(least) < MOST_SECONDS:
            break
    return max(least)


def _seconds_of_steps(steps: Steps[Any]) -> list[float]:
    found = []
    ended = False
    while not ended:
        began = time.thread_time()
        try:
            next(steps)
        except (StopIteration, MalformedBody, TooLarge):
            ended = True
        found.append(time.thread_time() - began)
    return found
