"""Reads which rows of a list a form chose, and does one thing with each of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Literal, NamedTuple

from triggers.console.desk import Form
from triggers.console.words import counted
from triggers.errors import Conflict, NotFound

PAGE_ROWS: Final = 50
"""Rows of a page, and so the maximum number of rows that one form acts on."""

_BOX: Final = "row-"


class Chosen(NamedTuple):
    """The rows that a form chose. With `all`, these are all that match, on every page."""

    rows: list[str]
    all: bool


class Done(NamedTuple):
    """The words that end the sentence about changed rows: `2 deliveries were cancelled`."""

    word: str
    one: str = "was"
    many: str = "were"


class Remark(NamedTuple):
    """The result of an action, as a notice."""

    text: str
    kind: Literal["arrived", "waiting", "failed", "stopped"]


def chosen_in(form: Form) -> Chosen:
    """Return the rows that a form chose: the ticked ones, or those of its page."""
    to = form.get("to", "ticked")
    if to == "page":
        return Chosen(form.get("page", "").split()[:PAGE_ROWS], all=False)
    ticked = [name.removeprefix(_BOX) for name in form if name.startswith(_BOX)]
    return Chosen(ticked[:PAGE_ROWS], all=to == "all")


NOTHING_CHOSEN: Final = Remark(
    "Nothing is chosen. Tick rows of the list, or choose the whole page.", "waiting"
)


async def do_each(
    rows: Sequence[str], act: Callable[[str], Awaitable[object]], done: Done, noun: str = "delivery"
) -> Remark:
    """Act on each row, and say how many were changed."""
    refusals: Counter[str] = Counter()
    for row in rows:
        try:
            await act(row)
        except (Conflict, NotFound) as error:
            refusals[str(error)] += 1
    return said_of(len(rows) - refusals.total(), done, refusals, noun)


def said_of(made: int, done: Done, refusals: Counter[str], noun: str = "delivery") -> Remark:
    """Say how many rows were changed, and why others were not."""
    nouns = {"delivery": "deliveries"}.get(noun, f"{noun}s")
    told = []
    if made:
        told.append(f"{counted(made, noun, nouns)} {done.one if made == 1 else done.many} {done.word}.")
    if others := refusals.total():
        reason, _ = refusals.most_common(1)[0]
        was = "was" if others == 1 else "were"
        told.append(f"{counted(others, noun, nouns)} {was} not changed: {reason}")
    return Remark(" ".join(told), "arrived" if not others else "waiting" if made else "failed")
