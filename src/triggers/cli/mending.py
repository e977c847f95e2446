"""replay, replays, deliveries and attempts: see what is owed, and mend it, over HTTP like anybody else."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Any

import httpx
import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from triggers.cli.client import DEFAULT_URL, Key, Url, call, open_client
from triggers.cli.tables import show
from triggers.errors import OperatorError

replays = typer.Typer(no_args_is_help=True, help="Replays under way and past.")
deliveries = typer.Typer(no_args_is_help=True, help="What is owed, why, and when next.")

Limit = Annotated[int, typer.Option(min=1, help="At most so many.")]
ReplayId = Annotated[str, typer.Argument(metavar="REPLAY", help="Id of a replay.")]
DeliveryIds = Annotated[
    list[str], typer.Argument(metavar="DELIVERY...", help="Named <event id>.<subscription id>.")
]
Subscription = Annotated[
    str | None, typer.Option("--subscription", help="Only of this subscription or inbox, by its id.")
]
Json = Annotated[bool, typer.Option("--json", help="Print each as JSON, one a line.")]
_LOOK_SECONDS = 0.5


def add_to(app: typer.Typer) -> None:
    """Register these commands."""
    app.command("replay")(replay)
    app.command("attempts")(attempts)
    app.add_typer(replays, name="replays")
    app.add_typer(deliveries, name="deliveries")


# ---- replays -------------------------------------------------------------------------------------


def replay(  # noqa: PLR0913, PLR0917 - each is a flag
    subscription: Annotated[
        str, typer.Argument(metavar="SUBSCRIPTION", help="Id of a subscription or of an inbox.")
    ],
    key: Key,
    url: Url = DEFAULT_URL,
    since: Annotated[str | None, typer.Option(help="Events accepted from this RFC 3339 time on.")] = None,
    until: Annotated[str | None, typer.Option(help="Events accepted before it. Default: now.")] = None,
    event_type: Annotated[
        list[str] | None, typer.Option("--type", help="Only of this type or pattern; may be repeated.")
    ] = None,
    only: Annotated[
        str, typer.Option(help="dead: what did not arrive. all: everything it asks for.")
    ] = "dead",
    rate: Annotated[int, typer.Option(min=1, max=10_000, help="Deliveries a second.")] = 100,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask, just do it.")] = False,
) -> None:
    """Send again what did not arrive, or everything. Shows the plan and asks first, then how far it is."""
    asked = {"subscription_id": subscription, "only": only, "rate": rate}
    asked |= {"since": since, "until": until, "event_types": event_type or None}
    console = Console(stderr=True, highlight=False)
    with open_client(url, key) as client:
        plan = call(client, "POST", "/v1/replays", json=asked | {"plan_only": True}).json()
        console.print(_plan(plan))
        if not plan["planned"] and plan["planned_exact"]:
            return
        if not yes and not typer.confirm("Begin?", err=True):
            raise typer.Exit(1)
        _watch(client, console, call(client, "POST", "/v1/replays", json=asked).json())


@replays.command("list")
def list_replays(
    key: Key,
    url: Url = DEFAULT_URL,
    subscription: Subscription = None,
    limit: Limit = 20,
    as_json: Json = False,
) -> None:
    """List replays and backfills, newest first."""
    with open_client(url, key) as client:
        found = _items(client, "/v1/replays", limit, subscription_id=subscription)
        _print(found, _REPLAY, _replay_row, as_json=as_json)


@replays.command("watch")
def watch_replay(replay_id: ReplayId, key: Key, url: Url = DEFAULT_URL) -> None:
    """Show how far a replay is, until it ends."""
    with open_client(url, key) as client:
        found = call(client, "GET", f"/v1/replays/{replay_id}").json()
        _watch(client, Console(stderr=True, highlight=False), found)


@replays.command("cancel")
def cancel_replay(replay_id: ReplayId, key: Key, url: Url = DEFAULT_URL) -> None:
    """Cancel a replay; what it made stays."""
    with open_client(url, key) as client:
        found = call(client, "DELETE", f"/v1/replays/{replay_id}").json()
    typer.echo(f"{found['status']}, {found['made']:,} made")


# ---- deliveries and attempts ---------------------------------------------------------------------


@deliveries.command("list")
def list_deliveries(
    key: Key,
    url: Url = DEFAULT_URL,
    status: Annotated[
        str,
        typer.Option(help="pending, leased, delivered, acknowledged, dead, cancelled or expired."),
    ] = "pending",
    subscription: Subscription = None,
    limit: Limit = 100,
    as_json: Json = False,
) -> None:
    """List deliveries of a status, newest event first: of pending ones what they wait for."""
    with open_client(url, key) as client:
        found = _items(client, "/v1/deliveries", limit, status=status, subscription_id=subscription)
        _print(found, _DELIVERY, _delivery_row, as_json=as_json)


@deliveries.command("retry")
def retry_deliveries(ids: DeliveryIds, key: Key, url: Url = DEFAULT_URL) -> None:
    """Let deliveries be due now; those that ended without arriving are owed once more."""
    _mend(ids, key, url, "retry")


@deliveries.command("cancel")
def cancel_deliveries(ids: DeliveryIds, key: Key, url: Url = DEFAULT_URL) -> None:
    """Cancel deliveries that are not settled."""
    _mend(ids, key, url, "cancel")


def attempts(
    key: Key,
    url: Url = DEFAULT_URL,
    subscription: Subscription = None,
    event: Annotated[str | None, typer.Option("--event", help="Of this event.")] = None,
    limit: Limit = 50,
    as_json: Json = False,
) -> None:
    """List what was sent, newest first: of a subscription, of an event, or of both together."""
    if event is None and subscription is None:
        raise OperatorError("Name a --subscription or an --event.")
    path = f"/v1/subscriptions/{subscription}/attempts" if event is None else f"/v1/events/{event}/attempts"
    more = {} if event is None else {"subscription_id": subscription}
    with open_client(url, key) as client:
        _print(_items(client, path, limit, **more), _ATTEMPT, _attempt_row, as_json=as_json)


# ---- tables --------------------------------------------------------------------------------------

_REPLAY = ("replay", "kind", "subscription", "status", "made", "planned", "done", "reason")
_DELIVERY = ("delivery", "type", "attempts", "reason", "waits for", "next or settled at")
_ATTEMPT = ("began", "event", "subscription", "attempt", "outcome", "reason", "ms", "retry at")


def _print(
    found: Iterable[dict[str, Any]],
    columns: tuple[str, ...],
    row: Callable[[dict[str, Any]], tuple[str, ...]],
    *,
    as_json: bool,
) -> None:
    """As a table when all are there, or each as the API gave it, as soon as it is."""
    if as_json:
        for each in found:
            typer.echo(msgspec.json.encode(each))
        return
    table = Table(*columns, box=None)
    for each in found:
        table.add_row(*row(each))
    show(table)


def _replay_row(found: dict[str, Any]) -> tuple[str, ...]:
    return (
        found["id"],
        f"{found['kind']} {found['only']}",
        found["subscription_id"],
        found["status"],
        f"{found['made']:,}",
        _number(found),
        f"{found['progress']:.0%}",
        found["reason"] or "",
    )


def _delivery_row(found: dict[str, Any]) -> tuple[str, ...]:
    return (
        found["id"],
        found["event_type"] or "",
        str(found["attempts"]),
        found["reason"] or "",
        (found["waiting_for"] or "").replace("_", " "),
        found["next_at"] or found["settled_at"] or "",
    )


def _attempt_row(found: dict[str, Any]) -> tuple[str, ...]:
    return (
        found["began_at"],
        found["event_id"],
        found["subscription_id"],
        str(found["attempt"]),
        found["outcome"],
        found["reason"] + (f" {found['status_code']}" if found["status_code"] else ""),
        str(found["duration_ms"]),
        found["retry_at"] or "",
    )


# ---- steps ---------------------------------------------------------------------------------------


def _items(client: httpx.Client, path: str, limit: int, **parameters: Any) -> Iterator[dict[str, Any]]:
    """The first `limit` items of a list, page after page."""
    asked = {name: value for name, value in parameters.items() if value is not None}
    left = limit
    while left:
        page = call(client, "GET", path, params=asked | {"limit": min(left, 1000)}).json()
        yield from page["data"]
        left -= len(page["data"])
        if page["next_cursor"] is None:
            return
        asked["cursor"] = page["next_cursor"]


def _mend(ids: list[str], key: str, url: str, what: str) -> None:
    with open_client(url, key) as client:
        for each in ids:
            found = call(client, "POST", f"/v1/deliveries/{each}/{what}").json()
            typer.echo(f"{found['id']} {found['status']}")


def _number(found: dict[str, Any]) -> str:
    if found["planned"] is None:
        return ""
    return f"{found['planned']:,}" if found["planned_exact"] else f"about {found['planned']:,}"


def _plan(plan: dict[str, Any]) -> str:
    what = "that did not arrive" if plan["only"] == "dead" else "that it asks for"
    return (
        f"{_number(plan)} deliveries {what}, of events from {plan['since']} until {plan['until']},"
        f" at {plan['rate']:,} a second: {plan['planned_seconds']:,.0f} s at least."
    )


def _watch(client: httpx.Client, console: Console, found: dict[str, Any]) -> None:
    """Show progress until the replay ends; an interrupt leaves it running."""
    columns = (
        TextColumn("replaying"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[made]:,} made"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[reason]}"),
    )
    try:
        with Progress(*columns, console=console, transient=True) as progress:
            bar = progress.add_task("replay", total=1.0, made=0, reason="")
            while found["status"] == "running":
                made, reason = found["made"], found["reason"] or ""
                progress.update(bar, completed=_share(found), made=made, reason=reason)
                time.sleep(_LOOK_SECONDS)
                found = call(client, "GET", f"/v1/replays/{found['id']}").json()
    except KeyboardInterrupt:
        console.print(
            f"It goes on without you. To end it: triggers replays cancel {found['id']}\n"
            f"To look again: triggers replays watch {found['id']}"
        )
        raise typer.Exit(130) from None
    console.print(f"{found['status']}: {found['made']:,} made")
    if found["status"] != "done":
        raise OperatorError(f"The replay was {found['status']}: {found['reason']}")


def _share(found: dict[str, Any]) -> float:
    """How much is done: of what was counted, else of the range."""
    if found["planned"] and found["planned_exact"]:
        return min(1.0, float(found["made"]) / float(found["planned"]))
    return float(found["progress"])
