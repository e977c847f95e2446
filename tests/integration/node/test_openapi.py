"""The OpenAPI document cannot lie: a real node gives every answer that it names, as it describes it."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import uuid4

import httpx
import jsonschema
import pytest

from delivering import Workers
from harness import Node, Tenants, eventually
from receiving import Receiver
from streaming import beginning
from triggers.deliveries import ending
from triggers.domain import Scope
from triggers.http.route import PUBLIC
from triggers.node.routes import ROUTES
from triggers.postgres.database import Database

INBOX, PUSH, DELIVERY = "/v1/inboxes", "/v1/subscriptions", "/v1/deliveries/{delivery_id}"
ONE, ONE_PUSH = f"{INBOX}/{{inbox}}", f"{PUSH}/{{subscription_id}}"
MESSAGES = f"{ONE}/messages"
EVENT = {"type": "a", "payload": {"n": 1}, "dedup_id": "d"}
CLOUD_EVENT = {"specversion": "1.0", "id": "1", "source": "/shop", "type": "a", "traceparent": "x"}
SEE = {"target_url": "{receiver}"}
LEASE = {"lease_id": "{lease}"}
NO_LEASE = {"lease_id": str(uuid4())}

# Method, path, the status that it must give, body, and what of the answer is remembered under which name.
# `{name}` is what was remembered; in a path `{inbox=other}` fills `inbox` with what is remembered as `other`.
Step = tuple[str, str, int, Any, dict[str, str]]


def step(method: str, path: str, status: int, body: Any = None, **remember: str) -> Step:
    return method, path, status, body, remember


STEPS: tuple[Step, ...] = (
    # inboxes
    step("POST", INBOX, 201, {"key": "mine", "max_leases": 2}, inbox="id"),
    step("POST", INBOX, 409, {"key": "mine"}),
    step("PUT", INBOX, 201, {"key": "other"}, other="id"),
    step("PUT", INBOX, 200, {"key": "other"}),
    step("PUT", INBOX, 409, {"key": "other", "event_types": ["x"]}),
    step(
        "PUT",
        INBOX,
        201,
        {"key": "noted", "notification_url": "{receiver}"},
        notices="notifications.subscription_id",
    ),
    step("GET", INBOX, 200),
    step("GET", f"{INBOX}?backlog=", 200),
    step("GET", ONE, 200),
    step("PATCH", ONE, 200, {"event_types": ["a"], "expires_in_seconds": 600}),
    step("POST", f"{ONE}/pause", 200),
    step("POST", f"{ONE}/pause", 409),
    step("POST", f"{ONE}/resume", 200),
    step("POST", f"{ONE}/resume", 409),
    # subscriptions
    step("POST", PUSH, 201, {**SEE, "key": "k"}, subscription_id="id"),
    step("POST", PUSH, 409, {**SEE, "key": "k"}),
    step("PUT", PUSH, 201, {**SEE, "key": "k2", "event_types": ["b"]}, second="id"),
    step("PUT", PUSH, 200, {**SEE, "key": "k2", "event_types": ["b"]}),
    step("PUT", PUSH, 409, {**SEE, "key": "k2", "event_types": ["c"]}),
    step("GET", PUSH, 200),
    step("GET", ONE_PUSH, 200),
    step("PATCH", ONE_PUSH, 200, {"name": "x"}),
    step("PATCH", f"{PUSH}/{{subscription_id=notices}}", 409, {"name": "x"}),
    step("POST", f"{PUSH}/{{subscription_id=notices}}/pause", 409),
    step("POST", f"{PUSH}/{{subscription_id=notices}}/resume", 409),
    step("DELETE", f"{PUSH}/{{subscription_id=notices}}", 409),
    step("POST", f"{ONE_PUSH}/rotate-secret", 200),
    step("POST", f"{ONE_PUSH}/pause", 200),
    step("POST", f"{ONE_PUSH}/test", 202),
    # events
    step("POST", "/v1/events", 201, EVENT, event_id="id"),
    step("POST", "/v1/events", 200, EVENT),
    step("POST", "/v1/events", 409, {**EVENT, "payload": 2}),
    step("POST", "/v1/events/batch", 200, [{"type": "a", "payload": 1}]),
    step("POST", "/v1/events/batch", 207, [{"type": "a", "payload": 1}, {"type": ""}]),
    step("POST", "/v1/events/batch", 409, [{**EVENT, "payload": 2}]),
    step("POST", "/v1/events/batch", 422, [{"type": ""}, {**EVENT, "payload": 2}]),
    step("POST", "/v1/events", 201, ("application/cloudevents+json", CLOUD_EVENT)),
    step("POST", "/v1/events", 200, ("application/cloudevents-batch+json", [CLOUD_EVENT])),
    step("POST", "/v1/events", 207, ("application/cloudevents-batch+json", [CLOUD_EVENT, {}])),
    step("POST", "/v1/events/batch", 207, ("application/cloudevents-batch+json", [CLOUD_EVENT, {}])),
    step("GET", "/v1/events", 200),
    step("GET", "/v1/events?undelivered=&type=*&subject=s", 200),
    step("GET", "/v1/search?q={event_id}", 200),
    step("GET", "/v1/events/{event_id}?explain=", 200),
    step("GET", "/v1/events/{event_id}/payload", 200),
    step("GET", "/v1/events/{event_id}/unmatched", 200),
    step("POST", "/v1/events/dry-run", 200, EVENT),
    step("GET", "/v1/samples?format=cloudevents", 200),
    step("POST", f"{PUSH}/dry-run", 200, {"filter": "payload.n == 1"}),
    # deliveries, while no worker runs
    step("GET", "/v1/deliveries", 200),
    step("GET", "/v1/undelivered", 200),
    step("GET", "/v1/events/{event_id}/deliveries", 200),
    step("GET", "/v1/deliveries/{event_id}.{subscription_id}", 200, None, delivery_id="id"),
    step("POST", f"{DELIVERY}/retry", 200),
    step("POST", f"{DELIVERY}/cancel", 200),
    step("POST", f"{DELIVERY}/retry", 200),
    step("POST", f"{ONE_PUSH}/resume", 200),
    # and from here on with one
    step("POST", f"{ONE_PUSH}/test", 200),
    step("GET", DELIVERY, 200, None, delivered="status"),
    step("POST", f"{DELIVERY}/retry", 409),
    step("POST", f"{DELIVERY}/cancel", 409),
    step("GET", f"{ONE_PUSH}/attempts", 200),
    step("GET", "/v1/events/{event_id}/attempts", 200),
    # replays
    step("POST", "/v1/replays", 200, {"subscription_id": "{subscription_id}", "plan_only": True}),
    step("POST", "/v1/replays", 201, {"subscription_id": "{subscription_id}"}, replay_id="id"),
    step("POST", "/v1/replays", 201, {"subscription_id": "{subscription_id}", "action": "cancel"}),
    step("POST", "/v1/replays", 409, {"subscription_id": "{notices}"}),
    step("GET", "/v1/replays", 200),
    # statistics
    step("GET", "/v1/stats", 200),
    step("GET", "/v1/stats?range=14d&subscription={subscription_id}", 200),
    step("GET", "/v1/stats/subscriptions?limit=2", 200),
    step("GET", "/v1/replays/{replay_id}", 200),
    step("DELETE", "/v1/replays/{replay_id}", 200),
    # streams
    step("GET", "/v1/stream?type=*&kind=accepted,dead", 200),
    step("GET", "/v1/stream?kind=lost", 422),
    step("GET", f"{ONE}/events", 200),
    # messages
    step("GET", "/v1/inbox", 200),
    step("POST", "/v1/ack", 200, {"event_ids": ["{event_id}", "nothing"]}),
    step("GET", MESSAGES, 200),
    step("POST", f"{MESSAGES}/lease", 201, {"lease_limit": 1}, lease="lease_id"),
    step("GET", f"{ONE}/leases", 200),
    step("POST", f"{MESSAGES}/revoke", 200, LEASE),
    step("POST", f"{MESSAGES}/revoke", 409, LEASE),
    step("POST", f"{MESSAGES}/lease", 201, {"lease_limit": 1, "consumer": "worker 1"}, lease="lease_id"),
    step("GET", MESSAGES, 200),
    step("GET", f"{ONE}/leases", 200),
    step("POST", f"{MESSAGES}/extend", 201, LEASE),
    step("POST", f"{MESSAGES}/extend", 409, NO_LEASE),
    step("POST", f"{MESSAGES}/release", 201, {**LEASE, "note": {"status_code": 503, "text": "later"}}),
    step("POST", f"{MESSAGES}/release", 409, {**NO_LEASE, "message_ids": ["{event_id}", "nothing"]}),
    step("POST", f"{MESSAGES}/lease", 201, {"lease_limit": 1}, lease="lease_id"),
    step("POST", f"{MESSAGES}/reject", 201, {**LEASE, "reason": "poison"}),
    step("POST", f"{MESSAGES}/reject", 409, {**NO_LEASE, "reason": "poison"}),
    step("POST", f"{MESSAGES}/redrive", 200),
    step("POST", f"{MESSAGES}/lease", 201, None, lease="lease_id"),
    step("POST", f"{MESSAGES}/ack", 201, LEASE),
    step("POST", f"{MESSAGES}/ack", 200, LEASE),
    step("POST", f"{MESSAGES}/release", 200, LEASE),
    step("POST", f"{MESSAGES}/extend", 200, LEASE),
    step("POST", f"{MESSAGES}/ack", 409, NO_LEASE),
    step("POST", f"{MESSAGES}/lease", 200),
    step("POST", f"{MESSAGES}/redrive", 200),
    step("POST", f"{ONE}/pause", 200),
    step("POST", f"{MESSAGES}/lease", 409),
    step("DELETE", f"{INBOX}/{{inbox=other}}", 202),
    step("DELETE", f"{INBOX}/{{inbox=other}}", 409),
    step("GET", f"{INBOX}/{{inbox=other}}/events", 409),
    step("PATCH", f"{INBOX}/{{inbox=other}}", 409, {"filter": None}),
    step("POST", f"{INBOX}/{{inbox=other}}/messages/redrive", 409),
    step("GET", f"{INBOX}?key=default", 200, None, default="data.0.id"),
    step("DELETE", f"{INBOX}/{{inbox=default}}", 202),
    step("GET", "/v1/inbox", 404),
    step("POST", "/v1/ack", 200, {"event_ids": ["{event_id}"]}),
    # the end of subscriptions
    step("POST", f"{ONE_PUSH}/disable", 200),
    step("POST", f"{ONE_PUSH}/test", 409),
    step("POST", f"{ONE_PUSH}/enable", 200),
    step("POST", f"{PUSH}/{{subscription_id=second}}/enable", 409),
    step("DELETE", ONE_PUSH, 204),
    step("DELETE", ONE_PUSH, 204),
    # the console
    step("POST", "/v1/console/links", 201, {"scopes": ["read"], "return_url": "https://example.com/"}),
    step("GET", "/v1/console/sessions", 200),
    step("DELETE", "/v1/console/sessions/{session_id}", 204),
    # keys and organisations
    step("GET", "/v1/org", 200),
    step("GET", "/v1/keys", 200),
    step("POST", "/v1/keys", 201, {"scopes": ["inbox"]}, key_id="id"),
    step("POST", "/v1/keys/{key_id}/rotate", 201),
    step("DELETE", "/v1/keys/{key_id}", 200),
    step("POST", "/v1/keys/{key_id}/rotate", 409),
    step("GET", "/v1/admin/orgs", 200),
    step("POST", "/v1/admin/orgs", 201, {"name": "new"}, org_id="id"),
    step("POST", "/v1/admin/orgs", 409, {"name": "new"}),
    step("PUT", "/v1/admin/orgs/{org_id}/plan", 200, {"plan": "pro"}),
    step("GET", "/v1/admin/orgs/{org_id}/keys", 200),
    step("POST", "/v1/admin/orgs/{org_id}/keys", 201, {"scopes": ["inbox"]}, key_id="id"),
    step("DELETE", "/v1/admin/orgs/{org_id}/keys/{key_id}", 200),
    step("POST", "/v1/admin/orgs", 201, {"name": "short-lived"}, deleted="id"),
    step("DELETE", "/v1/admin/orgs/{org_id=deleted}", 202),
    step("GET", "/v1/org", 200, own="id"),
    step("DELETE", "/v1/admin/orgs/{org_id=own}", 409),
    step("GET", "/v1/admin/use", 200),
    step("GET", "/v1/admin/system", 200),
    # what every route may answer
    step("GET", "/v1/events?limit=0", 422),
    step("GET", "/v1/keys?cursor=x", 422),
    step("POST", "/v1/events", 422, {"type": "a"}),
    step("POST", "/v1/events", 415, "text"),
    step("POST", "/v1/events", 413, {"type": "a", "payload": "x" * 300_000}),
    step("POST", PUSH, 415, "text"),
    step("POST", PUSH, 422, {"target_url": "nowhere", "strange": 1}),
    step("POST", PUSH, 413, {"target_url": "x" * 1_100_000}),
    step("GET", f"{PUSH}/{{subscription_id=event_id}}", 404),
    # operation
    step("GET", "/livez", 200),
    step("GET", "/metrics", 200),
    step("GET", "/readyz?verbose=", 200),
    step("GET", "/readyz", 503),
)


class Described:
    """The document, and whether answers are as it says."""

    def __init__(self, document: Any) -> None:
        self.document = document
        strict = copy.deepcopy(document["components"])
        for schema in strict["schemas"].values():
            if "properties" in schema:
                schema["additionalProperties"] = False  # what is answered but not described is a lie too
        self._components = strict
        self.seen: set[tuple[str, str, int]] = set()

    def check(self, method: str, path: str, answer: httpx.Response) -> None:
        where = (method, path, answer.status_code)
        self.seen.add(where)
        responses = self.document["paths"][path][method.lower()]["responses"]
        assert str(answer.status_code) in responses, (where, answer.text)
        response = responses[str(answer.status_code)]
        if "$ref" in response:
            response = self.document["components"]["responses"][response["$ref"].rpartition("/")[2]]
        missing = {name for name in response["headers"] if name not in answer.headers}
        if answer.status_code >= 400:
            missing -= {"RateLimit", "RateLimit-Policy"}  # what is refused first has not been counted
        if answer.status_code == 200 and path == "/v1/events":
            missing -= {"Location"}  # the answer to a batch has no Location
        assert missing <= {"Retry-After"}, (where, missing)  # a batch has it only if the limit cut it
        if "content" not in response:
            assert answer.content == b"", where
            return
        media_type = answer.headers["content-type"].partition(";")[0]
        assert list(response["content"]) == [media_type], where
        schema = response["content"][media_type]["schema"]
        value = answer.json() if media_type.endswith("json") else answer.text
        validator = jsonschema.Draft202012Validator(
            {**schema, "components": self._components},
            format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER,
        )
        found = [f"{error.json_path}: {error.message}" for error in validator.iter_errors(value)]
        assert found == [], (where, found)


def filled(value: Any, known: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {name: filled(each, known) for name, each in value.items()}
    if isinstance(value, list):
        return [filled(each, known) for each in value]
    if isinstance(value, tuple):
        return tuple(filled(each, known) for each in value)
    if isinstance(value, str):
        return re.sub(r"\{(?:\w+=)?(\w+)\}", lambda found: known[found[1]], value)
    return value


async def call(client: httpx.AsyncClient, method: str, url: str, body: Any) -> httpx.Response:
    if method == "GET" and re.match(r"/v1/(stream|inboxes/[^/]+/events)\b", url):
        return await beginning(client, url)
    if isinstance(body, str):
        return await client.request(method, url, content=body, headers={"content-type": "text/plain"})
    if isinstance(body, tuple):
        media_type, body = body
        return await client.request(method, url, json=body, headers={"content-type": media_type})
    return await client.request(method, url, json=body)


def part(answer: httpx.Response, way: str) -> str:
    found = answer.json()
    for name in way.split("."):
        found = found[int(name)] if isinstance(found, list) else found[name]
    return str(found)


async def test_every_answer_that_is_described_is_given_as_it_is_described(
    make_node: Callable[..., Any],
    database: Database,
    tenants: Tenants,
    workers: Workers,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def later(*_: Any) -> int:
        return 0

    monkeypatch.setattr(ending, "follow", later)  # what is being deleted stays so for a while
    node: Node = await make_node()
    tenant = await tenants.make(requests_per_minute=1_000_000)
    everything = await tenants.key_of(tenant.id, tenant.name, set(Scope))
    session = (await node.sessions.open_with_key(everything.key)).session
    known = {"receiver": receiver.url, "session_id": str(session.id)}
    async with node.client(everything) as client:
        described = Described((await client.get("/openapi.json")).json())
        for method, path, status, body, remember in STEPS:
            if (path, status) == (f"{ONE_PUSH}/test", 200):
                await workers.start()
            if path.endswith("{subscription_id=second}/enable"):
                await database.fetch(
                    "update subscriptions set status = 'disabled', expires_at = now() where id = $1",
                    known["second"],
                )
            if (path, status) == ("/readyz", 503):
                node.health.stopping = True
            url = filled(path, known)
            template = re.sub(r"\{(\w+)=\w+\}", r"{\1}", path.partition("?")[0])
            template = template.replace("{event_id}.{subscription_id}", "{delivery_id}")

            ask = partial(call, client, method, url, filled(body, known))
            # Everything is answered at once, but what waits for the worker.
            answer = await (eventually(partial(_delivered, ask), 20) if "delivered" in remember else ask())
            assert answer.status_code == status, (method, url, answer.text)
            described.check(method, template, answer)
            known |= {name: part(answer, way) for name, way in remember.items()}
        node.health.stopping = False
        other = {"triggers-org": known["org_id"]}
        answer = await client.post("/v1/console/links", headers=other)
        described.check("POST", "/v1/console/links", answer)
        assert answer.status_code == 403
        answer = await client.post("/v1/keys", content=b"{", headers={"content-type": "application/json"})
        described.check("POST", "/v1/keys", answer)
        assert answer.status_code == 400
        answer = await client.get("/v1/keys", headers={"authorization": "Bearer zap_test_x"})
        described.check("GET", "/v1/keys", answer)
        assert answer.status_code == 401

    promised = set()
    for route in ROUTES:
        if route.hidden:
            continue
        path = route.path
        promised |= {(route.method, path, answer.status) for answer in route.answers}
        operation = described.document["paths"][path][route.method.lower()]
        promised |= {(route.method, path, int(status)) for status in operation["responses"] if status < "3"}
        assert route.scope == PUBLIC or "security" in operation
    assert promised <= described.seen, sorted(promised - described.seen)


async def _delivered(ask: Callable[[], Any]) -> httpx.Response | None:
    answer: httpx.Response = await ask()
    return answer if answer.json()["status"] == "delivered" else None
