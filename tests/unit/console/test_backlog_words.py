"""Undelivered events, jobs and inboxes in words."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from triggers.console.backlog_words import (
    last_failure,
    reason_in_words,
    state_of,
    tell_group,
    tell_inbox,
    tell_job,
    tell_plan,
    tell_undelivered,
)
from triggers.console.choosing import chosen_in
from triggers.console.story import plain
from triggers.console.words import capped
from triggers.deliveries.overview_routes import UndeliveredView
from triggers.inboxes.backlog import InboxBacklog
from triggers.inboxes.body import InboxView
from triggers.replays.routes import ReplayView

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
AN_HOUR_AGO = "2026-03-01T11:00:00.000Z"


def group(**changes: Any) -> UndeliveredView:
    given: dict[str, Any] = {
        "subscription_id": UUID(int=1),
        "kind": "push",
        "name": "billing",
        "status": "active",
        "failing_since": None,
        "pending": 0,
        "pending_exact": True,
        "dead": 0,
        "dead_exact": True,
        "oldest_pending": None,
        "last_reason": None,
        "last_status_code": None,
    }
    return UndeliveredView(**given | changes)


def job(**changes: Any) -> ReplayView:
    given: dict[str, Any] = {
        "id": UUID(int=2),
        "kind": "replay",
        "action": "replay",
        "subscription_id": UUID(int=1),
        "subscription_kind": "push",
        "subscription_name": "billing",
        "status": "running",
        "reason": None,
        "only": "dead",
        "event_types": None,
        "since": AN_HOUR_AGO,
        "until": AN_HOUR_AGO,
        "rate": 100,
        "planned": 1234,
        "planned_exact": True,
        "planned_seconds": 12.3,
        "made": 0,
        "progress": 0.0,
        "created_at": AN_HOUR_AGO,
        "updated_at": AN_HOUR_AGO,
        "finished_at": None,
    }
    return ReplayView(**given | changes)


def test_numbers_and_reasons() -> None:
    assert capped(12, exact=True) == "12"
    assert capped(1000, exact=False) == "1,000+"
    assert reason_in_words("unavailable (exhausted)") == "unavailable, no attempts left"
    assert reason_in_words("connect") == "connection refused"
    assert reason_in_words("not ours (odd)") == "not ours"
    assert reason_in_words(None) == ""
    assert last_failure(group(last_reason="unavailable", last_status_code=503)) == "503"
    assert last_failure(group(last_reason="gone (gone)")) == "gone"


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"status": "disabled", "dead": 1}, "Disabled"),
        ({"status": "paused", "pending": 1}, "Paused"),
        ({"failing_since": AN_HOUR_AGO, "dead": 1}, "Failing"),
        ({"dead": 1}, "Dead letters"),
        ({"pending": 1}, "Delivering"),
    ],
)
def test_the_state_of_a_subscription(changes: dict[str, Any], word: str) -> None:
    assert state_of(group(**changes)).word == word


def test_subscriptions_in_a_sentence() -> None:
    assert plain(tell_undelivered([], more=False)) == "Nothing is undelivered."
    one = group(dead=2, pending=1000, pending_exact=False)
    assert plain(tell_undelivered([one], more=False)) == (
        "Only billing has undelivered events: 2 dead and 1,000+ pending."
    )
    two = [group(dead=1, last_reason="timeout"), group(name="audit", pending=1)]
    assert plain(tell_undelivered(two, more=True)) == (
        "2+ subscriptions have undelivered events. The worst is billing: 1 dead;"
        " last failure: no answer in time."
    )
    assert plain(tell_group("billing", None, NOW)) == "billing has no pending and no dead deliveries."
    waits = group(pending=3, oldest_pending=AN_HOUR_AGO, last_reason="x", last_status_code=500)
    assert plain(tell_group("billing", waits, NOW)) == (
        "billing has 3 pending deliveries. Last failure: 500. The oldest pending one has waited for 1 h."
    )


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {},
            "This sends 1,234 deliveries of billing again: all that are dead, cancelled or expired."
            " At 100 a second it takes at least 13 s.",
        ),
        (
            {"action": "retry", "planned": 1, "planned_seconds": 0.0, "event_types": ["a.*", "b"]},
            "This retries 1 delivery of billing now: all that are pending,"
            " with the types a.*, b. At 100 a second it takes at least 1 s.",
        ),
        (
            {"action": "cancel", "planned_exact": False, "subscription_kind": "inbox"},
            "This cancels about 1,234 messages of billing: all that are pending."
            " At 100 a second it takes at least 13 s.",
        ),
        ({"planned": 0}, "billing has no dead, cancelled and expired deliveries that match."),
    ],
)
def test_a_plan_says_how_many_and_which(changes: dict[str, Any], told: str) -> None:
    assert plain(tell_plan(job(**changes))) == told


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"made": 3}, "3 of 1,234 deliveries of billing were sent again so far."),
        (
            {"action": "retry", "reason": "Waiting because 1000 deliveries are already due."},
            "0 of 1,234 deliveries of billing were made due so far."
            " Waiting because 1000 deliveries are already due.",
        ),
        ({"status": "done", "made": 1}, "1 delivery of billing was sent again."),
        (
            {"status": "done", "action": "retry", "made": 0},
            "0 deliveries of billing were made due."
            " The others had been sent or had ended before the job came to them.",
        ),
        (
            {"status": "cancelled", "action": "cancel", "made": 5, "reason": "cancelled by request"},
            "5 of 1,234 deliveries of billing were cancelled."
            " Then the job was cancelled. The others are unchanged.",
        ),
        ({"planned": None, "kind": "backfill", "made": 7}, "7 deliveries of billing were sent again so far."),
    ],
)
def test_the_progress_of_a_job(changes: dict[str, Any], told: str) -> None:
    assert plain(tell_job(job(**changes))) == told


def test_an_inbox_in_a_sentence() -> None:
    held = InboxBacklog(
        messages=1000,
        messages_exact=False,
        leased=1,
        leased_exact=True,
        quarantined=2,
        quarantined_exact=True,
        oldest_message=AN_HOUR_AGO,
    )
    inbox = InboxView(
        id=UUID(int=1),
        key="orders",
        status="paused",
        paused_reason=None,
        event_types=None,
        filter=None,
        filter_error=None,
        filter_error_at=None,
        notification_url=None,
        notification_url_unicode=None,
        notifications=None,
        max_leases=None,
        default_lease_seconds=300,
        retention_seconds=None,
        expires_at="2026-03-01T12:02:00.000Z",
        created_at=AN_HOUR_AGO,
        status_at=AN_HOUR_AGO,
        backlog=held,
    )
    assert plain(tell_inbox(inbox, NOW)) == (
        "orders holds 1,000+ messages, of which 1 is leased. The oldest has waited for 1 h."
        " 2 messages are quarantined. It is paused: consumers get only messages from before the pause."
        " It expires in 2 min (12:02:00) unless its consumer renews it. Then it is deleted, and its"
        " messages are cancelled."
    )


def test_a_form_chooses_rows_a_page_or_all() -> None:
    form = {"row-a": "on", "row-b:c": "on", "page": "a b:c d", "token": "x"}
    assert chosen_in(form) == (["a", "b:c"], False)
    assert chosen_in(form | {"to": "page"}) == (["a", "b:c", "d"], False)
    assert chosen_in(form | {"to": "all"}).all
    assert len(chosen_in({"to": "page", "page": "a " * 1000}).rows) == 50
