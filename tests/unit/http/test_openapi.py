"""The OpenAPI document of a table of routes. What this service's own document says is tested in `node`."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import pytest
from msgspec import Meta
from openapi_spec_validator import validate
from starlette.responses import PlainTextResponse

from triggers.http import openapi
from triggers.http.openapi import Service, Usual
from triggers.http.parameters import Query
from triggers.http.problems import PROBLEM_JSON
from triggers.http.response import JsonResponse
from triggers.http.route import PUBLIC, Answer, Route


class Thing(msgspec.Struct):
    """A thing."""

    id: int


class Other(msgspec.Struct):
    """Another thing."""

    name: str


class Things:
    """Handlers."""

    async def list_things(
        self,
        caller: Any,
        kind: Annotated[str, Query("type"), Meta(description="Which kind.", max_length=5)] | None = None,
        limit: Annotated[int, Meta(ge=1)] = 5,
    ) -> list[Thing]:
        """List things.

        All
        of them.
        """
        raise NotImplementedError

    async def change_thing(self, thing_id: int, data: Other | None = None) -> JsonResponse[Thing | Other]:
        """Change a thing."""
        raise NotImplementedError

    async def live(self) -> PlainTextResponse:
        """Say so."""
        raise NotImplementedError

    async def take(self, scope: Any, receive: Any, send: Any) -> None:
        """Take a thing."""


TABLE = (
    Route("GET", "/v1/things", Things.list_things, "read", also=("/things",)),
    Route(
        "PUT",
        "/v1/things/{thing_id}",
        Things.change_thing,
        None,
        201,
        (Answer(409, "It is gone."), Answer(200, "It was so.", Other, ("Location",))),
        also=("/v1/parts/{thing_id}",),
    ),
    Route("GET", "/live", Things.live, PUBLIC, media_type="text/plain"),
    Route("GET", "/hidden", Things.live, PUBLIC, hidden=True),
    Route(
        "POST",
        "/v1/things",
        Things.take,
        "write",
        answers=(Answer(200, "Taken.", Thing),),
        takes={"application/json": Thing, "text/lines": Annotated[str, Meta(description="Lines.")]},
    ),
)
STATUSES: tuple[int | str, ...] = (400, 401, 403, 404, 413, 415, 422, 429, 503, "default")
SERVICE = Service(
    info={"title": "Things", "version": "1"},
    tag=lambda path: path.split("/")[-1],
    schemes={"bearer": {"type": "http", "scheme": "bearer"}},
    headers={name: {"schema": {"type": "string"}} for name in ("Id", "Limit", "Location")},
    always=("Id",),
    limited=("Limit",),
    usual={status: Usual(f"Status{status}", "It happens.") for status in STATUSES},
    webhooks={},
    types=(),
)


@pytest.fixture(scope="module")
def paths() -> Any:
    document = msgspec.json.decode(msgspec.json.encode(openapi.document(TABLE, SERVICE)))
    validate(document)
    return document["paths"]


def test_it_has_the_paths_of_the_table(paths: Any) -> None:
    assert {path: list(methods) for path, methods in paths.items()} == {
        "/v1/things": ["get", "post"],
        "/things": ["get"],
        "/v1/things/{thing_id}": ["put"],
        "/v1/parts/{thing_id}": ["put"],
        "/live": ["get"],
    }
    ids = [operation["operationId"] for methods in paths.values() for operation in methods.values()]
    assert sorted(ids) == [
        "change_thing",
        "change_thing_parts",
        "list_things",
        "list_things_things",
        "live",
        "take",
    ]


def test_a_docstring_is_summary_and_description(paths: Any) -> None:
    listed = paths["/v1/things"]["get"]
    assert (listed["summary"], listed["description"]) == ("List things.", "All of them.")
    assert "description" not in paths["/live"]["get"]


def test_parameters_are_what_the_signature_says(paths: Any) -> None:
    assert paths["/v1/things"]["get"]["parameters"] == [
        {
            "name": "type",
            "in": "query",
            "required": False,
            "description": "Which kind.",
            "schema": {"type": "string", "maxLength": 5},
        },
        {
            "name": "limit",
            "in": "query",
            "required": False,
            "schema": {"type": "integer", "minimum": 1, "default": 5},
        },
    ]
    assert paths["/v1/things/{thing_id}"]["put"]["parameters"] == [
        {"name": "thing_id", "in": "path", "required": True, "schema": {"type": "integer"}}
    ]


def test_bodies_are_what_is_taken(paths: Any) -> None:
    other = {"$ref": "#/components/schemas/Other"}
    assert paths["/v1/things/{thing_id}"]["put"]["requestBody"] == {
        "required": False,
        "content": {"application/json": {"schema": other}},
    }
    assert paths["/v1/things"]["post"]["requestBody"] == {
        "required": True,
        "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/Thing"}},
            "text/lines": {"schema": {"type": "string", "description": "Lines."}},
        },
    }
    assert "requestBody" not in paths["/v1/things"]["get"]


def test_answers_follow_from_the_row(paths: Any) -> None:
    def statuses(path: str, method: str) -> list[str]:
        return list(paths[path][method]["responses"])

    assert statuses("/live", "get") == ["200", "default"]
    assert statuses("/v1/things", "get") == ["200", "401", "403", "422", "429", "503", "default"]
    of_a_body = ["400", "401", "403", "413", "415", "422", "429", "503", "default"]
    assert statuses("/v1/things", "post") == ["200", *of_a_body]
    change = paths["/v1/things/{thing_id}"]["put"]["responses"]
    without_scope = [each for each in of_a_body if each != "403"]
    assert sorted(change) == sorted(["200", "201", "404", "409", *without_scope])
    assert change["401"] == {"$ref": "#/components/responses/Status401"}
    assert list(change["409"]["content"]) == [PROBLEM_JSON]
    assert list(change["200"]["headers"]) == ["Id", "Limit", "Location"]
    assert change["200"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Other"}
    either = change["201"]["content"]["application/json"]["schema"]
    assert [each["$ref"].rpartition("/")[2] for each in either["anyOf"]] == ["Thing", "Other"]
    assert paths["/live"]["get"]["responses"]["200"]["content"] == {
        "text/plain": {"schema": {"type": "string"}}
    }


def test_security_names_the_scope(paths: Any) -> None:
    assert paths["/v1/things"]["get"]["security"] == [{"bearer": ["read"]}]
    assert paths["/v1/things/{thing_id}"]["put"]["security"] == [{"bearer": []}]
    assert "security" not in paths["/live"]["get"]
