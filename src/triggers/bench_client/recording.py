"""Records how long answers took, in bounded memory.

DDSketch and not HdrHistogram: `hdrhistogram` has a C extension and no wheel for Linux on ARM, so installing
Triggers there would need a compiler. DDSketch is pure Python. Its percentiles are within 0.5 % of the exact
ones at every size.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from ddsketch import DDSketch

_ACCURACY: Final = 0.005


class Recording:
    """The answers to one kind of request. Times of answers that are no 2xx are not recorded, only counted."""

    def __init__(self) -> None:
        self._sketch = DDSketch(_ACCURACY)
        self.longest_ms = 0.0
        self.errors: Counter[str] = Counter()
        """Answers that were errors, by status, and requests without an answer, by reason."""

    def add(self, seconds: float) -> None:
        """Record a success."""
        milliseconds = max(0.0, seconds * 1000)
        self._sketch.add(milliseconds)
        self.longest_ms = max(self.longest_ms, milliseconds)

    def add_error(self, reason: str) -> None:
        """Count a failure."""
        self.errors[reason] += 1

    @property
    def successes(self) -> int:
        return int(self._sketch.count)

    def percentile_ms(self, percent: float) -> float:
        """The time in which so many percent of the successes were answered; 0 if there are none."""
        found = self._sketch.get_quantile_value(percent / 100) if self.successes else None
        return 0.0 if found is None else min(found, self.longest_ms)
