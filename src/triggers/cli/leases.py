"""`triggers inbox`: leases the messages of an inbox, and settles them."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import typer

from triggers.cli.messages import MESSAGES, PAYLOAD, InboxName, inbox, inbox_path, messages_of
from triggers.cli.naming import find
from triggers.cli.nouns import Noun
from triggers.cli.service import members
from triggers.cli.session import CommandSession, Limit, with_session
from triggers.cli.tables import ColumnKind, TableColumn, TableLook, print_json, show_table
from triggers.domain import DEFAULT_INBOX
from triggers.errors import OperatorError
from triggers.terminal import inert

LeaseId = Annotated[
    str, typer.Argument(metavar="LEASE", help="The lease: its id, or the last 6 or more characters of it.")
]
Messages = Annotated[
    list[str] | None,
    typer.Argument(metavar="MESSAGE", help="Ids of messages. Default: all messages of the lease."),
]

_LEASED = (*(column for column in MESSAGES if column.title in ("message", "type", "accepted", "leases")),)
_LEASES = Noun(
    "lease",
    "leases",
    "inbox",
    "",
    (
        TableColumn("lease", "lease_id", ColumnKind.ID),
        TableColumn("messages", "messages", ColumnKind.NUMBER),
        TableColumn("leased until", "leased_until", ColumnKind.TIME),
        TableColumn("consumer", "consumer"),
    ),
    id_member="lease_id",
)
_RESULTS = (
    TableColumn("message", "id", ColumnKind.ID),
    TableColumn("status", "status", ColumnKind.STATE),
    TableColumn("reason", "reason"),
)


def add_to(app: typer.Typer) -> None:
    """Register these commands."""
    app.add_typer(inbox, name="inbox")


@inbox.command("lease")
@with_session(lists=True)
def lease(
    session: CommandSession,
    inbox: InboxName = DEFAULT_INBOX,
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
    """Lease messages of an inbox, and print the lease with its messages.

    \b
    Example:
      triggers inbox lease --inbox billing --limit 1 --wait 20 --json
    """
    body = {"lease_limit": limit, "lease_seconds": seconds, "wait_seconds": wait, "consumer": consumer}
    path = f"{messages_of(session, inbox)}/lease"
    text = session.call("POST", path, body, timeout=wait + 60)
    if session.as_json:
        print_json(text)
        return
    found = members(text)
    if found["lease_id"] is None:
        typer.echo("no message is available", err=True)
        return
    typer.echo(f"lease {inert(found['lease_id'])} until {inert(found['leased_until'])}")
    session.show_list((*_LEASED, PAYLOAD), _results(text))


@inbox.command("leases")
@with_session(lists=True)
def list_leases(session: CommandSession, inbox: InboxName = DEFAULT_INBOX, limit: Limit = 100) -> None:
    """List the leases of an inbox that have not ended.

    \b
    Example:
      triggers inbox leases --inbox billing
    """
    session.show_list(_LEASES.columns, session.items(_leases_of(session, inbox), limit))


@inbox.command("ack")
@with_session(lists=True)
def acknowledge(
    session: CommandSession,
    lease: Annotated[str | None, typer.Argument(metavar="LEASE", help="The lease. Not with --event.")] = None,
    messages: Messages = None,
    inbox: InboxName = DEFAULT_INBOX,
    event: Annotated[
        list[str] | None,
        typer.Option(
            "--event", help="Acknowledge this event of the default inbox, without a lease; repeatable."
        ),
    ] = None,
) -> None:
    """Acknowledge messages of a lease, or events of the default inbox by their ids.

    \b
    Examples:
      triggers inbox ack 3f9a1c0d --inbox billing
      triggers inbox ack --event 0197f7c2-6a5e-7c3a-9a44-5ab33f9a1c0d
    """
    if bool(lease) == bool(event):
        raise OperatorError("Give either a lease, or events with --event.")
    if lease is not None:
        _settle(session, inbox, "ack", lease, messages)
    elif inbox != DEFAULT_INBOX:
        raise OperatorError("Only events of the default inbox are acknowledged without a lease.")
    else:
        _show_results(session, session.call("POST", "/v1/ack", {"event_ids": event}))


@inbox.command("release")
@with_session(lists=True)
def release(
    session: CommandSession,
    lease: LeaseId,
    messages: Messages = None,
    inbox: InboxName = DEFAULT_INBOX,
    delay: Annotated[
        float, typer.Option(min=0, max=86_400, help="Seconds until they are available again.")
    ] = 0,
    counted: Annotated[
        bool, typer.Option("--counted/--not-counted", help="Whether the lease counts for max_leases.")
    ] = True,
) -> None:
    """Give messages of a lease back, so that they are available again.

    \b
    Example:
      triggers inbox release 3f9a1c0d --inbox billing --delay 30
    """
    more = {} if counted else {"counted": False}  # older services do not know it
    _settle(session, inbox, "release", lease, messages, delay_seconds=delay, **more)


@inbox.command("extend")
@with_session()
def extend(
    session: CommandSession,
    lease: LeaseId,
    inbox: InboxName = DEFAULT_INBOX,
    seconds: Annotated[
        int | None, typer.Option(min=1, max=3600, help="Duration from now on. Default: that of the inbox.")
    ] = None,
) -> None:
    """Let a lease end later: so many seconds from now.

    \b
    Example:
      triggers inbox extend 3f9a1c0d --inbox billing --seconds 300
    """
    body = {"lease_id": _lease(session, inbox, lease), "lease_seconds": seconds}
    session.show(session.call("POST", f"{messages_of(session, inbox)}/extend", body))


@inbox.command("reject")
@with_session(lists=True)
def reject(
    session: CommandSession,
    lease: LeaseId,
    reason: Annotated[str, typer.Option(help="Shown with the messages. At most 255 characters.")],
    messages: Messages = None,
    inbox: InboxName = DEFAULT_INBOX,
) -> None:
    """Quarantine messages of a lease, so that they are not leased again until they are re-driven.

    \b
    Example:
      triggers inbox reject 3f9a1c0d --inbox billing --reason 'unknown currency'
    """
    _settle(session, inbox, "reject", lease, messages, reason=reason)


@inbox.command("revoke")
@with_session(lists=True)
def revoke(session: CommandSession, lease: LeaseId, inbox: InboxName = DEFAULT_INBOX) -> None:
    """End a lease of another consumer. It can no longer settle the messages, which are available again.

    \b
    Example:
      triggers inbox revoke 3f9a1c0d --inbox billing
    """
    _settle(session, inbox, "revoke", lease, None)


@inbox.command("redrive")
@with_session(lists=True)
def redrive(
    session: CommandSession,
    messages: Annotated[
        list[str] | None,
        typer.Argument(metavar="MESSAGE", help="Ids of messages. Default: the oldest 1,000."),
    ] = None,
    inbox: InboxName = DEFAULT_INBOX,
) -> None:
    """Make quarantined messages available again.

    \b
    Example:
      triggers inbox redrive --inbox billing
    """
    body = {"message_ids": messages} if messages else {}
    _show_results(session, session.call("POST", f"{messages_of(session, inbox)}/redrive", body))


# ---- steps ---------------------------------------------------------------------------------------


def _settle(
    session: CommandSession, inbox: str, what: str, lease: str, messages: list[str] | None, **more: Any
) -> None:
    body = {"lease_id": _lease(session, inbox, lease), **more} | (
        {"message_ids": messages} if messages else {}
    )
    _show_results(session, session.call("POST", f"{messages_of(session, inbox)}/{what}", body))


def _show_results(session: CommandSession, text: bytes) -> None:
    if session.as_json:
        print_json(text)
        return
    found = members(text)
    rows = [{"reason": None, **each} for each in found["results"]]
    rows += [{"status": "not settled", **each} for each in found.get("not_settled", ())]
    show_table(_RESULTS, rows, TableLook(session.wide))


def _results(text: bytes) -> list[bytes]:
    """The messages of a lease as JSON texts, so that their payloads stay as they are."""
    found = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    return [bytes(each) for each in msgspec.json.decode(found["results"], type=list[msgspec.Raw])]


def _lease(session: CommandSession, inbox: str, text: str) -> str:
    return find(session, _LEASES._replace(path=_leases_of(session, inbox)), text)


def _leases_of(session: CommandSession, inbox: str) -> str:
    return f"{inbox_path(session, inbox)}/leases"
