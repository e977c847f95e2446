"""What the page of an event says of its deliveries and their attempts."""

from __future__ import annotations

from datetime import UTC, datetime

from triggers.console.kit_event import EventSamples
from triggers.console.story import State

SAMPLES = EventSamples(datetime(2026, 3, 9, 14, 28, 10, tzinfo=UTC), "long").all()


def test_an_answer_that_comes_again_is_not_repeated() -> None:
    billing = SAMPLES["many"].rows[0]
    told = [(story.attempt.attempt, story.met, story.same_as) for story in billing.stories]
    assert told == [(3, "503", None), (2, "no answer in time", None), (1, "503", 3)]


def test_attempts_without_an_answer_are_not_compared() -> None:
    [arrived] = SAMPLES["one"].rows
    assert [story.same_as for story in arrived.stories] == [None]


def test_the_worst_push_stands_for_the_event() -> None:
    def leading(name: str) -> tuple[State, str] | None:
        found = SAMPLES[name].leading
        return None if found is None else (found.state, found.word)

    assert leading("empty") is None
    assert leading("one") == (State.ARRIVED, "Delivered")
    assert leading("many") == (State.WAITING, "Retrying")
    assert leading("failed") == (State.FAILED, "Failed")
