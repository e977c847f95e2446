"""Decides what follows an attempt: it is delivered, retried later, or given up. Pure functions."""

import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Final, TypeAlias, assert_never

from msgspec import Struct

from triggers.outbound.result import (
    Answered,
    Failed,
    Reason,
    Result,
)

JITTER: Final = 0.2
RETRY_AFTER_LIMIT_SECONDS: Final = 86_400.0
_NO_WORDS: Final[frozenset[str]] = frozenset()
_SECONDS: Final = re.compile(r"[0-9]{1,18}(\.[0-9]{1,18})?")


class Schedule(Struct, frozen=True):
    """The times of a delivery's attempts. The first attempt is made at once."""

    delays: tuple[float, ...] = (5, 30, 120, 900, 3_600, 14_400, 43_200, 86_400)
    """Seconds before the 2nd, 3rd … attempt."""
    deadline: float | None = None
    """No attempt begins later than this many seconds after the first one began."""

    @property
    def has_retry(self) -> bool:
        """Whether the schedule has room for a second attempt, even with the longest jitter."""
        if not self.delays:
            return False
        return self.deadline is None or self.delays[0] * (1 + JITTER) <= self.deadline


DEFAULT_SCHEDULE: Final = Schedule()


class Progress(Struct, frozen=True, gc=False):
    """The position of a delivery in its schedule."""

    schedule: Schedule
    attempts: int
    """Number of attempts so far, including the last one."""
    first_attempt_at: datetime | None = None
    """The time when the first attempt began. Needed only for a schedule with a deadline."""

    @property
    def exhausted(self) -> bool:
        """Whether the schedule has no further attempt."""
        return self.attempts > len(self.schedule.delays)

    def is_past_deadline(self, moment: datetime) -> bool:
        """Whether an attempt at `moment` would begin after the schedule's deadline."""
        deadline, first = self.schedule.deadline, self.first_attempt_at
        return deadline is not None and first is not None and moment > first + timedelta(seconds=deadline)


class Disable(StrEnum):
    """The reason why an endpoint's answer disables its subscription."""

    GONE = "gone"
    DECLINED = "declined"


class End(StrEnum):
    """The reason why no further attempt is made."""

    EXHAUSTED = "exhausted"
    DEADLINE = "deadline"
    GONE = "gone"
    DECLINED = "declined"
    ABORTED = "aborted"


class Delivered(Struct, frozen=True, gc=False):
    """The endpoint accepted the delivery. `disable`: its answer also asks to disable the subscription."""

    reason: Reason = Reason.DELIVERED
    disable: Disable | None = None


class RetryAt(Struct, frozen=True, gc=False):
    """Try again. `at` is `now` plus `delay_seconds`."""

    at: datetime
    delay_seconds: float
    reason: Reason
    disable: None = None


class GivenUp(Struct, frozen=True, gc=False):
    """A dead letter. `reason` is that of the last attempt. `disable`: disable the subscription too."""

    reason: Reason
    end: End
    disable: Disable | None = None


_DELIVERED: Final = Delivered()  # made once, because most attempts end so
Judgement: TypeAlias = Delivered | RetryAt | GivenUp


def judge(progress: Progress, result: Result, now: datetime, jitter: float) -> Judgement:
    """Decides what follows the last attempt that `progress` counts. The attempt ended at `now`.

    `jitter` is a random number from -1 to 1.
    """
    wait: float | None = None
    match result:
        case Answered():
            reason = _reason_of_status(result.status)
            final = _final(result, reason)
            if final is not None:
                return final
            if reason in {Reason.THROTTLED, Reason.UNAVAILABLE}:
                wait = retry_after_seconds(result.retry_after, now)
        case Failed():
            reason = result.reason
            if result.stale_connection:
                wait = 0.0
        case _:
            assert_never(result)
    if progress.exhausted:
        return GivenUp(reason, End.EXHAUSTED)
    if wait is None:
        wait = max(0.0, progress.schedule.delays[progress.attempts - 1] * (1 + JITTER * jitter))
    at = now + timedelta(seconds=wait)
    return GivenUp(reason, End.DEADLINE) if progress.is_past_deadline(at) else RetryAt(at, wait, reason)


def end_unheard(progress: Progress, due_at: datetime) -> End | None:
    """Why no attempt follows the last one, which was counted but has no recorded result. None: another
    attempt follows at `due_at`, as after any failure."""
    if progress.exhausted:
        return End.EXHAUSTED
    return End.DEADLINE if progress.is_past_deadline(due_at) else None


def retry_after_seconds(value: str | None, now: datetime) -> float | None:
    """Reads `Retry-After`: seconds (fractions too) or an HTTP-date; at most a day.

    None if the header is absent, unreadable, zero or in the past. Then the delay of the schedule applies,
    because a zero would turn the whole schedule into a burst.
    """
    if value is None:
        return None
    value = value.strip()
    if _SECONDS.fullmatch(value):
        seconds = float(value)
    else:
        try:
            date = parsedate_to_datetime(value[:64])
            # An HTTP-date is in GMT; one without a zone is read as that.
            seconds = ((date if date.tzinfo else date.replace(tzinfo=UTC)) - now).total_seconds()
        except (ValueError, TypeError, IndexError, OverflowError):
            return None
    return min(seconds, RETRY_AFTER_LIMIT_SECONDS) if seconds > 0 else None


def _final(answer: Answered, reason: Reason) -> Delivered | GivenUp | None:
    """The judgement, if the answer alone decides it, whatever the schedule is."""
    control = _words(answer.delivery_control) if answer.delivery_control else _NO_WORDS
    if reason is Reason.DELIVERED:
        return Delivered(disable=Disable.DECLINED) if "disable" in control else _DELIVERED
    if reason is Reason.GONE:
        return GivenUp(reason, End.GONE, Disable.GONE)
    if "disable" in control:
        return GivenUp(reason, End.DECLINED, Disable.DECLINED)
    return GivenUp(reason, End.ABORTED) if "abort-message" in control else None


def _reason_of_status(status: int) -> Reason:
    if 200 <= status < 300:
        return Reason.DELIVERED
    if status == 410:
        return Reason.GONE
    if status == 429:
        return Reason.THROTTLED
    if status >= 500:
        return Reason.UNAVAILABLE
    return Reason.REDIRECT if 300 <= status < 400 else Reason.REFUSED


def _words(header: str) -> frozenset[str]:
    return frozenset(word.strip().lower() for word in header.split(","))
