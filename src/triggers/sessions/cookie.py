"""The cookie that holds a session's token, and the check that a form was sent from our own pages."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

CONSOLE_PATH = "/console"
"""The path of the console, after the path of the public URL."""
SESSION_SECONDS = 12 * 3600

_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")


def is_token(text: str) -> bool:
    """Whether a text has the form of a token of a session or a link."""
    return _TOKEN.fullmatch(text) is not None


class SessionCookie(NamedTuple):
    """Name and attributes of the cookie. Both follow from the public URL of the service."""

    path: str
    secure: bool

    @classmethod
    def of(cls, public_url: str | None, root_path: str) -> SessionCookie:
        """Return the cookie of a service with this public URL, whose encoded path is `root_path`."""
        return cls(f"{root_path}{CONSOLE_PATH}", (public_url or "").lower().startswith("https://"))

    @property
    def name(self) -> str:
        """The name. Browsers accept the prefix `__Secure-` only over https."""
        return "__Secure-triggers_session" if self.secure else "triggers_session"

    def holding(self, token: str) -> str:
        """Return the value of a `Set-Cookie` header that stores a session's token in the browser."""
        return self._header(token, SESSION_SECONDS)

    def cleared(self) -> str:
        """Return the value of a `Set-Cookie` header that deletes the cookie."""
        return self._header("", 0)

    def read(self, fields: Mapping[bytes, bytes]) -> str | None:
        """Return the token in the headers of a request, or None. The names of the headers are in lower case.

        If there are several cookies with this name, the first one counts. It has the longest path.
        """
        for part in fields.get(b"cookie", b"").decode("latin-1").split(";"):
            name, _, value = part.strip().partition("=")
            if name == self.name:
                return value if is_token(value) else None
        return None

    def _header(self, value: str, seconds: int) -> str:
        secure = "; Secure" if self.secure else ""
        return f"{self.name}={value}; Path={self.path}; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}"


def from_our_origin(fields: Mapping[bytes, bytes], public_url: str | None) -> bool:
    """Whether a browser says that one of our own pages sent this request.

    The names of `fields` are in lower case.

    `Sec-Fetch-Site` decides. Browsers omit it for plain http on another host than localhost. Then `Origin`
    must be the origin of the public URL. Without a public URL, it must have the host of the request. A page
    with `Referrer-Policy: no-referrer` sends `Origin: null`. So pages with forms need `same-origin`, which a
    `<meta name="referrer">` can set.
    """
    site = fields.get(b"sec-fetch-site")
    if site is not None:
        return site == b"same-origin"
    try:
        origin = urlsplit(fields.get(b"origin", b"").decode("ascii"))
    except ValueError:
        return False
    if public_url is None:
        # A proxy that ends TLS may have changed the scheme.
        return (
            origin.netloc != ""
            and origin.netloc.lower() == fields.get(b"host", b"").decode("latin-1").lower()
        )
    ours = urlsplit(public_url)
    return (origin.scheme, origin.netloc.lower()) == (ours.scheme, ours.netloc.lower())
