"""What people's terminals get: inert text, and lines that are summed up when there are many."""

from __future__ import annotations

import io

import pytest

from harness import eventually
from triggers.terminal import LINES_A_SECOND, Lines, inert


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é 日本", "plain é 日本"),
        ("\x1b[2J\x07", "\\x1b[2J\\x07"),
        ("\x9b31m", "\\x9b31m"),
        ("a\u202eb\u200b", "a\\u202eb\\u200b"),
        ("a\nb\r", "a\\nb\\r"),
    ],
)
def test_text_of_strangers_is_inert(text: str, shown: str) -> None:
    assert inert(text) == shown
    assert inert("a\n\tb\x1b", lines=True) == "a\n\tb\\x1b"


async def test_few_lines_are_printed_as_they_come() -> None:
    printed = io.StringIO()
    lines = Lines(printed, coloured=False, clock=lambda: 1.0)
    lines.request("POST", "/v1/events", 201, 0.0034)
    lines.request("GET", "/\x1b[2J", 404, 0.0004, "No event has this id.")
    lines.attempt("billing\x1b", 204, "success", 20.4)
    lines.attempt("billing", None, "timeout", 20_000)
    assert printed.getvalue().splitlines() == [
        "POST /v1/events 201 3 ms",
        "GET /\\x1b[2J 404 0 ms  No event has this id.",
        "→ billing\\x1b 204 20 ms",
        "→ billing timeout 20 s",
    ]
    coloured = io.StringIO()
    Lines(coloured).request("GET", "/", 500, 0.1)
    assert "\x1b[31m500\x1b[0m" in coloured.getvalue()


async def test_many_lines_are_summed_up() -> None:
    now = 1.0
    printed = io.StringIO()
    lines = Lines(printed, coloured=False, clock=lambda: now)
    for number in range(5_000):
        lines.request("POST", "/v1/events", 201, 0.001)
        lines.request("GET", f"/v1/events/{number}", 404, 0.001)
    assert printed.getvalue().count("\n") == LINES_A_SECOND
    now = 2.0
    lines.request("GET", "/", 200, 0.001)
    summary, last = printed.getvalue().splitlines()[LINES_A_SECOND:]
    assert summary.startswith("… and 4,990 × POST /v1/events 201, 4,8")
    assert " others" in summary
    assert last.startswith("GET / 200")
    for _ in range(LINES_A_SECOND):
        lines.request("GET", "/", 200, 0.001)
    await eventually(lambda: "… and 1 × GET / 200" in printed.getvalue())


async def test_a_terminal_that_is_gone_is_no_fault() -> None:
    class Gone(io.StringIO):
        def write(self, _: str) -> int:
            raise OSError(5, "Input/output error")

    Lines(Gone()).request("GET", "/", 200, 0.001)
