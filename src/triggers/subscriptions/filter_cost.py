"""Computes the worst-case cost of a payload filter from its checked expression.

S is the payload's bytes, V an upper bound of its values. A loop over a part of the payload runs at most V
times, and the parts that its variable takes add up to at most S: reading each of them once is linear,
however deep such loops are nested. A value that is read in a loop, and is not a part of that loop's
variable, is read again in every turn. So a value is known by the loops that its parts are divided among
(`_Reach.loops`), and an operation that reads all of it, inside the loops L, costs at most S·V^|L − loops|.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from triggers.errors import Invalid

LOOP_STEPS: Final = 10_000
"""The interpreter's own limit over one judgement, all loops together."""

# Worst cases that were measured, rounded up (docs/adr/0002).
_NS_PER_NODE: Final = 100
_NS_PER_CONVERSION: Final = 1500
_NS_PER_BYTE_READ: Final = 1
_NS_PER_BYTE_COUNTED: Final = 2
_NS_PER_BYTE_PARSED: Final = 25
_NS_PER_BYTE_SEARCHED: Final = 12
_NS_PER_VALUE_COMPARED: Final = 150
_NS_PER_VALUE_TAKEN_IN: Final = 800
_NS_PER_BYTE_TAKEN_IN: Final = 4

_LONGEST_EVENT_FIELD_BYTES: Final = 4 * 2048


def unusable(detail: str) -> Invalid:
    """The error for a filter that is refused."""
    return Invalid(f"The filter is not valid: {detail}.", pointer="/filter")


class Cost:
    """Σ V^n · (a + b·S + c·V), with V^n no more than the interpreter's own limit of steps.

    `reads_payload` is false where the payload is not looked at.
    """

    __slots__ = ("_terms", "reads_payload")

    def __init__(self) -> None:
        self.reads_payload = False
        self._terms: dict[int, list[int]] = defaultdict(lambda: [0, 0, 0])

    def add(self, power: int, *, steps: int = 0, per_byte: int = 0, per_value: int = 0) -> None:
        term = self._terms[power]
        term[0] += steps
        term[1] += per_byte
        term[2] += per_value

    def nanoseconds(self, size_bytes: int, values: int) -> int:
        total = _NS_PER_VALUE_TAKEN_IN * values + _NS_PER_BYTE_TAKEN_IN * size_bytes
        for power, (steps, per_byte, per_value) in self._terms.items():
            times = min(values**power, LOOP_STEPS)
            total += times * (steps + per_byte * size_bytes + per_value * values)
        return total


@dataclass(frozen=True, slots=True)
class _Reach:
    """The parts of the payload that a value may hold: none (`loops` is None), or at most `parts`."""

    loops: frozenset[int] | None
    parts: int = 1

    def joined(self, other: "_Reach") -> "_Reach":
        parts = self.parts + other.parts
        if self.loops is None or other.loops is None:
            return _Reach(self.loops if other.loops is None else other.loops, parts)
        return _Reach(self.loops & other.loops, parts)


_SMALL: Final = _Reach(None)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an expression stands: the names in scope, the payload's loops around it, and how often it is
    evaluated: `times`·V^`power`."""

    scope: Mapping[str, _Reach]
    loops: frozenset[int] = frozenset()
    times: int = 1
    power: int = 0


# The field numbers of cel.expr.CheckedExpr and Expr (cel-spec, proto/cel/expr/{checked,syntax}.proto).
_ANY_VALUE: Final = 2
_CHECKED_SOURCE, _CHECKED_EXPR = 5, 4
_SOURCE_POSITIONS: Final = 4
_ID, _CONST, _IDENT, _SELECT, _CALL, _LIST, _STRUCT, _LOOP = 2, 3, 4, 5, 6, 7, 8, 9
_CONST_STRING: Final = 6
_CALL_TARGET, _CALL_FUNCTION, _CALL_ARGUMENTS = 1, 2, 3
_STRUCT_NAME, _STRUCT_ENTRIES, _ENTRY_KEY, _ENTRY_VALUE = 1, 2, 3, 4
_LOOP_VARIABLE, _LOOP_RANGE, _LOOP_START, _LOOP_CONDITION, _LOOP_STEP, _LOOP_RESULT = 1, 2, 4, 5, 6, 7
_LOOP_SECOND_VARIABLE: Final = 8
_ACCUMULATOR: Final = "@result"  # no name that can be written

_PLAIN: Final = frozenset(
    {"_&&_", "_||_", "!_", "-_", "_-_", "_*_", "_/_", "_%_", "@not_strictly_false", "type"}
)
_COMPARING: Final = frozenset({"_==_", "_!=_", "_<_", "_<=_", "_>_", "_>=_", "startsWith", "endsWith"})
_CONVERTING: Final = frozenset({"int", "uint", "double", "string", "timestamp", "duration"})

_Message = Mapping[int, list[Any]]


def cost_of(expression: str, checked: bytes) -> Cost:
    """The worst-case cost of an expression, given too as the library serializes it once checked.

    Raises:
        Invalid: something in it is no part of filters; says what and where.
    """
    return _Reading(expression, checked).cost


class _Reading:
    """Goes once through a checked expression and adds up its cost."""

    def __init__(self, expression: str, serialized: bytes) -> None:
        checked = _fields(_fields(serialized)[_ANY_VALUE][0])
        self._expression = expression
        # A text that is not in the payload is a literal, or a field of the event if the filter names one.
        self._longest_needle = (
            _LONGEST_EVENT_FIELD_BYTES if "event" in expression else len(expression.encode())
        )
        self._source = _fields(checked[_CHECKED_SOURCE][0])
        self._loops_seen = 0
        self.cost = Cost()
        self._visit(checked[_CHECKED_EXPR][0], _Place({}))

    def _visit(self, expression: bytes, place: _Place) -> _Reach:
        node = _fields(expression)
        self.cost.add(place.power, steps=_NS_PER_NODE * place.times)
        if _IDENT in node:
            return self._named(node, place)
        if _SELECT in node:
            return self._visit(_fields(node[_SELECT][0])[1][0], place)
        if _CALL in node:
            return self._call(node, place)
        if _LIST in node:
            return self._collection(_fields(node[_LIST][0]).get(1, []), place)
        if _STRUCT in node:
            return self._struct(node, place)
        if _LOOP in node:
            return self._loop(node, place)
        return _SMALL

    def _named(self, node: _Message, place: _Place) -> _Reach:
        name = _name(node)
        if name in place.scope:
            return place.scope[name]
        if name == "payload":
            self.cost.reads_payload = True
            return _Reach(frozenset())
        return _SMALL

    def _collection(self, items: list[bytes], place: _Place) -> _Reach:
        reach = _SMALL
        for item in items:
            reach = reach.joined(self._visit(item, place))
        return reach

    def _struct(self, node: _Message, place: _Place) -> _Reach:
        struct = _fields(node[_STRUCT][0])
        if _STRUCT_NAME in struct:
            raise self._refused(node, "objects of a named type are")
        entries = [_fields(entry) for entry in struct.get(_STRUCT_ENTRIES, [])]
        return self._collection(
            [part for entry in entries for field in (_ENTRY_KEY, _ENTRY_VALUE) for part in entry[field]],
            place,
        )

    def _loop(self, node: _Message, place: _Place) -> _Reach:
        loop = _fields(node[_LOOP][0])
        if _LIST in _fields(loop[_LOOP_START][0]):
            raise self._refused(node, "map() and filter() are")
        if _LOOP_SECOND_VARIABLE in loop:
            raise self._refused(node, "loops with two variables are")
        over = self._visit(loop[_LOOP_RANGE][0], place)
        names = {**place.scope, _ACCUMULATOR: _SMALL}
        variable = loop[_LOOP_VARIABLE][0].decode()
        times = place.times * over.parts
        if over.loops is None:
            inside = _Place({**names, variable: over}, place.loops, times, place.power)
        else:
            self._loops_seen += 1
            divided = over.loops | {self._loops_seen}
            inside = _Place(
                {**names, variable: _Reach(divided)},
                place.loops | {self._loops_seen},
                times,
                len(place.loops - over.loops) + 1,
            )
        for field in (_LOOP_CONDITION, _LOOP_STEP):
            self._visit(loop[field][0], inside)
        for field in (_LOOP_START, _LOOP_RESULT):
            self._visit(loop[field][0], _Place(names, place.loops, place.times, place.power))
        return _SMALL

    def _call(self, node: _Message, place: _Place) -> _Reach:
        call = _fields(node[_CALL][0])
        function = call[_CALL_FUNCTION][0].decode()
        operands = call.get(_CALL_TARGET, []) + call.get(_CALL_ARGUMENTS, [])
        reaches = [self._visit(operand, place) for operand in operands]
        if function == "dyn":
            return reaches[0]
        if function == "_?_:_":
            return reaches[1].joined(reaches[2])
        if function == "_[_]":
            self._read(reaches[1], place, _NS_PER_BYTE_READ)
            return reaches[0]
        if function in _CONVERTING:
            self.cost.add(place.power, steps=_NS_PER_CONVERSION * place.times)
            self._read(reaches[0], place, _NS_PER_BYTE_PARSED)
            return reaches[0] if function == "string" else _SMALL
        if function == "contains":
            self._search(node, operands, reaches, place)
        elif function in _COMPARING:
            # Both sides are read in step, so the cheaper one ends it.
            self._read(min(reaches, key=lambda reach: self._power(reach, place)), place, _NS_PER_BYTE_READ)
        elif function == "size":
            self._read(reaches[0], place, _NS_PER_BYTE_COUNTED)
        elif function == "@in":
            self._read(reaches[1], place, _NS_PER_BYTE_READ)
        elif function not in _PLAIN and not (function == "_+_" and self._counts(operands[0])):
            raise self._refused(node, f"`{function.strip('_')}` is")
        return _SMALL

    def _search(self, node: _Message, operands: list[bytes], reaches: list[_Reach], place: _Place) -> None:
        """Finding a text in a text may read the second once for every character of the first."""
        haystack, needle = reaches
        if needle.loops is not None:
            raise self._refused(node, "contains() of anything but a literal or a field of `event` is")
        literal = _fields(_fields(operands[1]).get(_CONST, [b""])[0]).get(_CONST_STRING)
        longest = len(literal[0]) if literal else self._longest_needle
        per_byte = _NS_PER_BYTE_SEARCHED + longest // 32
        if haystack.loops is None:
            self.cost.add(place.power, steps=per_byte * _LONGEST_EVENT_FIELD_BYTES * place.times)
        else:
            self._read(haystack, place, per_byte)

    def _counts(self, operand: bytes) -> bool:
        """`exists_one` counts with `+`; nobody else may, as it also joins texts and lists, at run time."""
        node = _fields(operand)
        return _IDENT in node and _name(node) == _ACCUMULATOR

    def _power(self, reach: _Reach, place: _Place) -> int:
        return -1 if reach.loops is None else len(place.loops - reach.loops)

    def _read(self, reach: _Reach, place: _Place, per_byte: int) -> None:
        times = place.times * reach.parts
        if reach.loops is None:
            self.cost.add(place.power, steps=_NS_PER_NODE * times)
        else:
            power = self._power(reach, place)
            self.cost.add(power, per_byte=per_byte * times, per_value=_NS_PER_VALUE_COMPARED * times)

    def _refused(self, node: _Message, what: str) -> Invalid:
        positions = (_fields(entry) for entry in self._source.get(_SOURCE_POSITIONS, []))
        offsets = {entry.get(1, [0])[0]: entry.get(2, [0])[0] for entry in positions}
        before = self._expression[: offsets.get(node[_ID][0], 0)]
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        return unusable(f"line {line}, column {column}: {what} not supported in payload filters")


def _name(node: _Message) -> str:
    name: bytes = _fields(node[_IDENT][0])[1][0]
    return name.decode()


def _fields(message: bytes) -> dict[int, list[Any]]:
    """A protobuf message as lists by field number: enough to read a checked expression without its schema."""
    fields: dict[int, list[Any]] = defaultdict(list)
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        match tag & 7:
            case 0:
                value, at = _varint(message, at)
                fields[tag >> 3].append(value)
            case 1:
                fields[tag >> 3].append(message[at : at + 8])
                at += 8
            case 2:
                length, at = _varint(message, at)
                fields[tag >> 3].append(message[at : at + length])
                at += length
            case wire_type:
                raise ValueError(f"unknown wire type {wire_type}")
    return fields


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
