"""Text for terminals: makes text of strangers inert, and prints the lines of `serve` for people."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import Callable
from typing import Final, TextIO

LINES_A_SECOND: Final = 20
"""Maximum number of lines that are printed one by one within a second. Others are summed up."""
KINDS_A_SECOND: Final = 100
"""Maximum number of kinds of lines that are counted apart within a second."""
KINDS_SHOWN: Final = 4

_SUSPECT: Final = re.compile("[^ -~]")
_STYLE: Final = re.compile("\x1b\\[\\d+m")
_BOLD, _RED, _YELLOW, _GREEN, _DIM, _PLAIN = (
    "\x1b[1m",
    "\x1b[31m",
    "\x1b[33m",
    "\x1b[32m",
    "\x1b[2m",
    "\x1b[0m",
)


def inert(text: str, *, lines: bool = False) -> str:
    """Replace what a terminal would obey or hide, such as an escape sequence, by its code, such as `\\x1b`.

    With `lines`, line breaks and tabs stay as they are.
    """
    if text.isprintable():
        return text
    return _SUSPECT.sub(lambda found: _code(found[0], lines=lines), text)


def _code(character: str, *, lines: bool) -> str:
    if character.isprintable() or (lines and character in "\n\t"):
        return character
    return character.encode("unicode_escape").decode("ascii")


class Lines:
    """Prints a line for each request and each attempt, and sums them up if there are many.

    At most 20 lines are printed within a second. The others are counted by their kind, and one line gives
    the counts when the second is over. So the work for each of thousands of lines is that of a counter.
    """

    def __init__(
        self, file: TextIO, *, coloured: bool = True, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._file = file
        self._coloured = coloured
        self._clock = clock
        self._second = -1
        self._printed = 0
        self._counts: Counter[str] = Counter()

    def request(self, method: str, path: str, status: int, seconds: float, detail: str | None = None) -> None:
        """Print the line of a request. `detail` says why it was refused."""
        if self._has_room():
            reason = f"  {_DIM}{inert(detail)}{_PLAIN}" if detail else ""
            what = f"{_BOLD}{method}{_PLAIN} {inert(path)}"
            self._write(f"{what} {_coloured(status)} {_milliseconds(seconds * 1000)}{reason}")
        else:
            self._count(f"{method} {inert(path)} {status}")

    def attempt(self, name: str, status: int | None, reason: str, milliseconds: float) -> None:
        """Print the line of an attempt to deliver to the subscription of this name."""
        if self._has_room():
            result = _coloured(status) if status else f"{_RED}{inert(reason)}{_PLAIN}"
            self._write(f"{_BOLD}→{_PLAIN} {inert(name)} {result} {_milliseconds(milliseconds)}")
        else:
            self._count(f"→ {inert(name)} {status or inert(reason)}")

    def sum_up(self) -> None:
        """Print the counts of the lines that were not printed."""
        counts, self._counts = self._counts, Counter()
        if not counts:
            return
        shown = [f"{number:,} × {kind}" for kind, number in counts.most_common(KINDS_SHOWN)]
        rest = counts.total() - sum(number for _, number in counts.most_common(KINDS_SHOWN))
        self._write(f"{_DIM}… and {', '.join(shown)}{f', {rest:,} others' if rest else ''}{_PLAIN}")

    def _has_room(self) -> bool:
        second = int(self._clock())
        if second != self._second:
            self.sum_up()
            self._second, self._printed = second, 0
        self._printed += 1
        return self._printed <= LINES_A_SECOND

    def _count(self, kind: str) -> None:
        if not self._counts:
            asyncio.get_running_loop().call_later(1, self.sum_up)
        known = kind in self._counts or len(self._counts) < KINDS_A_SECOND
        self._counts[kind if known else "others"] += 1

    def _write(self, line: str) -> None:
        try:
            self._file.write((line if self._coloured else _STYLE.sub("", line)) + "\n")
            self._file.flush()
        except OSError:  # the terminal is gone; the service goes on
            pass


def _coloured(status: int) -> str:
    colour = _GREEN if status < 300 else _YELLOW if status < 500 else _RED
    return f"{colour}{status}{_PLAIN}"


def _milliseconds(milliseconds: float) -> str:
    return f"{milliseconds:.0f} ms" if milliseconds < 10_000 else f"{milliseconds / 1000:.0f} s"
