"""What accept must know of payloads: do filters want them, and which key orders them.

An event is judged before its batch, by rules that are read when they change and not when events
come. The statement that stores it checks that they are still the organisation's; if not, it is
judged again. An organisation without such rules has version 0, which is what one that was never
heard of is taken for, so for most organisations nothing is read and nothing is kept.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections import OrderedDict
from collections.abc import Mapping
from datetime import timedelta
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple, TypeAlias
from uuid import UUID

import msgspec
import structlog

from triggers import errors
from triggers.domain import RESERVED_TYPE_PREFIX, NewEvent
from triggers.payload_filter import Budget, FilterInput, PayloadFilter, Verdict, failed, judge_all
from triggers.storage import judging_store
from triggers.storage.database import Database
from triggers.storage.judging_store import FilterFailure, StoredRule

log = structlog.get_logger()

MAX_RULES: Final = 10_000
"""Rules that a process keeps, of the organisations that sent last; an organisation itself counts as one."""
MAX_KEY: Final = 255
RECORD_EVERY: Final = timedelta(seconds=5)
_BREATHE_SECONDS: Final = 0.005
_MAX_FAILURES: Final = 10_000

Finding: TypeAlias = str | Literal[False]
"""What judging found out for a subscription: not wanted (False), or its ordering key."""


class Rule(NamedTuple):
    """What a subscription asks of payloads, ready to be judged."""

    id: UUID
    id_text: str
    types: StoredRule
    filter: PayloadFilter | None
    broken: str | None  # why there is a filter that cannot be used
    pointer: tuple[str, ...] | None


class Rules:
    """All rules of an organisation, of one version. `fresh` until they are known to have changed."""

    __slots__ = ("filters", "fresh", "rules", "version")

    def __init__(self, version: int, rules: tuple[Rule, ...] = ()) -> None:
        self.version = version
        self.rules = rules
        self.filters = {rule.filter.expression: rule.filter for rule in rules if rule.filter is not None}
        self.fresh = True


class Judged(NamedTuple):
    """The rules that an event was judged by, and what they found. Who is not named wants the event."""

    rules: Rules
    findings: Mapping[str, Finding]


_NO_FINDINGS: Final[Mapping[str, Finding]] = MappingProxyType({})
_PLAIN: Final = Rules(0)
_JUDGED_PLAIN: Final = Judged(_PLAIN, _NO_FINDINGS)


class Judging:
    """Judges events by the rules of their organisations as this process knows them."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: OrderedDict[UUID, Rules] = OrderedDict()
        self._size = 0
        self._failures: dict[UUID, FilterFailure] = {}
        self._failed = asyncio.Event()
        self._recording: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to record failures."""
        self._recording = asyncio.create_task(self._record(), name="filter failures")

    async def stop(self) -> None:
        """Stop recording. What was not recorded will fail again."""
        if self._recording is not None:
            self._recording.cancel()
            await asyncio.gather(self._recording, return_exceptions=True)

    # ---- judging -------------------------------------------------------------------------------------

    def judge(self, event: NewEvent) -> Judged:
        """Judge an event by what is known now; bounded by the budget of filters, some 20 ms at the worst."""
        rules = self._known.get(event.org_id)
        if rules is None:
            return _JUDGED_PLAIN
        self._known.move_to_end(event.org_id)
        if not rules.fresh or not rules.rules:
            return Judged(rules, _NO_FINDINGS)
        return Judged(rules, self._findings(rules, event))

    def stands(self, org_id: UUID, judged: Judged) -> bool:
        """Whether an event of the organisation would be judged by the same rules now."""
        rules = self._known.get(org_id, _PLAIN)
        return rules is judged.rules and rules.fresh

    def _findings(self, rules: Rules, event: NewEvent) -> dict[str, Finding]:
        concerned = [rule for rule in rules.rules if _wants_type(rule.types, event.type)]
        filters = {rule.id: rule.filter for rule in concerned if rule.filter is not None}
        seen = FilterInput(event.payload, event.type, event.source, event.subject)
        verdicts = judge_all(filters, seen, Budget())
        pointed = Pointed(event.payload)
        findings: dict[str, Finding] = {}
        for rule in concerned:
            verdict = verdicts.get(rule.id)
            if reason := rule.broken if verdict is None else verdict.failure:
                self._note(event.org_id, rule, reason)
            if verdict is not None and not verdict.matched:
                findings[rule.id_text] = False
            elif rule.pointer is not None and (key := pointed.key(rule.pointer)) is not None:
                findings[rule.id_text] = key
        return findings

    # ---- the rules -----------------------------------------------------------------------------------

    def outdated(self, org_id: UUID) -> None:
        """Take in that the organisation's rules are not those that are known here."""
        rules = self._known.get(org_id)
        if rules is None:
            rules = Rules(0)
            self._keep(org_id, rules)
        rules.fresh = False

    async def refresh(self, org_id: UUID) -> None:
        """Know the organisation's rules, reading them if need be.

        Raises:
            NotFound: there is no such organisation.
            DatabaseUnavailable: they could not be read.
        """
        known = self._known.get(org_id, _PLAIN)
        if known.fresh and known is not _PLAIN:
            return
        found = await judging_store.rules(self._database, org_id)
        if found is None:
            raise errors.NotFound("The organisation of this event does not exist.")
        version, stored = found
        pace = Pace()
        rules = []
        for each in stored:
            rules.append(_ready(each, known.filters))
            await pace.breathe()
        self._keep(org_id, Rules(version, tuple(rules)))

    def _keep(self, org_id: UUID, rules: Rules) -> None:
        if (old := self._known.pop(org_id, None)) is not None:
            self._size -= 1 + len(old.rules)
        self._known[org_id] = rules
        self._size += 1 + len(rules.rules)
        while self._size > MAX_RULES and len(self._known) > 1:
            _, gone = self._known.popitem(last=False)
            self._size -= 1 + len(gone.rules)

    # ---- failures ------------------------------------------------------------------------------------

    def _note(self, org_id: UUID, rule: Rule, reason: str) -> None:
        if len(self._failures) < _MAX_FAILURES and rule.types.filter is not None:
            self._failures[rule.id] = FilterFailure(org_id, rule.id, rule.types.filter, reason)
            self._failed.set()

    async def _record(self) -> None:
        """Write failures down, the first at once, then what came meanwhile: never once per event."""
        while True:
            await self._failed.wait()
            failures, self._failures = self._failures, {}
            self._failed.clear()
            try:
                # Sorted, so that two nodes wait for each other's rows in one order.
                await judging_store.record(self._database, sorted(failures.values()), RECORD_EVERY)
            except Exception as error:  # noqa: BLE001 - a duty outlives what stops it for a while
                log.warning("filter_failures_not_recorded", failures=len(failures), error=repr(error))
            await asyncio.sleep(RECORD_EVERY.total_seconds())


def judge_again(expression: str, event: FilterInput) -> Verdict:
    """What a stored filter says of an event; one that cannot be used any more fails."""
    try:
        return PayloadFilter.compile(expression).judge(event)
    except errors.Invalid as error:
        return failed(error.message)


class Pace:
    """Lets others have the event loop every few milliseconds of a long piece of work."""

    def __init__(self) -> None:
        self._next = time.monotonic() + _BREATHE_SECONDS

    async def breathe(self) -> None:
        """Let others run, if it is time."""
        if time.monotonic() >= self._next:
            await asyncio.sleep(0)
            self._next = time.monotonic() + _BREATHE_SECONDS


def _ready(stored: StoredRule, compiled: Mapping[str, PayloadFilter]) -> Rule:
    found, broken = None, None
    if stored.filter is not None:
        try:
            found = compiled.get(stored.filter) or PayloadFilter.compile(stored.filter)
        except errors.Invalid as error:  # it was valid once: another version of the library
            broken = error.message
    pointer = None if stored.ordering_pointer is None else parse_pointer(stored.ordering_pointer)
    return Rule(stored.subscription_id, str(stored.subscription_id), stored, found, broken, pointer)


def _wants_type(types: StoredRule, event_type: str) -> bool:
    """As the accept statement has it."""
    return (
        (types.all_types and not event_type.startswith(RESERVED_TYPE_PREFIX))
        or event_type in types.type_names
        or any(event_type.startswith(prefix) for prefix in types.type_prefixes)
    )


# ---- pointers and keys --------------------------------------------------------------------------------

# Floats as they were sent; integers are exact anyway, or too long for Python's own reader.
_decode = msgspec.json.Decoder(float_hook=msgspec.Raw).decode


@lru_cache(maxsize=MAX_RULES)
def parse_pointer(pointer: str) -> tuple[str, ...]:
    """The steps of a JSON Pointer (RFC 6901)."""
    return tuple(step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")[1:])


class Pointed:
    """A payload as pointers see it, read once, and only if there is a pointer."""

    __slots__ = ("_payload", "_value")

    def __init__(self, payload: bytes) -> None:
        self._payload: bytes | None = payload
        self._value: Any = None

    def key(self, pointer: tuple[str, ...]) -> str | None:
        """The ordering key that the pointer leads to, None if there is nothing."""
        if self._payload is not None:
            self._value, self._payload = _read(self._payload), None
        found = self._value
        for step in pointer:
            if isinstance(found, dict) and step in found:
                found = found[step]
            elif isinstance(found, list) and (index := _index(step)) is not None and index < len(found):
                found = found[index]
            else:
                return None
        return _key_of(found)


def _read(payload: bytes) -> Any:
    try:
        return _decode(payload)
    except msgspec.DecodeError:  # of what is JSON this is only an integer of thousands of digits
        return json.loads(payload, parse_int=_raw, parse_float=_raw)


def _raw(number: str) -> msgspec.Raw:
    return msgspec.Raw(number.encode())


def _index(step: str) -> int | None:
    """Digits without a leading zero; a payload has less than ten million elements."""
    plain = step.isascii() and step.isdecimal() and len(step) < 8
    return int(step) if plain and (step == "0" or not step.startswith("0")) else None


def _key_of(value: Any) -> str:
    """A string as it is, anything else as JSON without spaces; of a long one the hash."""
    key = value if isinstance(value, str) else _text_of(value)
    # A text in the database cannot hold U+0000.
    return key if len(key) <= MAX_KEY and "\0" not in key else hashlib.sha256(key.encode()).hexdigest()


def _text_of(value: Any) -> str:
    try:
        return msgspec.json.encode(value).decode()
    except OverflowError:  # an integer beyond 64 bits
        return json.dumps(
            value, ensure_ascii=False, separators=(",", ":"), default=lambda raw: str(bytes(raw))
        )
