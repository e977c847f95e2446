"""Counts the deliveries of each group of lanes that are under way: in flight, or not written yet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from triggers.push.lane import Lane


class UnderWay:
    """Counts deliveries by group. While a group is on probation, only one of them is under way at a time."""

    def __init__(self, offer: Callable[[Lane], None]) -> None:
        """`offer` is called with each lane that may send again."""
        self._offer = offer
        self._number: Counter[int] = Counter()
        self._held: dict[int, list[Lane]] = {}  # by group on probation: those whose turn comes later

    def any(self, group_id: int) -> bool:
        """Whether anything of a group is under way."""
        return self._number[group_id] > 0

    def begin(self, group_id: int, number: int = 1) -> None:
        """`number` more deliveries of a group are under way."""
        self._number[group_id] += number

    def hold(self, lane: Lane) -> None:
        """Let a lane of a group on probation wait until what is under way has ended."""
        lane.wait_for_group()
        self._held.setdefault(lane.group, []).append(lane)

    def end(self, group_id: int) -> None:
        """One delivery of a group is no longer under way; on probation the next one may go."""
        self._number[group_id] -= 1
        for lane in self._held.pop(group_id, ()):
            lane.go_on()
            self._offer(lane)
