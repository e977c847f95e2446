"""The output of a listener: one line for each event. No text of a stranger can control the terminal."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

import msgspec
import typer

from triggers.cli.listening.forwarding import ReceivedEvent, ReceiverAnswer
from triggers.cli.tables import IN_ONE_LINE, inert_json
from triggers.domain import rfc3339
from triggers.terminal import inert


class Outcome(StrEnum):
    """The way in which a listener settled a message."""

    SHOWN = "shown"
    ACKNOWLEDGED = "acknowledged"
    RELEASED = "released"
    REJECTED = "rejected"
    SENT_AGAIN = "sent_again"
    """It was sent to the receiver once more by hand, which changes nothing in the service."""


_COLOURS: Final = {
    Outcome.SHOWN: None,
    Outcome.ACKNOWLEDGED: typer.colors.GREEN,
    Outcome.RELEASED: typer.colors.YELLOW,
    Outcome.REJECTED: typer.colors.RED,
    Outcome.SENT_AGAIN: typer.colors.CYAN,
}


class Handled(msgspec.Struct, frozen=True, kw_only=True):
    """An event that a listener has handled. `remark` says in words what follows."""

    event: ReceivedEvent
    answer: ReceiverAnswer | None
    outcome: Outcome
    attempt: int
    remark: str = ""


class _JsonLine(msgspec.Struct, kw_only=True):
    """The fields of a line with --json. `payload` has the bytes that were sent."""

    time: str
    type: str
    id: str
    attempt: int
    outcome: str
    status: int | None
    failure: str | None
    ms: int | None
    payload: msgspec.Raw


class EventLines:
    """Prints events to the standard output, and what happens to the listener to the standard error."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self.latest: ReceivedEvent | None = None
        """The event of the last line."""

    def tell(self, text: str) -> None:
        """Print a line on the listener itself."""
        typer.echo(inert(text), err=True)

    def show(self, handled: Handled) -> None:
        """Print the line of an event."""
        self.latest = handled.event
        typer.echo(_json(handled) if self._as_json else _line(handled))

    def show_body(self, body: bytes) -> None:
        """Print a body with its line breaks. Other control characters are escaped."""
        typer.echo(inert(body.decode(errors="backslashreplace"), lines=True))


def _line(handled: Handled) -> str:
    event, answer = handled.event, handled.answer
    parts = [f"{datetime.now().astimezone():%H:%M:%S}", f"{inert(event.type):<28}", str(event.id)[-8:]]
    if answer is not None:
        parts += [f"{answer.in_short:>3}", f"{answer.milliseconds:>5} ms"]
    if handled.remark:
        parts.append(handled.remark)
    return typer.style("  ".join(parts), fg=_COLOURS[handled.outcome])


def _json(handled: Handled) -> str:
    event, answer = handled.event, handled.answer
    line = _JsonLine(
        time=rfc3339(datetime.now(UTC)),
        type=event.type,
        id=str(event.id),
        attempt=handled.attempt,
        outcome=handled.outcome,
        status=None if answer is None else answer.status,
        failure=None if answer is None else answer.failure,
        ms=None if answer is None else answer.milliseconds,
        payload=msgspec.Raw(event.payload.translate(IN_ONE_LINE)),
    )
    return inert_json(msgspec.json.encode(line).decode())
