"""Places the attempts of an event on one time axis, and gives the reason for each gap. Pure.

The axis is monotone but not linear: the width of the interval between two moments grows with the logarithm of
its length. So the first seconds and the last day of a schedule are both readable.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

import msgspec

from triggers.console.story import State
from triggers.console.words import WAITS, relative, rough

_FIRST, _LAST = 1.5, 98.0
"""The beginning and the end of the axis, in percent of the width."""
_TICK_APART: Final = 9.0
_TICK_APART_NARROW: Final = 24.0
_EDGE: Final = 6.0
"""A label so near to an end of the axis, in percent, is beside its tick. The others are centred below it."""
_TICK_APART_FROM_EDGE: Final = 12.0
_JITTER: Final = 0.2
_PX_A_CHARACTER: Final = 6.0
_PX_BESIDE: Final = 14
_WIDE_PX, _NARROW_PX = 640, 300
"""Minimum width of a track on a wide and on a narrow screen. The style sheet has the same values."""


class Try(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt, as far as the axis needs it."""

    began_at: datetime
    duration: timedelta
    generation: int
    number: int
    outcome: str
    reason: str
    retry_at: datetime | None


class Course(msgspec.Struct, frozen=True, kw_only=True):
    """One delivery over time: its attempts in their order, and the reason why it waits now."""

    tries: list[Try]
    delays: tuple[float, ...] = ()
    """The retry schedule of the subscription, in seconds."""
    waiting_for: str | None = None
    next_at: datetime | None = None
    is_open: bool = False


class Mark(NamedTuple):
    """An attempt, or the next one, at a place on the axis in percent."""

    place: float
    state: State
    label: str


class Pause(NamedTuple):
    """The time between two marks. `fits`: the screens that have room for the label around `middle`."""

    start: float
    end: float
    middle: float
    label: str
    is_now: bool
    fits: str


class Tick(NamedTuple):
    """A labelled place on the axis. `narrow`: whether a narrow screen has room for its label."""

    place: float
    label: str
    at: datetime
    narrow: bool


class Chart(NamedTuple):
    """The parts to draw. `tracks` has the marks and gaps of each course, in the order of the courses."""

    ticks: list[Tick]
    tracks: list[tuple[list[Mark], list[Pause]]]
    now: float | None


def chart(courses: Sequence[Course], accepted_at: datetime, now: datetime) -> Chart:
    """Place the attempts of all courses on one axis, which begins when the event was accepted."""
    is_open = any(course.is_open for course in courses)
    moments = {accepted_at}
    for course in courses:
        moments.update(each.began_at for each in course.tries)
        if course.is_open and course.next_at is not None and course.next_at > now:
            moments.add(course.next_at)
    if is_open or len(moments) == 1:
        moments.add(max(now, accepted_at + timedelta(milliseconds=1)))
    places = _places(moments)
    tracks = [(_marks(course, places, now), _gaps(course, places, accepted_at, now)) for course in courses]
    return Chart(_ticks(places, accepted_at, now, is_open), tracks, places.get(now) if is_open else None)


def _places(moments: Iterable[datetime]) -> dict[datetime, float]:
    ordered = sorted(moments)
    widths = [
        math.log1p((later - before).total_seconds() * 10) for before, later in itertools.pairwise(ordered)
    ]
    total = sum(widths) or 1.0
    reached = list(itertools.accumulate(widths, initial=0.0))
    return {
        moment: round(_FIRST + (_LAST - _FIRST) * width / total, 2)
        for moment, width in zip(ordered, reached, strict=True)
    }


def _marks(course: Course, places: Mapping[datetime, float], now: datetime) -> list[Mark]:
    marks = [
        Mark(
            places[each.began_at],
            State.ARRIVED if each.outcome == "delivered" else State.FAILED,
            f"attempt {each.number}: {each.reason}",
        )
        for each in course.tries
    ]
    if course.is_open and course.next_at is not None and course.next_at > now:
        marks.append(Mark(places[course.next_at], State.WAITING, f"next {relative(course.next_at, now)}"))
    return marks


def _gaps(
    course: Course, places: Mapping[datetime, float], accepted_at: datetime, now: datetime
) -> list[Pause]:
    gaps = []
    before: Try | None = None
    for each in course.tries:
        since = accepted_at if before is None else before.began_at
        label = reason_of_gap(before, each, course.delays)
        gaps.append(_gap(places[since], places[each.began_at], label, each.began_at - since))
        before = each
    if course.is_open:
        since = accepted_at if before is None else before.began_at
        waits = course.next_at is not None and course.next_at > now
        until = course.next_at if waits and course.next_at is not None else now
        label = reason_of_wait(before, course)
        start, end, at = places[since], places.get(until, _LAST), places.get(now, _LAST)
        gap = _gap(start, end, label, until - since)
        if start < at < end:  # the label is on the wider side of the line that marks the present
            side = (start, at) if at - start > end - at else (at, end)
            beside = _gap(*side, label, until - since)
            gap = beside._replace(start=start, end=end)
        gaps.append(gap._replace(is_now=True))
    return gaps


def _gap(start: float, end: float, label: str, length: timedelta) -> Pause:
    share = (end - start) / 100
    whole = f"{rough(length.total_seconds())} · {label}"
    text = whole if label and _needed_px(whole) < share * _WIDE_PX else label
    needed = _needed_px(text)
    fits = "both" if needed < share * _NARROW_PX else "wide" if needed < share * _WIDE_PX else "none"
    return Pause(start, end, round((start + end) / 2, 2), text, is_now=False, fits=fits)


def _needed_px(text: str) -> float:
    return len(text) * _PX_A_CHARACTER + _PX_BESIDE


def reason_of_gap(before: Try | None, after: Try, delays: Sequence[float]) -> str:
    """Return the reason why `after` did not begin earlier, as a short label. It is empty if none is known."""
    if before is None:
        return "worker lost" if after.number > 1 else "its turn"
    if after.generation > before.generation:
        return "sent again"
    if after.number > before.number + 1:
        return "worker lost"
    if before.retry_at is None:
        return ""
    if after.began_at < before.retry_at - timedelta(seconds=0.5):
        return "retried by hand"
    return _planned(before, delays)


def reason_of_wait(before: Try | None, course: Course) -> str:
    """Return the reason why an unsettled delivery waits now, as a short label."""
    if course.waiting_for == "retry_time" and before is not None:
        return _planned(before, course.delays)
    return WAITS.get(course.waiting_for or "", "")


def _planned(before: Try, delays: Sequence[float]) -> str:
    """Return the origin of the next attempt's time: the schedule, or the Retry-After of the endpoint."""
    if before.retry_at is None:
        return ""
    if before.reason in ("throttled", "unavailable") and before.number <= len(delays):
        planned = delays[before.number - 1]
        waited = (before.retry_at - before.began_at - before.duration).total_seconds()
        # The schedule varies each delay by a fifth; the clocks of a worker may differ by a second.
        if abs(waited - planned) > planned * _JITTER + 1:
            return "Retry-After"
    return "schedule"


def _ticks(
    places: Mapping[datetime, float], accepted_at: datetime, now: datetime, is_open: bool
) -> list[Tick]:
    """Return ticks for the beginning, the present, the end, and as many other moments as have room."""
    ordered = sorted(places)
    wanted = [accepted_at, *([now] if is_open and now in places else []), ordered[-1], *ordered]
    taken: list[float] = []
    taken_narrow: list[float] = []
    ticks = []
    for moment in wanted:
        place = places[moment]
        if any(abs(place - other) < _apart(place, other) for other in taken):
            continue
        narrow = all(abs(place - other) >= _TICK_APART_NARROW for other in taken_narrow)
        taken.append(place)
        if narrow:
            taken_narrow.append(place)
        ticks.append(Tick(place, _tick_label(moment, accepted_at, now, is_open), moment, narrow))
    return sorted(ticks)


def _apart(place: float, other: float) -> float:
    at_edge = any(not _EDGE <= each <= 100 - _EDGE for each in (place, other))
    return _TICK_APART_FROM_EDGE if at_edge else _TICK_APART


def _tick_label(moment: datetime, accepted_at: datetime, now: datetime, is_open: bool) -> str:
    if moment == accepted_at:
        return "accepted"
    if is_open and moment >= now:
        return relative(moment, now)
    return f"+{rough((moment - accepted_at).total_seconds())}"
