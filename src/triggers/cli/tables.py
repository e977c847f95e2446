"""Tables for people, whose ids can be copied from a terminal of any width and from a pipe."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

_ANY_WIDTH = 100_000


def show(table: Table) -> None:
    """Print it as wide as it is: an id that is cut off names nothing. Cells are text and no markup."""
    if not table.row_count:
        Console(stderr=True).print("none")
        return
    Console(width=_ANY_WIDTH, highlight=False, markup=False, emoji=False).print(table)
