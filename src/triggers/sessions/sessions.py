"""Opens, finds and ends sessions, for the pages of the console.

Each request looks its session up in the database. So a session that is ended, or whose key is revoked, ends
at once on every node. Unknown tokens are looked up within the bounds of unknown API keys.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime
from typing import Literal, NamedTuple
from urllib.parse import urlencode
from uuid import UUID

import msgspec

from triggers.domain import Caller, Organisation, OrgId, Scope
from triggers.errors import LinkOver, Unauthenticated
from triggers.fairness import room
from triggers.keys import organisations
from triggers.keys.acting import acting, require_operator
from triggers.keys.authentication import KeyCache, well_formed
from triggers.postgres.clock import DatabaseClock
from triggers.postgres.database import Database
from triggers.sessions import store
from triggers.sessions.cookie import CONSOLE_PATH, SessionCookie, from_our_origin, is_token
from triggers.sessions.store import LinkOffer

LINK_PATH = f"{CONSOLE_PATH}/link"
"""The page that a link opens. The token is the parameter `token`, because the log omits parameters."""


class NewSession(NamedTuple):
    """A session that was opened. `token` is the value of the cookie, and is stored nowhere."""

    token: str
    session: Session


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """A person in the console."""

    id: UUID
    caller: Caller
    """The caller for handlers. If the session acts for another organisation, so does this caller."""
    own: Caller
    """The caller in the organisation of the key, even while the session acts for another one."""
    key_name: str | None
    acting_for: Organisation | None
    return_url: str | None
    """The page to which a person can return, on the platform that made the link."""
    csrf_token: str
    """Every form of the session's pages has to send this. It changes when the session acts for another
    organisation, so a form never changes an organisation other than the one that its page showed."""
    expires_at: datetime

    @property
    def is_operator(self) -> bool:
        """Whether the session may act for other organisations."""
        return Scope.ADMIN in self.own.scopes


class Sessions:
    """The sessions of this service."""

    def __init__(
        self, database: Database, clock: DatabaseClock, keys: KeyCache, public_url: str | None, root_path: str
    ) -> None:
        """`root_path` is the encoded path of the public URL."""
        self._database = database
        self._clock = clock
        self._keys = keys
        self._public_url = public_url
        self.cookie = SessionCookie.of(public_url, root_path)

    async def open_with_key(self, key: str) -> NewSession:
        """Sign in with an API key.

        Raises:
            Unauthenticated: the key is not valid.
            Unavailable: the key cannot be looked up now.
        """
        caller = await self._keys.caller(well_formed(key.strip().encode("utf-8", "replace")))
        room.acting_for.set(caller.org_id)  # so that its sign-ins use only its own share of the connections
        token = await store.open_with_key(self._database, self._clock, caller.org_id, caller.key_id)
        if token is None:
            raise Unauthenticated
        return await self._opened(token)

    async def look_at_link(self, token: str) -> LinkOffer:
        """Return the session that a link would open. This does not use the link, so programs can preview it.

        Raises:
            LinkOver: the link was used or has expired, or its key is no longer valid.
            Unavailable: the link cannot be looked up now.
        """
        offer = None
        if is_token(token):
            offer = await self._keys.lookups.run(
                _digest("link", token), lambda: store.link(self._database, token)
            )
        if offer is None:
            raise LinkOver
        return offer

    async def open_with_link(self, token: str) -> NewSession:
        """Sign in with a link, which can be used once.

        Raises:
            LinkOver, Unavailable: as for `look_at_link`.
        """
        await self.look_at_link(token)  # this bounds the cost of unknown tokens
        opened = await store.open_with_link(self._database, self._clock, token)
        if opened is None:
            raise LinkOver
        return await self._opened(opened)

    async def session_of(self, fields: Mapping[bytes, bytes]) -> Session | None:
        """Return the session of a request, or None. The names of its headers are in lower case.

        Raises:
            Unavailable: the session cannot be looked up now.
        """
        token = self.cookie.read(fields)
        return None if token is None else await self.caller_of(token)

    async def caller_of(self, token: str) -> Session | None:
        """Return the session with this token, or None. It raises the same errors as `session_of`."""
        if not is_token(token):
            return None
        found = await self._keys.lookups.run(
            _digest("session", token), lambda: store.by_token(self._database, token)
        )
        return None if found is None else _session(found, token)

    def is_our_post(
        self, fields: Mapping[bytes, bytes], session: Session | None = None, form_token: str | None = None
    ) -> bool:
        """Whether a form was sent from one of our own pages, with the token of its session.

        A sign-in form has no session yet, so only its origin is checked.
        """
        if not from_our_origin(fields, self._public_url):
            return False
        given = (form_token or "").encode("utf-8", "replace")
        return session is None or hmac.compare_digest(session.csrf_token.encode(), given)

    async def act_for(self, session: Session, org_id: UUID | None) -> None:
        """Act for another organisation from the next request on. None ends this.

        Raises:
            Forbidden: the session lacks the scope `admin`.
            NotFound: no organisation has this id.
        """
        other = None
        if org_id is not None:
            require_operator(session.own)
            found = await organisations.by_id(self._database, OrgId(org_id))
            other = None if found.id == session.own.org_id else OrgId(found.id)
        await store.act_for(self._database, session.own.org_id, session.id, other)

    async def end(self, session: Session) -> None:
        """End a session."""
        await store.end(self._database, session.own.org_id, session.id)

    async def _opened(self, token: str) -> NewSession:
        found = await store.by_token(self._database, token)
        if found is None:  # its key was revoked meanwhile, or newer sessions replaced it
            raise Unauthenticated
        self._keys.lookups.note_valid(_digest("session", token))
        return NewSession(token, _session(found, token))


def link_url(base_url: str, token: str) -> str:
    """Return the URL of a link, for a service whose public URL is `base_url`."""
    return f"{base_url.rstrip('/')}{LINK_PATH}?{urlencode({'token': token})}"


def _session(found: store.StoredSession, token: str) -> Session:
    other = found.acting_for
    text = f"csrf {other.id if other else ''}".encode()
    form_token = base64.urlsafe_b64encode(hmac.digest(token.encode(), text, "sha256")).decode().rstrip("=")
    return Session(
        id=found.id,
        caller=found.caller if other is None else acting(found.caller, other),
        own=found.caller,
        key_name=found.key_name,
        acting_for=other,
        return_url=found.return_url,
        csrf_token=form_token,
        expires_at=found.expires_at,
    )


def _digest(kind: Literal["link", "session"], token: str) -> bytes:
    # With the kind, because the same text may be looked up at the same moment as something else.
    return hashlib.sha256(f"{kind} {token}".encode()).digest()
