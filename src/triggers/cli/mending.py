"""`triggers replay`, `replays`, `deliveries` and `attempts`: commands that use the HTTP API."""

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

from triggers.cli.service import DEFAULT_URL, Key, Url, ask, open_client, segment
from triggers.cli.tables import show
from triggers.errors import OperatorError

replays = typer.Typer(no_args_is_help=True, help="List, watch and cancel replays and backfills.")
deliveries = typer.Typer(no_args_is_help=True, help="List deliveries, and retry or cancel them.")

LimitOption = Annotated[int, typer.Option(min=1, help="Maximum number of items to list.")]
ReplayId = Annotated[str, typer.Argument(metavar="REPLAY", help="Id of a replay.")]
DeliveryIds = Annotated[
    list[str], typer.Argument(metavar="DELIVERY...", help="Ids of deliveries: <event id>.<subscription id>.")
]
SubscriptionOption = Annotated[
    str | None, typer.Option("--subscription", help="Only items of this subscription or inbox (its id).")
]
JsonLines = Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")]
_LOOK_SECONDS = 0.5
_JOBS = {"cancel": "cancellation"}
_DONE = {"replay": "created", "retry": "made due", "cancel": "cancelled"}


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
    since: Annotated[str | None, typer.Option(help="Events accepted at or after this RFC 3339 time.")] = None,
    until: Annotated[
        str | None, typer.Option(help="Events accepted before this RFC 3339 time. Default: now.")
    ] = None,
    event_type: Annotated[
        list[str] | None,
        typer.Option("--type", help="Only events of this type or pattern, such as order.*; repeatable."),
    ] = None,
    only: Annotated[
        str, typer.Option(help="dead: dead, cancelled and expired deliveries. all: all matching events.")
    ] = "dead",
    action: Annotated[
        str,
        typer.Option(
            help="replay: send again. retry: send pending deliveries now. cancel: cancel pending deliveries."
        ),
    ] = "replay",
    rate: Annotated[int, typer.Option(min=1, max=10_000, help="Maximum deliveries per second.")] = 100,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Start without asking for confirmation.")] = False,
) -> None:
    """Replay undelivered or all matching events, or retry or cancel pending deliveries.

    The command shows a plan, asks for confirmation, and shows the progress.
    """
    asked = {"subscription_id": subscription, "action": action, "only": only, "rate": rate}
    asked |= {"since": since, "until": until, "event_types": event_type or None}
    console = Console(stderr=True, highlight=False)
    with open_client(url, key) as client:
        plan = ask(client, "POST", "/v1/replays", json=asked | {"plan_only": True})
        console.print(_plan(plan))
        if not plan["planned"] and plan["planned_exact"]:
            return
        if not yes and not typer.confirm(f"Start the {_JOBS.get(action, action)}?", err=True):
            raise typer.Exit(1)
        _watch(client, console, ask(client, "POST", "/v1/replays", json=asked))


@replays.command("list")
def list_replays(
    key: Key,
    url: Url = DEFAULT_URL,
    subscription: SubscriptionOption = None,
    limit: LimitOption = 20,
    as_json: JsonLines = False,
) -> None:
    """List replays and backfills, newest first."""
    with open_client(url, key) as client:
        found = _items(client, "/v1/replays", limit, subscription_id=subscription)
        _print(found, _REPLAY, _replay_row, as_json=as_json)


@replays.command("watch")
def watch_replay(replay_id: ReplayId, key: Key, url: Url = DEFAULT_URL) -> None:
    """Show the progress of a replay until it ends."""
    with open_client(url, key) as client:
        found = ask(client, "GET", f"/v1/replays/{segment(replay_id)}")
        _watch(client, Console(stderr=True, highlight=False), found)


@replays.command("cancel")
def cancel_replay(replay_id: ReplayId, key: Key, url: Url = DEFAULT_URL) -> None:
    """Cancel a replay. Deliveries that it created already are kept."""
    with open_client(url, key) as client:
        found = ask(client, "DELETE", f"/v1/replays/{segment(replay_id)}")
    typer.echo(f"{found['status']}: {_created(found)}")


# ---- deliveries and attempts ---------------------------------------------------------------------


@deliveries.command("list")
def list_deliveries(
    key: Key,
    url: Url = DEFAULT_URL,
    status: Annotated[
        str,
        typer.Option(help="pending, leased, delivered, acknowledged, dead, cancelled or expired."),
    ] = "pending",
    kind: Annotated[
        str | None,
        typer.Option(
            help="Kind of subscription: push, inbox or all. Default: push; with --subscription, all; with"
            " --status leased or acknowledged, inbox."
        ),
    ] = None,
    subscription: SubscriptionOption = None,
    limit: LimitOption = 100,
    as_json: JsonLines = False,
) -> None:
    """List deliveries with one status. Pending ones show what they wait for.

    Those of one subscription are listed by event, newest first. Without --subscription, the newest
    subscription comes first."""
    if kind is None:
        kind = "inbox" if status in ("leased", "acknowledged") else "all" if subscription else "push"
    asked = {"status": status, "subscription_id": subscription, "kind": None if kind == "all" else kind}
    with open_client(url, key) as client:
        found = _items(client, "/v1/deliveries", limit, **asked)
        _print(found, _DELIVERY, _delivery_row, as_json=as_json)


@deliveries.command("retry")
def retry_deliveries(ids: DeliveryIds, key: Key, url: Url = DEFAULT_URL) -> None:
    """Send deliveries now: pending ones early, and dead, cancelled or expired ones again."""
    _change(ids, key, url, "retry")


@deliveries.command("cancel")
def cancel_deliveries(ids: DeliveryIds, key: Key, url: Url = DEFAULT_URL) -> None:
    """Cancel pending and leased deliveries."""
    _change(ids, key, url, "cancel")


def attempts(
    key: Key,
    url: Url = DEFAULT_URL,
    subscription: SubscriptionOption = None,
    event: Annotated[
        str | None, typer.Option("--event", help="Only attempts to deliver this event (its id).")
    ] = None,
    limit: LimitOption = 50,
    as_json: JsonLines = False,
) -> None:
    """List delivery attempts, newest first. Needs --event, --subscription or both."""
    if event is not None:
        path, more = f"/v1/events/{segment(event)}/attempts", {"subscription_id": subscription}
    elif subscription is not None:
        path, more = f"/v1/subscriptions/{segment(subscription)}/attempts", {}
    else:
        raise OperatorError("Give --subscription, --event or both.")
    with open_client(url, key) as client:
        _print(_items(client, path, limit, **more), _ATTEMPT, _attempt_row, as_json=as_json)


# ---- tables --------------------------------------------------------------------------------------

_REPLAY = ("replay", "kind", "subscription", "status", "created", "planned", "progress", "reason")
_DELIVERY = ("delivery", "type", "attempts", "reason", "waits for", "next or settled at")
_ATTEMPT = ("began", "event", "subscription", "attempt", "outcome", "reason", "ms", "retry at")


def _print(
    found: Iterable[dict[str, Any]],
    columns: tuple[str, ...],
    row: Callable[[dict[str, Any]], tuple[str, ...]],
    *,
    as_json: bool,
) -> None:
    """Print a table when all items are there, or each item as JSON as soon as it arrives."""
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
        found["action"] if found["action"] != "replay" else f"{found['kind']} {found['only']}",
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
        page = ask(client, "GET", path, params=asked | {"limit": min(left, 1000)})
        yield from page["data"]
        left -= len(page["data"])
        if page["next_cursor"] is None:
            return
        asked["cursor"] = page["next_cursor"]


def _change(ids: list[str], key: str, url: str, what: str) -> None:
    with open_client(url, key) as client:
        for each in ids:
            found = ask(client, "POST", f"/v1/deliveries/{segment(each)}/{what}")
            typer.echo(f"{found['id']} {found['status']}")


def _number(found: dict[str, Any]) -> str:
    if found["planned"] is None:
        return ""
    return f"{found['planned']:,}" if found["planned_exact"] else f"about {found['planned']:,}"


def _plan(plan: dict[str, Any]) -> str:
    if plan["action"] == "retry":
        what = f"retry {_number(plan)} pending deliveries of events"
    elif plan["action"] == "cancel":
        what = f"cancel {_number(plan)} pending deliveries of events"
    else:
        events = "undelivered events" if plan["only"] == "dead" else "matching events"
        what = f"send {_number(plan)} {events} again,"
    return (
        f"Will {what} accepted from {plan['since']} until {plan['until']},"
        f" at up to {plan['rate']:,} per second. This takes at least {plan['planned_seconds']:,.0f} seconds."
    )


def _created(found: dict[str, Any]) -> str:
    done = _DONE[found["action"]]
    return f"1 delivery {done}" if found["made"] == 1 else f"{found['made']:,} deliveries {done}"


def _watch(client: httpx.Client, console: Console, found: dict[str, Any]) -> None:
    """Show progress until the replay ends; an interrupt leaves it running."""
    columns = (
        TextColumn(found["action"]),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[made]:,} " + _DONE[found["action"]]),
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
                found = ask(client, "GET", f"/v1/replays/{found['id']}")
    except KeyboardInterrupt:
        console.print(
            f"The replay continues. To cancel it: triggers replays cancel {found['id']}\n"
            f"To watch it again: triggers replays watch {found['id']}"
        )
        raise typer.Exit(130) from None
    console.print(f"{found['status']}: {_created(found)}")
    if found["status"] != "done":
        raise OperatorError(f"The replay was {found['status']}: {found['reason']}")


def _share(found: dict[str, Any]) -> float:
    """The completed share (0 to 1) of the planned deliveries if counted, else of the time range."""
    if found["planned"] and found["planned_exact"]:
        return min(1.0, float(found["made"]) / float(found["planned"]))
    return float(found["progress"])
