"""What a part of the benchmark found: rows for people, facts for machines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

Row = dict[str, Any]


@dataclass
class Ratio:
    """A figure that does not hang on the machine as much as a rate does, and what it should be."""

    name: str
    value: float
    wanted: str = ""
    holds: bool | None = None


@dataclass
class Findings:
    """Rows may have different columns; the first row that has one decides where it stands."""

    title: str
    rows: list[Row] = field(default_factory=list)
    ratios: list[Ratio] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    page: str = ""
    """Markdown for the documentation, printed below the rest."""

    def at_least(self, name: str, value: float, wanted: float) -> None:
        """Note a figure that should reach `wanted`."""
        self.ratios.append(Ratio(name, value, f"≥ {wanted:g}", value >= wanted))

    def below(self, name: str, value: float, wanted: float) -> None:
        """Note a figure that should stay below `wanted`."""
        self.ratios.append(Ratio(name, value, f"< {wanted:g}", value < wanted))

    def show(self, console: Console) -> None:
        """Print it."""
        columns = list(dict.fromkeys(name for row in self.rows for name in row))
        console.print(self.title, style="bold", highlight=False)
        table = Table(box=None, pad_edge=False)
        for name in columns:
            table.add_column(name, justify="left" if name == columns[0] else "right")
        for row in self.rows:
            table.add_row(*[_text(row.get(name)) for name in columns])
        console.print(table)
        for ratio in self.ratios:
            colour = {True: "green", False: "red", None: "default"}[ratio.holds]
            wanted = f"  wanted {ratio.wanted}" if ratio.wanted else ""
            console.print(f"  {ratio.name}: [bold {colour}]{_text(ratio.value)}[/]{wanted}", highlight=False)
        for note in self.notes:
            console.print(f"  {note}", style="dim", highlight=False)
        if self.page:
            console.print(f"\n{self.page}", markup=False, highlight=False, soft_wrap=True)
        console.print()

    def as_json(self) -> Mapping[str, Any]:
        """All of it."""
        return asdict(self)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, float):
        return f"{value:,}" if isinstance(value, int) else str(value)
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:,.1f}" if abs(value) >= 10 else f"{value:.2f}"
