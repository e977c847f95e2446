"""The OpenAPI document: operations from the route table, schemas from the types of the handlers.

Of the framework's own document only paths, parameters and ids are kept. What a route answers follows from
its row: from its key, its parameters, its body, and what the row says besides.
"""

from __future__ import annotations

import inspect
import re
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import msgspec
from litestar import Litestar, Response, Router
from litestar.openapi import OpenAPIConfig
from litestar.openapi.spec import Components, SecurityScheme

from triggers import __version__
from triggers.errors import NotFound
from triggers.http.problems import PROBLEM_JSON, Problem
from triggers.http.route import PUBLIC, AcceptRoute, Answer, Route
from triggers.node.routes import ACCEPT_ROUTES, ROUTES
from triggers.push import openapi_webhooks as webhooks

_DONE = {200: "Success.", 201: "Created.", 202: "Started.", 204: "Success, without a body."}
_LIMITS = ("RateLimit", "RateLimit-Policy")
# What many routes answer alike: the name of the response, what it means, and headers of its own.
_USUAL: dict[int | str, tuple[str, str, tuple[str, ...]]] = {
    400: ("MalformedBody", "The body is not valid I-JSON (RFC 7493).", _LIMITS),
    401: ("Unauthenticated", "The API key is missing, unknown, expired or revoked.", ("WWW-Authenticate",)),
    403: (
        "Forbidden",
        "The API key lacks the scope of this route, or a scope that the request would grant.",
        _LIMITS,
    ),
    404: ("NotFound", "The organisation of the API key has nothing with this id.", _LIMITS),
    413: ("TooLarge", "The body is larger than its limit.", _LIMITS),
    415: ("UnsupportedMediaType", "The content type or content encoding is not supported.", _LIMITS),
    422: ("Invalid", "A parameter or field is missing or wrong. `errors` lists each of them.", _LIMITS),
    429: (
        "RateLimited",
        "The rate limit is reached. `Retry-After` is the number of seconds to wait.",
        (*_LIMITS, "Retry-After"),
    ),
    503: (
        "Unavailable",
        "The service cannot process the request now. `Retry-After` is the number of seconds to wait.",
        (*_LIMITS, "Retry-After"),
    ),
    "default": (
        "Other",
        "Possible for every request: 408 if it arrives too slowly, 500 for an internal error.",
        (),
    ),
}
_HEADERS: dict[str, tuple[str, dict[str, Any]]] = {
    "X-Request-Id": (
        "Id of the request, which the log also contains. A valid id that the caller sends is kept.",
        {"type": "string"},
    ),
    "Location": ("Path of the created resource.", {"type": "string"}),
    "RateLimit": (
        'Only for plans with a limit: `"plan";r=<remaining requests>;t=<seconds>`. `t` is the time until the'
        " quota is full, or, with `r=0`, until one request is allowed.",
        {"type": "string"},
    ),
    "RateLimit-Policy": (
        'Only for plans with a limit: `"plan";q=<quota>;w=<seconds of the window>`.',
        {"type": "string"},
    ),
    "Retry-After": ("Seconds to wait.", {"type": "integer", "minimum": 1}),
    "WWW-Authenticate": ("`Bearer`.", {"type": "string"}),
}


def describe(route: Route) -> dict[str, Any]:
    """The description of a route for Litestar, besides the types of its handler."""
    lines = (route.handler.__doc__ or "").strip().split("\n\n", 1)
    described: dict[str, Any] = {
        "summary": lines[0].strip(),
        "description": " ".join(lines[1].split()) if len(lines) > 1 else None,
        "operation_id": lambda _, __, parts: _operation_id(route, parts),
        "tags": [_tag(route.path)],
    }
    if route.scope != PUBLIC:
        described["security"] = _security(route.scope)
    return described


def openapi_config() -> OpenAPIConfig:
    """Litestar's part; the document is served by `document`, with the accept path in it."""
    return OpenAPIConfig(
        title="Triggers",
        version=__version__,
        description="Durable webhooks and inboxes: store events, then push them or let consumers pull.",
        # The framework brings pages of its own, which load scripts from elsewhere: nobody gets there.
        openapi_router=Router("/_openapi", route_handlers=[], guards=[_nowhere], include_in_schema=False),
        create_examples=False,
        components=Components(
            security_schemes={
                "bearer": SecurityScheme(type="http", scheme="bearer", description="An API key."),
                "apiKey": SecurityScheme(type="apiKey", name="X-API-Key", security_scheme_in="header"),
            }
        ),
    )


def _nowhere(*_: Any) -> None:
    raise NotFound("No route has this path.")


def document(app: Litestar) -> dict[str, Any]:
    """The whole document, OpenAPI 3.1."""
    schema: dict[str, Any] = app.openapi_schema.to_schema()
    shown = [route for route in ROUTES if not route.hidden]
    schemas = _Schemas([*shown, *ACCEPT_ROUTES])
    schema["components"] |= {
        "schemas": schemas.components,
        "headers": {name: {"description": text, "schema": value} for name, (text, value) in _HEADERS.items()},
        "responses": {
            name: _response(text, PROBLEM_JSON, schemas.of(Problem), headers)
            for name, text, headers in _USUAL.values()
        },
    }
    for route in shown:
        for path in (route.path, *route.also):
            operation = schema["paths"][re.sub(r":\w+\}", "}", path)][route.method.lower()]
            _complete(operation, route, schemas)
    for accepting in ACCEPT_ROUTES:
        for path in (accepting.path, *accepting.also):
            operation = _accept_operation(accepting, schemas)
            if path != accepting.path:
                operation["operationId"] += "_unversioned"
            schema["paths"].setdefault(path, {})["post"] = operation
    schema["webhooks"] = webhooks.webhooks()
    return schema


# ---- operations ----------------------------------------------------------------------------------


def _complete(operation: dict[str, Any], route: Route, schemas: _Schemas) -> None:
    """Add the body and the answers of a route to the framework's operation."""
    for parameter in operation.get("parameters", ()):
        for said in ("deprecated", "allowEmptyValue", "allowReserved"):
            if parameter.get(said) is False:
                del parameter[said]
    operation.pop("deprecated", None)
    body = _body_of(route)
    if body is not None:
        required = _asks_for_a_body(route)
        schema = schemas.of(body) if required else {"anyOf": [schemas.of(body), {"type": "null"}]}
        operation["requestBody"] = {
            "required": required,
            "content": {"application/json": {"schema": schema}},
        }
    usual: list[int | str] = ["default"]
    if route.scope != PUBLIC:
        usual += [401, 429, 503] if route.scope is None else [401, 403, 429, 503]
    if "{" in route.path:
        usual.append(404)
    if body is not None:
        usual += [400, 413, 415]
    asked = [each for each in operation.get("parameters", ()) if each["in"] == "query"]
    if route.scope != PUBLIC and (body is not None or asked):
        usual.append(422)
    operation["responses"] = _responses(route, usual, schemas)


def _accept_operation(route: AcceptRoute, schemas: _Schemas) -> dict[str, Any]:
    content = {media_type: {"schema": schemas.of(route.body)} for media_type in route.media_types}
    if "application/x-ndjson" in content:
        content["application/x-ndjson"] = {
            "schema": {"type": "string", "description": "One JSON event per line."}
        }
    return {
        "summary": route.summary,
        "description": route.description,
        "operationId": f"accept_{route.handler}",
        "tags": [_tag(route.path)],
        "security": _security(route.scope),
        "requestBody": {"required": True, "content": content},
        "responses": _responses(route, [400, 401, 403, 413, 415, 422, 429, 503, "default"], schemas),
    }


def _responses(route: Route | AcceptRoute, usual: list[int | str], schemas: _Schemas) -> dict[str, Any]:
    """The answers by status: those of the row and the usual ones."""
    found = {
        str(status): {"$ref": f"#/components/responses/{_USUAL[status][0]}"}
        for status in sorted(usual, key=str)
    }
    limits = () if route.scope == PUBLIC else _LIMITS
    for answer in _answers_of(route):
        body, media_type = answer.body, getattr(route, "media_type", "application/json")
        if body is None and answer.status >= 400:
            body, media_type = Problem, PROBLEM_JSON
        elif body is None and isinstance(route, Route):
            body = _returned(route)
        content = {"type": "string"} if media_type.startswith("text/") else schemas.of(body)
        found[str(answer.status)] = _response(
            answer.text, media_type, None if body is NoneType else content, (*limits, *answer.headers)
        )
    return dict(sorted(found.items()))


def _response(text: str, media_type: str, schema: Any, headers: tuple[str, ...]) -> dict[str, Any]:
    response: dict[str, Any] = {
        "description": text,
        "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in ("X-Request-Id", *headers)},
    }
    if schema is not None:
        response["content"] = {media_type: {"schema": schema}}
    return response


def _answers_of(route: Route | AcceptRoute) -> list[Answer]:
    """Every answer that the row names, and the usual success if the row does not describe it."""
    answers = list(route.answers)
    if isinstance(route, Route) and route.status not in {answer.status for answer in answers}:
        answers.insert(0, Answer(route.status, _DONE[route.status]))
    return answers


def _security(scope: str | None) -> list[dict[str, list[str]]]:
    """Either header is enough. In OpenAPI 3.1 the list can name the scope that the key needs."""
    needed = [] if scope is None else [str(scope)]
    return [{"bearer": needed}, {"apiKey": needed}]


def _operation_id(route: Route, parts: list[Any]) -> str:
    """The name of the handler, followed by the path if this is an alias of the route."""
    name = route.handler.__name__
    path = "/" + "/".join(map(str, parts))
    if "{" in route.path and parts[1] != route.path.split("/")[2]:
        return f"{name}_{parts[1]}"
    return name if "{" in route.path or path == route.path else f"{name}{path.replace('/', '_')}"


def _tag(path: str) -> str:
    parts = path.split("/")
    if len(parts) < 3 or parts[1] != "v1":
        return "operation"
    return {"ack": "inbox", "org": "keys", "samples": "subscriptions"}.get(parts[2], parts[2])


# ---- types ---------------------------------------------------------------------------------------


class _Schemas:
    """The schemas of all bodies and answers, generated by the library that decodes and encodes them."""

    def __init__(self, routes: list[Route | AcceptRoute]) -> None:
        types: list[Any] = [Problem, *webhooks.TYPES]
        for route in routes:
            taken = [route.body] if isinstance(route, AcceptRoute) else [_body_of(route), _returned(route)]
            for each in (*taken, *[answer.body for answer in route.answers]):
                types += _members(each)
        outs, self.components = msgspec.json.schema_components(
            types, ref_template="#/components/schemas/{name}"
        )
        self._by_type = dict(zip(map(repr, types), outs, strict=True))

    def of(self, wanted: Any) -> dict[str, Any]:
        """The schema of a type, or of any of several."""
        found: list[dict[str, Any]] = [self._by_type[repr(each)] for each in _members(wanted)]
        return found[0] if len(found) == 1 else {"anyOf": found}


def _body_of(route: Route) -> Any:
    """The type of a handler's body, None if it takes none."""
    members = _members(get_type_hints(route.handler, include_extras=True).get("data"))
    return members[0] if members else None


def _asks_for_a_body(route: Route) -> bool:
    return inspect.signature(route.handler).parameters["data"].default is inspect.Parameter.empty


def _returned(route: Route) -> Any:
    """The type of what a handler answers with."""
    found = get_type_hints(route.handler, include_extras=True)["return"]
    return get_args(found)[0] if get_origin(found) is Response else found


def _members(found: Any) -> list[Any]:
    """The types of a union, of which msgspec describes one at a time; None has no schema."""
    several = get_args(found) if get_origin(found) in (Union, UnionType) else (found,)
    return [each for each in several if each not in (None, NoneType)]
