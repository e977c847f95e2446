"""Arranges the OpenAPI document for a page: by subject, with one entry for paths that are aliases."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec


class Operation(NamedTuple):
    """One operation. `also` are other paths with exactly the same answers."""

    method: str
    path: str
    also: list[str]
    scope: str
    detail: dict[str, Any]

    @property
    def anchor(self) -> str:
        """Its name within the page."""
        name: str = self.detail["operationId"]
        return name

    @property
    def body(self) -> list[tuple[str, dict[str, Any]]]:
        """Media types and schemas that the request's body may have."""
        return _schemas(self.detail.get("requestBody", {}))

    @property
    def answers(self) -> list[tuple[str, str, list[tuple[str, dict[str, Any]]]]]:
        """Status, meaning, media types and schemas. Errors have no schema, as it is the same for all."""
        return [
            (status, answer["description"], _schemas(answer) if status < "4" else [])
            for status, answer in sorted(self.detail["responses"].items())
        ]


class Reference(NamedTuple):
    """The contents of the page: operations by subject, and the types that they name."""

    subjects: dict[str, list[Operation]]
    types: dict[str, dict[str, Any]]


def arrange(document: bytes) -> Reference:
    """Arrange an OpenAPI document into a Reference."""
    parsed = msgspec.json.decode(document)
    for operation in (each for methods in parsed["paths"].values() for each in methods.values()):
        for status, answer in operation["responses"].items():
            if "$ref" in answer:
                usual = parsed["components"]["responses"][answer["$ref"].rpartition("/")[2]]
                operation["responses"][status] = usual
    # Subjects come in the order in which the document first names them.
    subjects: dict[str, list[Operation]] = {}
    for operation in _operations(parsed["paths"]):
        subjects.setdefault(operation.detail["tags"][0], []).append(operation)
    for operations in subjects.values():
        operations.sort(key=lambda operation: (operation.path, operation.method != "POST"))
    return Reference(subjects, dict(sorted(parsed["components"]["schemas"].items())))


def _operations(paths: dict[str, Any]) -> list[Operation]:
    """Every operation. Aliases are merged into the one with the shortest id."""
    alike: dict[bytes, list[tuple[str, str, dict[str, Any]]]] = {}
    for path, methods in paths.items():
        for method, detail in methods.items():
            said = {name: value for name, value in detail.items() if name != "operationId"}
            alike.setdefault(msgspec.json.encode((method, said)), []).append((path, method, detail))
    found = []
    for same in alike.values():
        (path, method, detail), *others = sorted(same, key=lambda each: len(each[2]["operationId"]))
        found.append(Operation(method.upper(), path, [other[0] for other in others], _scope(detail), detail))
    return found


def _scope(detail: dict[str, Any]) -> str:
    """Return the scopes of which a key needs one, `any key`, or `public` if no key is needed."""
    if "security" not in detail:
        return "public"
    named = {f"`{scope}`": None for way in detail["security"] for scopes in way.values() for scope in scopes}
    return " or ".join(named) or "any key"


def _schemas(part: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [
        (media_type, content.get("schema", {})) for media_type, content in part.get("content", {}).items()
    ]
