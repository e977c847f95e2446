"""Lags in buckets, and what percentiles of them are."""

from __future__ import annotations

from bisect import bisect_right
from itertools import pairwise

import pytest

from triggers.statistics.lag import BOUNDS, BUCKETS, percentile


def buckets(*lags: float) -> list[int]:
    counts = [0] * BUCKETS
    for each in lags:
        counts[bisect_right(BOUNDS, each)] += 1
    return counts


def test_each_bucket_is_twice_as_wide_as_the_one_before() -> None:
    assert BUCKETS == 16
    assert all(upper == 2 * lower for lower, upper in pairwise(BOUNDS))
    assert buckets(-1, 0, 0.0039)[0] == 3
    assert buckets(0.004, 0.0079)[1] == 2
    assert buckets(65.5)[14] == 1
    assert buckets(65.536, 1e9)[15] == 2


def test_without_lags_there_is_no_percentile() -> None:
    assert percentile(buckets(), 0.5) is None


@pytest.mark.parametrize(
    ("lags", "share", "expected"),
    [
        ([0.005] * 10, 0.5, 0.006),
        ([0.001] * 10, 1.0, 0.004),
        ([0.005] * 95 + [1.5] * 5, 0.5, 0.0061),
        ([0.005] * 90 + [1.5] * 10, 0.95, 1.536),
        ([100.0], 0.95, 65.536),
        ([0.005, 100.0], 0.5, 0.008),
    ],
)
def test_a_percentile_lies_in_the_bucket_of_its_lag(lags: list[float], share: float, expected: float) -> None:
    assert percentile(buckets(*lags), share) == pytest.approx(expected, rel=0.01)


def test_buckets_of_two_processes_can_be_summed() -> None:
    fast, slow = buckets(*[0.005] * 98), buckets(*[30.0] * 2)
    both = [one + other for one, other in zip(fast, slow, strict=True)]
    assert (percentile(both, 0.5) or 0) < 0.01
    assert (percentile(both, 0.99) or 0) > 16
