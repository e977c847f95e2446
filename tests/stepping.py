"""How long the steps of long work take."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from triggers.errors import MalformedBody, TooLarge
from triggers.pace import Steps

TRIES = 10


def longest_step(make: Callable[[], Steps[Any]], enough: float) -> float:
    """The CPU seconds of the longest step. The work is done again until that is below `enough`.

    The same work has the same steps, and of each step its shortest time counts: on a machine that is shared,
    CPU time too is longer than what the work takes.
    """
    least: list[float] = []
    for _ in range(TRIES):
        seconds = _seconds_of_steps(make())
        least = [min(pair) for pair in zip(least, seconds, strict=True)] if least else seconds
        if max(least) < enough:
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
