"""`triggers inbox peek` and `tail`: look at the messages of an inbox. Nothing is changed."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Annotated, Literal

import typer

from triggers.cli.completion import names_of
from triggers.cli.inboxes import INBOX
from triggers.cli.service import call, members, segment
from triggers.cli.session import CommandSession, Limit, with_session
from triggers.cli.tables import SHORT, ColumnKind, TableColumn, print_json
from triggers.domain import DEFAULT_INBOX, rfc3339
from triggers.terminal import inert

inbox = typer.Typer(no_args_is_help=True, help="Look at the messages of an inbox, lease and settle them.")

InboxName = Annotated[
    str,
    typer.Option(
        "--inbox",
        help="The inbox: its key, its id, or an ending of its id.",
        autocompletion=names_of(INBOX),
    ),
]
Payloads = Annotated[bool, typer.Option("--payload", help="Also print the payload of each message.")]

_LOOK_SECONDS = 0.5
"""Time between two looks of `tail`."""
_OVERLAP = timedelta(minutes=1)
"""Time before a look whose events it reads again. It is longer than an accept may take."""
_MOST_SHOWN = 1_000
"""Maximum number of messages of one look."""

MESSAGES = (
    TableColumn("message", "id", ColumnKind.ID),
    TableColumn("type", "message_attributes.event_type"),
    TableColumn("status", "status", ColumnKind.STATE),
    TableColumn("accepted", "created_at", ColumnKind.TIME),
    TableColumn("leases", "message_attributes.lease_count", ColumnKind.NUMBER),
    TableColumn("consumer", "consumer"),
    TableColumn("leased until", "leased_until", ColumnKind.TIME),
    TableColumn("error", "message_attributes.error_message"),
    TableColumn("lease", "lease_id", ColumnKind.ID, only_wide=True),
)
PAYLOAD = TableColumn("payload", "payload")


@with_session(lists=True)
def peek(
    session: CommandSession,
    inbox: InboxName = DEFAULT_INBOX,
    status: Annotated[
        Literal["available", "leased", "quarantined"] | None,
        typer.Option(help="Only messages with this status. Default: available and leased ones."),
    ] = None,
    limit: Limit = 100,
    payload: Payloads = False,
) -> None:
    """List the messages of an inbox, oldest first. Nothing is changed.

    \b
    Example:
      triggers inbox peek --inbox billing --status quarantined
    """
    found: Iterable[bytes] = session.items(messages_of(session, inbox), limit, status=status)
    if payload:
        found = (_with_payload(session, each) for each in found)
    session.show_list((*MESSAGES, PAYLOAD) if payload else MESSAGES, found)


inbox.command("peek")(peek)
inbox.command("list", hidden=True)(peek)  # as other nouns have it


@inbox.command("tail")
@with_session()
def tail(
    session: CommandSession,
    inbox: InboxName = DEFAULT_INBOX,
    payload: Payloads = False,
) -> None:
    """Print messages of new events as they arrive, until Ctrl-C.

    It only looks: no message is leased or acknowledged. A message is not printed if a consumer acknowledges
    it within a second after it arrived.

    \b
    Example:
      triggers inbox tail --inbox billing --payload
    """
    inbox_id = session.ask("GET", inbox_path(session, inbox))["id"]
    since = _service_time(session)
    session.say("Waiting for messages. Press Ctrl-C to stop.")
    try:
        for message in _arriving(session, inbox_id, since):
            _print_arrived(session, _with_payload(session, message) if payload else message)
    except KeyboardInterrupt:
        return


def _arriving(session: CommandSession, inbox_id: str, since: datetime) -> Iterator[bytes]:
    """The deliveries to the inbox of events that are accepted at or after `since`."""
    known: dict[str, datetime] = {}
    while True:
        now = _service_time(session)
        # Events do not become visible in the order of their times, so each look reads the last minute again.
        asked = {"subscription_id": inbox_id, "kind": "inbox", "since": rfc3339(max(since, now - _OVERLAP))}
        found = [
            each
            for status in ("pending", "leased")
            for each in session.items("/v1/deliveries", _MOST_SHOWN, status=status, **asked)
        ]
        for each in reversed(found):  # they are listed newest first
            if (name := members(each)["id"]) not in known:
                yield each
            known[name] = now
        known = {name: seen for name, seen in known.items() if now - seen < 2 * _OVERLAP}
        time.sleep(_LOOK_SECONDS)


def _service_time(session: CommandSession) -> datetime:
    """The time by the clock of the service, in whole seconds."""
    told = call(session.client, "GET", "/livez", media_type="").headers.get("date")
    return parsedate_to_datetime(told) if told else datetime.now(UTC)


def _print_arrived(session: CommandSession, delivery: bytes) -> None:
    if session.as_json:
        print_json(delivery)
        return
    found = members(delivery)
    parts = (found["accepted_at"][11:19], found["event_id"][-SHORT:], found["event_type"] or "")
    typer.echo(inert("  ".join([*parts, found.get("payload", "")]).rstrip()))


def _with_payload(session: CommandSession, message: bytes) -> bytes:
    """A message with its payload, byte for byte."""
    path = f"/v1/events/{segment(members(message)['id'].partition('.')[0])}/payload"
    payload = call(session.client, "GET", path).content
    return b'%b,"payload":%b}' % (message.rstrip()[:-1], payload)


def inbox_path(session: CommandSession, inbox: str) -> str:
    """The path of the inbox that a person calls so."""
    if inbox == DEFAULT_INBOX:  # it always exists, and no other can have this key
        return f"{INBOX.path}/{DEFAULT_INBOX}"
    return INBOX.path_of(session, inbox)


def messages_of(session: CommandSession, inbox: str) -> str:
    """The path of its messages."""
    return f"{inbox_path(session, inbox)}/messages"
