"""`triggers send`: sends one event, or one for each line of a file."""

from __future__ import annotations

import codecs
import io
import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, NamedTuple

import msgspec
import typer

from triggers import strict_json
from triggers.cli.service import call, checked, members, members_of, request
from triggers.cli.session import CommandSession, with_session
from triggers.cli.tables import print_json
from triggers.domain import MAX_BATCH_BYTES, MAX_BATCH_EVENTS
from triggers.errors import MalformedBody, OperatorError
from triggers.terminal import inert

if TYPE_CHECKING:
    import httpx


def add_to(app: typer.Typer) -> None:
    """Register these commands."""
    app.command("send")(send)


@with_session()
def send(  # noqa: PLR0913, PLR0917 - each is a flag
    session: CommandSession,
    event_type: Annotated[str, typer.Argument(metavar="TYPE", help="The event's type.")],
    payload_file: Annotated[
        str | None, typer.Argument(metavar="FILE|-", help="The same as --file FILE.", show_default=False)
    ] = None,
    data: Annotated[str | None, typer.Option("--data", help="The payload as JSON.")] = None,
    file: Annotated[
        str | None,
        typer.Option("--file", help="File with the payload as JSON. Default: -, the standard input."),
    ] = None,
    ndjson: Annotated[
        bool, typer.Option("--ndjson", help="Send each line as the payload of a separate event.")
    ] = False,
    dedup_id: Annotated[
        str | None,
        typer.Option(
            help="Deduplication id. A second event with the same id is not stored. With --ndjson, the event"
            " of line N gets the id DEDUP_ID/N."
        ),
    ] = None,
    source: Annotated[str | None, typer.Option(help="The event's source.")] = None,
    subject: Annotated[str | None, typer.Option(help="The event's subject.")] = None,
    ordering_key: Annotated[str | None, typer.Option(help="The event's ordering key.")] = None,
    occurred_at: Annotated[str | None, typer.Option(help="RFC 3339 time when the event occurred.")] = None,
) -> None:
    """Send one event, or one event per line with --ndjson.

    \b
    Examples:
      triggers send order.paid --data '{"order": 1042}'
      triggers send order.paid --file order.json --dedup-id order-1042
      triggers send order.paid --file orders.ndjson --ndjson
    """
    if event_type == "-":
        raise OperatorError("Give the event's type before the file: `triggers send TYPE -`.")
    if dedup_id == "":
        raise OperatorError("--dedup-id is empty. Give it a value, or omit it.")
    fields = {"source": source, "subject": subject, "ordering_key": ordering_key, "occurred_at": occurred_at}
    given = [each for each in (data, file, payload_file) if each is not None]
    if len(given) > 1:
        raise OperatorError("Give the payload once: with --data, with --file, or as the file after the type.")
    with _open(data, file or payload_file or "-") as stream:
        if ndjson:

            def event_at(number: int, payload: bytes) -> bytes:
                numbered = None if dedup_id is None else f"{dedup_id}/{number}"
                return event_of(event_type, payload, dedup_id=numbered, **fields)

            _send_lines(session, stream, event_at)
            return
        payload = stream.read().removeprefix(codecs.BOM_UTF8).strip()
    if not payload:
        raise OperatorError("The payload is empty. To send an event without data, send {} or null.")
    strict_json.check(payload)  # an unbalanced payload could add fields to the event
    body = event_of(event_type, payload, dedup_id=dedup_id, **fields)
    answer = call(session.client, "POST", "/v1/events", content=body).content
    if session.as_json:
        print_json(answer)
    else:
        _show_accepted(answer)


def event_of(event_type: str, payload: bytes, **fields: str | None) -> bytes:
    """The body of an event whose payload is known to be JSON. Fields of None are left out."""
    named = msgspec.json.encode({"type": event_type} | {k: v for k, v in fields.items() if v is not None})
    return b'%b,"payload":%b}' % (named[:-1], payload)


def _show_accepted(answer: bytes) -> None:
    found = members(answer)
    what = "already accepted" if found["duplicate"] else "accepted"
    typer.echo(f"{typer.style(what, fg='green')} {inert(found['id'])}")


class _Line(NamedTuple):
    """A line of the input that is valid JSON: its number, its size in bytes, and the event it becomes."""

    number: int
    size: int
    event: bytes


def _send_lines(session: CommandSession, stream: BinaryIO, event_at: Callable[[int, bytes], bytes]) -> None:
    """Send each line as an event. `event_at` makes the event from the line's number and payload."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    counts = {"accepted": 0, "duplicate": 0, "failed": 0}
    columns = (TextColumn("sending"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    console = Console(stderr=True)

    def refuse(number: int, why: str) -> None:
        counts["failed"] += 1
        console.print(f"line {number}: {inert(why)}", markup=False)

    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("sending", total=_size(stream))
        for lines in _batches(_lines(stream, event_at, refuse)):
            for item in _send_batch(session.client, b"\n".join(line.event for line in lines)):
                match item["status"]:
                    case 201:
                        counts["accepted"] += 1
                    case 200:
                        counts["duplicate"] += 1
                    case _:
                        refuse(lines[item["index"]].number, item["problem"]["detail"])
            progress.advance(bar, sum(line.size + 1 for line in lines))
    if session.as_json:
        print_json(msgspec.json.encode(counts))
    else:
        typer.echo(", ".join(f"{number:,} {what}" for what, number in counts.items()))
    if counts["failed"]:
        lines_were = "1 line was" if counts["failed"] == 1 else f"{counts['failed']} lines were"
        raise OperatorError(f"{lines_were} not accepted, for the reasons listed above.")


def _send_batch(client: httpx.Client, events: bytes) -> list[dict[str, Any]]:
    """The outcome of each event.

    Raises:
        OperatorError: the service cannot be reached or cannot store events now, or refuses the whole batch.
    """
    headers = {"content-type": "application/x-ndjson"}
    answer = request(client, "POST", "/v1/events/batch", content=events, headers=headers)
    # If no event was accepted, the answer is an error, but it may still contain the outcome of each event.
    if answer.status_code == 503 or b'"results"' not in answer.content:
        checked(answer)
    results: list[dict[str, Any]] = members_of(answer)["results"]
    return results


def _lines(
    stream: BinaryIO, event_at: Callable[[int, bytes], bytes], refuse: Callable[[int, str], None]
) -> Iterator[_Line]:
    """Each line that is valid JSON. Blank lines are skipped, invalid lines refused."""
    for number, line in enumerate(stream, start=1):
        stripped = (line.removeprefix(codecs.BOM_UTF8) if number == 1 else line).strip()
        if not stripped:
            continue
        try:
            strict_json.check(stripped)
        except MalformedBody as error:
            refuse(number, error.message)
        else:
            yield _Line(number, len(stripped), event_at(number, stripped))


def _batches(lines: Iterable[_Line]) -> Iterator[list[_Line]]:
    """Group lines into batches within the service's limits."""
    batch: list[_Line] = []
    size = 0
    for line in lines:
        cost = len(line.event) + 1  # the line break
        if batch and (len(batch) == MAX_BATCH_EVENTS or size + cost > MAX_BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(line)
        size += cost
    if batch:
        yield batch


def _open(data: str | None, source: str) -> BinaryIO:
    if data is not None:
        return io.BytesIO(data.encode())
    if source == "-" and sys.stdin.isatty():
        typer.echo("Reading the payload from the terminal. Press Ctrl-D at its end.", err=True)
    try:
        return sys.stdin.buffer if source == "-" else Path(source).open("rb")
    except OSError as error:
        raise OperatorError(f"Cannot read {inert(source)}: {error.strerror}.") from None


def _size(stream: BinaryIO) -> int | None:
    """The number of bytes of a file, or None if it is not a file."""
    try:
        found = os.fstat(stream.fileno())
    except OSError:
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None
