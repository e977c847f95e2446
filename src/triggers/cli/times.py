"""Times and durations, as people write and read them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from triggers.domain import rfc3339
from triggers.errors import OperatorError
from triggers.node.variables import DURATION, parse_duration

_UNITS = ((86_400.0, "d"), (3_600.0, "h"), (60.0, "min"), (1.0, "s"))


def relative(moment: str, now: datetime | None = None) -> str:
    """An RFC 3339 time as the distance from now, such as `3 min ago` or `in 20 s`."""
    try:
        seconds = ((now or datetime.now(UTC)) - datetime.fromisoformat(moment)).total_seconds()
    except (ValueError, TypeError):
        return moment
    if abs(seconds) < 1:
        return "now"
    return f"{span(seconds)} ago" if seconds > 0 else f"in {span(seconds)}"


def span(seconds: float) -> str:
    """A duration in its largest unit, such as `3 min`. It is rounded down."""
    size, unit = next((each for each in _UNITS if abs(seconds) >= each[0]), _UNITS[-1])
    return f"{int(abs(seconds) // size)} {unit}"


def moment_of(text: str | None) -> str | None:
    """A time for the API: RFC 3339 as it is, and a duration such as `1h` as the time so long ago."""
    if text is None:
        return None
    try:
        return rfc3339(datetime.now(UTC) - timedelta(seconds=parse_duration(text)))
    except ValueError:
        return text


def seconds_of(text: str) -> float:
    """Seconds of a duration such as `30s`.

    Raises:
        OperatorError: it is not a duration.
    """
    try:
        return parse_duration(text)
    except ValueError:
        raise OperatorError(f"{text!r} is not {DURATION}.") from None
