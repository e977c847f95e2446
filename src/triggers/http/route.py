"""What a room says of each of its URLs: method, path, handler, the scope that a key needs, the answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

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
    """One row of a room's table. `{name}` in a path is an argument of the handler.

    `handler` is a method as its class has it; `bound` makes it the method of one object.

    `takes` makes the handler a plain ASGI app, which the router calls with nothing in between: admission,
    body, errors and answer are its own. It says what the body may be: types by their media types.
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
    """Of the answer."""
    takes: Mapping[str, Any] | None = None

    @property
    def paths(self) -> tuple[str, ...]:
        """All paths that it answers."""
        return (self.path, *self.also)

    def bound(self, handlers: object) -> Route:
        """This row, answered by an object of the class that its handler is a method of."""
        return self._replace(handler=getattr(handlers, self.handler.__name__))
