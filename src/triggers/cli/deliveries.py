"""`triggers deliveries` and `attempts`: what was sent to subscriptions, or waits to be sent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

import typer

from triggers.cli.completion import names_of
from triggers.cli.naming import find, find_event
from triggers.cli.recipients import RECIPIENT
from triggers.cli.service import members, segment
from triggers.cli.session import CommandSession, Limit, with_session
from triggers.cli.tables import ColumnKind, TableColumn, print_json
from triggers.cli.times import moment_of
from triggers.domain import parse_id
from triggers.errors import OperatorError
from triggers.terminal import inert

deliveries = typer.Typer(no_args_is_help=True, help="List deliveries, and retry or cancel them.")

DELIVERY = "<event>.<subscription>, each an id or what else names it, as in 3f9a1c0d.billing"
DeliveryName = Annotated[str, typer.Argument(metavar="DELIVERY", help=f"A delivery: {DELIVERY}.")]
DeliveryNames = Annotated[list[str], typer.Argument(metavar="DELIVERY", help=f"Deliveries: {DELIVERY}.")]
SubscriptionOption = Annotated[
    str | None,
    typer.Option(
        "--subscription",
        help="Only items of this subscription or inbox: its id, name or key.",
        autocompletion=names_of(RECIPIENT),
    ),
]
_DELIVERIES = (
    TableColumn("event", "event_id", ColumnKind.ID),
    TableColumn("to", "subscription_id", ColumnKind.RECIPIENT),
    TableColumn("type", "event_type"),
    TableColumn("status", "status", ColumnKind.STATE),
    TableColumn("attempts", "attempts", ColumnKind.NUMBER),
    TableColumn("reason", "reason"),
    TableColumn("waits for", "", read=lambda found: (found["waiting_for"] or "").replace("_", " ")),
    TableColumn(
        "next or settled", "", ColumnKind.TIME, read=lambda found: found["next_at"] or found["settled_at"]
    ),
    TableColumn("delivery", "id", only_wide=True),
    TableColumn("accepted", "accepted_at", ColumnKind.TIME, only_wide=True),
)
_ATTEMPTS = (
    TableColumn("began", "began_at", ColumnKind.TIME),
    TableColumn("event", "event_id", ColumnKind.ID),
    TableColumn("subscription", "subscription_id", ColumnKind.RECIPIENT),
    TableColumn("attempt", "attempt", ColumnKind.NUMBER),
    TableColumn("outcome", "outcome", ColumnKind.STATE),
    TableColumn("reason", "", read=lambda found: f"{found['reason']} {found['status_code'] or ''}".rstrip()),
    TableColumn("ms", "duration_ms", ColumnKind.NUMBER),
    TableColumn("retry", "retry_at", ColumnKind.TIME),
    TableColumn("response", "response", only_wide=True),
)
_UNDELIVERED = (
    TableColumn("subscription", "name"),
    TableColumn("kind", "kind"),
    TableColumn("status", "status", ColumnKind.STATE),
    TableColumn("pending", "pending", ColumnKind.NUMBER),
    TableColumn("dead", "dead", ColumnKind.NUMBER),
    TableColumn("oldest", "oldest_pending", ColumnKind.TIME),
    TableColumn("failing since", "failing_since", ColumnKind.TIME),
    TableColumn("last reason", "last_reason"),
    TableColumn("id", "subscription_id", ColumnKind.ID, only_wide=True),
)


def add_to(app: typer.Typer) -> None:
    """Register these commands."""
    app.add_typer(deliveries, name="deliveries")
    app.command("attempts")(attempts)


@deliveries.command("list")
@with_session(lists=True)
def list_deliveries(
    session: CommandSession,
    status: Annotated[
        Literal["pending", "leased", "delivered", "acknowledged", "dead", "cancelled", "expired"],
        typer.Option(help="Status of the deliveries."),
    ] = "pending",
    kind: Annotated[
        Literal["push", "inbox", "all"] | None,
        typer.Option(
            help="Kind of subscription. Default: push; with --subscription, all; with --status leased or"
            " acknowledged, inbox."
        ),
    ] = None,
    subscription: SubscriptionOption = None,
    since: Annotated[
        str | None, typer.Option(help="Of events accepted at or after this RFC 3339 time, or e.g. 1h ago.")
    ] = None,
    until: Annotated[
        str | None, typer.Option(help="Of events accepted before this RFC 3339 time, or e.g. 1h ago.")
    ] = None,
    limit: Limit = 100,
) -> None:
    """List deliveries with one status. Pending ones show what they wait for.

    Those of one subscription are listed by event, newest first. Without --subscription, the newest
    subscription comes first.

    \b
    Example:
      triggers deliveries list --status dead --subscription billing
    """
    if kind is None:
        kind = "inbox" if status in ("leased", "acknowledged") else "all" if subscription else "push"
    found = session.items(
        "/v1/deliveries",
        limit,
        status=status,
        subscription_id=_recipient(session, subscription),
        kind=None if kind == "all" else kind,
        since=moment_of(since),
        until=moment_of(until),
    )
    session.show_list(_DELIVERIES, found)


@deliveries.command("undelivered")
@with_session(lists=True)
def undelivered(
    session: CommandSession,
    kind: Annotated[Literal["push", "inbox"], typer.Option(help="Kind of subscription.")] = "push",
    limit: Limit = 100,
) -> None:
    """List subscriptions that have undelivered events, with their numbers.

    \b
    Example:
      triggers deliveries undelivered --kind inbox
    """
    session.show_list(_UNDELIVERED, session.items("/v1/undelivered", limit, kind=kind))


@deliveries.command("show")
@with_session()
def show(session: CommandSession, delivery: DeliveryName) -> None:
    """Show a delivery with its last attempt.

    \b
    Example:
      triggers deliveries show 3f9a1c0d.billing
    """
    session.show(session.call("GET", _path(session, delivery)))


@deliveries.command("retry")
@with_session()
def retry(session: CommandSession, delivery: DeliveryNames) -> None:
    """Send deliveries now: pending ones early, and dead, cancelled or expired ones again.

    \b
    Example:
      triggers deliveries retry 3f9a1c0d.billing
    """
    _change(session, delivery, "retry")


@deliveries.command("cancel")
@with_session()
def cancel(session: CommandSession, delivery: DeliveryNames) -> None:
    """Cancel pending and leased deliveries.

    \b
    Example:
      triggers deliveries cancel 3f9a1c0d.billing
    """
    _change(session, delivery, "cancel")


@with_session(lists=True)
def attempts(
    session: CommandSession,
    subscription: SubscriptionOption = None,
    event: Annotated[str | None, typer.Option("--event", help="Only attempts to deliver this event.")] = None,
    limit: Limit = 50,
) -> None:
    """List delivery attempts, newest first. Needs --event, --subscription or both.

    \b
    Example:
      triggers attempts --subscription billing
    """
    recipient = _recipient(session, subscription)
    if event is not None:
        path = f"/v1/events/{segment(find_event(session, event))}/attempts"
        found: Iterable[bytes] = session.items(path, limit, subscription_id=recipient)
    elif recipient is not None:
        found = session.items(f"/v1/subscriptions/{segment(recipient)}/attempts", limit)
    else:
        raise OperatorError("Give --subscription, --event or both.")
    session.show_list(_ATTEMPTS, found)


def _change(session: CommandSession, names: list[str], what: str) -> None:
    for name in names:
        text = session.call("POST", f"{_path(session, name)}/{what}")
        if session.as_json:
            print_json(text)
        else:
            found = members(text)
            typer.echo(inert(f"{found['id']} {found['status']}"))


def _recipient(session: CommandSession, text: str | None) -> str | None:
    return None if text is None else find(session, RECIPIENT, text)


def _path(session: CommandSession, name: str) -> str:
    event, dot, recipient = name.partition(".")
    if dot and not (parse_id(event) and parse_id(recipient)):
        name = f"{find_event(session, event)}.{find(session, RECIPIENT, recipient)}"
    return f"/v1/deliveries/{segment(name)}"
