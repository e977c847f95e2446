"""The OpenAPI document of a table of routes, from the types that handlers take and return.

The answers of a route follow from its row: from its scope, its parameters, its body, and the answers that the
row names.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from types import NoneType, UnionType
from typing import Any, NamedTuple, Union, get_args, get_origin

import msgspec
from starlette.responses import Response

from triggers.http.parameters import RequestParameter, Signature
from triggers.http.problems import PROBLEM_JSON, Problem
from triggers.http.response import JsonResponse
from triggers.http.route import PUBLIC, Answer, Route

_DONE = {200: "Success.", 201: "Created.", 202: "Started.", 204: "Success, without a body."}


class Usual(NamedTuple):
    """A status with the same meaning on every route. Its answers have `headers`."""

    name: str
    text: str
    headers: tuple[str, ...] = ()


class Service(NamedTuple):
    """The parts of a document that do not come from the table of routes."""

    info: Mapping[str, str]
    tag: Callable[[str], str]
    """Returns the tag of a path, which is its subject on the page."""
    schemes: Mapping[str, Mapping[str, str]]
    """The ways to send a key. Each of them is enough."""
    headers: Mapping[str, Mapping[str, Any]]
    """The description of every header that answers can have."""
    always: tuple[str, ...]
    """Headers of every answer."""
    limited: tuple[str, ...]
    """Headers of answers to those who have a key."""
    usual: Mapping[int | str, Usual]
    """By status."""
    webhooks: Mapping[str, Any]
    types: tuple[Any, ...]
    """Types that the webhooks name."""


def document(routes: Iterable[Route], service: Service, root_path: str = "") -> dict[str, Any]:
    """The whole document, OpenAPI 3.1. Paths are relative to `root_path`, the path of the public URL."""
    operations = [_Operation(route) for route in routes if not route.hidden]
    schemas = _Schemas([Problem, *service.types, *(each for one in operations for each in one.types)])
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        for path in operation.route.paths:
            described = operation.describe(path, service, schemas)
            paths.setdefault(path, {})[operation.route.method.lower()] = described
    return {
        "openapi": "3.1.0",
        "info": service.info,
        "servers": [{"url": root_path or "/"}],
        "paths": paths,
        "webhooks": service.webhooks,
        "components": {
            "securitySchemes": service.schemes,
            "schemas": schemas.components,
            "headers": service.headers,
            "responses": {
                usual.name: _response(
                    usual.text, PROBLEM_JSON, schemas.of(Problem), (*service.always, *usual.headers)
                )
                for usual in service.usual.values()
            },
        },
    }


class _Operation:
    """The description of one route."""

    def __init__(self, route: Route) -> None:
        self.route = route
        self._parameters: tuple[RequestParameter, ...] = ()
        self._body_required = True
        self._returns: Any = None
        self._takes: Mapping[str, Any] = route.takes or route.reads or {}
        if route.takes is None:
            signature = Signature(route.handler, route.path)
            self._parameters = signature.parameters
            self._returns = _answered_by(signature.returns)
            if (body := signature.body) is not None:
                self._takes = {"application/json": body.type}
                self._body_required = body.required
        self._answers = list(route.answers)
        if route.status not in {answer.status for answer in route.answers}:
            self._answers.insert(0, Answer(route.status, _DONE[route.status]))

    @property
    def types(self) -> list[Any]:
        """Every type that it takes or answers with."""
        bodies = [self._returns, *self._takes.values(), *(answer.body for answer in self._answers)]
        return [
            *(each.type for each in self._parameters),
            *(each for body in bodies for each in _members(body)),
        ]

    def describe(self, path: str, service: Service, schemas: _Schemas) -> dict[str, Any]:
        """The operation object of one of its paths."""
        route = self.route
        summary, _, description = (inspect.getdoc(route.handler) or "").partition("\n\n")
        described: dict[str, Any] = {"tags": [service.tag(route.path)], "summary": summary}
        if description:
            described["description"] = " ".join(description.split())
        described["operationId"] = self._id(path)
        if self._parameters:
            described["parameters"] = [_parameter(each, schemas) for each in self._parameters]
        if self._takes:
            described["requestBody"] = self._request_body(schemas)
        described["responses"] = self._responses(service, schemas)
        if route.scope != PUBLIC:
            # In OpenAPI 3.1 an entry may name the scope that a key needs. One entry is enough.
            needed = [[scope] for scope in route.scopes] or [[]]
            described["security"] = [{scheme: each} for each in needed for scheme in service.schemes]
        return described

    def _id(self, path: str) -> str:
        """The handler's name. For an alias, a part of its path is added."""
        name = self.route.handler.__name__
        if path == self.route.path:
            return name
        return f"{name}_{path.split('/')[2]}" if "{" in path else name + path.replace("/", "_")

    def _request_body(self, schemas: _Schemas) -> dict[str, Any]:
        content = {media_type: {"schema": schemas.of(body)} for media_type, body in self._takes.items()}
        return {"required": self._body_required, "content": content}

    def _responses(self, service: Service, schemas: _Schemas) -> dict[str, Any]:
        """By status: what the row says, and what is usual."""
        found = {
            str(status): {"$ref": f"#/components/responses/{service.usual[status].name}"}
            for status in self._usual_statuses()
        }
        headers = service.always if self.route.scope == PUBLIC else (*service.always, *service.limited)
        for answer in self._answers:
            body, media_type = answer.body or self._returns, self.route.media_type
            if answer.body is None and answer.status >= 400:
                body, media_type = Problem, PROBLEM_JSON
            schema = {"type": "string"} if media_type.startswith("text/") else schemas.of(body)
            found[str(answer.status)] = _response(
                answer.text, media_type, None if body is NoneType else schema, (*headers, *answer.headers)
            )
        return dict(sorted(found.items()))

    def _usual_statuses(self) -> list[int | str]:
        statuses: list[int | str] = ["default"]
        has_key = self.route.scope != PUBLIC
        if has_key:
            statuses += [401, 429, 503] if self.route.scope is None else [401, 403, 429, 503]
        if any(each.in_path for each in self._parameters):
            statuses.append(404)
        if self._takes:
            statuses += [400, 413, 415]
        if has_key and (self._takes or not all(each.in_path for each in self._parameters)):
            statuses.append(422)
        return statuses


class _Schemas:
    """The schemas of types, made by what decodes and encodes them."""

    def __init__(self, types: list[Any]) -> None:
        schemas, self.components = msgspec.json.schema_components(
            types, ref_template="#/components/schemas/{name}"
        )
        self._by_type = dict(zip(map(repr, types), schemas, strict=True))

    def of(self, wanted: Any) -> dict[str, Any]:
        """The schema of a type, or of a union of types."""
        found: list[dict[str, Any]] = [self._by_type[repr(each)] for each in _members(wanted)]
        return found[0] if len(found) == 1 else {"anyOf": found}


def _parameter(parameter: RequestParameter, schemas: _Schemas) -> dict[str, Any]:
    schema = dict(schemas.of(parameter.type))
    described = {
        "name": parameter.name,
        "in": "path" if parameter.in_path else "query",
        "required": parameter.required,
    }
    if "description" in schema:
        described["description"] = schema.pop("description")
    if not parameter.required and parameter.default is not None:
        schema["default"] = parameter.default
    return {**described, "schema": schema}


def _response(text: str, media_type: str, schema: Any, headers: tuple[str, ...]) -> dict[str, Any]:
    response: dict[str, Any] = {
        "description": text,
        "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in headers},
    }
    if schema is not None:
        response["content"] = {media_type: {"schema": schema}}
    return response


def _answered_by(returned: Any) -> Any:
    """The type of what a handler answers with; any JSON if it makes its response by itself."""
    if get_origin(returned) is JsonResponse:
        return get_args(returned)[0]
    return Any if isinstance(returned, type) and issubclass(returned, Response) else returned


def _members(found: Any) -> list[Any]:
    """The types of a union, of which msgspec describes one at a time; None has no schema."""
    several = get_args(found) if get_origin(found) in (Union, UnionType) else (found,)
    return [each for each in several if each not in (None, NoneType)]
