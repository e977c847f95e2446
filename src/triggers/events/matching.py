"""Judges payloads before events are stored: which filters match them, and what their ordering keys are.

An event is judged before it is put into a batch. The rules (filters and ordering pointers) are in memory,
and are read again only after they have changed. The statement that stores the event checks their version.
If the rules have changed, the event is judged again. An organisation without rules has version 0, and an
unknown organisation is assumed to have version 0. So for most organisations nothing is read or kept.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Mapping
from datetime import timedelta
from functools import lru_cache
from types import MappingProxyType
from typing import Final, Literal, NamedTuple, TypeAlias
from uuid import UUID

import msgspec
import structlog

from triggers import errors
from triggers.background import Duty
from triggers.domain import RESERVED_TYPE_PREFIX, NewEvent
from triggers.events import matching_store as judging_store
from triggers.events.matching_store import FilterFailure, StoredRule
from triggers.fairness.pace import Steps, at_once, breathe, do
from triggers.postgres.database import Database
from triggers.subscriptions.payload_filter import (
    Budget,
    FilterInput,
    PayloadFilter,
    Verdict,
    failed,
    judge_in_steps,
)

log = structlog.get_logger()

MAX_RULES: Final = 10_000
"""Maximum number of rules in memory. Those of the organisations that sent most recently are kept, and each
organisation counts as one more rule."""
MAX_KEY: Final = 255
RECORD_EVERY: Final = timedelta(seconds=5)
_MAX_FAILURES: Final = 10_000

Finding: TypeAlias = str | Literal[False]
"""The result for one subscription: False if it does not want the event, or the event's ordering key."""


class Rule(NamedTuple):
    """The filter and the ordering pointer of a subscription, ready for use."""

    id: UUID
    id_text: str
    types: StoredRule
    filter: PayloadFilter | None
    broken: str | None  # why there is a filter that cannot be used
    pointer: tuple[str, ...] | None


class Rules:
    """All rules of an organisation, at one version. `fresh` is true until a change is known."""

    __slots__ = ("filters", "fresh", "rules", "version")

    def __init__(self, version: int, rules: tuple[Rule, ...] = ()) -> None:
        self.version = version
        self.rules = rules
        self.filters = {rule.filter.expression: rule.filter for rule in rules if rule.filter is not None}
        self.fresh = True


class Judged(NamedTuple):
    """The rules that judged an event, and the findings. A subscription without a finding wants the event."""

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

    def duty(self) -> Duty:
        """The duty that records failures of filters. A failure that is lost will happen again."""
        return Duty("filter failures", RECORD_EVERY.total_seconds(), self._record)

    # ---- judging -------------------------------------------------------------------------------------

    def judge_plain(self, event: NewEvent) -> Judged | None:
        """Judge an event without reading its payload. None if its organisation's rules need the payload."""
        rules = self._known.get(event.org_id)
        if rules is None:
            return _JUDGED_PLAIN
        if rules.fresh and rules.rules:
            return None
        self._known.move_to_end(event.org_id)
        return Judged(rules, _NO_FINDINGS)

    def judge(self, event: NewEvent) -> Judged:
        """Judge an event by the rules in memory, in one step that takes at most about 20 ms."""
        return self.judge_plain(event) or at_once(self._judge(event))

    async def judge_paced(self, event: NewEvent) -> Judged:
        """Like `judge`, but in the turns of the organisation."""
        return self.judge_plain(event) or await self.judge_payload(event)

    def judge_payload(self, event: NewEvent) -> Awaitable[Judged]:
        """The rest of `judge_paced`, after `judge_plain` has returned None."""
        return do(self._judge(event), event.org_id)

    def stands(self, org_id: UUID, judged: Judged) -> bool:
        """Whether an event of the organisation would be judged by the same rules now."""
        rules = self._known.get(org_id, _PLAIN)
        return rules is judged.rules and rules.fresh

    def _judge(self, event: NewEvent) -> Steps[Judged]:
        rules = self._known.get(event.org_id)
        if rules is None:  # forgotten before the first step
            return _JUDGED_PLAIN
        self._known.move_to_end(event.org_id)
        return Judged(rules, (yield from self._findings(rules, event)))

    def _findings(self, rules: Rules, event: NewEvent) -> Steps[dict[str, Finding]]:
        concerned = [rule for rule in rules.rules if _wants_type(rule.types, event.type)]
        filters = {rule.id: rule.filter for rule in concerned if rule.filter is not None}
        seen = FilterInput(event.payload, event.type, event.source, event.subject)
        verdicts = yield from judge_in_steps(filters, seen, Budget())
        pointed = Pointed(event.payload)
        findings: dict[str, Finding] = {}
        for rule in concerned:
            verdict = verdicts.get(rule.id)
            if reason := rule.broken if verdict is None else verdict.failure:
                self._note(event.org_id, rule, reason)
            if verdict is not None and not verdict.matched:
                findings[rule.id_text] = False
            elif rule.pointer is not None:
                key = yield from pointed.key_in_steps(rule.pointer)
                if key is not None:
                    findings[rule.id_text] = key
                yield
        return findings

    # ---- the rules -----------------------------------------------------------------------------------

    def outdated(self, org_id: UUID) -> None:
        """Note that the organisation's rules in memory are out of date."""
        rules = self._known.get(org_id)
        if rules is None:
            rules = Rules(0)
            self._keep(org_id, rules)
        rules.fresh = False

    async def refresh(self, org_id: UUID) -> None:
        """Make sure that the organisation's current rules are in memory.

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
        rules = []
        for each in stored:
            rules.append(_ready(each, known.filters))
            await breathe(org_id)
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
        """Record the first failure at once, and later ones together, so not every event causes a write."""
        await self._failed.wait()
        failures, self._failures = self._failures, {}
        self._failed.clear()
        # Sorted, so that two nodes wait for each other's rows in one order.
        await judging_store.record(self._database, sorted(failures.values()), RECORD_EVERY)


def judge_again(expression: str, event: FilterInput) -> Steps[Verdict]:
    """The verdict of a stored filter on an event. A filter that no longer compiles counts as failed."""
    try:
        found = PayloadFilter.compile(expression)
    except errors.Invalid as error:
        return failed(error.message)
    yield
    return (yield from found.judge_in_steps(event))


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
    """Whether a rule applies to an event's type, by the same conditions as in the accept statements."""
    return (
        (types.all_types and not event_type.startswith(RESERVED_TYPE_PREFIX))
        or event_type in types.type_names
        or any(event_type.startswith(prefix) for prefix in types.type_prefixes)
    )


# ---- pointers and keys --------------------------------------------------------------------------------

_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_elements = msgspec.json.Decoder(list[msgspec.Raw]).decode
_string = msgspec.json.Decoder(str).decode
_LONG_BYTES: Final = 8 * 1024
"""An object or array of more bytes is opened in a step of its own."""


@lru_cache(maxsize=MAX_RULES)
def parse_pointer(pointer: str) -> tuple[str, ...]:
    """The steps of a JSON Pointer (RFC 6901)."""
    return tuple(step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")[1:])


class Pointed:
    """A payload in which JSON Pointers find ordering keys. Each object or array is parsed at most once, and
    each key is made at most once, however many pointers use it."""

    __slots__ = ("_root",)

    def __init__(self, payload: bytes) -> None:
        self._root = _Value(payload.strip())

    def key(self, pointer: tuple[str, ...]) -> str | None:
        """The ordering key at `pointer`: a string, a number as it was sent, `true` or `false`. A key that is
        too long or contains U+0000 is replaced by its hash. None if there is no such value."""
        return at_once(self.key_in_steps(pointer))

    def key_in_steps(self, pointer: tuple[str, ...]) -> Steps[str | None]:
        """`key` in steps."""
        place = self._root
        for step in pointer:
            if place.opened is None:
                place.open()
                if len(place.text) > _LONG_BYTES:
                    yield
            found = place.part(step)
            if found is None:
                return None
            place = found
        return place.key()


class _Value:
    """A value of a payload, parsed only as far as needed."""

    __slots__ = ("_key", "_parts", "opened", "text")

    def __init__(self, text: bytes | msgspec.Raw) -> None:
        self.text = memoryview(text)  # not a copy at each level
        self.opened: dict[str, msgspec.Raw] | list[msgspec.Raw] | None = None
        self._parts: dict[str, _Value] = {}
        self._key: str | Literal[False] | None = False  # not made yet

    def open(self) -> None:
        """Parse the members or elements, but not their contents. A scalar has none."""
        match bytes(self.text[:1]):
            case b"{":
                self.opened = _members(self.text)
            case b"[":
                self.opened = _elements(self.text)
            case _:
                self.opened = []

    def part(self, step: str) -> _Value | None:
        """The member or element that a step of a pointer leads to, once this is open."""
        if (part := self._parts.get(step)) is not None:
            return part
        found: msgspec.Raw | None = None
        if isinstance(self.opened, dict):
            found = self.opened.get(step)
        elif self.opened and (index := _index(step)) is not None and index < len(self.opened):
            found = self.opened[index]
        if found is None:
            return None
        part = self._parts[step] = _Value(found)
        return part

    def key(self) -> str | None:
        if self._key is False:
            self._key = _key_of(bytes(self.text))
        return self._key


def _index(step: str) -> int | None:
    """The index that a step names, or None. No payload has more than ten million elements (7 digits)."""
    plain = step.isascii() and step.isdecimal() and len(step) < 8
    return int(step) if plain and (step == "0" or not step.startswith("0")) else None


def _key_of(value: bytes) -> str | None:
    match value[:1]:
        case b"{" | b"[" | b"n":
            return None
        case b'"':
            key = _string(value)
        case _:
            key = value.decode()
    # A text in the database cannot hold U+0000.
    return key if len(key) <= MAX_KEY and "\0" not in key else hashlib.sha256(key.encode()).hexdigest()
