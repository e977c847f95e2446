"""The arguments of a handler, read from its signature: parameters of the path and of the query, and the body.

`request` is the request, `caller` is what admission noted in it, and `data` is the body. An argument that the
path names in braces is a part of the path. Every other argument is a parameter of the query, and optional if
it has a default. Types are those that msgspec converts, with `Meta` for bounds and descriptions. A NamedTuple
stands for several parameters, its fields.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin, get_type_hints
from urllib.parse import parse_qsl

import msgspec

from triggers.errors import Invalid

MAX_PARAMETERS = 100
"""Maximum number of parameters in a query."""
MAX_NAMED = 20
"""Maximum number of unknown parameters that an error names."""

_REQUIRED = inspect.Parameter.empty


class Query(NamedTuple):
    """In an `Annotated`: the parameter's name in the query, if the argument has another name."""

    name: str


class RequestParameter(NamedTuple):
    """One parameter. `name` is what callers write, `argument` what the handler has."""

    name: str
    argument: str
    type: Any
    in_path: bool
    default: Any = _REQUIRED
    group: str | None = None
    """The argument of the handler that has this one as a field."""

    @property
    def required(self) -> bool:
        """Whether a request must have it."""
        return self.default is _REQUIRED


class Body(NamedTuple):
    """The type of the body, and whether it is required, from the argument `data`."""

    type: Any
    required: bool


class Signature:
    """The parameters and the return type of a handler."""

    def __init__(self, handler: Callable[..., Any], path: str) -> None:
        """Raises TypeError if the path names a parameter that the handler does not take."""
        hints = get_type_hints(handler, include_extras=True)
        taken = inspect.signature(handler).parameters
        in_path = names_in(path)
        if missing := set(in_path) - set(taken):
            raise TypeError(f"{handler.__qualname__} does not take {', '.join(missing)}, which {path} names.")
        self.returns = hints.pop("return", None)
        self.takes_request = "request" in taken
        self.takes_caller = "caller" in taken
        self.body: Body | None = None
        if "data" in taken:
            self.body = Body(_without_none(hints["data"]), taken["data"].default is _REQUIRED)
        others = [name for name in taken if name not in ("self", "request", "caller", "data")]
        self._groups = {name: hints[name] for name in others if _is_group(hints[name])}
        self.parameters = tuple(
            each
            for name in others
            for each in (
                _fields(name, hints[name])
                if name in self._groups
                else [_parameter(name, hints[name], name in in_path, taken[name].default)]
            )
        )
        self._in_query = {each.name for each in self.parameters if not each.in_path}

    def check_names(self, query: Mapping[str, str]) -> None:
        """Refuse parameters that the handler does not know: a misspelt filter would list everything.

        Raises:
            Invalid: names them.
        """
        if unknown := sorted(query.keys() - self._in_query)[:MAX_NAMED]:
            raise Invalid(
                f"Unknown parameter {', '.join(map(repr, unknown))}.",
                errors=[{"pointer": name, "detail": "Unknown parameter."} for name in unknown],
                logged="Unknown parameter.",
            )

    def arguments(self, path: Mapping[str, str], query: Mapping[str, str]) -> dict[str, Any]:
        """The handler's arguments from the parameters of a request, without those that are left out.

        Raises:
            Invalid: names each that is missing or wrong.
        """
        found: dict[str, Any] = {}
        fields: dict[str, dict[str, Any]] = {name: {} for name in self._groups}
        wrong: dict[str, str] = {}
        for name, argument, wanted, in_path, default, group in self.parameters:
            text = (path if in_path else query).get(name)
            if text is not None:
                try:
                    value = msgspec.convert(text, wanted, strict=False)
                    (found if group is None else fields[group])[argument] = value
                except msgspec.ValidationError as error:
                    wrong[name] = f"{str(error).removesuffix(', got `str`')}."
            elif default is _REQUIRED:
                wrong[name] = "The parameter is missing."
        if wrong:
            message = " ".join(f"{name}: {detail}" for name, detail in wrong.items())
            raise Invalid(
                message,
                errors=[{"pointer": name, "detail": detail} for name, detail in wrong.items()],
                logged=re.sub(r"'.*'", "'…'", message),
            )
        return found | {name: make(**fields[name]) for name, make in self._groups.items()}


def names_in(path: str) -> list[str]:
    """The names that a path has in braces."""
    return re.findall(r"\{(\w+)\}", path)


def read_query(query: bytes) -> dict[str, str]:
    """The parameters of a query. Of several with one name, the last counts.

    Raises:
        Invalid: there are more than MAX_PARAMETERS.
    """
    if not query:
        return {}
    try:
        found = parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=MAX_PARAMETERS)
    except ValueError:
        raise Invalid(f"The query has more than {MAX_PARAMETERS} parameters.") from None
    return dict(found)


def _is_group(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, tuple) and hasattr(hint, "_fields")


def _fields(group: str, made: Any) -> list[RequestParameter]:
    """The parameters that are the fields of a NamedTuple."""
    hints = get_type_hints(made, include_extras=True)
    return [
        _parameter(name, hint, in_path=False, default=made._field_defaults.get(name, _REQUIRED))._replace(
            group=group
        )
        for name, hint in hints.items()
    ]


def _parameter(argument: str, hint: Any, in_path: bool, default: Any) -> RequestParameter:
    wanted, name = _without_none(hint), argument
    if get_origin(wanted) is Annotated:
        base, *said = get_args(wanted)
        name = next((each.name for each in said if isinstance(each, Query)), argument)
        said = [each for each in said if not isinstance(each, Query)]
        wanted = Annotated[base, *said] if said else base
    return RequestParameter(name, argument, wanted, in_path, default)


def _without_none(hint: Any) -> Any:
    """The type without None, because a parameter or body that is given cannot be None."""
    if get_origin(hint) not in (Union, UnionType):
        return hint
    return Union[tuple(each for each in get_args(hint) if each is not NoneType)]  # noqa: UP007 - made of a tuple
