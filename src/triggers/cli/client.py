"""`triggers send` and `triggers inbox`: a producer and a consumer that use the HTTP API."""

from __future__ import annotations

import codecs
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import httpx
import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from triggers import strict_json
from triggers.cli.service import DEFAULT_URL, Key, Url, ask, call, decode, open_client, segment
from triggers.domain import MAX_BATCH_BYTES, MAX_BATCH_EVENTS
from triggers.errors import MalformedBody, OperatorError

inbox = typer.Typer(no_args_is_help=True, help="Read and acknowledge an inbox.")

InboxName = Annotated[str, typer.Option("--inbox", help="Id or key of the inbox.")]

_IN_ONE_LINE = bytes.maketrans(b"\r\n", b"  ")
"""A JSON string holds no raw line break, so a space in place of a line break changes no value."""


class _Page(msgspec.Struct):
    """Events of an inbox, left undecoded so that no number changes on its way to the terminal."""

    events: list[msgspec.Raw]
    next_cursor: str | None


class _Lease(msgspec.Struct):
    """A lease and its messages, left undecoded."""

    results: list[msgspec.Raw]
    lease_id: str | None = None


def add_to(app: typer.Typer) -> None:
    """Register these commands."""
    app.command("send")(send)
    app.add_typer(inbox, name="inbox")


def send(
    event_type: Annotated[str, typer.Argument(metavar="TYPE", help="The event's type.")],
    source: Annotated[
        str, typer.Argument(metavar="[FILE|-]", help="File with the JSON payload; - reads standard input.")
    ] = "-",
    key: Key = ...,  # type: ignore[assignment]
    url: Url = DEFAULT_URL,
    ndjson: Annotated[
        bool, typer.Option("--ndjson", help="Send each line as the payload of a separate event.")
    ] = False,
    dedup_id: Annotated[
        str | None, typer.Option(help="Deduplication id. Sending it again stores no second event.")
    ] = None,
) -> None:
    """Send one event, or one event per line with --ndjson."""
    if event_type == "-":
        raise OperatorError("Give the event's type before the file: `triggers send TYPE -`.")
    with open_client(url, key) as client, _open(source) as stream:
        if ndjson:
            _send_lines(client, event_type, stream, source)
            return
        payload = stream.read().removeprefix(codecs.BOM_UTF8).strip()
        if not payload:
            raise OperatorError("The payload is empty. To send an event without data, send {} or null.")
        strict_json.check(payload)  # an unbalanced payload could add fields to the event
        body = b'{"type":%b,"payload":%b' % (msgspec.json.encode(event_type), payload)
        body += b',"dedup_id":%b}' % msgspec.json.encode(dedup_id) if dedup_id else b"}"
        typer.echo(call(client, "POST", "/v1/events", content=body).text)


@inbox.command("list")
def list_messages(
    key: Key,
    url: Url = DEFAULT_URL,
    status: Annotated[
        str | None, typer.Option(help="Only messages that are available, leased or quarantined.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Maximum number of messages.")] = 100,
) -> None:
    """List the messages of the default inbox, one JSON object per line. Nothing is changed."""
    parameters: dict[str, Any] = {"limit": limit} | ({"status": status} if status else {})
    with open_client(url, key) as client:
        while parameters["limit"]:  # a page with large payloads holds fewer than `limit`
            answer = call(client, "GET", "/v1/inbox", params=parameters)
            page = decode(answer, _Page)
            for event in page.events:
                _print(event)
            if page.next_cursor is None:
                break
            parameters |= {"limit": parameters["limit"] - len(page.events), "cursor": page.next_cursor}


@inbox.command("lease")
def lease(
    key: Key,
    url: Url = DEFAULT_URL,
    inbox: InboxName = "default",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Maximum number of messages.")] = 10,
    seconds: Annotated[int, typer.Option(min=1, max=3600, help="Duration of the lease in seconds.")] = 300,
    wait: Annotated[
        float, typer.Option(min=0, max=20, help="Seconds to wait if no message is available.")
    ] = 0,
) -> None:
    """Lease messages of an inbox. Prints the lease with its messages as JSON."""
    body = {"lease_limit": limit, "lease_seconds": seconds, "wait_seconds": wait}
    with open_client(url, key) as client:
        typer.echo(call(client, "POST", f"{_messages_of(inbox)}/lease", json=body).content)


@inbox.command("ack")
def acknowledge(
    ids: Annotated[list[str], typer.Argument(help="Ids of events in the default inbox.")],
    key: Key,
    url: Url = DEFAULT_URL,
) -> None:
    """Acknowledge events of the default inbox."""
    with open_client(url, key) as client:
        typer.echo(call(client, "POST", "/v1/ack", json={"event_ids": ids}).text)


@inbox.command("tail")
def tail(
    key: Key,
    url: Url = DEFAULT_URL,
    inbox: InboxName = "default",
    keep: Annotated[
        bool, typer.Option("--keep", help="Release the messages on exit instead of acknowledging them.")
    ] = False,
) -> None:
    """Print messages as they arrive. Acknowledges each after printing it as one JSON line."""
    path = _messages_of(inbox)
    # With --keep a long lease keeps a message from being printed twice.
    body = {"lease_limit": 100, "lease_seconds": 3600 if keep else 60, "wait_seconds": 20}
    held: list[str] = []
    with open_client(url, key) as client:
        try:
            while True:
                answer = call(client, "POST", f"{path}/lease", json=body)
                found = decode(answer, _Lease)
                if found.lease_id is None:
                    continue
                held.append(found.lease_id)  # before printing, so that an interrupt releases this lease too
                for message in found.results:
                    _print(message)
                if not keep:
                    call(client, "POST", f"{path}/ack", json={"lease_id": found.lease_id})
                    held.clear()
        except KeyboardInterrupt:
            pass
        finally:
            for lease_id in held:
                call(client, "POST", f"{path}/release", json={"lease_id": lease_id})


def _print(message: msgspec.Raw) -> None:
    """Print one line. Numbers and strings keep the bytes that were sent."""
    typer.echo(bytes(message).translate(_IN_ONE_LINE))


def _messages_of(inbox: str) -> str:
    return f"/v1/inboxes/{segment(inbox)}/messages"


def _send_lines(client: httpx.Client, event_type: str, stream: BinaryIO, source: str) -> None:
    size = None if source == "-" else Path(source).stat().st_size
    counts = {"accepted": 0, "duplicate": 0, "failed": 0}
    prefix = b'{"type":%b,"payload":' % msgspec.json.encode(event_type)
    columns = (TextColumn("sending"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    console = Console(stderr=True)

    def refuse(number: int, why: str) -> None:
        counts["failed"] += 1
        console.print(f"line {number}: {why}", markup=False)

    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("sending", total=size)
        for lines in _batches(_payloads(stream, refuse), len(prefix) + 2):
            answer = ask(
                client,
                "POST",
                "/v1/events/batch",
                content=b"\n".join(prefix + line + b"}" for _, line in lines),
                headers={"content-type": "application/x-ndjson"},
            )
            for item in answer["results"]:
                match item["status"]:
                    case 201:
                        counts["accepted"] += 1
                    case 200:
                        counts["duplicate"] += 1
                    case _:
                        refuse(lines[item["index"]][0], item["problem"]["detail"])
            progress.advance(bar, sum(len(line) + 1 for _, line in lines))
    typer.echo(msgspec.json.encode(counts))
    if counts["failed"]:
        lines_were = "1 line was" if counts["failed"] == 1 else f"{counts['failed']} lines were"
        raise OperatorError(f"{lines_were} not accepted, for the reasons listed above.")


def _payloads(stream: BinaryIO, refuse: Callable[[int, str], None]) -> Iterator[tuple[int, bytes]]:
    """Each line that is valid JSON, with its number. Blank lines are skipped, invalid lines refused."""
    for number, line in enumerate(stream, start=1):
        stripped = (line.removeprefix(codecs.BOM_UTF8) if number == 1 else line).strip()
        if not stripped:
            continue
        try:
            strict_json.check(stripped)
        except MalformedBody as error:
            refuse(number, error.message)
        else:
            yield number, stripped


def _batches(payloads: Iterable[tuple[int, bytes]], overhead: int) -> Iterator[list[tuple[int, bytes]]]:
    """Group numbered payloads into batches within the service's limits."""
    lines: list[tuple[int, bytes]] = []
    size = 0
    for number, payload in payloads:
        cost = len(payload) + overhead
        if lines and (len(lines) == MAX_BATCH_EVENTS or size + cost > MAX_BATCH_BYTES):
            yield lines
            lines, size = [], 0
        lines.append((number, payload))
        size += cost
    if lines:
        yield lines


def _open(source: str) -> BinaryIO:
    try:
        return sys.stdin.buffer if source == "-" else Path(source).open("rb")
    except OSError as error:
        raise OperatorError(f"Cannot read {source}: {error.strerror}.") from None
