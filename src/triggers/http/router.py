"""One router for every URL: it finds what answers a request by its method and its path."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Sequence
from urllib.parse import unquote

from starlette.responses import Response

from triggers import errors
from triggers.http.exchange import App, AsgiScope, Receive, Send
from triggers.http.parameters import names_in
from triggers.http.request import Request
from triggers.http.responder import Answering, RequestHooks, Responder
from triggers.http.route import Route


class Router:
    """The ASGI app of a table of routes.

    One slash at the end of a path is ignored. A path is split at its slashes before it is decoded, so no
    route has a path with an empty part or with an encoded slash (`%2F`) in a part: proxies read such paths
    in different ways. A path without parameters has priority over one with parameters. HEAD is answered as
    GET, and the server leaves out the body. OPTIONS names the methods of a path.
    """

    def __init__(self, routes: Iterable[Route], hooks: RequestHooks) -> None:
        """The handlers of `routes` are bound to their objects.

        Raises:
            ValueError: two of them have the same method and path.
            TypeError: a path names a parameter that its handler does not take.
        """
        self.routes = tuple(routes)
        self._tree = _Step()
        self._exact: dict[tuple[str, bytes], App] = {}
        """By method and encoded path: the paths without parameters. One look-up finds these."""
        self._no_route: App = Answering(self._refuse, hooks.note)
        for route in self.routes:
            app: App = route.handler
            if route.takes is None:
                app = Answering(Responder(route, hooks.admit).respond, hooks.note, route.path)
            for path in route.paths:
                self._add(route.method, path, app)

    def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> Awaitable[None]:
        """Return the coroutine of the app itself, so that the server does not await one inside another."""
        app = self._exact.get((scope["method"], scope["raw_path"]))
        if app is None:
            app = self._search(scope)
        return app(scope, receive, send)

    def _add(self, method: str, path: str, app: App) -> None:
        step, names = self._tree.grown(_steps(path)), names_in(path)
        for each in (method, "HEAD") if method == "GET" else (method,):
            if each in step.apps:
                raise ValueError(f"The table has {each} {path} twice.")
            step.apps[each] = (app, names)
            if not names:
                for spelling in (path, path.removesuffix("/") + "/"):
                    self._exact[each, spelling.encode("ascii")] = app

    def _search(self, scope: AsgiScope) -> App:
        """The app for a path that has parameters or needless escapes, or that belongs to no route."""
        found = self._tree.find(_steps(scope["raw_path"].decode("ascii")))
        if found is None or scope["method"] not in found[0].apps:
            return self._no_route
        step, values = found
        app, names = step.apps[scope["method"]]
        scope["path_params"] = dict(zip(names, values, strict=True))
        return app

    async def _refuse(self, request: Request) -> Response:
        found = self._tree.find(_steps(request.scope["raw_path"].decode("ascii")))
        if found is None:
            raise errors.NotFound("No route has this path.")
        allowed = sorted({*found[0].apps, "OPTIONS"})
        if request.method == "OPTIONS":
            return Response(status_code=204, headers={"allow": ", ".join(allowed)})
        raise errors.MethodNotAllowed(allow=allowed)


class _Step:
    """A node in the tree of paths: one branch for each next name, and one for a parameter."""

    __slots__ = ("apps", "named", "parameter")

    def __init__(self) -> None:
        self.apps: dict[str, tuple[App, list[str]]] = {}
        """By method, of the path that ends here: what answers, and the names of the path's parameters."""
        self.named: dict[str, _Step] = {}
        self.parameter: _Step | None = None

    def grown(self, steps: Sequence[str]) -> _Step:
        """The node where a path of the table ends. It is created if necessary."""
        if not steps:
            return self
        if not steps[0].startswith("{"):
            return self.named.setdefault(steps[0], _Step()).grown(steps[1:])
        if self.parameter is None:
            self.parameter = _Step()
        return self.parameter.grown(steps[1:])

    def find(self, steps: Sequence[str]) -> tuple[_Step, tuple[str, ...]] | None:
        """Where the path of a request ends, with the values of its parameters; None if no route has it.

        The steps are encoded, and the values are decoded.
        """
        if not steps:
            return (self, ()) if self.apps else None
        first, rest = unquote(steps[0]), steps[1:]
        if (named := self.named.get(first)) is not None and (found := named.find(rest)) is not None:
            return found
        if self.parameter is None or first == "" or "/" in first:
            return None
        found = self.parameter.find(rest)
        return None if found is None else (found[0], (first, *found[1]))


def _steps(path: str) -> list[str]:
    """The parts of a path between its slashes. The first one is empty if the path begins with a slash."""
    return path.removesuffix("/").split("/")
