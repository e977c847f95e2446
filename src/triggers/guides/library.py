"""The guides: the Markdown files of `docs/`, and the menu that their index defines."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Final, NamedTuple

INDEX: Final = "README"
"""The guide at `/docs`. Its headings and lists of links are the menu."""
API: Final = "api"
"""The guide to which the reference of all routes is added."""

_SECTION: Final = re.compile(r"^## (.+)$")
_ENTRY: Final = re.compile(r"^- \[([^\]]+)\]\(([^)#]+)\.md\): (.+)$")


class Entry(NamedTuple):
    """A guide in the menu: its name, and its title and description in the index."""

    name: str
    title: str
    description: str


class Section(NamedTuple):
    """A group of guides in the menu."""

    title: str
    entries: list[Entry]


class Library(NamedTuple):
    """The text of every guide by its name, which is its path without `.md`, and the menu."""

    texts: dict[str, str]
    menu: list[Section]


@cache
def library() -> Library:
    """Read all guides."""
    place = _place()
    texts = {
        path.relative_to(place).with_suffix("").as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(place.rglob("*.md"))
    }
    return Library(texts, menu_of(texts[INDEX]))


def menu_of(index: str) -> list[Section]:
    """Read the menu from the index: a section for each heading, an entry for each item of its list."""
    menu: list[Section] = []
    for line in index.splitlines():
        if found := _SECTION.match(line):
            menu.append(Section(found[1], []))
        elif menu and (found := _ENTRY.match(line)):
            menu[-1].entries.append(Entry(found[2], found[1], found[3]))
    return [section for section in menu if section.entries]


def _place() -> Path:
    """The directory of the guides: in the package if it was installed from a wheel, else in the source."""
    packaged = Path(str(files("triggers.guides"))) / "docs"
    return packaged if packaged.is_dir() else Path(__file__).parents[3] / "docs"
