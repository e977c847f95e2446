"""Counts the lags of deliveries in 16 buckets. Each bucket is twice as wide as the one before.

Percentiles of minutes and processes cannot be combined. Buckets can be summed, and give percentiles then.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

BOUNDS: Final = tuple(0.004 * 2**place for place in range(15))
"""The upper bounds of the buckets in seconds. The last bucket begins at 65.536 s and has no upper bound."""
BUCKETS: Final = len(BOUNDS) + 1


def percentile(counts: Sequence[int], share: float) -> float | None:
    """Return the lag in seconds that `share` of all lags do not exceed. None if there are no lags.

    It assumes that the lags of a bucket are spread evenly. For the last bucket, it returns the lower bound.
    """
    wanted = share * sum(counts)
    if not wanted:
        return None
    place = below = 0
    while below + counts[place] < wanted and place < BUCKETS - 1:
        below += counts[place]
        place += 1
    lower = BOUNDS[place - 1] if place else 0.0
    upper = BOUNDS[place] if place < len(BOUNDS) else lower
    return lower + (upper - lower) * (wanted - below) / counts[place]
