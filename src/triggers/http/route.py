"""The rows of a room's table of URLs: method, path, handler, the scope that a key needs, the answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]

PUBLIC = "public"
"""Instead of a scope: no key is needed. The scope None means that any valid key is enough."""


class Answer(NamedTuple):
    """The meaning of a status on a route, if it does not follow from the key, the parameters and the body.

    `body` is the type of the answer, if it is neither the handler's return type nor a problem document.
    """

    status: int
    text: str
    body: Any = None
    headers: tuple[str, ...] = ()


class Route(NamedTuple):
    """One row of a room's table. `{name}` in a path is an argument of the handler.

    `handler` is an unbound method; `bound` binds it to an object.

    With `takes`, the handler is a plain ASGI app. The router calls it directly, so it does admission, body,
    errors and answer itself. `takes` maps each media type of the body to its type.
    """

    method: Method
    path: str
    handler: Callable[..., Any]
    scope: str | None
    status: int = 200
    answers: tuple[Answer, ...] = ()
    also: tuple[str, ...] = ()
    """Other paths that answer exactly the same."""
    hidden: bool = False
    """Whether the OpenAPI document leaves it out."""
    media_type: str = "application/json"
    """The media type of the answer."""
    takes: Mapping[str, Any] | None = None
    reads: Mapping[str, Any] | None = None
    """The media types and Python types of a body that the handler reads itself."""
    or_scope: str | None = None
    """An alternative to `scope`: a key needs one of the two."""

    @property
    def scopes(self) -> tuple[str, ...]:
        """The scopes of which a key needs one. If there are none, a key needs no scope."""
        return tuple(str(each) for each in (self.scope, self.or_scope) if each not in (None, PUBLIC))

    @property
    def paths(self) -> tuple[str, ...]:
        """All paths that it answers."""
        return (self.path, *self.also)

    def bound(self, handlers: object) -> Route:
        """This row, with its handler bound to the object `handlers`."""
        return self._replace(handler=getattr(handlers, self.handler.__name__))
