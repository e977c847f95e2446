"""Links to sign in to the console, and the sessions that are open."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import urlsplit
from uuid import UUID

import msgspec
from msgspec import Meta

from triggers.domain import Caller, Scope, check_text, parse_id, rfc3339
from triggers.errors import Forbidden, Invalid, NotFound
from triggers.http.request import Request
from triggers.http.route import Answer, Route
from triggers.http.views import FIRST_PAGE, PageQuery, Timestamp, next_cursor, page_request
from triggers.postgres.clock import DatabaseClock
from triggers.postgres.database import Database
from triggers.sessions import store
from triggers.sessions.sessions import link_url
from triggers.sessions.store import ListedSession

LINK_SECONDS = 60
MAX_URL_LENGTH = 2048

_HTTP_URL = re.compile(r"https?://[^\s/@\\]+(/[^\s\\]*)?", re.IGNORECASE)


class LinkBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A link that signs in to the console. Without `scopes`, it has all scopes of the caller."""

    scopes: list[Scope] | None = None
    return_url: (
        Annotated[
            str,
            Meta(
                max_length=MAX_URL_LENGTH,
                description="An http:// or https:// URL. The console shows a link to it.",
            ),
        ]
        | None
    ) = None


class LinkView(msgspec.Struct, kw_only=True):
    """A link that signs one person in. It works once, until `expires_at`. No other answer contains it."""

    url: str
    expires_at: Timestamp


class SessionView(msgspec.Struct, kw_only=True):
    """An open session. `acting_for` is the other organisation for which an operator acts at present."""

    id: UUID
    key_id: UUID
    key_name: str | None
    key_prefix: str
    scopes: list[Scope]
    return_url: str | None
    acting_for: UUID | None
    created_at: Timestamp
    expires_at: Timestamp


class SessionList(msgspec.Struct):
    """A page of sessions."""

    data: list[SessionView]
    next_cursor: str | None


class SessionRoutes:
    """Handlers of this room's URLs."""

    def __init__(self, database: Database, clock: DatabaseClock, public_url: str | None) -> None:
        self._database = database
        self._clock = clock
        self._public_url = public_url

    async def create_link(self, request: Request, caller: Caller, data: LinkBody | None = None) -> LinkView:
        """Create a link that signs a person in to the console with the rights of this API key.

        The link is valid for a minute, and can be used once. It opens a page with a button, and only the
        button uses the link. The session lasts for twelve hours at most, and ends with the key. A link cannot
        grant scopes that the key lacks.
        """
        asked = data or LinkBody()
        if caller.own_org_id is not None:
            raise Forbidden(
                "Links can only be created for the organisation of the key. Omit the header `Triggers-Org`."
            )
        new = store.NewLink(
            caller.key_id, LINK_SECONDS, _granted(asked.scopes, caller), _checked_url(asked.return_url)
        )
        async with self._database.connection() as connection, connection.transaction():
            link = await store.insert_link(connection, self._clock, caller.org_id, new)
        return LinkView(
            url=link_url(self._public_url or _base_url(request), link.token),
            expires_at=rfc3339(link.expires_at),
        )

    async def list_sessions(self, caller: Caller, asked: PageQuery = FIRST_PAGE) -> SessionList:
        """List the open sessions in the console, in the order in which they were opened."""
        page = page_request(asked)
        found = await store.listed(self._database, caller.org_id, page)
        return SessionList([_view(each) for each in found], next_cursor(found, page))

    async def end_session(self, caller: Caller, session_id: str) -> None:
        """End a session at once on every node.

        Only a key with the scope `admin` can end a session with that scope.
        """
        found = parse_id(session_id)
        if found is None:
            raise NotFound("No open session has this id.")
        session = await store.by_id(self._database, caller.org_id, found)
        if Scope.ADMIN in session.scopes:
            caller.require(Scope.ADMIN)
        await store.end(self._database, caller.org_id, session.id)


# ---- steps ---------------------------------------------------------------------------------------


def _granted(scopes: list[Scope] | None, caller: Caller) -> frozenset[Scope]:
    if scopes is None:
        # These are not always the scopes of the key: a session in the console may have fewer.
        return caller.scopes
    wanted = frozenset(scopes)
    if not wanted:
        raise Invalid("A link needs at least one scope.", pointer="/scopes")
    if missing := wanted - caller.scopes:
        raise Forbidden(f"A link cannot grant scopes that the key lacks: {', '.join(sorted(missing))}.")
    return wanted


def _checked_url(url: str | None) -> str | None:
    """Return the URL if a page may link to it. Schemes other than http and https could run code there."""
    if url is None:
        return None
    check_text(url, "/return_url", longest=MAX_URL_LENGTH)
    try:
        urlsplit(url)
    except ValueError:
        found = None
    else:
        found = _HTTP_URL.fullmatch(url)
    if found is None:
        raise Invalid("Must be an http:// or https:// URL, without a user name.", pointer="/return_url")
    return url


def _base_url(request: Request) -> str:
    """Return the service's URL by the header `Host`. This is safe: only the caller gets the answer."""
    return f"http://{request.fields.get(b'host', b'localhost').decode('latin-1')}"


def _view(session: ListedSession) -> SessionView:
    return SessionView(
        id=session.id,
        key_id=session.key_id,
        key_name=session.key_name,
        key_prefix=session.key_prefix,
        scopes=sorted(session.scopes),
        return_url=session.return_url,
        acting_for=session.acting_for,
        created_at=rfc3339(session.created_at),
        expires_at=rfc3339(session.expires_at),
    )


_NOT_GRANTED = "The link would grant a scope that the key lacks, or the key acts for another organisation."

ROUTES = (
    Route("POST", "/v1/console/links", SessionRoutes.create_link, None, 201, (Answer(403, _NOT_GRANTED),)),
    Route("GET", "/v1/console/sessions", SessionRoutes.list_sessions, Scope.KEYS, or_scope=Scope.READ),
    Route("DELETE", "/v1/console/sessions/{session_id}", SessionRoutes.end_session, Scope.KEYS, 204),
)
