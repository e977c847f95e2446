"""Tables fit a terminal and are whole elsewhere, and no text of a stranger does anything there."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any

import pytest
from rich.cells import cell_len

from triggers.cli import tables
from triggers.cli.tables import ColumnKind, TableColumn, TableLook, print_json, show_details, show_table
from triggers.cli.times import relative, span

ID = "0197f7c2-6a5e-7c3a-9a44-5ab33f9a1c0d"
OTHER = "0197f7c2-6a5e-7c3a-9a44-5ab33f9a1c0e"
COLUMNS = (
    TableColumn("event", "id", ColumnKind.ID),
    TableColumn("to", "to", ColumnKind.RECIPIENT),
    TableColumn("type", "type"),
    TableColumn("status", "state.status", ColumnKind.STATE),
    TableColumn("size", "size", ColumnKind.NUMBER),
    TableColumn("made", "made", ColumnKind.TIME),
    TableColumn("more", "more", only_wide=True),
)
HOSTILE = "\x1b]0;owned\x07\x1b[2J[bold]:bug:\u202e日本"
ITEMS = [
    {
        "id": ID,
        "to": OTHER,
        "type": HOSTILE + "x" * 300,
        "state": {"status": "dead"},
        "size": 12_345,
        "made": "2020-01-01T00:00:00.000Z",
        "more": [1, None],
    },
    {
        "id": OTHER,
        "to": ID,
        "type": "a",
        "state": {"status": "ok"},
        "size": 0,
        "made": None,
        "more": {"a": True},
    },
]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes the standard output a terminal of this width."""

    def become(width: int) -> None:
        monkeypatch.setattr(tables.sys.stdout, "isatty", lambda: True)
        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.setenv("NO_COLOR", "1")
        monkeypatch.setenv("TERM", "xterm")

    return become


@pytest.mark.parametrize("width", [80, 60, 200])
def test_a_table_fits_the_terminal(terminal: Any, capsys: pytest.CaptureFixture[str], width: int) -> None:
    terminal(width)
    show_table(COLUMNS, ITEMS, TableLook(wide=False, name_of={OTHER: "billing\x1b"}.get))
    shown = re.sub(r"\x1b\[\d+m", "", capsys.readouterr().out)  # the bold of the titles
    head, first, second = (line.rstrip() for line in shown.splitlines())
    assert max(map(cell_len, (head, first, second))) <= width
    assert "more" not in head
    assert first.startswith(f"{ID[-8:]}  billing\\x1b  \\x1b]0;")
    assert ID not in shown
    assert "12,345" in first
    assert first.endswith("d ago")
    assert second.startswith(f"{OTHER[-8:]}  {ID[-8:]}"), "a name that is not known is a short id"
    assert "\x1b" not in shown
    assert "\x07" not in shown


def test_states_have_colours(terminal: Any, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    terminal(200)
    monkeypatch.delenv("NO_COLOR")
    show_table(COLUMNS, ITEMS, TableLook(wide=False))
    assert "\x1b[31mdead" in capsys.readouterr().out


@pytest.mark.parametrize("wide", [True, False])
def test_a_table_in_a_pipe_or_wide_is_whole(
    terminal: Any, capsys: pytest.CaptureFixture[str], wide: bool
) -> None:
    if wide:
        terminal(40)
    show_table(COLUMNS, ITEMS, TableLook(wide=wide))
    shown = capsys.readouterr().out
    for text in (ID, OTHER, "x" * 300, "2020-01-01T00:00:00.000Z", "12345", "1, None", '{"a":true}'):
        assert text in shown
    assert "\x1b]" not in shown


def test_details_and_json_are_inert(terminal: Any, capsys: pytest.CaptureFixture[str]) -> None:
    terminal(80)
    show_details({"name": HOSTILE, "status": "paused", "nothing": None, "made": "2020-01-01T00:00:00Z"})
    shown = capsys.readouterr().out
    assert "\\x1b]0;owned\\x07" in shown
    assert "d ago)" in shown
    assert "nothing" not in shown
    print_json('{"a":"\x9b31m\x7f\u202e日",\n\t"b":1.0}'.encode())
    line = capsys.readouterr().out
    assert line == '{"a":"\\u009b31m\\u007f\\u202e日",  "b":1.0}\n'
    assert json.loads(line)["a"] == "\x9b31m\x7f\u202e日"


def test_times_are_relative() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    for moment, shown in (
        ("2025-12-31T23:56:59Z", "3 min ago"),
        ("2026-01-01T00:00:20Z", "in 20 s"),
        ("2025-12-30T00:00:00Z", "2 d ago"),
        ("2026-01-01T00:00:00.5Z", "now"),
        ("no time", "no time"),
    ):
        assert relative(moment, now) == shown
    assert span(7_201) == "2 h"
