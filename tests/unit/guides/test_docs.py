"""What docs/ says of itself: the menu, the commands, the generated parts, and the examples of the API."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import msgspec
import pytest

from guide_fences import pages
from triggers.guides.examples import BODIES, DIFFERENCES, Examples
from triggers.guides.library import INDEX, library, menu_of
from triggers.node import openapi

ROOT = Path(__file__).parents[3]


def test_the_menu_has_every_guide_once() -> None:
    listed = [entry.name for section in library().menu for entry in section.entries]
    assert sorted(listed) == sorted(set(library().texts) - {INDEX})


def test_the_menu_is_read_from_the_index() -> None:
    (section,) = menu_of("# T\n\n## One\n\n- [A](a.md): first\n- [B](b.md): second\n\n## Empty\n\ntext\n")
    assert section.title == "One"
    assert [tuple(each) for each in section.entries] == [("a", "A", "first"), ("b", "B", "second")]


def test_every_guide_begins_with_its_title() -> None:
    for name, text in library().texts.items():
        assert re.match(r"# \S", text), name


def test_commands_are_run_by_a_test_or_say_why_not() -> None:
    for name, found in pages().items():
        for fence in found:
            if fence.info.split(" ")[0] in ("sh", "bash", "shell", "console"):
                assert re.fullmatch(r"sh run|sh shown \S.+", fence.info), f"{name}: {fence.info}"


def test_the_generated_parts_are_what_the_code_says() -> None:
    check = [sys.executable, str(ROOT / ".ci" / "generated_docs.py"), "--check"]
    done = subprocess.run(check, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


DOCUMENT = msgspec.json.decode(openapi.encoded())
SCHEMAS = DOCUMENT["components"]["schemas"]


@pytest.mark.parametrize("name", SCHEMAS)
def test_an_example_is_valid(name: str) -> None:
    schema = {"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]}
    examples = Examples(SCHEMAS)
    for example in (examples.answer(schema), examples.body(schema)):
        jsonschema.validate(example, schema, cls=jsonschema.Draft202012Validator)


@pytest.mark.parametrize("operation", DIFFERENCES, ids=" ".join)
def test_an_example_of_a_special_answer_is_valid(operation: tuple[str, str]) -> None:
    name, status = operation
    (found,) = [
        each
        for methods in DOCUMENT["paths"].values()
        for each in methods.values()
        if each["operationId"] == name
    ]
    schema = found["responses"][status]["content"]["application/json"]["schema"]
    example = Examples(SCHEMAS).answer_of(name, status, schema)
    assert DIFFERENCES[operation].keys() <= {*example, "not_settled"}
    whole = {**schema, "components": DOCUMENT["components"]}
    jsonschema.validate(example, whole, cls=jsonschema.Draft202012Validator)


def test_no_example_is_for_a_type_that_is_gone() -> None:
    assert set(BODIES) <= set(SCHEMAS)
