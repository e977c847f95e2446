"""The time limits that must agree with each other."""

from __future__ import annotations

from triggers.postgres import time_bounds as bounds
from triggers.push.handed_over import HANDOVER_SECONDS


def test_no_reader_passes_over_what_an_accept_has_not_committed_yet() -> None:
    assert bounds.VISIBLE_SECONDS >= bounds.ACCEPT_SECONDS + bounds.MARGIN_SECONDS


def test_workers_look_back_for_changes_as_far_as_any_may_commit_late() -> None:
    assert bounds.CHANGES_SECONDS >= bounds.COMMIT_SECONDS + bounds.MARGIN_SECONDS
    assert bounds.CHANGES_SECONDS >= bounds.CANCEL_SECONDS + bounds.MARGIN_SECONDS
    assert bounds.LONG_LOOK_SECONDS > bounds.CHANGES_SECONDS


def test_the_past_is_given_only_when_no_accept_is_under_way_that_missed_the_change() -> None:
    change_is_visible = bounds.COMMIT_SECONDS + bounds.MARGIN_SECONDS
    last_accept_ends = change_is_visible + bounds.ACCEPT_SECONDS + bounds.MARGIN_SECONDS
    assert bounds.ACCEPTS_ENDED.total_seconds() >= last_accept_ends


def test_a_worker_stops_sending_before_others_take_over() -> None:
    assert bounds.TRUST_SECONDS > bounds.BEAT_SECONDS
    assert bounds.TRUST_SECONDS <= bounds.TAKEOVER_SECONDS / 2
    assert bounds.BEAT_STATEMENT_SECONDS + bounds.BEAT_SECONDS < bounds.TAKEOVER_SECONDS
    assert bounds.BEAT_SECONDS < bounds.LONGEST_GAP_SECONDS <= bounds.TRUST_SECONDS


def test_what_is_handed_over_is_not_older_than_what_a_read_would_find() -> None:
    assert HANDOVER_SECONDS < bounds.VISIBLE_SECONDS
