"""`triggers replay` and `replays`: jobs that deliver past events again, or change pending deliveries."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from triggers.cli.naming import find
from triggers.cli.nouns import Action, Filter, Noun, add_action, add_list, add_show, one_of
from triggers.cli.recipients import RECIPIENT, Recipient
from triggers.cli.session import CommandSession, json_of, with_session
from triggers.cli.tables import ColumnKind, TableColumn, print_json
from triggers.cli.times import moment_of
from triggers.errors import OperatorError
from triggers.terminal import inert

if TYPE_CHECKING:
    from rich.console import Console

replays = typer.Typer(no_args_is_help=True, help="List, watch and cancel replays and backfills.")

_LOOK_SECONDS = 0.5
_JOBS = {"cancel": "cancellation"}
_DONE = {"replay": "created", "retry": "made due", "cancel": "cancelled"}
SINCE = "RFC 3339 time, or a duration such as 24h for the time so long ago."


def _kind(found: Any) -> str:
    return found["action"] if found["action"] != "replay" else f"{found['kind']} {found['only']}"


def _planned(found: Any) -> str | None:
    if found["planned"] is None:
        return None
    return f"{found['planned']:,}" if found["planned_exact"] else f"about {found['planned']:,}"


REPLAY = Noun(
    "replay",
    "replays",
    "replays",
    "/v1/replays",
    (
        TableColumn("replay", "id", ColumnKind.ID),
        TableColumn("kind", "", read=_kind),
        TableColumn("to", "subscription_name"),
        TableColumn("status", "status", ColumnKind.STATE),
        TableColumn("made", "made", ColumnKind.NUMBER),
        TableColumn("planned", "", ColumnKind.NUMBER, read=_planned),
        TableColumn("progress", "", ColumnKind.NUMBER, read=lambda found: f"{found['progress']:.0%}"),
        TableColumn("reason", "reason"),
        TableColumn("began", "created_at", ColumnKind.TIME),
        TableColumn("subscription", "subscription_id", ColumnKind.ID, only_wide=True),
        TableColumn("since", "since", ColumnKind.TIME, only_wide=True),
        TableColumn("until", "until", ColumnKind.TIME, only_wide=True),
    ),
    filters=(
        Filter(
            "--subscription", "subscription_id", "Only those of this subscription or inbox.", noun=RECIPIENT
        ),
        Filter(
            "--status",
            "status",
            "Only replays with this status.",
            Literal["running", "done", "cancelled", "failed"],
        ),
    ),
)


def add_to(app: typer.Typer) -> None:
    """Register these commands."""
    app.command("replay")(replay)
    app.add_typer(replays, name="replays")


@with_session()
def replay(  # noqa: PLR0913, PLR0917 - each is a flag
    session: CommandSession,
    subscription: Recipient,
    since: Annotated[str | None, typer.Option(help=f"Events accepted at or after this time: {SINCE}")] = None,
    until: Annotated[
        str | None, typer.Option(help=f"Events accepted before this time: {SINCE} Default: now.")
    ] = None,
    event_type: Annotated[
        list[str] | None,
        typer.Option("--type", help="Only events of this type or pattern, such as order.*; repeatable."),
    ] = None,
    only: Annotated[
        Literal["dead", "all"],
        typer.Option(help="dead: dead, cancelled and expired deliveries. all: all matching events."),
    ] = "dead",
    action: Annotated[
        Literal["replay", "retry", "cancel"],
        typer.Option(
            help="replay: send again. retry: send pending deliveries now. cancel: cancel pending deliveries."
        ),
    ] = "replay",
    rate: Annotated[int, typer.Option(min=1, max=10_000, help="Maximum deliveries per second.")] = 100,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Start without asking for confirmation.")] = False,
) -> None:
    """Replay undelivered or all matching events, or retry or cancel pending deliveries.

    The command shows a plan, asks for confirmation, and shows the progress.

    \b
    Example:
      triggers replay billing --since 24h
    """
    asked: dict[str, Any] = {
        "subscription_id": find(session, RECIPIENT, subscription),
        "action": action,
        "only": only,
    }
    asked |= {"since": moment_of(since), "until": moment_of(until), "event_types": event_type or None}
    asked |= {"rate": rate}
    console = _console()
    plan = session.ask("POST", REPLAY.path, asked | {"plan_only": True})
    console.print(_plan(plan))
    if not plan["planned"] and plan["planned_exact"]:
        if session.as_json:
            print_json(json_of(plan))
        return
    if not yes and not typer.confirm(f"Start the {_JOBS.get(action, action)}?", err=True):
        raise typer.Exit(1)
    _watch(session, console, session.ask("POST", REPLAY.path, asked))


add_list(replays, REPLAY, "newest first")
add_show(replays, REPLAY)
add_action(
    replays,
    REPLAY,
    Action(
        "cancel", "DELETE", "", "Cancel a replay. Deliveries that it created already are kept.", "cancelled"
    ),
)


@replays.command("watch")
@with_session()
def watch(session: CommandSession, replay: one_of(REPLAY)) -> None:  # type: ignore[valid-type]
    """Show the progress of a replay until it ends.

    \b
    Example:
      triggers replays watch 3f9a1c0d
    """
    _watch(session, _console(), session.ask("GET", REPLAY.path_of(session, replay)))


# ---- steps ---------------------------------------------------------------------------------------


def _console() -> Console:
    from rich.console import Console

    return Console(stderr=True, highlight=False, markup=False, emoji=False)


def _plan(plan: dict[str, Any]) -> str:
    if plan["action"] in ("retry", "cancel"):
        what = f"{plan['action']} {_planned(plan)} pending deliveries of events"
    else:
        events = "undelivered events" if plan["only"] == "dead" else "matching events"
        what = f"send {_planned(plan)} {events} again,"
    return inert(
        f"Will {what} accepted from {plan['since']} until {plan['until']},"
        f" at up to {plan['rate']:,} per second. This takes at least {plan['planned_seconds']:,.0f} seconds."
    )


def _created(found: dict[str, Any]) -> str:
    done = _DONE[found["action"]]
    return f"1 delivery {done}" if found["made"] == 1 else f"{found['made']:,} deliveries {done}"


def _watch(session: CommandSession, console: Console, found: dict[str, Any]) -> None:
    """Show progress until the replay ends; an interrupt leaves it running."""
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn(found["action"], markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[made]:,} " + _DONE[found["action"]], markup=False),
        TimeElapsedColumn(),
        TextColumn("{task.fields[reason]}", markup=False),
    )
    try:
        with Progress(*columns, console=console, transient=True) as progress:
            bar = progress.add_task("replay", total=1.0, made=0, reason="")
            while found["status"] == "running":
                made, reason = found["made"], inert(found["reason"] or "")
                progress.update(bar, completed=_share(found), made=made, reason=reason)
                time.sleep(_LOOK_SECONDS)
                found = session.ask("GET", f"{REPLAY.path}/{found['id']}")
    except KeyboardInterrupt:
        console.print(
            f"The replay continues. To cancel it: triggers replays cancel {found['id']}\n"
            f"To watch it again: triggers replays watch {found['id']}"
        )
        raise typer.Exit(130) from None
    if session.as_json:
        print_json(json_of(found))
    else:
        console.print(f"{inert(found['status'])}: {_created(found)}")
    if found["status"] != "done":
        raise OperatorError(f"The replay was {found['status']}: {found['reason']}")


def _share(found: dict[str, Any]) -> float:
    """The completed share (0 to 1) of the planned deliveries if counted, else of the time range."""
    if found["planned"] and found["planned_exact"]:
        return min(1.0, float(found["made"]) / float(found["planned"]))
    return float(found["progress"])
