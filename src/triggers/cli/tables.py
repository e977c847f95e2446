"""The output of commands: tables that fit the terminal, details of one thing, and JSON.

A noun declares its columns once. On a terminal a table has short ids, names and relative times, and fits its
width. With `--wide`, and in a pipe, it has all columns, whole ids and exact times, so they can be copied.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum, auto
from typing import Any, Final, NamedTuple

import msgspec
import typer

from triggers.cli.times import relative
from triggers.terminal import inert

SHORT: Final = 8
"""Number of characters of a short id. They are the last ones, because the first ones are the time."""
_ANY_WIDTH: Final = 100_000
_LEAST_WIDTH: Final = 8
"""Width in characters below which no column is narrowed."""
_LEAST_TITLE: Final = 4
"""Width in characters below which no title is cut."""
_MOST_FITTED: Final = 500
"""Number of characters of a text of which a fitting table shows a part. No terminal is as wide."""
_COLOURS: Final = {
    "active": "green",
    "delivered": "green",
    "acknowledged": "green",
    "acked": "green",
    "accepted": "green",
    "available": "green",
    "done": "green",
    "ok": "green",
    "pending": "yellow",
    "leased": "yellow",
    "running": "yellow",
    "paused": "yellow",
    "retry": "yellow",
    "deleting": "yellow",
    "expired": "red",
    "dead": "red",
    "disabled": "red",
    "failed": "red",
    "cancelled": "red",
    "quarantined": "red",
    "revoked": "red",
}
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


class ColumnKind(Enum):
    """How a column shows its values."""

    TEXT = auto()
    ID = auto()
    TIME = auto()
    STATE = auto()
    NUMBER = auto()
    RECIPIENT = auto()
    """The id of a subscription or an inbox, shown as its name."""


class TableColumn(NamedTuple):
    """A column of a table: its title, and the member of each item that it shows (`a.b`: `b` within `a`)."""

    title: str
    member: str
    kind: ColumnKind = ColumnKind.TEXT
    only_wide: bool = False
    read: Callable[[Mapping[str, Any]], Any] | None = None
    """Computes the value from the item, instead of reading the member."""

    def value(self, item: Mapping[str, Any]) -> Any:
        """The value of this column for an item."""
        if self.read is not None:
            return self.read(item)
        found: Any = item
        for name in self.member.split("."):
            found = found[name]
        return found


class TableLook(NamedTuple):
    """How tables are shown."""

    wide: bool
    name_of: Callable[[str], str | None] = lambda _: None
    """Returns the name of a subscription or an inbox by its id, or None if it is not known."""


def show_table(columns: Sequence[TableColumn], items: Iterable[Mapping[str, Any]], look: TableLook) -> None:
    """Print a table. In a pipe it has its full width. Texts are shown as they are, never as markup."""
    from rich.console import Console
    from rich.table import Table

    whole = look.wide or not sys.stdout.isatty()
    columns = [column for column in columns if whole or not column.only_wide]
    cells = [[cell(column, column.value(item), look, whole=whole) for column in columns] for item in items]
    if not cells:
        Console(stderr=True).print("none")
        return
    if not whole:  # a column without any value would take room from others
        kept = [place for place in range(len(columns)) if any(row[place] for row in cells)]
        columns = [columns[place] for place in kept]
        cells = [[row[place] for place in kept] for row in cells]
    console = Console(highlight=False, markup=False, emoji=False, width=_ANY_WIDTH if whole else None)
    widths = _widths(columns, cells, console.width)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column, width in zip(columns, widths, strict=True):
        table.add_column(
            column.title,
            width=width,
            no_wrap=True,
            overflow="ellipsis",
            justify="right" if column.kind is ColumnKind.NUMBER else "left",
        )
    for row in cells:
        table.add_row(*(_styled(column, text) for column, text in zip(columns, row, strict=True)))
    console.print(table)


def cell(column: TableColumn, value: Any, look: TableLook, *, whole: bool) -> str:
    """The text of a value in its column, safe to show."""
    if value is None or value == "":
        return "–" if whole else ""
    if column.kind is ColumnKind.NUMBER and not isinstance(value, str):
        return f"{value:,}" if not whole else str(value)
    if not whole and column.kind is ColumnKind.TIME:
        return relative(value)
    if not whole and column.kind is ColumnKind.RECIPIENT:
        return inert(look.name_of(value) or value[-SHORT:])
    if not whole and column.kind is ColumnKind.ID:
        return inert(value[-SHORT:])
    text = _text(value)
    return inert(text if whole else text[:_MOST_FITTED])


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return msgspec.json.encode(value).decode() if isinstance(value, dict) else str(value)


def _styled(column: TableColumn, text: str) -> Any:
    from rich.text import Text

    return Text(text, _COLOURS.get(text, "") if column.kind is ColumnKind.STATE else "")


def _widths(columns: Sequence[TableColumn], cells: list[list[str]], room: int) -> list[int]:
    """The width of each column. If there is too little room, titles that are longer than the values are cut
    first, then texts, the longest ones first."""
    from rich.cells import cell_len

    values = [max(cell_len(row[place]) for row in cells) for place in range(len(columns))]
    widths = [max(cell_len(column.title), value) for column, value in zip(columns, values, strict=True)]
    excess = sum(widths) + 2 * (len(widths) - 1) - room
    excess = _cut(widths, [max(value, _LEAST_TITLE) for value in values], excess)
    flexible = (ColumnKind.TEXT, ColumnKind.RECIPIENT, ColumnKind.STATE)
    least = [
        min(width, _LEAST_WIDTH) if column.kind in flexible else width
        for column, width in zip(columns, widths, strict=True)
    ]
    _cut(widths, least, excess)
    return widths


def _cut(widths: list[int], least: list[int], excess: int) -> int:
    """Cut the widest columns first, none below its least width. Returns the excess that is left."""
    while excess > 0:
        place = max(range(len(widths)), key=lambda each: (widths[each] > least[each], widths[each]))
        if widths[place] <= least[place]:
            break
        widths[place] -= 1
        excess -= 1
    return excess


def show_details(item: Mapping[str, Any]) -> None:
    """Print the members of one thing, one per line. A member without a value is left out."""
    shown = {name: value for name, value in item.items() if value is not None and value not in ([], {})}
    width = max(map(len, shown), default=0)
    for name, value in shown.items():
        text = inert(_text(value))
        if isinstance(value, str) and value in _COLOURS and name in ("status", "outcome"):
            text = typer.style(text, fg=_COLOURS[value])
        if isinstance(value, str) and _TIME.fullmatch(value) and sys.stdout.isatty():
            text = f"{text}  ({relative(value)})"
        typer.echo(f"{inert(name):<{width}}  {text}")


IN_ONE_LINE: Final = bytes.maketrans(b"\t\r\n", b"   ")
"""A JSON string holds no raw tab or line break, so a space in place of one changes no value."""


def print_json(text: bytes) -> None:
    """Print a JSON text as one line. Numbers and strings keep the bytes that the service sent.

    On a terminal, characters that it would obey or hide are escaped as JSON escapes them.
    """
    line = bytes(text).translate(IN_ONE_LINE)
    typer.echo(inert_json(line.decode(errors="backslashreplace")) if sys.stdout.isatty() else line)


def inert_json(line: str) -> str:
    """A JSON text in one line, with JSON's escapes for what a terminal would obey or hide.

    Such characters are only inside of strings.
    """
    if line.isprintable():
        return line
    return "".join(each if each.isprintable() else json.dumps(each)[1:-1] for each in line)
