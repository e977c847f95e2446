"""Keeps the changing part of an open page up to date: HTML fragments over one stream per page.

A page opens its stream with the cookie of its session, and closes it while the page is hidden. These streams
count in the same bounds as those of the API, because they cost the same: a connection, and reading the log.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple

import structlog
from starlette.responses import Response

from triggers.console.desk import Desk
from triggers.errors import Forbidden, TriggersError, Unauthenticated, Unavailable
from triggers.fairness.room import Places
from triggers.http import problems
from triggers.http.event_stream import HEADERS, MEDIA_TYPE, EventStream, Outbox, StreamLimits
from triggers.http.request import Request
from triggers.sessions.sessions import Session
from triggers.streams.frames import RETRY_MILLISECONDS, Frame, LeftOut, Missing, opening
from triggers.streams.reader import LONGEST_REST_SECONDS, SHARE
from triggers.streams.stream import Output, Wanted
from triggers.streams.streams import Streams

log = structlog.get_logger()

LIMITS: Final = StreamLimits(unread_bytes=4 * 1024 * 1024)
"""A fragment can be as large as its page. The next one is drawn when the caller has taken the last one."""
DRAWN_AT_ONCE: Final = 4
"""Maximum number of fragments that are drawn at once, which organisations share as `Places` says."""
AGAIN_SECONDS: Final = 5.0
"""Time until another try, after the database did not answer."""
REFUSED_MILLISECONDS: Final = 10_000
"""After so long, a page connects again that was refused, because there are too many streams."""
LEAVE_SECONDS: Final = 5.0
"""Time for the page to close its stream after the last frame."""

_OVER: Final = "over"
"""Nothing changes any more. The page closes its stream."""
_RELOAD: Final = "reload"
"""The page cannot be shown as it is: its session or what it shows has ended. The page loads itself again."""
_REFUSED: Final = "refused"
"""There is no stream now. The page says so, and tries again."""
_TOLD: Final = "told"
"""A text that the page announces."""


class Drawn(NamedTuple):
    """A fragment. `again_seconds`: time until it is drawn again without a frame. None: it cannot change."""

    html: bytes
    again_seconds: float | None
    told: str | None = None
    """A text to be announced, None if there is nothing new to say."""


class LivePart(NamedTuple):
    """The part of a page that is kept up to date."""

    shows: Callable[..., Any]
    """The handler of the API whose answer it shows, and which the session has to be allowed to use."""
    wanted: Wanted
    """The frames after which it is drawn again."""
    draw: Callable[[Session, int], Awaitable[Drawn]]
    """Draws it. It is given the number of frames since the stream began."""
    rest_seconds: float = 1.0
    """Minimum time between two fragments, and from the loading of the page to the first one."""


class Live:
    """Opens the streams of pages."""

    def __init__(self, desk: Desk, streams: Streams) -> None:
        self._desk = desk
        self._streams = streams
        self._places = Places(DRAWN_AT_ONCE)

    async def answer(self, request: Request, part: LivePart) -> Response:
        """Return the stream of a part, for the session of the request. Errors are frames that pages know."""
        if request.method == "HEAD":
            return Response(media_type=MEDIA_TYPE, headers=HEADERS)
        try:
            session = await self._desk.session(request)
            if not self._desk.api.may(session.caller, part.shows):
                raise Forbidden
            return await self._open(request, session, part)
        except Unauthenticated as error:
            request.problem = error.logged
            return _only(_RELOAD, 200)  # to any other status, the page would only connect again
        except TriggersError as error:
            request.problem = error.logged
            return _only(_REFUSED, problems.kind_of(error).status)

    async def _open(self, request: Request, session: Session, part: LivePart) -> EventStream:
        async def still() -> Session | None:
            found = await self._desk.sessions.session_of(request.fields)
            return found if found is not None and found.caller.org_id == session.caller.org_id else None

        outbox = Outbox(LIMITS)
        outbox.put(opening())  # so that the page knows at once that it is connected
        follower = Follower(part, outbox, still, self._places)
        output = Output(follower.note, outbox.end)
        stream = await self._streams.open(session.caller, part.wanted, output, session.id)
        task = asyncio.get_running_loop().create_task(follower.run(session), name="page")

        def close() -> None:
            task.cancel()
            self._streams.close(stream)

        return EventStream(outbox, close)


class Follower:
    """Draws the part of one page again and again.

    resting ──`rest_seconds`──▶ waiting ──a frame, or `again_seconds`──▶ drawing ──▶ resting
                                                                          └──it cannot change──▶ over
    """

    def __init__(
        self, part: LivePart, outbox: Outbox, still: Callable[[], Awaitable[Session | None]], places: Places
    ) -> None:
        """`still` returns the session as long as it may see the page."""
        self._part = part
        self._outbox = outbox
        self._still = still
        self._places = places
        self._come = 0
        self._news = asyncio.Event()

    def note(self, frame: Frame) -> None:
        """Draw again soon, because this has happened."""
        match frame.about:
            case LeftOut(left_out=number):
                self._come += number
            case Missing():
                pass  # nobody knows how many
            case _:
                self._come += 1
        self._news.set()

    async def run(self, session: Session) -> None:
        """Draw until nothing can change any more, or the session has ended."""
        self._news.set()  # because something may have changed since the page was loaded
        again: float | None = AGAIN_SECONDS
        rest = self._part.rest_seconds
        try:
            while again is not None:
                await asyncio.sleep(rest)
                await self._wait(again)
                async with self._places.hold(session.own.org_id):
                    began = asyncio.get_running_loop().time()
                    again = await self._draw()
                    seconds = asyncio.get_running_loop().time() - began
                rest = max(self._part.rest_seconds, min(SHARE * seconds, LONGEST_REST_SECONDS))
            await asyncio.sleep(LEAVE_SECONDS)
        except Exception as bug:
            log.exception("page_stream_ended", exc_info=bug)
        self._outbox.end()

    async def _wait(self, seconds: float) -> None:
        """Wait for a frame, or for so long."""
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            pass

    async def _draw(self) -> float | None:
        """Send the part as it is now. Return the time until the next time, in seconds, or None."""
        if self._outbox.unread_bytes:
            return self._part.rest_seconds
        self._news.clear()
        try:
            session = await self._still()
            if session is None:
                raise Unauthenticated
            drawn = await self._part.draw(session, self._come)
        except Unavailable:
            return AGAIN_SECONDS
        except TriggersError:
            self._outbox.put(_frame(_RELOAD))
            return None
        self._outbox.put(_fragment(drawn.html))
        if drawn.told is not None:
            self._outbox.put(_frame(_TOLD, drawn.told))
        if drawn.again_seconds is None:
            self._outbox.put(_frame(_OVER))
        return drawn.again_seconds


def _fragment(html: bytes) -> bytes:
    """A frame without a name, which the page swaps in."""
    lines = re.split(rb"\r\n|\r|\n", html)
    return b"retry: %d\n" % RETRY_MILLISECONDS + b"".join(b"data: %b\n" % line for line in lines) + b"\n"


def _frame(name: str, text: str = "", retry: int = RETRY_MILLISECONDS) -> bytes:
    """A frame that the page's script knows. The text has no line breaks."""
    return f"event: {name}\nretry: {retry}\ndata: {text}\n\n".encode()


def _only(name: str, status: int) -> Response:
    """A stream that consists of one frame."""
    return Response(_frame(name, retry=REFUSED_MILLISECONDS), status, media_type=MEDIA_TYPE, headers=HEADERS)
