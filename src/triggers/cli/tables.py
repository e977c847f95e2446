"""Tables for people. Ids are never cut off, so they can be copied from any terminal or pipe."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

_ANY_WIDTH = 100_000


def show(table: Table) -> None:
    """Print a table at its full width, so that no id is cut off. Cells are plain text, not markup."""
    if not table.row_count:
        Console(stderr=True).print("none")
        return
    Console(width=_ANY_WIDTH, highlight=False, markup=False, emoji=False).print(table)
