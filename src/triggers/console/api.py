"""Calls the handlers of the API for the console, with the caller of a session."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

import msgspec

from triggers.domain import Caller
from triggers.http.field_errors import invalid_field
from triggers.http.parameters import Signature
from triggers.http.request import Request
from triggers.http.route import Route

T = TypeVar("T")


class Api:
    """Calls handlers after it has checked the scope and the parameters, as for a request."""

    def __init__(self, routes: Iterable[Route]) -> None:
        """`routes` are bound to the objects that answer them."""
        self._routes = {route.handler.__qualname__: route for route in routes}
        self._signatures: dict[str, Signature] = {}

    def may(self, caller: Caller, handler: Callable[..., Any]) -> bool:
        """Whether the caller's key may use this handler. A page shows only such actions."""
        scopes = self._routes[handler.__qualname__].scopes
        return not scopes or any(scope in caller.scopes for scope in scopes)

    async def ask(
        self,
        caller: Caller,
        handler: Callable[..., Awaitable[T]],
        body: Any = None,
        request: Request | None = None,
        /,
        **parameters: str | None,
    ) -> T:
        """Return the answer of a handler. Parameters are texts, as in a URL. None omits a parameter.

        `request` is for handlers that take one. If the handler reads its body, `request_with` makes it.

        Raises:
            TriggersError: the same error that the API answers with.
        """
        route = self._routes[handler.__qualname__]
        caller.require(*route.scopes)
        signature = self._signatures.get(handler.__qualname__)
        if signature is None:
            signature = self._signatures[handler.__qualname__] = Signature(route.handler, route.path)
        given = {name: text for name, text in parameters.items() if text is not None}
        signature.check_names({name: text for name, text in given.items() if f"{{{name}}}" not in route.path})
        arguments = signature.arguments(given, given)
        if signature.takes_caller:
            arguments["caller"] = caller
        if signature.takes_request:
            arguments["request"] = request
        if body is not None and signature.body is not None:
            try:
                arguments["data"] = msgspec.convert(body, signature.body.type)
            except msgspec.ValidationError as error:
                raise invalid_field(error) from None
        answer: T = await route.handler(**arguments)
        return answer
