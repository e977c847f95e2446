"""`POST /v1/events` and `/v1/events/batch`: plain ASGI apps that the router calls directly.

For speed, one function does what other routes do in several: admission, body, errors and answer.
`body.py` defines valid events, and `group_commit.py` keeps the promise of a 201.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
import structlog

from triggers import observability
from triggers.domain import (
    MAX_BATCH_BYTES,
    MAX_EVENT_BYTES,
    Accepted,
    Caller,
    NewEvent,
    Scope,
    minted_at,
)
from triggers.errors import (
    RateLimited,
    TooLarge,
    TriggersError,
    Unavailable,
)
from triggers.events import batch_answer, reading
from triggers.events.batch_answer import BatchAnswer
from triggers.events.body import (
    Parse,
    from_idempotency_key,
    name_by_key,
    parse_batch,
    parse_event,
    parse_event_in_steps,
)
from triggers.events.cloudevents import BINARY_MARK
from triggers.events.group_commit import Acceptor
from triggers.events.waiting_event import AcceptOutcome
from triggers.fairness.pace import do
from triggers.fairness.room import Room
from triggers.http import exchange
from triggers.http.exchange import Headers, Held
from triggers.keys import acting
from triggers.keys.authentication import KeyCache, key_from
from triggers.keys.rate_limit import Grant, RateLimiter

log = structlog.get_logger()

SHORT_BYTES = 8 * 1024
"""Events of at most this size are parsed in one step, because that does not block the event loop for long."""


class EventAccepted(msgspec.Struct, kw_only=True):
    """The answer to an accepted event. If `duplicate` is true, the event was stored before, with this id."""

    id: UUID
    type: str
    dedup_id: str | None
    status: str = "accepted"
    duplicate: bool
    created_at: str


class AcceptRequest:
    """One request to the accept path, while it is handled."""

    __slots__ = ("caller", "coding", "fields", "headers", "held", "id", "media_type", "scope")

    def __init__(self, scope: exchange.AsgiScope) -> None:
        self.scope = scope
        self.fields: dict[bytes, bytes] = scope[exchange.FIELDS]
        self.media_type = self.fields.get(b"content-type", b"")
        self.coding = self.fields.get(b"content-encoding", b"")
        self.caller: Caller | None = None
        self.held: Held | None = None
        self.id = exchange.request_id(self.fields.get(b"x-request-id"))
        self.headers: Headers = [(b"x-request-id", self.id.encode())]  # of the answer


class Gate(NamedTuple):
    """The checks that a request has to pass."""

    keys: KeyCache
    limiter: RateLimiter
    check_room: Callable[[UUID], None]
    """Raises an error if the service has no room for more events of an organisation."""


class AcceptApp:
    """The ASGI apps of both routes. They count results, and `sum_up` reports the counts."""

    def __init__(self, acceptor: Acceptor, gate: Gate, *, bodies: Room, log_accepted: bool) -> None:
        """`bodies` bounds the memory of bodies until their requests are answered, because the acceptor counts
        only complete events."""
        self.accepted: Counter[str] = Counter()
        self._bodies = bodies
        self._acceptor = acceptor
        self._keys, self._limiter, self._check_room = gate
        self._log_accepted = log_accepted

    async def accept_single(
        self, scope: exchange.AsgiScope, receive: exchange.Receive, send: exchange.Send
    ) -> None:
        """Accept an event.

        201 means that the event and all its deliveries are committed. If the same `dedup_id` was used within
        the deduplication window, the answer is 200 with the original id for the same content, and 409 for
        other content. An event without a `dedup_id` has the value of the header `Idempotency-Key` as its
        `dedup_id`, with the same limits. Double quotes around the value are removed.

        CloudEvents 1.0 with JSON data are accepted too: structured, batched, and in binary mode, in which the
        attributes are headers such as `ce-type` and the body is the data. `<source> <id>` becomes the
        `dedup_id`; if that has more than 255 characters, the `dedup_id` is `sha256:` and its hash.
        `partitionkey` becomes the `ordering_key`. `dataschema` and extension attributes are stored, up to
        8 KiB as JSON. The answer to a batch is that of `/v1/events/batch`.
        """
        began = time.perf_counter()
        request = AcceptRequest(scope)
        # Nearly every event is plain JSON. Only if an event is not, its kind is determined.
        is_plain = request.media_type == b"application/json" and BINARY_MARK not in request.fields
        if not is_plain and reading.is_batch(request.media_type):
            await self.accept_batch(scope, receive, send)
            return
        try:
            key = key_from(request.fields)
            request.caller = self._keys.remembered(key) or await self._keys.caller(key)
            if acting.HEADER in request.fields:
                request.caller = await self._keys.acting(request.caller, request.fields)
            self._admit(request, request.caller)
            parse = parse_event_in_steps if is_plain else reading.parser_of(request.fields)
            body = scope.get(exchange.SMALL_BODY)
            if body is None or request.coding:
                body = await self._body(request, receive, MAX_EVENT_BYTES)
            org_id, mint = request.caller.org_id, self._acceptor.clock.mint
            if is_plain and len(body) <= SHORT_BYTES:
                event = parse_event(body, org_id, mint)
            else:
                event = await do(parse(body, org_id, mint), org_id)
            del body  # the event has a copy of its payload
            if event.dedup_id is None and (header := request.fields.get(b"idempotency-key")) is not None:
                event.dedup_id = from_idempotency_key(header)
            accepted = await self._acceptor.accept(event)
            if isinstance(accepted, TriggersError):
                raise accepted
            status = 200 if accepted.duplicate else 201
            request.headers.append((b"location", f"{scope['root_path']}/v1/events/{accepted.id}".encode()))
            await exchange.answer_json(send, status, _answer(event, accepted), request.headers)
        except exchange.ClientGone:
            return
        except TriggersError as error:
            await self._refuse(send, request, error, began)
            return
        finally:
            if request.held is not None:
                request.held.release()
        self.accepted["duplicate" if accepted.duplicate else "accepted"] += 1
        self._note(request, status, began)

    async def accept_batch(
        self, scope: exchange.AsgiScope, receive: exchange.Receive, send: exchange.Send
    ) -> None:
        """Accept up to 1,000 events.

        Send a JSON array, one JSON event per line, or a batch of CloudEvents, at most 5 MiB. Each event has
        the same outcome as if it were sent alone. An invalid event does not affect the others.

        The answer is 200 if all events are stored, now or before, and if the batch is empty. The answer is
        207 if only some events are stored. If no event is stored, the answer is a problem with the member
        `results`. Its status is that of all events, or 422 if the events have different statuses.

        The answer to a request that is refused before its events are read has no `results`. Examples are 429
        or 503 if no event is accepted now, and 400 for a body that is not JSON.

        With the header `Idempotency-Key`, the event at index N has the `dedup_id` `<key>/N` if it has none of
        its own.
        """
        began = time.perf_counter()
        request = AcceptRequest(scope)
        try:
            request.caller = await self._keys.caller(key_from(request.fields))
            if acting.HEADER in request.fields:
                request.caller = await self._keys.acting(request.caller, request.fields)
            grant = self._admit(request, request.caller)
            split, parse = reading.readers_of_batch(request.media_type)
            body = await self._body(request, receive, MAX_BATCH_BYTES)
            items = await do(split(body), request.caller.org_id)
            del body
            outcomes = await self._accept_items(request, items, parse, grant)
            results = await do(batch_answer.items(outcomes, scope["root_path"]), request.caller.org_id)
        except exchange.ClientGone:
            return
        except TriggersError as error:
            await self._refuse(send, request, error, began)
            return
        finally:
            if request.held is not None:
                request.held.release()
        counts = Counter(_result_name(item.status) for item in results)
        self.accepted.update(counts)
        refusal = batch_answer.refusal(outcomes, results)
        if not isinstance(refusal, Unavailable) and (seconds := batch_answer.seconds_to_wait(outcomes)):
            request.headers.append((b"retry-after", b"%d" % seconds))
        if refusal is not None:
            status = await exchange.answer_problem(scope, send, refusal, request.id, request.headers)
            self._note(request, status, began, detail=refusal.logged)
            return
        status = 207 if counts["rejected"] else 200
        await exchange.answer_json(send, status, BatchAnswer(results), request.headers)
        self._note(request, status, began)
        if counts["rejected"]:
            _log_partly_rejected(request, counts)

    # ---- steps -----------------------------------------------------------------------------------

    def _admit(self, request: AcceptRequest, caller: Caller) -> Grant | None:
        """Spend one request of the quota."""
        caller.require(Scope.EVENTS_WRITE)
        grant = self._limiter.take(caller)
        if grant is not None:
            request.headers += grant.headers()
            if not grant.granted:
                raise RateLimited(retry_after=grant.retry_after)
        self._check_room(caller.org_id)
        return grant

    def _body(self, request: AcceptRequest, receive: exchange.Receive, limit: int) -> Awaitable[bytes]:
        if int(request.fields.get(b"content-length", 0)) > limit:
            raise TooLarge(f"The body must have at most {limit:,} bytes.", limit=limit)
        assert request.caller is not None
        request.held = Held(self._bodies, request.caller.org_id)
        return exchange.read_body(receive, limit, request.coding, request.held)

    async def _accept_items(
        self, request: AcceptRequest, items: list[bytes], parse: Parse, grant: Grant | None
    ) -> list[AcceptOutcome]:
        """Store the items. Each counts against the quota; `_admit` has already counted the first one."""
        caller = request.caller
        assert caller is not None
        allowed, retry_after = len(items), 0
        if grant is not None and len(items) > 1:
            more = self._limiter.take(caller, len(items) - 1)
            assert more is not None
            allowed, retry_after = 1 + more.granted, more.retry_after
            request.headers[-2:] = more.headers()
        parsed = await parse_batch(items[:allowed], parse, caller.org_id, self._acceptor.clock.mint)
        if (header := request.fields.get(b"idempotency-key")) is not None:
            name_by_key(parsed, header)
        good = [event for event in parsed if isinstance(event, NewEvent)]
        outcomes = iter(await self._acceptor.accept_many(good))
        decided = [next(outcomes) if isinstance(each, NewEvent) else each for each in parsed]
        return [*decided, *(RateLimited(retry_after=retry_after) for _ in items[allowed:])]

    # ---- what is noted ---------------------------------------------------------------------------

    async def _refuse(
        self, send: exchange.Send, request: AcceptRequest, error: TriggersError, began: float
    ) -> None:
        status = await exchange.answer_problem(request.scope, send, error, request.id, request.headers)
        self.accepted["rejected"] += 1
        self._note(request, status, began, detail=error.logged)

    def _note(self, request: AcceptRequest, status: int, began: float, **facts: Any) -> None:
        seconds = time.perf_counter() - began
        observability.accept_seconds.observe(seconds)
        if status >= 300 or self._log_accepted or observability.lines is not None:
            observability.log_request(
                request.scope,
                request_id=request.id,
                status=status,
                seconds=seconds,
                caller=request.caller,
                **facts,
            )


async def sum_up(app: AcceptApp) -> None:
    """Once a second, add the counts to the metrics and log the number of accepted events."""
    while True:
        await asyncio.sleep(1)
        counts, app.accepted = app.accepted, Counter()
        for result, count in counts.items():
            observability.events_total.labels(result).inc(count)
        if (counts["accepted"] or counts["duplicate"]) and observability.lines is None:
            log.info("events_accepted", accepted=counts["accepted"], duplicate=counts["duplicate"])


def _answer(event: NewEvent, accepted: Accepted) -> EventAccepted:
    return EventAccepted(
        id=accepted.id,
        type=event.type,
        dedup_id=event.dedup_id,
        duplicate=accepted.duplicate,
        created_at=minted_at(accepted.id),
    )


def _log_partly_rejected(request: AcceptRequest, counts: Counter[str]) -> None:
    org_id = str(request.caller and request.caller.org_id)
    log.info("batch_partly_rejected", request_id=request.id, org_id=org_id, **counts)


def _result_name(status: int) -> str:
    return {201: "accepted", 200: "duplicate"}.get(status, "rejected")
