"""Answers of the service as objects. A field that this version does not know is kept in `raw`."""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from datetime import datetime
from functools import cache
from typing import Any, Generic, TypeVar, Union, get_args, get_origin, get_type_hints

M = TypeVar("M", bound="Model")
Decoder = Callable[[Any], Any]


class NotOurs(ValueError):
    """The answer has not the form of an answer of Triggers."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """A JSON object of an answer."""

    raw: Mapping[str, Any] = field(repr=False, compare=False)
    """The object as it was sent."""


@dataclass(frozen=True)
class ListPage(Generic[M]):
    """A part of a list. The list goes on as long as there is a `next_cursor`, even if `data` is empty."""

    data: list[M]
    next_cursor: str | None
    raw: Mapping[str, Any]
    """The answer as it was sent, with what some lists say besides, such as `looked_to`."""


def decode(kind: type[M], found: object) -> M:
    """Return a JSON object as `kind`.

    Raises:
        NotOurs: it is no object, or lacks a field that every version of the service sends.
    """
    if not isinstance(found, dict):
        raise NotOurs(f"{kind.__name__} is not a JSON object")
    values: dict[str, Any] = {"raw": found}
    for name, decoder, needed in _fields(kind):  # type: ignore[arg-type]  # mypy takes a type variable for unhashable
        if name in found:
            values[name] = decoder(found[name])
        elif needed:
            raise NotOurs(f"{kind.__name__} lacks {name}")
    return kind(**values)


@cache
def _fields(kind: type[Model]) -> list[tuple[str, Decoder, bool]]:
    hints = get_type_hints(kind)
    return [
        (each.name, _decoder(hints[each.name]), each.default is MISSING)
        for each in fields(kind)
        if each.name != "raw"
    ]


def _decoder(hint: Any) -> Decoder:
    """The function that turns a JSON value into what the annotation promises. Scalars are taken as sent."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in {Union, types.UnionType}:
        inner = [_decoder(each) for each in arguments if each is not type(None)]
        return _or_none(inner[0]) if len(inner) == 1 else _as_sent
    if origin is list:
        return _each(_decoder(arguments[0]))
    if hint is datetime:
        return _time
    if isinstance(hint, type) and issubclass(hint, Model):
        return lambda found: decode(hint, found)
    return _as_sent


def _as_sent(found: Any) -> Any:
    return found


def _or_none(decoder: Decoder) -> Decoder:
    return lambda found: None if found is None else decoder(found)


def _each(decoder: Decoder) -> Decoder:
    def decoded(found: Any) -> list[Any]:
        if not isinstance(found, list):
            raise NotOurs("a list is expected")
        return [decoder(each) for each in found]

    return decoded


def _time(found: Any) -> datetime:
    # `fromisoformat` reads `Z` only from Python 3.11 on.
    try:
        return datetime.fromisoformat(found.replace("Z", "+00:00"))
    except (AttributeError, ValueError):
        raise NotOurs("a time is expected") from None
