"""The reference of all routes in Markdown, from the OpenAPI document: examples, then fields and limits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from triggers.guides.examples import EVENT, OTHER, SUBSCRIPTION, Examples, written

_IN_PATHS: Final = {
    "event_id": EVENT,
    "subscription_id": SUBSCRIPTION,
    "delivery_id": f"{EVENT}.{SUBSCRIPTION}",
    "inbox": "default",
}
"""Values of the parameters in paths. All others are ids."""
_PHRASES: Final = {
    "200": "OK",
    "201": "Created",
    "202": "Accepted",
    "204": "No Content",
    "207": "Multi-Status",
}
_BEARER: Final = '-H "Authorization: Bearer $KEY"'
_BOUNDS: Final = (
    ("minimum", "maximum", ""),
    ("exclusiveMinimum", "exclusiveMaximum", ""),
    ("minLength", "maxLength", " characters"),
    ("minItems", "maxItems", " items"),
)
"""Names of the least and the greatest value in a schema, and their unit."""


class Operation(NamedTuple):
    """One operation. `also` are other paths with exactly the same answers."""

    method: str
    path: str
    also: list[str]
    detail: dict[str, Any]


def reference(document: bytes, url: str) -> str:
    """The reference of an OpenAPI document as Markdown. `url` is the base URL of the examples."""
    return "\n".join(_Reference(msgspec.json.decode(document), url).lines())


class _Reference:
    """Writes the reference of one document."""

    def __init__(self, document: dict[str, Any], url: str) -> None:
        self._document = document
        self._url = url
        self._types: dict[str, Any] = document["components"]["schemas"]
        self._usual: dict[str, Any] = document["components"]["responses"]
        self._examples = Examples(self._types)

    def lines(self) -> Iterator[str]:
        """Errors that routes share, then the operations by subject, then the types."""
        yield from self._shared_errors()
        subjects: dict[str, list[Operation]] = {}
        for operation in _operations(self._document["paths"]):
            subjects.setdefault(operation.detail["tags"][0], []).append(operation)
        for subject, operations in subjects.items():
            yield f"\n## {subject.capitalize()}\n"
            for operation in sorted(operations, key=lambda each: (each.path, each.method != "POST")):
                yield from self._operation(operation)
        yield "\n## Types\n"
        for name, schema in sorted(self._types.items()):
            yield f"\n### {name}\n"
            yield _cell(schema.get("description", "")) + "\n"
            if "properties" in schema:
                yield from self._fields(schema)
            else:
                yield _type_of(schema) + "\n"

    def _shared_errors(self) -> Iterator[str]:
        """The answers that follow from the key, the parameters and the body, once for all routes."""
        yield "## Errors of all routes\n"
        yield "These answers have the same meaning everywhere, so the routes below do not repeat them.\n"
        yield "| status | when | |\n|---|---|---|"
        statuses: dict[str, str] = {}
        for methods in self._document["paths"].values():
            for operation in methods.values():
                for status, answer in operation["responses"].items():
                    if "$ref" in answer:
                        statuses[status] = answer["$ref"].rpartition("/")[2]
        names = {
            "400": "with a body",
            "401": "with a key",
            "403": "with a scope",
            "404": "with an id in the path",
            "413": "with a body",
            "415": "with a body",
            "422": "with parameters or a body",
            "429": "with a key",
            "503": "with a key",
            "default": "all routes",
        }
        for status, name in sorted(statuses.items()):
            shown = "other" if status == "default" else status
            where = names[status] if status == "default" else f"routes {names[status]}"
            yield f"| {shown} | {where} | {_cell(self._usual[name]['description'])} |"
        yield ""

    def _operation(self, operation: Operation) -> Iterator[str]:
        detail = operation.detail
        yield f"\n### {operation.method} {operation.path}\n"
        yield f"{detail['summary'].rstrip('.')}. {detail.get('description', '')}".strip() + "\n"
        if operation.also:
            yield "Also " + ", ".join(f"`{path}`" for path in operation.also) + ".\n"
        yield _scope(detail) + "\n"
        yield f"```sh\n{self._curl(operation)}\n```\n"
        yield from self._answers(detail)
        if detail.get("parameters"):
            yield "| parameter | type | |\n|---|---|---|"
            for each in detail["parameters"]:
                optional = "" if each["required"] else " (optional)"
                said = _said({**each["schema"], "description": each.get("description", "")})
                yield f"| `{each['name']}`{optional} | {_type_of(each['schema'])} | {said} |"
            yield ""
        for media_type, content in detail.get("requestBody", {}).get("content", {}).items():
            schema = content.get("schema", {})
            inner = schema["items"] if schema.get("type") == "array" else schema
            name = inner.get("$ref", "").rpartition("/")[2]
            yield f"Body, `{media_type}`: {_type_of(schema)}\n"
            if name and media_type == "application/json" and inner is schema:
                yield from self._fields(self._types[name], "body")

    def _curl(self, operation: Operation) -> str:
        path = operation.path
        for each in operation.detail.get("parameters", ()):
            if each["in"] == "path":
                path = path.replace(f"{{{each['name']}}}", _IN_PATHS.get(each["name"], OTHER))
        query = "?q=order" if operation.path == "/v1/search" else ""
        method = {"GET": "", "POST": ""}.get(operation.method, f"-X {operation.method} ")
        contents = operation.detail.get("requestBody", {}).get("content", {})
        if operation.method == "POST" and not contents:
            method = "-X POST "
        key = "" if "security" not in operation.detail else f" {_BEARER}"
        command = f"curl {method}{self._url}{path}{query}{key}"
        if "application/json" not in contents:
            return command
        body = written(self._examples.body(contents["application/json"].get("schema", {})))
        quoted = body.replace("'", "'\\''")
        return f"{command} -H 'Content-Type: application/json' \\\n  -d '{quoted}'"

    def _answers(self, detail: Mapping[str, Any]) -> Iterator[str]:
        """An example of the first success with a body, then every answer that is not shared."""
        responses, operation = detail["responses"], detail["operationId"]
        good = {status: each for status, each in sorted(responses.items()) if status < "4"}
        first = "201" if "201" in good else next(iter(good))
        yield from self._example(operation, first, good.pop(first))
        for status, answer in good.items():
            yield from self._example(operation, status, answer)
        own = {
            status: each for status, each in sorted(responses.items()) if status >= "4" and "$ref" not in each
        }
        if own:
            yield "| status | |\n|---|---|"
            for status, answer in own.items():
                yield f"| {status} | {_cell(answer['description'])} |"
            yield ""

    def _example(self, operation: str, status: str, answer: Mapping[str, Any]) -> Iterator[str]:
        yield f"**{status} {_PHRASES.get(status, '')}** {_cell(answer['description'])}\n"
        for media_type, content in answer.get("content", {}).items():
            schema = content.get("schema", {})
            yield f"Body: {_type_of(schema)}\n"
            if media_type == "application/json":
                yield f"```json\n{written(self._examples.answer_of(operation, status, schema))}\n```\n"

    def _fields(self, schema: Mapping[str, Any], what: str = "field") -> Iterator[str]:
        yield f"| {'field of the body' if what == 'body' else 'field'} | type | |\n|---|---|---|"
        for name, field in schema["properties"].items():
            optional = "" if name in schema.get("required", ()) else " (optional)"
            yield f"| `{name}`{optional} | {_type_of(field)} | {_said(field)} |"
        yield ""


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
        found.append(Operation(method.upper(), path, [other[0] for other in others], detail))
    return found


def _scope(detail: Mapping[str, Any]) -> str:
    if "security" not in detail:
        return "No key is needed."
    named = {f"`{scope}`": None for way in detail["security"] for scopes in way.values() for scope in scopes}
    return f"Scope: {' or '.join(named)}." if named else "Any valid key is enough."


def _type_of(schema: Mapping[str, Any]) -> str:
    """A type as people write it. Types with a name are links."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(map(_type_of, schema["anyOf"]))
    if "enum" in schema:
        return ", ".join(f"`{each}`" for each in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_type_of(schema.get('items', {}))}"
    if isinstance(schema.get("additionalProperties"), dict):
        return f"object of {_type_of(schema['additionalProperties'])}"
    return str(schema.get("format") or schema.get("type", "any JSON"))


def _said(schema: Mapping[str, Any]) -> str:
    """The description of a field, its limits and its default."""
    members = [schema, *schema.get("anyOf", ())]
    texts = [each["description"] for each in members if each.get("description")]
    texts += [text for each in members for bound in _BOUNDS if (text := _bounds(each, *bound))]
    if schema.get("default") not in (None, [], ""):
        texts.append(f"Default: `{msgspec.json.encode(schema['default']).decode()}`.")
    return _cell(" ".join(texts))


def _bounds(schema: Mapping[str, Any], least: str, most: str, unit: str) -> str:
    """The limits of a value: `1 to 255 characters.`"""
    low, high = schema.get(least), schema.get(most)
    if low is not None and high is not None:
        return f"{low:,g} to {high:,.0f}{unit}."
    if low is not None:
        return f"{'More than' if least.startswith('exclusive') else 'At least'} {low:,g}{unit}."
    return "" if high is None else f"At most {high:,.0f}{unit}."


def _cell(text: str) -> str:
    """Text that can be in a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")
