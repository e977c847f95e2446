"""The form for settings: which changes its texts mean, and where its errors stand."""

from __future__ import annotations

from typing import Any

import pytest

from triggers.console.subscription_form import changes_of, dry_run_of, errors_of, tell_matches
from triggers.errors import Invalid
from triggers.previews.routes import DryRunAnswer

PRESENT = {
    "name": "billing",
    "target_url": "https://example.com/",
    "event_types": "a.*\nb",
    "filter": "",
    "format": "standard",
    "ordering_key": "",
    "max_concurrency": "64",
    "rate_limit": "",
    "delays": "",
    "deadline": "",
    "expires_at": "",
    "headers": "",
    "remove_headers": "",
}


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ({}, {}),
        ({"event_types": " a.*\r\nb\r\n"}, {}),
        ({"name": ""}, {"name": None}),
        ({"event_types": "a, c d\r\n"}, {"event_types": ["a", "c", "d"]}),
        ({"event_types": " "}, {"event_types": None}),
        ({"filter": "payload.n > 1"}, {"filter": "payload.n > 1"}),
        ({"max_concurrency": "5", "rate_limit": "0.5"}, {"max_concurrency": 5, "rate_limit": 0.5}),
        ({"max_concurrency": ""}, {"max_concurrency": None}),
        ({"delays": "5, 30"}, {"retry": {"delays": [5.0, 30.0], "deadline": None}}),
        ({"delays": "none"}, {"retry": {"delays": [], "deadline": None}}),
        ({"deadline": "60"}, {"retry": {"delays": None, "deadline": 60.0}}),
        ({"headers": "X-One: 1\r\nX-Two:a:b"}, {"headers": {"X-One": "1", "X-Two": "a:b"}}),
        ({"remove_headers": "1"}, {"headers": None}),
        ({"remove_headers": "1", "headers": "A: b"}, {"headers": {"A": "b"}}),
        ({"unknown": "x"}, {}),
    ],
)
def test_only_what_was_changed_is_sent(form: dict[str, str], expected: dict[str, Any]) -> None:
    assert changes_of(PRESENT | form, PRESENT) == expected


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ({"max_concurrency": "many"}, {"max_concurrency": "Must be a whole number from 1 to 1,000."}),
        ({"rate_limit": "nan"}, {"rate_limit": "Must be a number from 0.001 to 100,000."}),
        ({"delays": "5, inf"}, {"delays": "Must be at most 50 numbers from 0 to 604,800."}),
        (
            {"headers": "no colon"},
            {"headers": "Must be at most 32 lines, each with a name, a colon and a value."},
        ),
        (
            {"deadline": "x", "max_concurrency": "1.5"},
            {
                "deadline": "Must be a number above 0, and at most 2,592,000.",
                "max_concurrency": "Must be a whole number from 1 to 1,000.",
            },
        ),
    ],
)
def test_texts_that_cannot_be_read_are_named(form: dict[str, str], expected: dict[str, str]) -> None:
    with pytest.raises(Invalid) as raised:
        changes_of(PRESENT | form, PRESENT)
    assert errors_of(raised.value) == expected


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (Invalid("Wrong.", pointer="/filter"), {"filter": "Wrong."}),
        (Invalid("Wrong.", pointer="/event_types/1"), {"event_types": "Type 2: Wrong."}),
        (Invalid("Wrong.", pointer="/headers/X~1A"), {"headers": "X/A: Wrong."}),
        (
            Invalid("Expected `float` >= 0.0.", pointer="/retry/delays/0"),
            {"delays": "Must be at most 50 numbers from 0 to 604,800."},
        ),
        (Invalid("Wrong."), {"": "Wrong."}),
    ],
)
def test_errors_of_the_api_stand_at_their_field(error: Invalid, expected: dict[str, str]) -> None:
    assert errors_of(error) == expected


def test_a_dry_run_looks_at_events_of_all_types() -> None:
    assert dry_run_of({"event_types": "a\r\nb", "filter": " "}) == {
        "event_types": ["a", "b"],
        "filter": None,
        "last": 100,
        "among": "all",
    }


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ((0, 0, 0, True), "No event is stored yet on which these settings could be tried."),
        ((1, 1, 0, True), "Matches the only event that is stored."),
        ((1, 0, 0, True), "Does not match the only event that is stored."),
        ((100, 12, 0, True), "Matches 12 of the last 100 events."),
        (
            (40, 12, 3, False),
            "Matches 12 of the last 40 events. On 3 of them the filter fails, which counts as a match. Older"
            " events were not tried, because that would take too long.",
        ),
    ],
)
def test_matches_in_words(numbers: tuple[int, int, int, bool], expected: str) -> None:
    judged, matched, failed, complete = numbers
    answer = DryRunAnswer(judged=judged, matched=matched, failed=failed, complete=complete, matches=[])
    assert tell_matches(answer) == expected
