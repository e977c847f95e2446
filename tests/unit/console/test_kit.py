"""The kit shows every component that pages use, in each of its states."""

from __future__ import annotations

import re
from pathlib import Path

from triggers.console import kit
from triggers.console.rendering import page

TEMPLATES = Path(kit.__file__).parent / "templates"
STATES = {"empty", "loading", "one", "many", "too long", "failed", "forbidden"}
COMPONENTS = {"parts.html", "charts.html", "choosing.html", "access_parts.html"}
DRAWS_NOTHING = {"stream"}


def test_each_component_is_in_each_state() -> None:
    shown = bytes(page("kit.html", "", **kit.samples()).body).decode()
    sections = shown.split("<section data-component>")[1:]
    assert len(sections) >= 12
    for section in sections:
        title, *_ = re.findall(r"<h2>(.*?)</h2>", section)
        states = {each for text in re.findall(r"<h3>(.*?)</h3>", section) for each in text.split(", ")}
        assert states >= STATES, (title, STATES - states)


def test_an_attempt_without_an_answer_is_not_said_to_have_the_same_answer() -> None:
    shown = bytes(page("kit.html", "", **kit.samples()).body).decode()
    assert "The same answer as attempt 3<" in shown
    assert "The same error as attempt 2<" in shown


def test_the_reason_of_a_message_is_told_with_its_state() -> None:
    shown = bytes(page("kit.html", "", **kit.samples()).body).decode()
    assert "Consumers lease and acknowledge this message. Failed: no address<" in shown


def test_each_macro_of_a_component_is_drawn() -> None:
    text = (TEMPLATES / "kit.html").read_text()
    included = [TEMPLATES / name for name in re.findall(r'include "(\w+\.html)"', text)]
    components = [TEMPLATES / name for name in COMPONENTS]
    text += "".join(each.read_text() for each in [*included, *components])
    for file in components:
        for name in re.findall(r"macro (\w+)\(", file.read_text()):
            is_used = re.search(rf"(?<!macro )\b{name}\(", text) is not None
            assert is_used or name in DRAWS_NOTHING, f"{file.name}: {name} is not in the kit"
