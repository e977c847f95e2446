"""Every URL is found by one rule, and every answer to what is not found says what is there."""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

import msgspec
import pytest
import structlog
from msgspec import Meta

from triggers.errors import Forbidden, Invalid
from triggers.http import exchange
from triggers.http.parameters import MAX_PARAMETERS, Query, read_query
from triggers.http.request import Request
from triggers.http.responder import RequestHooks
from triggers.http.response import JsonResponse
from triggers.http.route import PUBLIC, Route
from triggers.http.router import Router


class Body(msgspec.Struct, forbid_unknown_fields=True):
    """A body."""

    name: str


class Within(NamedTuple):
    """Two parameters of a query, of which one may be left out."""

    until: int
    since: Annotated[int, Meta(ge=0)] = 1


class Things:
    """Handlers that say what they were called with."""

    async def listed(
        self,
        caller: str,
        limit: Annotated[int, Meta(ge=1, le=10)] = 5,
        kind: Annotated[str, Query("type"), Meta(pattern="^(a|b)$")] | None = None,
    ) -> dict[str, Any]:
        """List."""
        return {"caller": caller, "limit": limit, "kind": kind}

    async def one(self, thing: str) -> str:
        """Show."""
        return thing

    async def part(self, thing: str, part: int, since: str) -> list[Any]:
        """Show a part."""
        return [thing, part, since]

    async def between(self, thing: str, within: Within, kind: str = "any") -> list[Any]:
        """Show what was within a range."""
        return [thing, within.since, within.until, kind]

    async def special(self) -> str:
        """Is a path of its own."""
        return "special"

    async def create(self, data: Body) -> JsonResponse[Body]:
        """Create."""
        return JsonResponse(data, status_code=202, headers={"location": "/things/x"})

    async def change(self, thing: str, data: Body | None = None) -> str | None:
        """Change."""
        return data and thing + data.name

    async def delete(self, thing: str) -> None:
        """Delete."""

    async def fail(self, request: Request) -> None:
        """Fail."""
        raise KeyError(request.route)

    async def plain(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer as an ASGI app."""
        values = scope.get("path_params", {})
        await exchange.answer_json(send, 200, ["plain", values], ())


TABLE = (
    Route("GET", "/", Things.special, PUBLIC),
    Route("GET", "/things", Things.listed, None),
    Route("POST", "/things", Things.create, None, also=("/v1/things",)),
    Route("GET", "/things/{thing}", Things.one, PUBLIC, also=("/v1/things/{thing}",)),
    Route("PUT", "/things/{thing}", Things.change, None),
    Route("DELETE", "/things/{thing}", Things.delete, None, 204),
    Route("GET", "/things/{thing}/parts/{part}", Things.part, None),
    Route("GET", "/things/{thing}/within", Things.between, None),
    Route("POST", "/things/special", Things.special, "write", 201),
    Route("GET", "/things/special/parts", Things.special, None),
    Route("POST", "/fail", Things.fail, PUBLIC),
    Route("POST", "/plain", Things.plain, "write", takes={"application/json": Body}),
    Route("POST", "/plain/{name}", Things.plain, "write", takes={"application/json": Body}),
)


class Asked:
    """A router of the table, and what was noted of its requests."""

    def __init__(self) -> None:
        self.noted: list[tuple[str, int, str | None]] = []
        things = Things()
        self.router = Router([route.bound(things) for route in TABLE], RequestHooks(self._admit, self._note))

    async def _admit(self, request: Request, route: Route) -> None:
        request.caller = "somebody"
        request.limit_headers = [(b"ratelimit", b"1")]
        if route.scope == "write":
            raise Forbidden(scope="write")

    def _note(self, request: Request, status: int, seconds: float) -> None:
        assert seconds >= 0
        self.noted.append((request.route, status, request.problem))

    async def __call__(
        self, method: str, target: str, body: bytes = b"", content_type: bytes = b""
    ) -> tuple[int, dict[str, str], Any]:
        """The status, the headers and the value of the answer."""
        path, _, query = target.partition("?")
        fields = {b"x-request-id": b"mine", b"content-type": content_type}
        scope = {
            "type": "http",
            "method": method,
            "raw_path": path.encode("ascii"),
            "query_string": query.encode(),
            "headers": list(fields.items()),
            exchange.FIELDS: fields,
        }
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        await self.router(scope, receive, send)
        headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        text = b"".join(message.get("body", b"") for message in sent)
        return sent[0]["status"], headers, msgspec.json.decode(text) if text else None


@pytest.fixture
def asked() -> Asked:
    return Asked()


# ---- paths and methods ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "value"),
    [
        ("/", "special"),
        ("", "special"),
        ("/things/x", "x"),
        ("/things/x/", "x"),
        ("/v1/things/x", "x"),
        ("/things/%C3%A9%20%c3%bc", "é ü"),
        ("/things/%78%25%32%46", "x%2F"),
        ("/t%68ings/x", "x"),
        ("/things/speci%61l/parts", "special"),
        ("/things/special/parts", "special"),
        ("/things/special/parts/2?since=now", ["special", 2, "now"]),
        ("/things/x/parts/2?since=now", ["x", 2, "now"]),
        ("/things/x/within?until=9", ["x", 1, 9, "any"]),
        ("/things/x/within?since=0&until=9&kind=a", ["x", 0, 9, "a"]),
    ],
)
async def test_a_path_is_found_however_it_is_written(asked: Asked, target: str, value: Any) -> None:
    for method in ("GET", "HEAD"):
        status, _, found = await asked(method, target)
        assert (status, found) == (200, value)


@pytest.mark.parametrize(
    "target",
    [
        *("/nothing", "/things/x/y", "/things/x/parts", "/things/x/parts/2/3", "*", "/Things", "things"),
        *("//", "///", "//things", "/things//", "/things//x", "/things/x//", "/things/x//parts/2"),
        *("/things/special//parts", "/things//parts/2", "/plain//", "/plain//x"),
        *("%2f", "/%2F", "/%2fthings", "/things%2fx", "/things/x%2f", "/things/%2F", "/things/x%2Fy"),
        *("/things%2fspecial/parts", "/plain%2F", "/things/x%2fparts/2", "/" * 60_000),
    ],
    ids=lambda target: target[:30],
)
async def test_a_path_that_no_route_has_is_not_found_by_any_method(asked: Asked, target: str) -> None:
    for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"):
        status, headers, problem = await asked(method, target)
        assert (status, problem["type"]) == (404, "/problems/not-found")
        assert headers["content-type"] == "application/problem+json"
        assert asked.noted[-1] == ("none", 404, "No route has this path.")


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/things", "GET, HEAD, OPTIONS, POST"),
        ("/things/", "GET, HEAD, OPTIONS, POST"),
        ("/things/x", "DELETE, GET, HEAD, OPTIONS, PUT"),
        ("/things/special", "OPTIONS, POST"),
        ("/plain", "OPTIONS, POST"),
        ("/v1/things", "OPTIONS, POST"),
    ],
)
async def test_a_path_names_its_methods(asked: Asked, path: str, allowed: str) -> None:
    status, headers, problem = await asked("PATCH", path)
    assert (status, headers["allow"]) == (405, allowed)
    assert problem["allow"] == allowed.split(", ")
    status, headers, said = await asked("OPTIONS", path)
    assert (status, headers["allow"], said) == (204, allowed, None)
    assert "content-type" not in headers
    assert [note[:2] for note in asked.noted] == [("none", 405), ("none", 204)]


async def test_a_plain_app_is_called_with_nothing_in_between(asked: Asked) -> None:
    """Neither admission nor the notes of a request: it has its own."""
    for target in ("/plain", "/plain/"):
        status, _, value = await asked("POST", target)
        assert (status, value) == (200, ["plain", {}])
    assert (await asked("POST", "/plain/x"))[2] == ["plain", {"name": "x"}]
    assert asked.noted == []


def test_an_exact_path_is_found_in_one_look_up(asked: Asked) -> None:
    """What the router returns is the coroutine of the app itself: nothing is awaited in between."""
    scope = {"type": "http", "method": "POST", "raw_path": b"/plain"}
    coroutine: Any = asked.router(scope, None, None)  # type: ignore[arg-type]
    assert coroutine.cr_code is Things.plain.__code__
    assert "path_params" not in scope
    coroutine.close()


def test_a_table_with_a_mistake_is_refused() -> None:
    things, rules = Things(), RequestHooks(None, None)  # type: ignore[arg-type]
    for twice in (Route("GET", "/a/{x}", things.one, None), Route("GET", "/a/", things.special, None)):
        with pytest.raises((ValueError, TypeError)):
            Router([Route("GET", "/a", things.special, None), twice, twice], rules)
    with pytest.raises(TypeError, match="does not take other"):
        Router([Route("GET", "/a/{other}", things.one, None)], rules)


# ---- parameters ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", {"limit": 5, "kind": None}),
        ("limit=7&type=a", {"limit": 7, "kind": "a"}),
        ("limit=1&limit=2", {"limit": 2, "kind": None}),
        ("type=%61&&", {"limit": 5, "kind": "a"}),
    ],
)
async def test_parameters_have_the_types_of_the_arguments(asked: Asked, query: str, found: Any) -> None:
    status, headers, value = await asked("GET", f"/things?{query}")
    assert (status, value) == (200, {"caller": "somebody", **found})
    assert (headers["x-request-id"], headers["ratelimit"]) == ("mine", "1")
    assert asked.noted == [("/things", 200, None)]


@pytest.mark.parametrize(
    ("target", "errors"),
    [
        ("/things?limit=x", {"limit": "Expected `int`."}),
        ("/things?limit=", {"limit": "Expected `int`."}),
        ("/things?limit=11", {"limit": "Expected `int` <= 10."}),
        (
            "/things?limit=0&type=secret",
            {"limit": "Expected `int` >= 1.", "type": "Expected `str` matching regex '^(a|b)$'."},
        ),
        ("/things?kind=a", {"kind": "Unknown parameter."}),
        ("/things?caller=a&limit=x", {"caller": "Unknown parameter."}),
        ("/things/x/parts/y", {"part": "Expected `int`.", "since": "The parameter is missing."}),
        ("/things/x/parts/1?thing=y&since=now", {"thing": "Unknown parameter."}),
        ("/things/x/within?since=-1&until=", {"since": "Expected `int` >= 0.", "until": "Expected `int`."}),
        ("/things/x/within", {"until": "The parameter is missing."}),
        ("/things/x/within?within=1&until=9", {"within": "Unknown parameter."}),
    ],
)
async def test_every_wrong_parameter_is_named(asked: Asked, target: str, errors: dict[str, str]) -> None:
    status, _, problem = await asked("GET", target)
    assert status == 422
    assert {error["pointer"]: error["detail"] for error in problem["errors"]} == errors
    assert "secret" not in str(asked.noted)


async def test_a_page_takes_any_query(asked: Asked) -> None:
    """Links to what needs no key carry what others append to them."""
    assert (await asked("GET", "/things/x?utm_source=mail"))[0] == 200


# ---- bodies and answers --------------------------------------------------------------------------


async def test_a_body_is_what_the_handler_asks_for(asked: Asked) -> None:
    status, headers, value = await asked("POST", "/things", b'{"name":"x"}')
    assert (status, headers["location"], value) == (202, "/things/x", {"name": "x"})
    for body, content_type, expected in (
        (b"", b"", 422),
        (b"null", b"", 422),
        (b'{"name":1}', b"", 422),
        (b"{", b"", 400),
        (b'{"name":"x","name":"x"}', b"", 400),
        (b'{"name":"x"}', b"text/plain", 415),
        (b'{"name":"%b"}' % (b"x" * 300_000), b"", 413),
    ):
        assert (await asked("POST", "/things", body, content_type))[0] == expected, body[:20]
    assert (await asked("PUT", "/things/a", b""))[2] is None
    status, _, problem = await asked("PUT", "/things/a", b"null")
    assert (status, problem["detail"]) == (422, "Expected `object`, got `null`.")
    assert (await asked("PUT", "/things/a", b'{"name":"b"}'))[2] == "ab"


async def test_an_answer_of_nothing_has_no_body(asked: Asked) -> None:
    status, headers, value = await asked("DELETE", "/things/x")
    assert (status, value) == (204, None)
    assert not {"content-type", "content-length"} & headers.keys()


async def test_who_is_not_admitted_is_told_why(asked: Asked) -> None:
    status, headers, problem = await asked("POST", "/things/special")
    assert (status, problem["scope"], headers["ratelimit"]) == (403, "write", "1")
    assert asked.noted[0][:2] == ("/things/special", 403)


async def test_a_bug_is_logged_and_told_as_ours(asked: Asked) -> None:
    with structlog.testing.capture_logs() as lines:
        status, _, problem = await asked("POST", "/fail")
    assert (status, problem["type"], problem["request_id"]) == (500, "/problems/internal", "mine")
    (line,) = lines
    assert (line["event"], line["request_id"], str(line["exc_info"])) == (
        "unhandled_error",
        "mine",
        "'/fail'",
    )
    assert asked.noted[0][:2] == ("/fail", 500)


def test_a_query_has_a_bound() -> None:
    assert len(read_query(b"&".join(b"a%d=" % n for n in range(MAX_PARAMETERS)))) == MAX_PARAMETERS
    with pytest.raises(Invalid, match="more than 100 parameters"):
        read_query(b"a=&" * 10_000)
