"""The OpenAPI document: from the handlers' own types, and the accept path's row of the route table."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Litestar, Router
from litestar.openapi import OpenAPIConfig, ResponseSpec
from litestar.openapi.spec import Components, SecurityScheme

from triggers import __version__
from triggers.api.problems import PROBLEM_JSON, Problem
from triggers.api.routes import ACCEPT_ROUTES, PUBLIC, AcceptRoute, Route
from triggers.errors import NotFound

_ALWAYS = {
    401: "The key is missing, unknown, expired or revoked.",
    403: "The key lacks the scope.",
    429: "The rate limit is reached; `Retry-After` says when to come back.",
    503: "Try again; `Retry-After` says when.",
}
_WITH_STATES = ("/v1/inboxes", "/v1/subscriptions", "/v1/deliveries", "/v1/replays")
_DONE = {200: "Done.", 201: "Made.", 202: "Begun.", 204: "Done; there is nothing to say."}


def describe(route: Route) -> dict[str, Any]:
    """What Litestar is told of a route beside its handler's types."""
    lines = (route.handler.__doc__ or "").strip().split("\n\n", 1)
    statuses: dict[int, str] = {}
    if route.scope != PUBLIC:
        statuses |= _ALWAYS
    if "{" in route.path:
        statuses[404] = "There is no such thing in this organisation."
    if route.method in ("POST", "PUT", "PATCH"):
        statuses |= {400: "The body is not JSON.", 413: "The body is too large."}
    if route.method != "GET" and route.path.startswith(_WITH_STATES):
        statuses[409] = "The present state forbids it."
    statuses[422] = "A parameter or field is wrong."
    described: dict[str, Any] = {
        "summary": lines[0].strip(),
        "description": " ".join(lines[1].split()) if len(lines) > 1 else None,
        "operation_id": lambda _, __, parts: _operation_id(route, parts),
        "tags": [_tag(route.path)],
        "response_description": _DONE[route.status],
        "responses": {
            status: ResponseSpec(Problem, description=text, media_type=PROBLEM_JSON, generate_examples=False)
            for status, text in statuses.items()
        },
    }
    if route.scope != PUBLIC:
        described["security"] = _security(route.scope)
    return described


def openapi_config() -> OpenAPIConfig:
    """Litestar's part; the document is served by `document`, with the accept path in it."""
    return OpenAPIConfig(
        title="Triggers",
        version=__version__,
        description="Durable webhooks and inboxes: accept an event once, hand it to everyone who asked.",
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
    _drop_foreign_answers(schema)
    types = [Problem, *[answer for route in ACCEPT_ROUTES for answer in route.answers.values()]]
    types += [route.body for route in ACCEPT_ROUTES]
    outs, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    by_type = dict(zip(map(repr, types), outs, strict=True))
    schema["components"].setdefault("schemas", {}).update(components)
    for route in ACCEPT_ROUTES:
        for path in (route.path, *route.also):
            operation = _operation(route, by_type)
            if path != route.path:
                operation["operationId"] += "_unversioned"
            schema["paths"].setdefault(path, {})["post"] = operation
    return schema


def _drop_foreign_answers(schema: dict[str, Any]) -> None:
    """Litestar adds a 400 of its own to whatever has a parameter; ours is a 422 of the other form."""
    for methods in schema["paths"].values():
        for operation in methods.values():
            if PROBLEM_JSON not in operation["responses"].get("400", {}).get("content", {PROBLEM_JSON: ()}):
                del operation["responses"]["400"]


def _operation(route: AcceptRoute, by_type: dict[str, Any]) -> dict[str, Any]:
    problems = {
        400: "The body is not JSON as in RFC 7493.",
        409: "The dedup_id names an event with other content; `original_id` is its id.",
        413: "The body is over its limit.",
        415: "The content type or coding is not read here.",
        422: "A field is missing or wrong.",
    } | _ALWAYS
    if route.handler == "batch":
        del problems[409]
    body = {media_type: {"schema": by_type[repr(route.body)]} for media_type in route.media_types}
    if "application/x-ndjson" in body:
        body["application/x-ndjson"] = {"schema": {"type": "string", "description": "One event a line."}}
    answers = {
        str(status): {
            "description": {201: "Stored.", 200: "A duplicate: stored before."}.get(status, "")
            if route.handler == "single"
            else "The outcome of each event.",
            "content": {"application/json": {"schema": by_type[repr(answer)]}},
        }
        for status, answer in route.answers.items()
    }
    for status, text in problems.items():
        answers[str(status)] = {
            "description": text,
            "content": {PROBLEM_JSON: {"schema": by_type[repr(Problem)]}},
        }
    return {
        "summary": route.summary,
        "description": route.description,
        "operationId": f"accept_{route.handler}",
        "tags": [_tag(route.path)],
        "security": _security(route.scope),
        "requestBody": {"required": True, "content": body},
        "responses": answers,
    }


def _security(scope: str | None) -> list[dict[str, list[str]]]:
    """Either header will do; OpenAPI 3.1 lets the list name the scope that the key needs."""
    needed = [] if scope is None else [str(scope)]
    return [{"bearer": needed}, {"apiKey": needed}]


def _operation_id(route: Route, parts: list[Any]) -> str:
    """The handler's name; for another path that answers the same, with that path behind it."""
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
