"""The live tail says how many events came, seldom enough to be listened to."""

from __future__ import annotations

from triggers.console.event_list_pages import PAGE, TOLD_EVERY_SECONDS, Announcer


def test_it_counts_what_came_since_it_spoke_last() -> None:
    announcer = Announcer()
    assert announcer.tell(0, 0) is None
    assert announcer.tell(1, 1) == "1 new event."
    assert not announcer.has_more(1)
    assert announcer.tell(3, 2) is None, "too soon"
    assert announcer.has_more(3)
    assert announcer.tell(4, 1 + TOLD_EVERY_SECONDS) == "3 new events."
    assert announcer.tell(4, 100) is None, "nothing came"
    assert announcer.tell(4 + PAGE, 101) == f"{PAGE} new events."
    assert announcer.tell(1_004 + PAGE, 200) == "1,000 new events. Only the newest 50 are shown."
