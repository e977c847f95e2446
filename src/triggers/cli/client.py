"""send and inbox: what a producer and a consumer try first, over HTTP like anybody else."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, BinaryIO
from urllib.parse import quote

import httpx
import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from triggers import strict_json
from triggers.domain import MAX_BATCH_BYTES, MAX_BATCH_EVENTS
from triggers.errors import MalformedBody, OperatorError

inbox = typer.Typer(no_args_is_help=True, help="Read and acknowledge an inbox.")

Url = Annotated[str, typer.Option("--url", envvar="TRIGGERS_URL", help="Where the service answers.")]
Key = Annotated[str, typer.Option("--key", envvar="TRIGGERS_API_KEY", help="An API key.")]
InboxName = Annotated[str, typer.Option("--inbox", help="Id or key of the inbox.")]
DEFAULT_URL = "http://127.0.0.1:8080"

_IN_ONE_LINE = bytes.maketrans(b"\r\n", b"  ")
"""In JSON a line break is never within a string, so that a space in its place changes no value."""


class _Page(msgspec.Struct):
    """Events of an inbox. They are not read: no number may change on its way to the terminal."""

    events: list[msgspec.Raw]
    next_cursor: str | None


class _Lease(msgspec.Struct):
    """Messages that are held, as they came."""

    results: list[msgspec.Raw]
    lease_id: str | None = None


def add_to(app: typer.Typer) -> None:
    """Register these commands."""
    app.command("send")(send)
    app.add_typer(inbox, name="inbox")


def send(
    event_type: Annotated[str, typer.Argument(metavar="TYPE", help="The event's type.")],
    source: Annotated[
        str, typer.Argument(metavar="[FILE|-]", help="The payload, JSON; - is standard input.")
    ] = "-",
    key: Key = ...,  # type: ignore[assignment]
    url: Url = DEFAULT_URL,
    ndjson: Annotated[
        bool, typer.Option("--ndjson", help="Each line is the payload of an event of its own.")
    ] = False,
    dedup_id: Annotated[
        str | None, typer.Option(help="Accept this event once, however often it is sent.")
    ] = None,
) -> None:
    """Send one event, or with --ndjson one for each line."""
    if event_type == "-":
        raise OperatorError("The event's type comes first, then the file: `triggers send TYPE -`.")
    with open_client(url, key) as client, _open(source) as stream:
        if ndjson:
            _send_lines(client, event_type, stream, source)
            return
        payload = stream.read().strip()
        if not payload:
            raise OperatorError("There is no payload: where there is nothing to say, send {} or null.")
        strict_json.check(payload)  # else it could end before its end, and go on as other fields
        body = b'{"type":%b,"payload":%b' % (msgspec.json.encode(event_type), payload)
        body += b',"dedup_id":%b}' % msgspec.json.encode(dedup_id) if dedup_id else b"}"
        typer.echo(call(client, "POST", "/v1/events", content=body).text)


@inbox.command("list")
def list_messages(
    key: Key,
    url: Url = DEFAULT_URL,
    status: Annotated[str | None, typer.Option(help="available, leased or quarantined.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 100,
) -> None:
    """List the default inbox, a JSON event a line, its payload as it was sent. Changes nothing."""
    parameters: dict[str, Any] = {"limit": limit} | ({"status": status} if status else {})
    with open_client(url, key) as client:
        while parameters["limit"]:  # a page ends where its payloads are too much for one answer, too
            answer = call(client, "GET", "/v1/inbox", params=parameters)
            page = msgspec.json.decode(answer.content, type=_Page)
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
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 10,
    seconds: Annotated[int, typer.Option(min=1, max=3600, help="How long to hold them.")] = 300,
    wait: Annotated[float, typer.Option(min=0, max=20, help="Seconds to wait for the first message.")] = 0,
) -> None:
    """Lease messages and print the lease."""
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
        bool, typer.Option("--keep", help="Give the messages back in place of acknowledging.")
    ] = False,
) -> None:
    """Print messages as they come, a JSON message a line, and acknowledge each once it is printed."""
    path = _messages_of(inbox)
    # What is kept is held for as long as this runs, so that it is printed once.
    body = {"lease_limit": 100, "lease_seconds": 3600 if keep else 60, "wait_seconds": 20}
    held: list[str] = []
    with open_client(url, key) as client:
        try:
            while True:
                answer = call(client, "POST", f"{path}/lease", json=body)
                found = msgspec.json.decode(answer.content, type=_Lease)
                if found.lease_id is None:
                    continue
                held.append(found.lease_id)  # before anybody sees it and interrupts us
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
    """One line, whose numbers and strings are the bytes that were sent."""
    typer.echo(bytes(message).translate(_IN_ONE_LINE))


def _messages_of(inbox: str) -> str:
    return f"/v1/inboxes/{quote(inbox, safe='')}/messages"


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
            answer = call(
                client,
                "POST",
                "/v1/events/batch",
                content=b"\n".join(prefix + line + b"}" for _, line in lines),
                headers={"content-type": "application/x-ndjson"},
            )
            for item in answer.json()["results"]:
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
        raise OperatorError(f"{counts['failed']} lines were not accepted.")


def _payloads(stream: BinaryIO, refuse: Callable[[int, str], None]) -> Iterator[tuple[int, bytes]]:
    """Each line that is JSON, with its number; blank ones are left out, others refused."""
    for number, line in enumerate(stream, start=1):
        stripped = line.strip()
        if not stripped:
            continue
        try:
            strict_json.check(stripped)
        except MalformedBody as error:
            refuse(number, error.message)
        else:
            yield number, stripped


def _batches(payloads: Iterable[tuple[int, bytes]], overhead: int) -> Iterator[list[tuple[int, bytes]]]:
    """Numbered payloads in batches that the service takes."""
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


def open_client(url: str, key: str) -> httpx.Client:
    """A client of a running service."""
    if not key.isascii():
        raise OperatorError("The API key holds characters that no key has.")
    return httpx.Client(
        base_url=url,
        headers={"authorization": f"Bearer {key}", "content-type": "application/json"},
        timeout=60,
    )


def _open(source: str) -> BinaryIO:
    try:
        return sys.stdin.buffer if source == "-" else Path(source).open("rb")
    except OSError as error:
        raise OperatorError(f"Cannot read {source}: {error.strerror}.") from None


def call(client: httpx.Client, method: str, path: str, **arguments: Any) -> httpx.Response:
    """What the service answers; whatever it refuses is an OperatorError."""
    try:
        answer = client.request(method, path, **arguments)
    except httpx.HTTPError as error:
        raise OperatorError(
            f"No answer from {client.base_url}: {error}. Is `triggers serve` running?"
        ) from None
    if answer.is_error:
        try:
            problem = answer.json()
            detail = f"{problem['title']}: {problem['detail']}"
        except (ValueError, KeyError, TypeError):
            detail = answer.text[:200]
        raise OperatorError(f"{answer.status_code} {detail}")
    return answer
