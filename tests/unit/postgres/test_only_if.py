"""`only_if`: which lines of a statement stand, and which conditions are refused."""

from __future__ import annotations

import pytest

from triggers.postgres.database import only_if

STATEMENT = """select 1
    -- if one
    , 2
    -- end
    -- if other
    , 3
    -- end
from t"""


def test_the_lines_of_a_condition_that_holds_stand() -> None:
    assert only_if(STATEMENT, one=False, other=False) == "select 1\nfrom t"
    assert only_if(STATEMENT, one=True, other=False) == "select 1\n    , 2\nfrom t"
    assert only_if(STATEMENT, one=True, other=True) == "select 1\n    , 2\n    , 3\nfrom t"


@pytest.mark.parametrize(
    "conditions",
    [
        pytest.param({"one": True}, id="one of the statement is not decided"),
        pytest.param({"one": True, "other": True, "third": True}, id="the statement does not have it"),
        pytest.param({"one": True, "others": True}, id="misspelled"),
        pytest.param({}, id="none is decided"),
    ],
)
def test_other_conditions_than_those_of_the_statement_are_refused(conditions: dict[str, bool]) -> None:
    with pytest.raises(ValueError, match=r"has the conditions \['one', 'other'\], not"):
        only_if(STATEMENT, **conditions)


@pytest.mark.parametrize(
    "statement",
    [
        "select 1\n-- if one\n, 2\n",
        "select 1\n-- if one\n, 2\n-- end\n-- end\n",
        "select 1\n-- if one\n-- if one\n, 2\n-- end\n-- end\n",
    ],
    ids=["no end", "two ends", "one within another"],
)
@pytest.mark.parametrize("holds", [False, True])
def test_markers_that_are_not_pairs_are_refused(statement: str, holds: bool) -> None:
    with pytest.raises(ValueError, match="has no `-- end`"):
        only_if(statement, one=holds)
