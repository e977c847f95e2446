"""`triggers status` and `top`: the numbers of an organisation, and with the scope admin the whole service."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from triggers.cli.session import CommandSession, json_of, with_session
from triggers.cli.tables import print_json
from triggers.cli.times import relative, span
from triggers.errors import OperatorError
from triggers.terminal import inert

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

_TABLES = 6
"""Number of tables of the database that are shown, the largest ones first."""
_PIPE_WIDTH = 200
_MINUTES = 10
"""Number of minutes before the present one over which rates are computed."""


def add_to(app: typer.Typer) -> None:
    """Register these commands."""
    app.command("status")(status)
    app.command("top")(top)


@with_session()
def status(session: CommandSession) -> None:
    """Show backlog, rates and failures, and with the scope admin processes, lanes, pools and partitions.

    \b
    Example:
      triggers status
    """
    found = _look(session)
    if session.as_json:
        print_json(json_of(found))
    else:
        _console().print(_picture(found))


@with_session()
def top(
    session: CommandSession,
    every: Annotated[float, typer.Option("--every", min=0.5, help="Seconds between two looks.")] = 2,
    count: Annotated[
        int | None, typer.Option("--count", min=1, help="Number of looks. Default: until Ctrl-C.")
    ] = None,
) -> None:
    """Show what `status` shows, again and again, until Ctrl-C.

    \b
    Example:
      triggers top --every 5
    """
    try:
        if session.as_json or not sys.stdout.isatty():
            for found in _looks(session, every, count):
                print_json(json_of(found))
        else:
            _live(session, every, count)
    except KeyboardInterrupt:
        return


def _live(session: CommandSession, every: float, count: int | None) -> None:
    from rich.live import Live

    console = _console()
    with Live(console=console, screen=True, auto_refresh=False) as live:
        for found in _looks(session, every, count):
            live.update(_picture(found), refresh=True)


def _looks(session: CommandSession, every: float, count: int | None) -> Iterator[dict[str, Any]]:
    made = 0
    while True:
        yield _look(session)
        made += 1
        if made == count:
            return
        time.sleep(every)


def _look(session: CommandSession) -> dict[str, Any]:
    """The organisation with its numbers, what is undelivered, and the system if the key may see it."""
    return {
        "organisation": session.ask("GET", "/v1/org"),
        "statistics": session.ask("GET", "/v1/stats", params={"range": "1h"}),
        "undelivered": session.ask("GET", "/v1/undelivered", params={"limit": 10})["data"],
        "undelivered_inboxes": session.ask("GET", "/v1/undelivered", params={"limit": 10, "kind": "inbox"})[
            "data"
        ],
        "system": _system(session),
    }


def _system(session: CommandSession) -> dict[str, Any] | None:
    try:
        return session.ask("GET", "/v1/admin/system")
    except OperatorError as error:
        if error.facts.get("status") != 403:
            raise
        return None


# ---- the picture ---------------------------------------------------------------------------------


def _picture(found: dict[str, Any]) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    parts: list[RenderableType] = [_organisation(found)]
    behind = [*found["undelivered"], *found["undelivered_inboxes"]]
    if behind:
        parts += ["", _undelivered(behind)]
    if found["system"] is None:
        parts += [
            "",
            Text(
                "Processes, lanes, pools and partitions are shown only to a key with the scope admin.", "dim"
            ),
        ]
    else:
        parts += ["", _service(found["system"]), "", _postgres(found["system"]["postgresql"])]
    return Group(*parts)


def _organisation(found: dict[str, Any]) -> Table:
    numbers = found["statistics"]
    last = numbers["points"][-_MINUTES - 1 : -1]
    oldest = [each["oldest_pending"] for each in found["undelivered"] if each["oldest_pending"]]
    backlog = next(
        (each["backlog"] for each in reversed(numbers["points"]) if each["backlog"] is not None), None
    )
    totals = numbers["totals"]
    return _pairs(
        f"organisation {found['organisation']['name']}, the last hour",
        {
            "accepted": f"{totals['accepted'] or 0:,}  ({_rate(last, 'accepted')})",
            "delivered": f"{totals['delivered']:,}  ({_rate(last, 'delivered')})",
            "failed attempts": f"{totals['failed']:,}",
            "dead letters": f"{totals['dead']:,}",
            "first attempt after": f"{_seconds(totals['lag_p50_seconds'])} (median),"
            f" {_seconds(totals['lag_p95_seconds'])} (95 %)",
            "backlog": "not sampled yet" if backlog is None else f"{backlog:,}",
            "oldest undelivered": relative(min(oldest)) if oldest else "none",
        },
    )


def _undelivered(behind: list[dict[str, Any]]) -> Table:
    table = _table("undelivered", "status", "pending", "dead", "oldest", "last reason")
    for each in behind:
        table.add_row(
            inert(each["name"]),
            inert(each["status"]),
            _count(each["pending"], each["pending_exact"]),
            _count(each["dead"], each["dead_exact"]),
            relative(each["oldest_pending"]) if each["oldest_pending"] else "",
            inert(each["last_reason"] or ""),
        )
    return table


def _service(system: dict[str, Any]) -> Table:
    table = _table("process", "kind", "since", "last seen", "load")
    for each in system["api_processes"]:
        this = ", answers this" if each["is_this"] else ""
        load = f"{each['connections']} connections{this}"
        table.add_row(
            inert(each["name"]), "api", relative(each["since"]), relative(each["last_active_at"]), load
        )
    for each in system["workers"]:
        load = f"{each['groups']} groups of lanes"
        table.add_row(
            inert(each["name"]), "worker", relative(each["since"]), relative(each["heartbeat_at"]), load
        )
    groups = system["groups"]
    table.add_row(
        "lanes", "", "", "", f"{groups['total']} groups, {groups['without_owner']} without an owner"
    )
    table.add_row("redis", "", "", "", inert(system["redis"]))
    if system["disk"] is not None:
        table.add_row("disk", "", "", "", f"{_size(system['disk']['free_bytes'])} free")
    return table


def _postgres(found: dict[str, Any]) -> Table:
    from rich.table import Table

    pool = found["pool"]
    whole = Table.grid()
    whole.add_row(
        _pairs(
            "PostgreSQL",
            {
                "pool": f"{pool['in_use']} in use, {pool['open']} open, at most {pool['most']}",
                "connections": f"{found['connections']} of {found['max_connections']}",
                "oldest transaction": span(found["oldest_transaction_seconds"] or 0),
            },
        )
    )
    tables = _table("table", "size", "rows", "dead rows", "partitions", "vacuumed")
    for each in found["tables"][:_TABLES]:
        tables.add_row(
            inert(each["name"]),
            _size(each["size_bytes"]),
            f"{each['live_rows']:,}",
            f"{each['dead_rows']:,}",
            str(each["partitions"] or ""),
            relative(each["vacuumed_at"]) if each["vacuumed_at"] else "",
        )
    whole.add_row("")
    whole.add_row(tables)
    return whole


# ---- parts ---------------------------------------------------------------------------------------


def _console() -> Any:
    from rich.console import Console

    width = None if sys.stdout.isatty() else _PIPE_WIDTH
    return Console(highlight=False, markup=False, emoji=False, width=width)


def _table(*titles: str) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for title in titles:
        table.add_column(title, no_wrap=True, overflow="ellipsis")
    return table


def _pairs(title: str, values: dict[str, str]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_row(Text(inert(title), "bold"))
    for name, value in values.items():
        table.add_row(Text(f"  {name}"), Text(inert(value)))
    return table


def _rate(points: list[dict[str, Any]], name: str) -> str:
    per_second = sum(each[name] or 0 for each in points) / max(1, 60 * len(points))
    return f"{per_second:,.1f} a second over {len(points)} min"


def _count(number: int, exact: bool) -> str:
    return f"{number:,}" if exact else f"{number:,}+"


def _seconds(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    return f"{seconds * 1000:,.0f} ms" if seconds < 1 else f"{seconds:,.1f} s"


def _size(size: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:,.0f} {unit}"
        size /= 1024
    return f"{size:,.1f} TiB"
