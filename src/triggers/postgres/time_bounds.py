"""Time limits that must agree with each other, derived from one another. All are in seconds.

A row bears the time of the statement that wrote it, and becomes visible when its transaction commits. So
whoever looks for rows by time must look back as far as a commit can lag behind. The limits below say how
far that is for each kind of write, and how far each reader looks back because of it:

    accept    ACCEPT_SECONDS    an event and its deliveries     read behind VISIBLE_SECONDS
    change    COMMIT_SECONDS    a subscription, an inbox        looked for CHANGES_SECONDS back
    cancel    CANCEL_SECONDS    a delivery, by request          looked for CHANGES_SECONDS back
    heartbeat BEAT_SECONDS      a worker                        trusted for TRUST_SECONDS
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

MARGIN_SECONDS: Final = 1.0
"""For what a timeout does not count: the commit itself, and the server's delay in keeping the timeout."""

# ---- storing events --------------------------------------------------------------------------------

ACCEPT_SECONDS: Final = 4.0
"""The longest that a statement which stores events may take. The statement timeout of its connection."""

VISIBLE_SECONDS: Final = ACCEPT_SECONDS + MARGIN_SECONDS
"""How long after its due time a delivery may become visible. No reader notes a position later than this
before the database's now, or it would pass over deliveries that are not visible yet."""

REREAD_SECONDS: Final = 4.0
"""How often a queue is read from its beginning again, for what became visible behind the noted position in
spite of all this: after a crash of the database, or when a lease ended."""

# ---- changing subscriptions ------------------------------------------------------------------------

COMMIT_SECONDS: Final = ACCEPT_SECONDS
"""The longest time between the time that a change of a subscription bears and the start of its commit. A
change that took longer is rolled back."""

CANCEL_SECONDS: Final = 3.0
"""The longest that the cancellation of one delivery may take: a change whose time is that of its start."""

CHANGES_SECONDS: Final = COMMIT_SECONDS + ACCEPT_SECONDS
"""How far behind its last look a worker looks for changes, several times a second. More than any change may
commit late; the rest is for a commit that waits for the disk."""

LONG_LOOK_SECONDS: Final = 600.0
"""How far back it looks now and then, for a commit that stood still for longer than that."""

ACCEPTS_ENDED: Final = timedelta(seconds=COMMIT_SECONDS + ACCEPT_SECONDS + 2 * MARGIN_SECONDS)
"""So long after the time of a change, every accept has ended that began before the change was visible: the
change commits within COMMIT_SECONDS and a margin, an accept that began just before that ends within
ACCEPT_SECONDS and a margin."""

# ---- settling attempts ------------------------------------------------------------------------------

SETTLE_SECONDS: Final = 10.0
"""The longest that a statement which settles attempts may take."""

# ---- owning lanes ----------------------------------------------------------------------------------

BEAT_SECONDS: Final = 0.25
"""How often a worker writes its heartbeat."""

LONGEST_GAP_SECONDS: Final = 2 * BEAT_SECONDS
"""Maximum time between two beats of an observer that it counts as silence of others."""

TAKEOVER_SECONDS: Final = 4.0
"""How long a worker's heartbeat must stand still before its groups of lanes are given to others."""

TRUST_SECONDS: Final = 1.0
"""How long after its last heartbeat a worker may begin attempts. It must have stopped long before others
take over, or two workers would send the same delivery at once. It is also the promise to callers: an
attempt begins with settings that are at most this old."""

BEAT_STATEMENT_SECONDS: Final = TAKEOVER_SECONDS / 2
"""The longest that a statement of a heartbeat may take. A beat that succeeds only after this would come so
late that others have taken over, so it fails and the next one begins on another connection."""
