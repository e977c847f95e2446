"""Compares the library with the OpenAPI document: a route or a field that the library lacks is an error.

The routes are read from the library's source: every call names its method, its path, the type of the answer,
and, by the parameters of its function, the fields of the request.
"""

from __future__ import annotations

import ast
import dataclasses
import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any, get_args, get_type_hints

from python_surface import HALF, library
from triggers.node import openapi
from triggers_client import models
from triggers_client.decoding import Model

ROUTES_LEFT_OUT = {
    r"\w+ /v1/admin/.*": "for operators, who use the command line and the console",
    r"\w+ /v1/console/.*": "for the console",
    r"\w+ /v1/hooks.*": "another path of /v1/subscriptions",
    r"\w+ /(events|inbox|ack|inbox/ack)": "another path of the one with /v1",
    r"POST /v1/inbox/ack": "another path of /v1/ack",
}
FIELDS_LEFT_OUT = {
    ("EventBody", "data"): "another name of payload",
    ("SubscriptionBody", "expiration_date"): "another name of expires_at",
    ("SubscriptionChange", "expiration_date"): "another name of expires_at",
}
OTHER_BODIES = re.compile(r"application/(cloudevents.*|x-ndjson)")
"""Other forms of bodies that the library sends as JSON."""


@cache
def document() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(openapi.encoded())
    return found


def _operations() -> Iterator[tuple[str, dict[str, Any]]]:
    for path, item in document()["paths"].items():
        for method, operation in item.items():
            name = f"{method.upper()} {re.sub(r'{[^}]*}', '{}', path)}"
            if method != "parameters" and not any(re.fullmatch(each, name) for each in ROUTES_LEFT_OUT):
                yield name, operation


# ---- comparisons -------------------------------------------------------------------------------------


def _schemas(schema: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The named objects of a schema, through lists and alternatives."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[-1]
        return [(name, document()["components"]["schemas"][name])]
    inner = [*schema.get("anyOf", ()), *schema.get("oneOf", ())]
    inner += [schema["items"]] if schema.get("items") else []
    return [found for each in inner for found in _schemas(each)]


def _lacking(kind: type[Model], schema: dict[str, Any], seen: frozenset[str] = frozenset()) -> Iterator[str]:
    """The fields of answers that a class, or a class of its fields, lacks."""
    hints = get_type_hints(kind)
    for name, found in _schemas(schema):
        if name in seen:
            continue
        for key, inner in found.get("properties", {}).items():
            if key not in hints:
                yield f"{kind.__name__}.{key} ({name})"
            elif (inner_kind := _model_in(hints[key])) is not None:
                yield from _lacking(inner_kind, inner, seen | {name})


def _model_in(hint: Any) -> type[Model] | None:
    if isinstance(hint, type) and issubclass(hint, Model):
        return hint
    return next((found for each in get_args(hint) if (found := _model_in(each))), None)


def test_every_route_is_in_the_library() -> None:
    lacking = {name for name, _ in _operations()} - library().keys()
    assert not lacking


def test_the_library_calls_no_route_that_does_not_exist() -> None:
    assert not library().keys() - {name for name, _ in _operations()}


def test_every_exemption_is_about_something() -> None:
    names = {f"{method.upper()} {path}" for path, item in document()["paths"].items() for method in item}
    for pattern in ROUTES_LEFT_OUT:
        assert any(re.fullmatch(pattern, name) for name in names), pattern
    for schema, name in FIELDS_LEFT_OUT:
        assert name in document()["components"]["schemas"][schema]["properties"], (schema, name)


def test_every_field_of_a_request_is_in_the_library() -> None:
    lacking = []
    for name, operation in _operations():
        known = set().union(*(call.fields for call in library()[name]))
        if any(call.member for call in library()[name]):
            known |= {"limit", "cursor"}
        parameters = {each["name"] for each in operation.get("parameters", ()) if each["in"] == "query"}
        lacking += [f"{name}?{each}" for each in parameters - known]
        for media, content in operation.get("requestBody", {}).get("content", {}).items():
            if OTHER_BODIES.fullmatch(media):
                continue
            for schema, found in _schemas(content["schema"]):
                lacking += [
                    f"{name} {schema}.{each}"
                    for each in found["properties"].keys() - known
                    if (schema, each) not in FIELDS_LEFT_OUT
                ]
    assert not lacking


def test_every_field_of_an_answer_is_in_the_library() -> None:
    lacking: list[str] = []
    compared = 0
    for name, operation in _operations():
        for status, answer in operation["responses"].items():
            schema = answer.get("content", {}).get("application/json", {}).get("schema")
            if not status.startswith("2") or schema is None:
                continue
            for call in library()[name]:
                if call.kind is None:
                    continue
                kind = getattr(models, call.kind)
                if call.member is None:
                    schemas = [each for each in _schemas(schema) if each[0] != "BatchAnswer"]
                    for each, _ in schemas:
                        lacking += _lacking(kind, {"$ref": f"#/{each}"})
                        compared += 1
                else:
                    ((_, page),) = _schemas(schema)
                    # ListPage.raw has the others.
                    assert page["properties"].keys() <= {
                        call.member,
                        "next_cursor",
                        "looked_to",
                        "since",
                        "until",
                    }
                    lacking += _lacking(kind, page["properties"][call.member])
                    compared += 1
    assert not lacking
    assert compared > 50
    problem = {"$ref": "#/components/schemas/Problem"}
    assert not list(_lacking(models.Problem, problem))


def test_the_library_imports_nothing_of_the_service() -> None:
    for path in HALF.parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert "triggers" not in {each.name.split(".")[0] for each in node.names}, path
            if isinstance(node, ast.ImportFrom):
                assert (node.module or "").split(".")[0] != "triggers", path
                assert node.level == 0, path


def test_the_comparison_finds_what_is_lacking() -> None:
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Explanation(Model):
        matched: bool

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Detail(Model):
        id: str
        explanations: list[models.SearchHit] | None

    lacking = set(_lacking(Detail, {"$ref": "#/EventDetail"}))
    assert "Detail.payload (EventDetail)" in lacking
    assert "SearchHit.why (Explanation)" in lacking
    assert "Detail.id (EventDetail)" not in lacking
    assert set(_lacking(Explanation, {"$ref": "#/Explanation"})) > {"Explanation.why (Explanation)"}
