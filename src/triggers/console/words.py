"""Writes times, sizes and reasons as the console shows them. Pure functions."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from triggers.outbound.result import Reason

_UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))

_LINE: Final = 120
"""Maximum number of characters of an answer's body within a sentence."""
_SIZES: Final = ("KiB", "MiB", "GiB", "TiB")

REASONS: Final = {
    Reason.REDIRECT: "a redirect",
    Reason.GONE: "gone",
    Reason.THROTTLED: "too many requests",
    Reason.REFUSED: "refused",
    Reason.UNAVAILABLE: "unavailable",
    Reason.INVALID: "a request that cannot be sent",
    Reason.DNS: "host name not found",
    Reason.FORBIDDEN_ADDRESS: "an address that is not allowed",
    Reason.CONNECT: "connection refused",
    Reason.CONNECT_TIMEOUT: "no connection in time",
    Reason.TLS: "TLS failed",
    Reason.TLS_TIMEOUT: "no TLS connection in time",
    Reason.TIMEOUT: "no answer in time",
    Reason.SLOW_HEADERS: "an answer that came too slowly",
    Reason.SLOW_BODY: "an answer that came too slowly",
    Reason.TOO_LARGE: "an answer that is too large",
    Reason.CLOSED: "connection closed",
    Reason.INCOMPLETE: "an answer that ended early",
    Reason.MALFORMED: "an answer that is not HTTP",
    Reason.PROXY: "the egress proxy failed",
    Reason.BUSY: "no free connection",
    Reason.INTERNAL: "an error of the service",
}
"""The failure of an attempt, as the end of a sentence."""

WAITS: Final = {
    "its_turn": "its turn",
    "retry_time": "schedule",
    "failing_endpoint": "probe",
    "earlier_of_its_key": "earlier event of its key",
    "subscription_paused": "paused",
    "subscription_disabled": "disabled",
    "subscription_deleting": "being deleted",
    "consumer": "a consumer",
    "delay": "delay",
}
"""A label for each reason of the API why an unsettled delivery waits."""


def duration(seconds: float) -> str:
    """Return a length of time in one unit, or in two if the first number is small: `84 ms`, `2 min 30 s`."""
    if seconds < 1:
        return f"{max(0, round(seconds * 1000))} ms"
    if seconds < 10 and round(seconds, 1) % 1:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for index, (size, unit) in enumerate(_UNITS):
        if whole >= size:
            count, rest = divmod(whole, size)
            if count < 10 and index + 1 < len(_UNITS):
                smaller, name = _UNITS[index + 1]
                if rest // smaller:
                    return f"{count} {unit} {rest // smaller} {name}"
            return f"{count} {unit}"
    return "0 s"


def rough(seconds: float) -> str:
    """Return a length of time in one unit, for places where a rounded number is enough."""
    if seconds < 1:
        return f"{max(0, round(seconds * 1000))} ms"
    size, unit = next((each for each in _UNITS if seconds >= each[0]), _UNITS[-1])
    return f"{round(seconds / size)} {unit}"


def relative(moment: datetime, now: datetime) -> str:
    """Return a time relative to `now`: `3 min ago`, `in 4 min`, or `now`."""
    seconds = (moment - now).total_seconds()
    if abs(seconds) < 1:
        return "now"
    words = rough(abs(seconds))
    return f"in {words}" if seconds > 0 else f"{words} ago"


def due_in(moment: datetime, now: datetime) -> str:
    """Return the time of the next attempt relative to `now`. One that is past has not begun yet: `now`."""
    return relative(max(moment, now), now)


def clock(moment: datetime, now: datetime) -> str:
    """Return the time of day in UTC, with the date if it differs from that of `now`."""
    moment = moment.astimezone(UTC)
    same_day = moment.date() == now.astimezone(UTC).date()
    return moment.strftime("%H:%M:%S" if same_day else "%Y-%m-%d %H:%M:%S")


def size(count: int) -> str:
    """Return a number of bytes with its unit: `512 B`, `4.2 KiB`, `31.0 GiB`."""
    if count < 1024:
        return f"{count} B"
    unit = min((count.bit_length() - 1) // 10, len(_SIZES))
    return f"{count / 1024**unit:,.1f} {_SIZES[unit - 1]}"


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun: `1 attempt`, `4 attempts`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {plural or noun + 's'}"


def capped(number: int, *, exact: bool) -> str:
    """Return a number that was counted up to a limit: `12`, `1,000+`."""
    return f"{number:,}" if exact else f"{number:,}+"


def first_line(answer: str | None) -> str:
    """Return the first line of an answer's body, as a part of a sentence. Empty if there is none."""
    line = next(iter((answer or "").strip().splitlines()), "").strip().rstrip(".")
    return f"{line[:_LINE]}…" if len(line) > _LINE else line


def failure(reason: str | None, status_code: int | None) -> str:
    """Return the result of an attempt: its status, such as `503`, or else the failure in words."""
    if status_code is not None:
        return str(status_code)
    return REASONS.get(Reason(reason), reason) if reason in list(Reason) else (reason or "no answer")
