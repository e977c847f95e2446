"""`triggers deliveries` and `attempts`: what was sent to subscriptions, or waits to be sent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

import typer

from triggers.cli.naming import find, find_event
from triggers.cli.recipients import RECIPIENT
from triggers.cli.service import members, segment
from triggers.cli.session import Limit, Session, with_session
from triggers.cli.tables import Column, Kind, print_json
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
    typer.Option("--subscription", help="Only items of this subscription or inbox: its id, name or key."),
]
_DELIVERIES = (
    Column("event", "event_id", Kind.ID),
    Column("to", "subscription_id", Kind.RECIPIENT),
    Column("type", "event_type"),
    Column("status", "status", Kind.STATE),
    Column("attempts", "attempts", Kind.NUMBER),
    Column("reason", "reason"),
    Column("waits for", "", read=lambda found: (found["waiting_for"] or "").replace("_", " ")),
    Column("next or settled", "", Kind.TIME, read=lambda found: found["next_at"] or found["settled_at"]),
    Column("delivery", "id", only_wide=True),
    Column("accepted", "accepted_at", Kind.TIME, only_wide=True),
)
_ATTEMPTS = (
    Column("began", "began_at", Kind.TIME),
    Column("event", "event_id", Kind.ID),
    Column("subscription", "subscription_id", Kind.RECIPIENT),
    Column("attempt", "attempt", Kind.NUMBER),
    Column("outcome", "outcome", Kind.STATE),
    Column("reason", "", read=lambda found: f"{found['reason']} {found['status_code'] or ''}".rstrip()),
    Column("ms", "duration_ms", Kind.NUMBER),
    Column("retry", "retry_at", Kind.TIME),
    Column("response", "response", only_wide=True),
)
_UNDELIVERED = (
    Column("subscription", "name"),
    Column("kind", "kind"),
    Column("status", "status", Kind.STATE),
    Column("pending", "pending", Kind.NUMBER),
    Column("dead", "dead", Kind.NUMBER),
    Column("oldest", "oldest_pending", Kind.TIME),
    Column("failing since", "failing_since", Kind.TIME),
    Column("last reason", "last_reason"),
    Column("id", "subscription_id", Kind.ID, only_wide=True),
)


def add_to(app: typer.Typer) -> None:
    """Register these commands."""
    app.add_typer(deliveries, name="deliveries")
    app.command("attempts")(attempts)


@deliveries.command("list")
@with_session(lists=True)
def list_deliveries(
    session: Session,
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
    session: Session,
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
def show(session: Session, delivery: DeliveryName) -> None:
    """Show a delivery with its last attempt.

    \b
    Example:
      triggers deliveries show 3f9a1c0d.billing
    """
    session.show(session.call("GET", _path(session, delivery)))


@deliveries.command("retry")
@with_session()
def retry(session: Session, delivery: DeliveryNames) -> None:
    """Send deliveries now: pending ones early, and dead, cancelled or expired ones again.

    \b
    Example:
      triggers deliveries retry 3f9a1c0d.billing
    """
    _change(session, delivery, "retry")


@deliveries.command("cancel")
@with_session()
def cancel(session: Session, delivery: DeliveryNames) -> None:
    """Cancel pending and leased deliveries.

    \b
    Example:
      triggers deliveries cancel 3f9a1c0d.billing
    """
    _change(session, delivery, "cancel")


@with_session(lists=True)
def attempts(
    session: Session,
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


def _change(session: Session, names: list[str], what: str) -> None:
    for name in names:
        text = session.call("POST", f"{_path(session, name)}/{what}")
        if session.as_json:
            print_json(text)
        else:
            found = members(text)
            typer.echo(inert(f"{found['id']} {found['status']}"))


def _recipient(session: Session, text: str | None) -> str | None:
    return None if text is None else find(session, RECIPIENT, text)


def _path(session: Session, name: str) -> str:
    event, dot, recipient = name.partition(".")
    if dot and not (parse_id(event) and parse_id(recipient)):
        name = f"{find_event(session, event)}.{find(session, RECIPIENT, recipient)}"
    return f"/v1/deliveries/{segment(name)}"
