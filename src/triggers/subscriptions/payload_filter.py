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
size. A filter that could cost more than 10 ms by that on the payload at hand fails at once instead of
running. Reading the payload is a step of its own, and each of the two takes less than 10 ms.
"""

import math
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import msgspec
from cel_expr_python import cel  # type: ignore[import-untyped]  # it has stubs, but no py.typed

from triggers.fairness.pace import Steps, at_once
from triggers.subscriptions.filter_cost import (
    LOOP_STEPS,
    Cost,
    cost_of,
    unusable,
)

MAX_EXPRESSION_BYTES: Final = 2048
MAX_COST_NANOSECONDS: Final = 10_000_000
EVENT_BUDGET_SECONDS: Final = 0.02
_MAX_REASON: Final = 200  # characters
_STEP_SECONDS: Final = 0.001
"""Maximum time of a step in which several fast filters are matched."""
_LONG_BYTES: Final = 8 * 1024
"""A longer payload is read in a step of its own."""

# A filter that could not be judged on a payload of this size is refused: it would always fail.
_SMALLEST_JUDGED_BYTES: Final = 1024
_SMALLEST_JUDGED_VALUES: Final = 32

_EVENT_FIELDS: Final = ("event.type", "event.source", "event.subject")
_ENV: Final = cel.NewEnv(
    variables={"payload": cel.Type.DYN, **dict.fromkeys(_EVENT_FIELDS, cel.Type.STRING)},
)

# The errors of the library: RuntimeErrors for its own failures, and C++ exceptions under other names.
_FAILURES: Final = (RuntimeError, ValueError, TypeError, ArithmeticError, LookupError, MemoryError)

K = TypeVar("K")
T = TypeVar("T")


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

    __slots__ = (
        "_fields",
        "_payload",
        "_with_payload",
        "_without_payload",
        "is_long",
        "size_bytes",
        "values",
    )

    def __init__(
        self, payload: bytes, event_type: str, source: str | None = None, subject: str | None = None
    ) -> None:
        self._payload = payload
        self._fields = dict(zip(_EVENT_FIELDS, (event_type, source or "", subject or ""), strict=True))
        self._with_payload: Any = None
        self._without_payload: Any = None
        self.size_bytes = len(payload)
        self.is_long = self.size_bytes > _LONG_BYTES
        # Every value but the first follows one of these, so this is never less than their number.
        self.values = 1 + len(payload) - len(payload.translate(None, b",[{"))

    def fields_only(self) -> Any:
        if self._without_payload is None:
            self._without_payload = _ENV.Activation(self._fields)
        return self._without_payload

    def read(self) -> bool:
        """Read the payload for `everything`. False if it was read before."""
        if self._with_payload is not None:
            return False
        try:
            payload = _decode(self._payload)
        except (ValueError, RecursionError, OverflowError) as error:
            self._with_payload = ValueError(str(error))
        else:
            self._with_payload = _ENV.Activation({"payload": payload, **self._fields})
        return True

    def everything(self) -> Any:
        """The fields and the payload that was read. Raises ValueError if filters cannot read the payload."""
        if isinstance(self._with_payload, ValueError):
            raise self._with_payload
        return self._with_payload


class Budget:
    """Seconds that filters may take, shared by all work that it is given. Only time inside steps counts."""

    def __init__(
        self, seconds: float = EVENT_BUDGET_SECONDS, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.seconds_left = seconds
        self._clock = clock

    def spend(self, steps: Steps[T]) -> Steps[T]:
        """Do the steps, and take the time of each off the budget."""
        while True:
            began = self._clock()
            try:
                next(steps)
            except StopIteration as end:
                result: T = end.value
                return result
            finally:
                self.seconds_left -= self._clock() - began
            yield

    def spend_at_once(self, judge: Callable[[FilterInput], Verdict], event: FilterInput) -> Verdict:
        """Match in one step, and subtract its time from the budget."""
        began = self._clock()
        verdict = judge(event)
        self.seconds_left -= self._clock() - began
        return verdict


class PayloadFilter:
    """A compiled filter: made once, used for many events."""

    __slots__ = ("_cost", "_program", "expression")

    def __init__(self, expression: str, program: Any, cost: Cost) -> None:
        self.expression = expression
        self._program = program
        self._cost = cost

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
            raise unusable(f"its result must be true or false, but is {checked.return_type().name().lower()}")
        cost = cost_of(expression, checked.serialize())
        if cost.nanoseconds(_SMALLEST_JUDGED_BYTES, _SMALLEST_JUDGED_VALUES) > MAX_COST_NANOSECONDS:
            raise unusable("it could take too long even for a payload of 1 KiB. Nest fewer loops")
        compiled = cls(expression, program, cost)
        # The library plans a program at its first use; a plan that fails must fail here.
        compiled.judge(FilterInput(b"null", "x"))
        return compiled

    def judge_in_steps(self, event: FilterInput) -> Steps[Verdict]:
        """Do `judge` in steps: one reads a long payload, and another matches. Each takes less than 10 ms."""
        if event.is_long and self._cost.reads_payload and not self._takes_too_long(event) and event.read():
            yield
        return self.judge(event)

    def judge(self, event: FilterInput) -> Verdict:
        """The verdict. Never raises."""
        if not self._cost.reads_payload:
            activation = event.fields_only
        elif self._takes_too_long(event):
            return failed("it could take too long for a payload of this size")
        else:
            event.read()
            activation = event.everything
        try:
            result = self._program.eval(activation()).value()
        except _FAILURES as error:
            return failed(_reason(str(error)))
        if result is True:
            return MATCHED
        if result is False:
            return NOT_MATCHED
        return failed(_reason(str(result)))

    def _takes_too_long(self, event: FilterInput) -> bool:
        return self._cost.nanoseconds(event.size_bytes, event.values) > MAX_COST_NANOSECONDS


def judge_all(filters: Mapping[K, PayloadFilter], event: FilterInput, budget: Budget) -> dict[K, Verdict]:
    """One event against an organisation's filters; those that the budget does not reach have failed.

    The budget is checked between filters, so it is exceeded by one judgement at most.
    """
    return at_once(judge_in_steps(filters, event, budget))


def judge_in_steps(
    filters: Mapping[K, PayloadFilter], event: FilterInput, budget: Budget
) -> Steps[dict[K, Verdict]]:
    """`judge_all` in steps."""
    verdicts = {}
    pause_at = budget.seconds_left - _STEP_SECONDS
    for key, payload_filter in filters.items():
        if budget.seconds_left > 0:
            if event.is_long:
                verdicts[key] = yield from budget.spend(payload_filter.judge_in_steps(event))
            else:
                verdicts[key] = budget.spend_at_once(payload_filter.judge, event)
            if budget.seconds_left < pause_at:
                pause_at = budget.seconds_left - _STEP_SECONDS
                yield
        else:
            verdicts[key] = failed("the time for this event's filters was used up")
    return verdicts


# --- texts -------------------------------------------------------------------------------------------------


def _check_text(expression: str) -> None:
    try:
        size = len(expression.encode())
    except UnicodeEncodeError as error:
        raise unusable(f"character {error.start + 1} is half of a surrogate pair") from None
    if size > MAX_EXPRESSION_BYTES:
        raise unusable(f"it has {size} bytes, but at most {MAX_EXPRESSION_BYTES} are allowed")
    if not expression.strip():
        raise unusable("it is empty")
    if "\0" in expression:
        raise unusable(f"character {expression.index(chr(0)) + 1} is U+0000")


def _check(expression: str) -> Any:
    try:
        return _ENV.compile(expression)
    except _FAILURES as error:
        raise unusable(_syntax_error(str(error))) from None


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


def _float(text: str) -> float:
    """By Python's reader of floats: on some of them the other one takes 7 µs each."""
    value = float(text)
    if math.isinf(value):
        raise ValueError("a number is out of range")
    return value


_decode_json = msgspec.json.Decoder(float_hook=_float).decode
_DIGITS_AS_ZEROS: Final = bytes.maketrans(b"123456789", b"000000000")
_NINETEEN_DIGITS: Final = b"0" * 19  # 2^63 has nineteen


def _decode(payload: bytes) -> Any:
    if b"\\u0000" in payload:
        # The binding would cut the string there, and the filter would judge something else.
        raise ValueError("the payload contains U+0000")
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
