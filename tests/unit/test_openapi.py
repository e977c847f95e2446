"""The OpenAPI document: valid, complete, and true of every route."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest
from openapi_spec_validator import validate

from triggers.api.app import build_framework
from triggers.api.openapi import document
from triggers.api.routes import ACCEPT_ROUTES, PUBLIC, ROUTES, AcceptRoute, Route

SHOWN: list[tuple[Route | AcceptRoute, str]] = [
    (route, re.sub(r":\w+\}", "}", path))
    for route in (*ROUTES, *ACCEPT_ROUTES)
    if not getattr(route, "hidden", False)
    for path in (route.path, *route.also)
]


@pytest.fixture(scope="module")
def described() -> Any:
    framework = build_framework(None)  # type: ignore[arg-type]  # no request is made
    return msgspec.json.decode(msgspec.json.encode(document(framework)))


def test_it_is_valid(described: Any) -> None:
    validate(described)
    assert described["openapi"].startswith("3.1")


def test_it_names_every_route_and_nothing_else(described: Any) -> None:
    methods = {"get", "post", "put", "patch", "delete"}
    named = {
        (method.upper(), path)
        for path, item in described["paths"].items()
        for method in item
        if method in methods
    }
    assert named == {(route.method, path) for route, path in SHOWN}


def test_every_operation_is_told_apart_and_explained(described: Any) -> None:
    ids = []
    for route, path in SHOWN:
        operation = described["paths"][path][route.method.lower()]
        ids.append(operation["operationId"])
        assert operation["summary"], path
        assert operation["tags"], path
        assert ("security" in operation and operation["security"] != []) is (route.scope != PUBLIC), path
        answers = operation["responses"]
        success = {
            str(status) for status in (route.answers if isinstance(route, AcceptRoute) else [route.status])
        }
        assert success <= set(answers), (path, sorted(answers))
        assert ({"401", "403", "429", "503"} <= set(answers)) is (route.scope != PUBLIC), path
        assert "404" in answers or "{" not in path, path
        for status, answer in answers.items():
            if status >= "400":
                assert "application/problem+json" in answer["content"], (path, status)
        for name in re.findall(r"\{(\w+)\}", path):
            assert {"name": name, "in": "path", "required": True}.items() <= next(
                parameter.items() for parameter in operation["parameters"] if parameter["name"] == name
            )
    assert len(set(ids)) == len(ids)


def test_every_reference_leads_somewhere(described: Any) -> None:
    schemas = described["components"]["schemas"]
    for name in set(re.findall(r"#/components/schemas/([^\"]+)\"", msgspec.json.encode(described).decode())):
        assert name in schemas
