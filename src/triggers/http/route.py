"""What a room says of each of its URLs: method, path, handler, the scope that a key needs, the answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from triggers.domain import Scope

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]

PUBLIC = "public"
"""In the place of a scope: no key is asked for. None there asks for any valid key."""


class Answer(NamedTuple):
    """What a status means on a route, where that does not follow from its key, its parameters and its body.

    `body` is its type, where that is not what the handler returns, nor a problem document.
    """

    status: int
    text: str
    body: Any = None
    headers: tuple[str, ...] = ()


class Route(NamedTuple):
    """One row of a room's table. `also` are other paths that answer exactly the same.

    `handler` is a method as its class has it; `bound` makes it the method of one object.
    """

    method: Method
    path: str
    handler: Callable[..., Any]
    scope: Scope | str | None
    status: int = 200
    answers: tuple[Answer, ...] = ()
    also: tuple[str, ...] = ()
    hidden: bool = False
    media_type: str = "application/json"

    def bound(self, handlers: object) -> Route:
        """This row, answered by an object of the class that its handler is a method of."""
        return self._replace(handler=getattr(handlers, self.handler.__name__))


class AcceptRoute(NamedTuple):
    """A route of the accept path, which plain ASGI answers in front of the framework."""

    path: str
    handler: str
    summary: str
    description: str
    body: Any
    answers: tuple[Answer, ...]
    media_types: tuple[str, ...]
    also: tuple[str, ...] = ()
    method: str = "POST"
    scope: Scope = Scope.EVENTS_WRITE
