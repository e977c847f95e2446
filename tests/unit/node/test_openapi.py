"""The OpenAPI document: valid, complete, and true of every route."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import msgspec
import pytest
from openapi_spec_validator import validate

from triggers.domain import Scope
from triggers.events import body_format
from triggers.http.route import PUBLIC, Route
from triggers.node import openapi
from triggers.node.routes import ROUTES
from triggers.push import openapi_webhooks as webhooks

SHOWN: list[tuple[Route, str]] = [
    (route, path) for route in ROUTES if not route.hidden for path in route.paths
]


@pytest.fixture(scope="module")
def described() -> Any:
    return msgspec.json.decode(openapi.encoded())


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


def responses(described: Any, operation: Any) -> dict[str, Any]:
    """The responses of an operation, those that many have alike included."""
    return {
        status: described["components"]["responses"][answer["$ref"].rpartition("/")[2]]
        if "$ref" in answer
        else answer
        for status, answer in operation["responses"].items()
    }


def test_every_operation_is_told_apart_and_explained(described: Any) -> None:
    ids = []
    for route, path in SHOWN:
        operation = described["paths"][path][route.method.lower()]
        ids.append(operation["operationId"])
        assert operation["summary"], path
        assert operation["tags"], path
        assert ("security" in operation and operation["security"] != []) is (route.scope != PUBLIC), path
        for name in re.findall(r"\{(\w+)\}", path):
            assert {"name": name, "in": "path", "required": True}.items() <= next(
                parameter.items() for parameter in operation["parameters"] if parameter["name"] == name
            )
    assert len(set(ids)) == len(ids)


def test_the_scope_that_a_key_needs_is_named(described: Any) -> None:
    named = {
        scope
        for route, path in SHOWN
        for way in described["paths"][path][route.method.lower()].get("security", ())
        for scopes in way.values()
        for scope in scopes
    }
    assert named == set(Scope) - {Scope.ACT}, "which only widens what an operator may do for others"


def test_every_operation_says_what_it_can_answer(described: Any) -> None:
    for route, path in SHOWN:
        answers = responses(described, described["paths"][path][route.method.lower()])
        named = {str(answer.status) for answer in route.answers} | {str(route.status)}
        assert named <= set(answers), (path, sorted(answers))
        assert ({"401", "429", "503"} <= set(answers)) is (route.scope != PUBLIC), path
        assert ("403" in answers) is (route.scope not in (PUBLIC, None) or "403" in named), path
        assert ("404" in answers) is ("{" in path or "404" in named), path
        of_a_body = {"400", "413", "415"} & set(answers)
        takes_one = "requestBody" in described["paths"][path][route.method.lower()]
        assert len(of_a_body) == (3 if takes_one else 0), path
        for status, answer in answers.items():
            headers = set(answer["headers"])
            assert "X-Request-Id" in headers, (path, status)
            if route.scope != PUBLIC and status not in ("401", "default"):
                assert {"RateLimit", "RateLimit-Policy"} <= headers, (path, status)
            if status in ("429", "503") and route.scope != PUBLIC:
                assert "Retry-After" in headers, (path, status)
            if status >= "400" and (path, status) != ("/readyz", "503"):
                assert list(answer["content"]) == ["application/problem+json"], (path, status)
            assert ("content" in answer) is (status != "204"), (path, status)


def test_what_probes_and_prometheus_ask_for_is_text(described: Any) -> None:
    for path in ("/livez", "/metrics"):
        answers = described["paths"][path]["get"]["responses"]
        assert set(answers) == {"200", "default"}
        assert list(answers["200"]["content"]) == ["text/plain"]


def test_every_type_is_explained(described: Any) -> None:
    for name, schema in described["components"]["schemas"].items():
        assert "enum" in schema or schema["description"], name


class Sent(NamedTuple):
    """An event as body formats take it."""

    org_id: UUID
    id: UUID
    type: str
    payload: bytes
    source: str | None
    subject: str | None
    occurred_at: datetime | None
    attributes: bytes | None


@pytest.mark.parametrize("full", [True, False])
def test_what_receivers_are_said_to_be_sent_is_what_is_written(described: Any, full: bool) -> None:
    event = Sent(
        org_id=uuid4(),
        id=UUID("019ab0e4-7c11-7d5f-9f6b-3c2a1e5d8b70"),
        type="order.paid",
        payload=b'{"n": 1.0}',
        source="/shop" if full else None,
        subject="order 1" if full else None,
        occurred_at=datetime(2026, 1, 2, tzinfo=UTC) if full else None,
        attributes=b'{"dataschema":"urn:x"}' if full else None,
    )
    delivery, notice = (described["webhooks"][name]["post"]["requestBody"] for name in ("delivery", "notice"))
    sent = [
        (delivery, body_format.render("standard", event), webhooks.StandardBody),
        (delivery, body_format.render("cloudevents", event), webhooks.CloudEvent),
        (delivery, body_format.render("raw", event), None),
        (notice, body_format.notice(event.id, 3, redelivery=True), webhooks.Notice),
    ]
    for request, (content_type, body), type_ in sent:
        assert content_type in request["content"]
        if type_ is not None:
            assert f"/{type_.__name__}" in str(request["content"][content_type])
            decoded = msgspec.json.decode(body, type=type_)
            assert msgspec.to_builtins(decoded).items() >= msgspec.json.decode(body).items()


def test_every_reference_leads_somewhere(described: Any) -> None:
    schemas = described["components"]["schemas"]
    for name in set(re.findall(r"#/components/schemas/([^\"]+)\"", msgspec.json.encode(described).decode())):
        assert name in schemas
