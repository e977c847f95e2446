"""Time limits for a caller: sending a request, reading an answer, being idle, and sending after the end."""

from __future__ import annotations

LINGER_SECONDS = 5.0
"""Time for which a caller may still send after its last answer. Then the connection is aborted."""
SLOWEST_READER = 16 * 1024
"""Minimum speed, in bytes per second, at which a caller must read its answers."""


class CallerDeadlines:
    """The start of each of four states, by the clock of the event loop. None: not in this state.

    Requests: arriving ──`request_ended`──▶ being answered ──`went_idle`──▶ idle ──`request_began`──▶ arriving
    Answers:  all is read ──`answer_waits`──▶ unread ──`answer_was_read`──▶ all is read
    The end:  open ──`hung_up`──▶ lingering

    A new connection begins as arriving. An answer may be complete before its request is: then the request
    is still arriving, and the connection is not idle.

    There are no timers, because a timer for each request would make every request slower. Instead,
    `server.sweep` looks for late connections about once a second.
    """

    __slots__ = ("_arriving_since", "_hung_up_at", "_idle_since", "_unread_bytes", "_unread_since")

    def __init__(self, now: float) -> None:
        self._arriving_since: float | None = now
        self._idle_since: float | None = None
        self._unread_since: float | None = None
        self._unread_bytes = 0  # at that time
        self._hung_up_at: float | None = None

    # ---- what happens on the connection ---------------------------------------------------------

    def request_began(self, now: float) -> None:
        """The first byte of a request came."""
        self._arriving_since = now
        self._idle_since = None

    def request_ended(self) -> None:
        """The last byte of a request came."""
        self._arriving_since = None

    def went_idle(self, now: float) -> None:
        """Every request that came was answered."""
        self._idle_since = now

    def answer_waits(self, now: float, unread_bytes: int) -> None:
        """`unread_bytes` wait for the caller to read them. From now on its reading speed is checked."""
        self._unread_since = now
        self._unread_bytes = unread_bytes

    def answer_was_read(self) -> None:
        """Little or nothing waits any more."""
        self._unread_since = None

    def hung_up(self, now: float) -> None:
        """The last answer was written, and the caller may still be sending."""
        self._hung_up_at = now

    def excuse_caller(self, now: float) -> None:
        """Restart the time of an arriving request, because the service does not read at the moment."""
        if self._arriving_since is not None:
            self._arriving_since = now

    # ---- what is late ---------------------------------------------------------------------------

    @property
    def is_idle(self) -> bool:
        """Whether no request is under way."""
        return self._idle_since is not None and self._arriving_since is None

    @property
    def is_unread(self) -> bool:
        """Whether more than a little of an answer waits to be read."""
        return self._unread_since is not None

    @property
    def has_hung_up(self) -> bool:
        """Whether the last answer was written."""
        return self._hung_up_at is not None

    def is_request_late(self, now: float, seconds: float) -> bool:
        """Whether a request has been arriving for longer than `seconds`."""
        return self._arriving_since is not None and self._arriving_since < now - seconds

    def is_idle_too_long(self, now: float, seconds: float) -> bool:
        """Whether no request has been under way for longer than `seconds`."""
        return self.is_idle and self._idle_since < now - seconds  # type: ignore[operator]

    def lingers_too_long(self, now: float) -> bool:
        """Whether the caller has not closed the connection within `LINGER_SECONDS` of its last answer."""
        return self._hung_up_at is not None and self._hung_up_at < now - LINGER_SECONDS

    def is_reader_late(self, now: float, seconds: float, unread_bytes: int, *, is_closing: bool) -> bool:
        """Whether the caller has read slower than `SLOWEST_READER` for `seconds`. `unread_bytes` wait now.

        A closing connection stays open until its last byte is read, so it is checked even for a few bytes.
        """
        if self._unread_since is None:
            if is_closing:
                self.answer_waits(now, unread_bytes)
        elif unread_bytes <= self._unread_bytes - SLOWEST_READER * seconds:
            self.answer_waits(now, unread_bytes)
        return self._unread_since is not None and self._unread_since < now - seconds
