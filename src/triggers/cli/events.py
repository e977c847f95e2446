"""`triggers events`: the events that were accepted, and what became of them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from triggers import strict_json
from triggers.cli.naming import find_event
from triggers.cli.send import event_of
from triggers.cli.service import call, members, segment
from triggers.cli.session import CommandSession, Limit, is_terminal, json_of, with_session
from triggers.cli.tables import ColumnKind, TableColumn, TableLook, print_json, show_details, show_table
from triggers.cli.times import moment_of

events = typer.Typer(no_args_is_help=True, help="List events, and show what became of them.")

EventId = Annotated[
    str, typer.Argument(metavar="EVENT", help="The event: its id, or the last 8 or more characters of it.")
]
SINCE = "RFC 3339 time, or a duration such as 1h for the time so long ago."

_EVENTS = (
    TableColumn("event", "id", ColumnKind.ID),
    TableColumn("type", "type"),
    TableColumn("accepted", "created_at", ColumnKind.TIME),
    TableColumn("subject", "subject"),
    TableColumn("source", "source", only_wide=True),
    TableColumn("dedup id", "dedup_id", only_wide=True),
    TableColumn("ordering key", "ordering_key", only_wide=True),
    TableColumn("bytes", "payload_size", ColumnKind.NUMBER),
)
_DELIVERIES = (
    TableColumn("to", "subscription_id", ColumnKind.RECIPIENT),
    TableColumn("kind", "kind"),
    TableColumn("status", "status", ColumnKind.STATE),
    TableColumn("reason", "reason"),
    TableColumn("attempts", "attempts", ColumnKind.NUMBER),
    TableColumn("leases", "lease_count", ColumnKind.NUMBER),
    TableColumn("next", "due_at", ColumnKind.TIME),
    TableColumn("settled", "settled_at", ColumnKind.TIME),
    TableColumn("generation", "generation", ColumnKind.NUMBER, only_wide=True),
)
_EXPLANATIONS = (
    TableColumn("subscription", "subscription_id", ColumnKind.RECIPIENT),
    TableColumn("kind", "kind"),
    TableColumn("status", "status", ColumnKind.STATE),
    TableColumn("matched", "matched"),
    TableColumn("why", "why"),
)


def add_to(app: typer.Typer) -> None:
    """Register these commands."""
    app.add_typer(events, name="events")


@events.command("list")
@with_session(lists=True)
def list_events(  # noqa: PLR0913, PLR0917 - each is a flag
    session: CommandSession,
    event_type: Annotated[
        str | None, typer.Option("--type", help="Only this type, or a pattern such as order.*.")
    ] = None,
    subject: Annotated[str | None, typer.Option(help="Only events with exactly this subject.")] = None,
    dedup_id: Annotated[str | None, typer.Option(help="Only events with exactly this dedup_id.")] = None,
    undelivered: Annotated[
        bool,
        typer.Option(
            "--undelivered", help="Only events with a delivery that is unsettled, dead, cancelled or expired."
        ),
    ] = False,
    since: Annotated[str | None, typer.Option(help=f"Accepted at or after this time: {SINCE}")] = None,
    until: Annotated[str | None, typer.Option(help=f"Accepted before this time: {SINCE}")] = None,
    order: Annotated[
        Literal["desc", "asc"], typer.Option(help="desc: newest first. asc: oldest first.")
    ] = "desc",
    limit: Limit = 50,
) -> None:
    """List events, newest first.

    \b
    Example:
      triggers events list --type 'order.*' --since 1h
    """
    found = session.items(
        "/v1/events",
        limit,
        member="events",
        type=event_type,
        subject=subject,
        dedup_id=dedup_id,
        undelivered="" if undelivered else None,
        since=moment_of(since),
        until=moment_of(until),
        order=order,
    )
    session.show_list(_EVENTS, found)


@events.command("show")
@with_session(lists=True)
def show(session: CommandSession, event: EventId) -> None:
    """Show an event with its payload and its deliveries.

    \b
    Example:
      triggers events show 3f9a1c0d
    """
    text = session.call("GET", _path(session, event))
    if session.as_json:
        print_json(text)
        return
    found = members(text)
    deliveries = found.pop("deliveries")
    payload = found.pop("payload", None)
    show_details(found)
    if payload is not None:
        typer.echo("\npayload")
        print_json(payload.encode())
    typer.echo()
    show_table(_DELIVERIES, deliveries, TableLook(session.wide, session.name_of))


@events.command("explain")
@with_session(lists=True)
def explain(session: CommandSession, event: EventId) -> None:
    """Explain for each subscription and inbox why it got an event or did not get it.

    \b
    Example:
      triggers events explain 3f9a1c0d
    """
    found = session.ask("GET", _path(session, event), params={"explain": ""})
    session.show_list(_EXPLANATIONS, map(json_of, found["explanations"]))


@events.command("payload")
@with_session()
def payload(session: CommandSession, event: EventId) -> None:
    """Print the payload of an event, with exactly the bytes that were sent.

    \b
    Example:
      triggers events payload 3f9a1c0d > payload.json
    """
    text = call(session.client, "GET", f"{_path(session, event)}/payload").content
    if session.as_json or is_terminal():
        print_json(text)
    else:
        typer.echo(text, nl=False)


@events.command("dry-run")
@with_session(lists=True)
def dry_run(
    session: CommandSession,
    event_type: Annotated[str, typer.Argument(metavar="TYPE", help="The event's type.")],
    data: Annotated[str, typer.Option("--data", help="The payload as JSON.")] = "null",
) -> None:
    """List the subscriptions and inboxes that would get an event. Nothing is stored or sent.

    \b
    Example:
      triggers events dry-run order.paid --data '{"total": 70}'
    """
    strict_json.check(data.encode())
    body = event_of(event_type, data.encode())
    text = call(session.client, "POST", "/v1/events/dry-run", content=body).content
    if session.as_json:
        print_json(text)
        return
    found = members(text)
    rows: list[dict[str, Any]] = [{**each, "reason": "matches"} for each in found["matches"]]
    rows += [{**each, "reason": f"does not match: {each['reason']}"} for each in found["others"]]
    show_table(_DRY_RUN, rows, TableLook(session.wide))


_DRY_RUN = (
    TableColumn("subscription", "name"),
    TableColumn("kind", "kind"),
    TableColumn("status", "status", ColumnKind.STATE),
    TableColumn("result", "reason"),
    TableColumn("id", "subscription_id", ColumnKind.ID),
)


def _path(session: CommandSession, event: str) -> str:
    return f"/v1/events/{segment(find_event(session, event))}"
