"""The tree of a payload, drawn from its bytes, and text that cannot be seen."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from triggers.console.payload_tree import TreeLine, draw
from triggers.console.visible import visible

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


def test_numbers_keep_their_text_and_names_their_order() -> None:
    tree = draw(b'{"z": 10000000000000000000001, "a": 12.50, "b": [1e400, -0], "c": {}}', 500)
    assert tree.whole
    assert [(line.step, line.depth, line.name, line.text) for line in tree.lines] == [
        ("open", 0, None, "{"),
        ("leaf", 1, "z", "10000000000000000000001"),
        ("leaf", 1, "a", "12.50"),
        ("open", 1, "b", "["),
        ("leaf", 2, None, "1e400"),
        ("leaf", 2, None, "-0"),
        ("close", 1, None, "["),
        ("leaf", 1, "c", "{}"),
        ("close", 0, None, "{"),
    ]
    assert [line.size for line in tree.lines if line.step == "open"] == [4, 2]


def test_what_is_beyond_the_bound_is_not_drawn_but_every_container_ends() -> None:
    tree = draw(b'{"a": [1, 2, 3], "b": 4}', 3)
    assert not tree.whole
    assert [line.text for line in tree.lines] == ["{", "[", "1", "[", "{"]
    assert [line.size for line in tree.lines if line.step == "open"] == [None, None]


def test_a_string_may_hold_what_looks_like_structure() -> None:
    (line,) = draw(rb'"a\"}],: \\"', 500).lines
    assert line == TreeLine("leaf", "string", 0, None, 'a"}],: \\')


@given(JSON)
def test_every_value_is_drawn(value: object) -> None:
    tree = draw(msgspec.json.encode(value), 10_000)
    assert tree.whole
    assert sum(line.step == "open" for line in tree.lines) == sum(line.step == "close" for line in tree.lines)
    assert sum(line.step != "close" for line in tree.lines) == _nodes(value)


def _nodes(value: object) -> int:
    match value:
        case dict():
            return 1 + sum(map(_nodes, value.values()))
        case list():
            return 1 + sum(map(_nodes, value))
        case _:
            return 1


def test_characters_without_a_shape_are_written_out() -> None:
    shown = str(visible("a\u202eb\u200bc\x00<script>"))
    assert "\u202e" not in shown
    assert "U+202E" in shown
    assert "U+200B" in shown
    assert "U+0000" in shown
    assert "&lt;script&gt;" in shown
    assert str(visible("a\nb", lines=True)) == "a\nb"
    assert "U+000A" in str(visible("a\nb"))


def test_a_long_text_is_cut_and_says_so() -> None:
    assert "9,000 more characters" in str(visible("x" * 10_000, 1_000))
