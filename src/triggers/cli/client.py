"""`triggers send` and `triggers inbox`: a producer and a consumer that use the HTTP API."""

from __future__ import annotations

import codecs
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, BinaryIO, NamedTuple

import httpx
import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from triggers import strict_json
from triggers.cli.service import (
    DEFAULT_URL,
    Key,
    Url,
    call,
    checked,
    decode,
    members_of,
    open_client,
    request,
    segment,
)
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


class _Leases(msgspec.Struct):
    """A page of leases, left undecoded."""

    data: list[msgspec.Raw]
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
        str | None,
        typer.Option(
            help="Deduplication id. A second event with the same id is not stored. With --ndjson, the event"
            " of line N gets the id DEDUP_ID/N."
        ),
    ] = None,
) -> None:
    """Send one event, or one event per line with --ndjson."""
    if event_type == "-":
        raise OperatorError("Give the event's type before the file: `triggers send TYPE -`.")
    if dedup_id == "":
        raise OperatorError("--dedup-id is empty. Give it a value, or omit it.")
    with open_client(url, key) as client, _open(source) as stream:
        if ndjson:

            def event_of(number: int, payload: bytes) -> bytes:
                return _event(event_type, None if dedup_id is None else f"{dedup_id}/{number}", payload)

            size = None if source == "-" else Path(source).stat().st_size
            _send_lines(client, stream, size, event_of)
            return
        payload = stream.read().removeprefix(codecs.BOM_UTF8).strip()
        if not payload:
            raise OperatorError("The payload is empty. To send an event without data, send {} or null.")
        strict_json.check(payload)  # an unbalanced payload could add fields to the event
        body = _event(event_type, dedup_id, payload)
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
    seconds: Annotated[
        int | None,
        typer.Option(min=1, max=3600, help="Duration of the lease in seconds. Default: that of the inbox."),
    ] = None,
    wait: Annotated[
        float, typer.Option(min=0, max=60, help="Seconds to wait if no message is available.")
    ] = 0,
    consumer: Annotated[
        str | None, typer.Option(help="Name of the consumer, shown with the lease. At most 128 characters.")
    ] = None,
) -> None:
    """Lease messages of an inbox. Prints the lease with its messages as JSON."""
    body = {"lease_limit": limit, "lease_seconds": seconds, "wait_seconds": wait, "consumer": consumer}
    with open_client(url, key) as client:
        answer = call(client, "POST", f"{_messages_of(inbox)}/lease", json=body, timeout=wait + 60)
        typer.echo(answer.content)


@inbox.command("leases")
def list_leases(
    key: Key,
    url: Url = DEFAULT_URL,
    inbox: InboxName = "default",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Maximum number of leases.")] = 100,
) -> None:
    """List the leases of an inbox that have not ended, one JSON object per line."""
    parameters: dict[str, Any] = {"limit": limit}
    with open_client(url, key) as client:
        while parameters["limit"]:
            answer = call(client, "GET", f"/v1/inboxes/{segment(inbox)}/leases", params=parameters)
            page = decode(answer, _Leases)
            for each in page.data:
                _print(each)
            if page.next_cursor is None:
                break
            parameters |= {"limit": parameters["limit"] - len(page.data), "cursor": page.next_cursor}


@inbox.command("revoke")
def revoke(
    lease_id: Annotated[str, typer.Argument(metavar="LEASE", help="Id of the lease.")],
    key: Key,
    url: Url = DEFAULT_URL,
    inbox: InboxName = "default",
) -> None:
    """End a lease of another consumer. It can no longer settle the messages, which are available again."""
    with open_client(url, key) as client:
        typer.echo(call(client, "POST", f"{_messages_of(inbox)}/revoke", json={"lease_id": lease_id}).text)


@inbox.command("ack")
def acknowledge(
    ids: Annotated[list[str], typer.Argument(help="Ids of events in the default inbox.")],
    key: Key,
    url: Url = DEFAULT_URL,
) -> None:
    """Acknowledge events of the default inbox."""
    with open_client(url, key) as client:
        typer.echo(call(client, "POST", "/v1/ack", json={"event_ids": ids}).text)


@inbox.command("reject")
def reject(
    lease_id: Annotated[str, typer.Argument(metavar="LEASE", help="Id of the lease.")],
    reason: Annotated[str, typer.Option(help="Shown with the messages. At most 255 characters.")],
    key: Key,
    ids: Annotated[
        list[str] | None,
        typer.Argument(metavar="[MESSAGE]...", help="Ids of messages. Default: all messages of the lease."),
    ] = None,
    url: Url = DEFAULT_URL,
    inbox: InboxName = "default",
) -> None:
    """Quarantine messages of a lease, so that they are not leased again until they are re-driven."""
    body = {"lease_id": lease_id, "reason": reason} | ({"message_ids": ids} if ids else {})
    with open_client(url, key) as client:
        typer.echo(call(client, "POST", f"{_messages_of(inbox)}/reject", json=body).text)


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
                    if not _settle(client, f"{path}/ack", found.lease_id):
                        typer.echo(
                            "The lease ended before these messages were acknowledged. They may come again.",
                            err=True,
                        )
                    held.clear()
        except KeyboardInterrupt:
            pass
        finally:
            for lease_id in held:
                _settle(client, f"{path}/release", lease_id)


def _settle(client: httpx.Client, path: str, lease_id: str) -> bool:
    """Acknowledge or release a lease. Returns False if the lease has ended; then nothing was changed."""
    try:
        call(client, "POST", path, json={"lease_id": lease_id})
    except OperatorError as error:
        if error.facts.get("status") != 409:
            raise
        return False
    return True


def _print(message: msgspec.Raw) -> None:
    """Print one line. Numbers and strings keep the bytes that were sent."""
    typer.echo(bytes(message).translate(_IN_ONE_LINE))


def _messages_of(inbox: str) -> str:
    return f"/v1/inboxes/{segment(inbox)}/messages"


class _Line(NamedTuple):
    """A line of the input that is valid JSON: its number, its size in bytes, and the event it becomes."""

    number: int
    size: int
    event: bytes


def _event(event_type: str, dedup_id: str | None, payload: bytes) -> bytes:
    """An event with a payload that is known to be JSON."""
    named = b"" if dedup_id is None else b'"dedup_id":%b,' % msgspec.json.encode(dedup_id)
    return b'{"type":%b,%b"payload":%b}' % (msgspec.json.encode(event_type), named, payload)


def _send_lines(
    client: httpx.Client,
    stream: BinaryIO,
    size: int | None,
    event_of: Callable[[int, bytes], bytes],
) -> None:
    """Send each line as an event. `event_of` makes the event from the line's number and payload."""
    counts = {"accepted": 0, "duplicate": 0, "failed": 0}
    columns = (TextColumn("sending"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    console = Console(stderr=True)

    def refuse(number: int, why: str) -> None:
        counts["failed"] += 1
        console.print(f"line {number}: {why}", markup=False)

    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("sending", total=size)
        for lines in _batches(_lines(stream, event_of, refuse)):
            for item in _send_batch(client, b"\n".join(line.event for line in lines)):
                match item["status"]:
                    case 201:
                        counts["accepted"] += 1
                    case 200:
                        counts["duplicate"] += 1
                    case _:
                        refuse(lines[item["index"]].number, item["problem"]["detail"])
            progress.advance(bar, sum(line.size + 1 for line in lines))
    typer.echo(msgspec.json.encode(counts))
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
    stream: BinaryIO, event_of: Callable[[int, bytes], bytes], refuse: Callable[[int, str], None]
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
            yield _Line(number, len(stripped), event_of(number, stripped))


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


def _open(source: str) -> BinaryIO:
    try:
        return sys.stdin.buffer if source == "-" else Path(source).open("rb")
    except OSError as error:
        raise OperatorError(f"Cannot read {source}: {error.strerror}.") from None
