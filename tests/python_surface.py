"""The routes that the Python library calls, read from its source: each call names its method and its path."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import get_type_hints

import triggers_client
from triggers_client import fields as request_fields

HALF = Path(triggers_client.__file__).parent / "_async"
_PLACES = {"AsyncInboxHandle": "inbox(key)", "AsyncBatchSender": "events", "AsyncStatisticsOf": "statistics"}
"""Where a client has the methods of these classes. All others are named as their class."""


@dataclass
class Call:
    """A call in the library's source."""

    fields: set[str]
    kind: str | None
    member: str | None = None
    method: str = field(default="", compare=False)


def _text(node: ast.expr, names: dict[str, ast.expr]) -> str:
    """A path, with `{}` for what is filled in."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(_text(part, names) for part in parts)
        case ast.FormattedValue(value=ast.Attribute(attr="_path")):
            return "/v1/inboxes/{}"
        case ast.Name(id=name) if name in names:
            return _text(names[name], names)
    return "{}"


def _known(function: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    """The names of request fields that a function takes or fills in."""
    arguments = function.args
    known = {each.arg for each in (*arguments.args, *arguments.kwonlyargs)} - {"self"}
    for node in ast.walk(function):
        if isinstance(node, ast.Dict):
            known |= {each.value for each in node.keys if isinstance(each, ast.Constant)}
        if isinstance(node, ast.Subscript) and getattr(node.value, "id", "") == "Unpack":
            given = getattr(request_fields, node.slice.id)  # type: ignore[attr-defined]
            known |= set(get_type_hints(given))
    return known


def _calls_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[tuple[str, Call]]:
    names = {
        node.targets[0].id: node.value
        for node in ast.walk(function)
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    for node in ast.walk(function):
        match node:
            case ast.Call(func=ast.Attribute(attr="_call"), args=[ast.Name(id=kind), method, path, *_]):
                yield f"{_text(method, names)} {_text(path, names)}", Call(_known(function), kind)
            case ast.Call(func=ast.Attribute(attr="_pages"), args=[ast.Name(id=kind), path, _, *rest]):
                member = _text(rest[0], names) if rest else "data"
                yield f"GET {_text(path, names)}", Call(_known(function), kind, member)
            case ast.Call(func=ast.Name(id="Call"), args=[method, path, *_]):
                yield f"{_text(method, names)} {_text(path, names)}", Call(_known(function), None)


def _functions() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Every method of the library with the name of its class."""
    for path in sorted(HALF.glob("*.py")):
        for owner in ast.parse(path.read_text()).body:
            if isinstance(owner, ast.ClassDef):
                for node in owner.body:
                    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                        yield owner.name, node


@cache
def library() -> dict[str, list[Call]]:
    """Every call of the library by its method and path."""
    found: dict[str, list[Call]] = {}
    for owner, function in _functions():
        for name, call in _calls_of(function):
            if " /" not in name:  # a method that makes the calls of others
                continue
            call.method = f"{_PLACES.get(owner, owner.removeprefix('Async').lower())}.{function.name}"
            found.setdefault(name, []).append(call)
    for call in found["POST /v1/events/batch"]:  # a batch is encoded event by event
        call.fields |= set(get_type_hints(request_fields.NewEvent))
    return found


def methods() -> dict[str, list[str]]:
    """The public methods of a client that call each route, such as `events.send`."""
    return {route: [_public(call.method) for call in calls] for route, calls in library().items()}


def _public(method: str) -> str:
    return method.replace("_once", "send_many")
