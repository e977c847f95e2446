"""Payload filters: CEL predicates that a subscription puts on the events it wants.

    payload.action == "opened" && payload.number > 100
    has(payload.user) && payload.user.login in ["ada", "grace"]
    event.type.startsWith("order.") && payload.lines.exists(l, l.price >= 50.0)

A filter sees `payload` (the decoded JSON) and `event.type`, `event.source`, `event.subject` (strings; an
absent one is ""). `type` alone is a function of CEL. It may use literals, `== != < <= > >= in`, `&& || ! ?:`,
`- * / %`, `has all exists exists_one`, `contains startsWith endsWith size`, `int uint double string timestamp
duration type dyn`. It must say true or false. A missing key is an error, and an error is a match: guard what
may be absent with `has(payload.a) && …`, one level at a time.

A filter that fails counts as a match, with the reason in the verdict: better one event too many than one
lost. Integers beyond int64 and uint64 are read as doubles; a payload with U+0000 in it fails every filter
that reads it.

How a judgement is bounded, as it runs on the event loop and cannot be interrupted (docs/adr/0002): an
expression has at most 2 KiB and a nesting of 32; the interpreter stops after 10,000 loop steps; what makes
values grow or costs more than its operands' size (`+`, `map`, `filter`, `matches`, time zones) is refused;
and for the rest the checked expression is read once into a worst-case cost, a polynomial in the payload's
size. A filter that could cost more than 20 ms on the payload at hand fails at once instead of running.
"""

import re
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import msgspec
from cel_expr_python import cel  # type: ignore[import-untyped]  # it has stubs, but no py.typed

from triggers.errors import Invalid

MAX_EXPRESSION_BYTES: Final = 2048
MAX_COST_NANOSECONDS: Final = 20_000_000
LOOP_STEPS: Final = 10_000  # the interpreter's own limit over one judgement, all loops together
EVENT_BUDGET_SECONDS: Final = 0.02
_MAX_REASON: Final = 200  # characters

# A filter that could not be judged on a payload of this size is refused: it would always fail.
_SMALLEST_JUDGED_BYTES: Final = 4096
_SMALLEST_JUDGED_VALUES: Final = 128

# Worst cases that were measured, rounded up (docs/adr/0002).
_NS_PER_NODE: Final = 100
_NS_PER_CONVERSION: Final = 1500
_NS_PER_BYTE_READ: Final = 1
_NS_PER_BYTE_COUNTED: Final = 2
_NS_PER_BYTE_PARSED: Final = 25
_NS_PER_BYTE_SEARCHED: Final = 30
_NS_PER_VALUE_COMPARED: Final = 150
_NS_PER_VALUE_TAKEN_IN: Final = 800
_NS_PER_BYTE_TAKEN_IN: Final = 4

_LONGEST_EVENT_FIELD_BYTES: Final = 4 * 2048
_EVENT_FIELDS: Final = ("event.type", "event.source", "event.subject")
_ENV: Final = cel.NewEnv(
    variables={"payload": cel.Type.DYN, **dict.fromkeys(_EVENT_FIELDS, cel.Type.STRING)},
)

# What the library raises: its own failures are RuntimeErrors, the rest are C++ exceptions by another name.
_FAILURES: Final = (RuntimeError, ValueError, TypeError, ArithmeticError, LookupError, MemoryError)

K = TypeVar("K")


@dataclass(frozen=True, slots=True)
class Verdict:
    """`matched` is what to act on; `failure` says why there was no honest answer (then `matched` is true)."""

    matched: bool
    failure: str | None = None


MATCHED: Final = Verdict(matched=True)
NOT_MATCHED: Final = Verdict(matched=False)


def failed(reason: str) -> Verdict:
    return Verdict(matched=True, failure=reason[:_MAX_REASON])


class FilterInput:
    """One event as filters see it: read and converted once, however many filters judge it.

    `payload` is the JSON text as it was received, at most 256 KiB by the contract of the API.
    """

    __slots__ = ("_fields", "_payload", "_with_payload", "_without_payload", "size_bytes", "values")

    def __init__(
        self, payload: bytes, event_type: str, source: str | None = None, subject: str | None = None
    ) -> None:
        self._payload = payload
        self._fields = dict(zip(_EVENT_FIELDS, (event_type, source or "", subject or ""), strict=True))
        self._with_payload: Any = None
        self._without_payload: Any = None
        self.size_bytes = len(payload)
        # Every value but the first follows one of these, so this is never less than their number.
        self.values = 1 + len(payload) - len(payload.translate(None, b",[{"))

    def fields_only(self) -> Any:
        if self._without_payload is None:
            self._without_payload = _ENV.Activation(self._fields)
        return self._without_payload

    def everything(self) -> Any:
        """Raises ValueError when the payload cannot be shown to a filter as it is."""
        if self._with_payload is None:
            try:
                payload = _decode(self._payload)
            except (ValueError, RecursionError, OverflowError) as error:
                self._with_payload = ValueError(str(error))
            else:
                self._with_payload = _ENV.Activation({"payload": payload, **self._fields})
        if isinstance(self._with_payload, ValueError):
            raise self._with_payload
        return self._with_payload


class Budget:
    """Seconds that filters may take, shared by all calls it is given to; only time inside them counts."""

    def __init__(
        self, seconds: float = EVENT_BUDGET_SECONDS, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.seconds_left = seconds
        self.clock = clock


class PayloadFilter:
    """A compiled filter: made once, used for many events."""

    __slots__ = ("_cost", "_program", "_reads_payload", "expression")

    def __init__(self, expression: str, program: Any, cost: "_Cost", *, reads_payload: bool) -> None:
        self.expression = expression
        self._program = program
        self._cost = cost
        self._reads_payload = reads_payload

    def __repr__(self) -> str:
        return f"PayloadFilter({self.expression!r})"

    @classmethod
    def compile(cls, expression: str) -> "PayloadFilter":
        """Raises Invalid with what is wrong and where."""
        _check_text(expression)
        checked = _check(expression)
        if checked.return_type() == cel.Type.DYN:
            # Whether it gives a boolean is known only when judged: let the interpreter insist.
            program = _check(f"({expression}\n) ? true : false")
        elif checked.return_type() == cel.Type.BOOL:
            program = checked
        else:
            raise _invalid(f"it must give true or false, and gives {checked.return_type().name().lower()}")
        reading = _Reading(expression, checked.serialize())
        if reading.cost.nanoseconds(_SMALLEST_JUDGED_BYTES, _SMALLEST_JUDGED_VALUES) > MAX_COST_NANOSECONDS:
            raise _invalid("it could take too long even on a payload of 4 KiB; nest fewer loops")
        compiled = cls(expression, program, reading.cost, reads_payload=reading.reads_payload)
        # The library plans a program at its first use; a plan that fails must fail here.
        compiled.judge(FilterInput(b"null", "x"))
        return compiled

    def judge(self, event: FilterInput) -> Verdict:
        """Never raises; takes some 20 ms at the very most, whatever the expression and the payload."""
        try:
            if not self._reads_payload:
                activation = event.fields_only()
            elif self._cost.nanoseconds(event.size_bytes, event.values) > MAX_COST_NANOSECONDS:
                return failed("it could take too long on a payload of this size")
            else:
                activation = event.everything()
            result = self._program.eval(activation).value()
        except _FAILURES as error:
            return failed(_reason(str(error)))
        if result is True:
            return MATCHED
        if result is False:
            return NOT_MATCHED
        return failed(_reason(str(result)))


def judge_all(filters: Mapping[K, PayloadFilter], event: FilterInput, budget: Budget) -> dict[K, Verdict]:
    """One event against an organisation's filters; those that the budget does not reach have failed.

    It is looked at between filters, so it is overdrawn by one judgement at most.
    """
    verdicts = {}
    began = budget.clock()
    deadline = began + budget.seconds_left
    now = began
    for key, payload_filter in filters.items():
        if now >= deadline:
            verdicts[key] = failed("the time for this event's filters was used up")
            continue
        verdicts[key] = payload_filter.judge(event)
        now = budget.clock()
    budget.seconds_left -= now - began
    return verdicts


# --- texts -------------------------------------------------------------------------------------------------


def _invalid(detail: str) -> Invalid:
    return Invalid(f"The filter is not usable: {detail}.", pointer="/filter")


def _check_text(expression: str) -> None:
    try:
        size = len(expression.encode())
    except UnicodeEncodeError as error:
        raise _invalid(f"character {error.start + 1} is half of a surrogate pair") from None
    if size > MAX_EXPRESSION_BYTES:
        raise _invalid(f"it has {size} bytes, and {MAX_EXPRESSION_BYTES} are allowed")
    if not expression.strip():
        raise _invalid("it is empty")
    if "\0" in expression:
        raise _invalid(f"character {expression.index(chr(0)) + 1} is U+0000")


def _check(expression: str) -> Any:
    try:
        return _ENV.compile(expression)
    except _FAILURES as error:
        raise _invalid(_syntax_error(str(error))) from None


def _syntax_error(text: str) -> str:
    found = re.search(r"ERROR: <input>:(\d+):(\d+): (.*)", text)
    if found is None or "recursion depth" in text:
        return _reason(text.replace("ERROR: <input>:-1:-1: ", ""))
    line, column, what = found.groups()
    return f"line {line}, column {column}: " + _reason(what).removesuffix("(in container '')").rstrip()


def _reason(text: str) -> str:
    """The library's status codes and line breaks taken off."""
    text = re.sub(r"^[A-Z_]+: | \[[A-Z_]+\]$", "", " ".join(text.split()))
    if "Iteration budget exceeded" in text:
        return f"its loops took more than {LOOP_STEPS} steps"
    return text[:_MAX_REASON]


# --- payloads ----------------------------------------------------------------------------------------------

_decode_json = msgspec.json.Decoder().decode
_DIGITS_AS_ZEROS: Final = bytes.maketrans(b"123456789", b"000000000")
_NINETEEN_DIGITS: Final = b"0" * 19  # 2^63 has nineteen


def _decode(payload: bytes) -> Any:
    if b"\\u0000" in payload:
        # The binding would cut the string there, and the filter would judge something else.
        raise ValueError("the payload holds U+0000")
    decoded = _decode_json(payload)
    if _NINETEEN_DIGITS in payload.translate(_DIGITS_AS_ZEROS):
        return _without_big_integers(decoded)
    return decoded


def _without_big_integers(value: Any) -> Any:
    """CEL has int64 and uint64; an integer beyond both is read as a double, as JavaScript does with all."""
    if isinstance(value, dict):
        return {key: _without_big_integers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_big_integers(item) for item in value]
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return float(value)
    return value


# --- the cost of an expression -----------------------------------------------------------------------------
#
# S is the payload's bytes, V an upper bound of its values. A loop over a part of the payload runs at most V
# times, and the parts that its variable takes add up to at most S: reading each of them once is linear,
# however deep such loops are nested. What is read in a loop without being a part of that loop's variable is
# read again in every turn. So a value is known by the loops that its parts are divided among
# (`_Reach.loops`), and an operation that reads all of it, inside the loops L, costs at most S·V^|L − loops|.


class _Cost:
    """Σ V^n · (a + b·S + c·V), with V^n no more than the interpreter's own limit of steps."""

    __slots__ = ("_terms", "_totals")

    def __init__(self) -> None:
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
    """What a value may hold: nothing of the payload (`loops` is None), or `parts` parts of it at most."""

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


class _Reading:
    """The worst-case cost of a checked expression; raises Invalid for what is no part of filters."""

    def __init__(self, expression: str, serialized: bytes) -> None:
        checked = _fields(_fields(serialized)[_ANY_VALUE][0])
        self._expression = expression
        # What is not of the payload is a literal or, if any is named, a field of the event.
        self._longest_needle = (
            _LONGEST_EVENT_FIELD_BYTES if "event" in expression else len(expression.encode())
        )
        self._source = _fields(checked[_CHECKED_SOURCE][0])
        self._loops_seen = 0
        self.cost = _Cost()
        self.reads_payload = False
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
            self.reads_payload = True
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
        return _invalid(f"line {line}, column {column}: {what} not part of payload filters")


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
