"""Examples of requests and answers for the reference: chosen bodies, and values for the fields of answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from msgspec import UNSET

EVENT: Final = "019ab0e4-7c11-7d5f-9f6b-3c2a1e5d8b70"
SUBSCRIPTION: Final = "019ab0d2-11aa-7c3e-8a51-6f0c9b7e2d14"
LEASE: Final = "019ab0e5-02d4-7b19-b6c8-2f4e8a0d1c35"
OTHER: Final = "019ab0c7-5e90-7f02-9d3a-7b1c4e6f8a29"
_MOMENT: Final = "2026-03-14T09:26:53.589Z"
_CURSOR: Final = "AZqw5HwRfV-fazwqHl2LcA"
_PAYLOAD: Final = {"order": 1042, "total": 99.9}

BODIES: Final[Mapping[str, Any]] = {
    "EventBody": {"type": "order.paid", "payload": _PAYLOAD, "dedup_id": "order-1042-paid"},
    "CloudEventBody": {
        "specversion": "1.0",
        "id": "1042",
        "source": "/shop",
        "type": "order.paid",
        "data": _PAYLOAD,
    },
    "AckBody": {"event_ids": [EVENT]},
    "InboxBody": {"key": "billing", "event_types": ["order.*"], "max_leases": 5},
    "InboxChange": {"event_types": ["order.*", "refund.*"]},
    "LeaseBody": {"lease_seconds": 60, "lease_limit": 10, "wait_seconds": 20, "consumer": "billing-1"},
    "SettleBody": {"lease_id": LEASE},
    "ReleaseBody": {"lease_id": LEASE, "message_ids": [EVENT], "delay_seconds": 30},
    "RejectBody": {"lease_id": LEASE, "message_ids": [EVENT], "reason": "unknown currency"},
    "ExtendBody": {"lease_id": LEASE, "lease_seconds": 60},
    "RevokeBody": {"lease_id": LEASE},
    "RedriveBody": {"message_ids": [EVENT]},
    "SubscriptionBody": {"target_url": "https://shop.example/hooks", "event_types": ["order.*"]},
    "SubscriptionChange": {"filter": "payload.total > 50.0"},
    "DisableBody": {"reason": "the endpoint has moved"},
    "RotateSecretBody": {"overlap_seconds": 86_400},
    "DryRunBody": {"event_types": ["order.*"], "filter": "payload.total > 50.0", "last": 100},
    "ReplayBody": {"subscription_id": SUBSCRIPTION, "since": "2026-03-13T00:00:00Z", "plan_only": True},
    "ApiKeyBody": {"name": "producer", "scopes": ["events:write"]},
    "RotateBody": {"overlap_seconds": 3_600},
    "OrganisationBody": {"name": "acme", "plan": "pro"},
    "PlanBody": {"plan": "business"},
    "LinkBody": {"return_url": "https://platform.example/"},
}
"""The body of a request, by its type. The other fields of the type are optional."""

_TEXTS: Final[Mapping[str, Any]] = {
    "type": "order.paid",
    "event_type": "order.paid",
    "event_types": "order.*",
    "source": "/shop",
    "subject": "customer-7",
    "dedup_id": "order-1042-paid",
    "ordering_key": "customer-7",
    "kind": "push",
    "key": "billing",
    "name": "billing",
    "status": "pending",
    "delivery_status": "pending",
    "why": "the event types include the type of the event",
    "cursor": _CURSOR,
    "next_cursor": _CURSOR,
    "created_at": _MOMENT,
    "filter": "payload.total > 50.0",
    "target_url": "https://shop.example/hooks",
    "notification_url": "https://shop.example/notify",
    "notification_secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "consumer": "billing-1",
    "format": "standard",
    "signature": "v1",
    "ordering": "none",
    "header_names": "x-tenant",
    "reason": "unavailable",
    "last_reason": "unavailable",
    "response": "upstream is down",
    "waiting_for": "retry_time",
    "subscription_kind": "push",
    "subscription_name": "billing",
    "prefix": "zap_live_4fK",
    "key_prefix": "zap_live_4fK",
    "key_name": "producer",
    "return_url": "https://platform.example/",
    "url": "https://triggers.example/console/link?token=…",
    "value": "127.0.0.1",
    "triggers": "0.1.0",
    "python": "3.13.1",
    "postgresql": "18.1",
    "hint": "Replay the events that were accepted while the subscription was disabled.",
    "delivery_id": f"{EVENT}.{SUBSCRIPTION}",
    "message_ids": EVENT,
    "event_ids": EVENT,
    "checks": "ok",
    "id": EVENT,
    "code": "invalid",
    "title": "A field is missing or wrong",
    "detail": "Must have 1 to 255 characters, but has 0.",
    "pointer": "/type",
    "request_id": "5f1c2d9a7b3e-2a",
    "scope": "events:write",
    "allow": "POST",
}
"""Texts by the name of their field."""

_OF_TYPE: Final[Mapping[str, Any]] = {
    "EventAccepted.status": "accepted",
    "AckResult.id": EVENT,
    "AckResult.status": "acknowledged",
    "Acked.results": [{"id": EVENT, "status": "acked"}],
    "Acked.not_settled": [],
    "Released.results": [{"id": EVENT, "status": "available"}],
    "Released.not_settled": [],
    "Revoked.results": [{"id": EVENT, "status": "available"}],
    "Rejected.results": [{"id": EVENT, "status": "quarantined"}],
    "Rejected.not_settled": [],
    "Redriven.results": [{"id": EVENT, "status": "available"}],
    "LeasedMessage.status": "leased",
    "ListedMessage.status": "leased",
    "InboxView.status": "active",
    "NotifyingInboxView.status": "active",
    "InboxAttributes.status": "active",
    "NotificationsView.status": "active",
    "SubscriptionView.status": "active",
    "NewSubscriptionView.status": "active",
    "EnabledView.status": "active",
    "UndeliveredView.status": "active",
    "MatchedAddressee.status": "active",
    "OtherAddressee.status": "active",
    "UnsentAddressee.status": "active",
    "Explanation.status": "active",
    "ReplayView.id": OTHER,
    "ReplayView.kind": "replay",
    "ReplayView.action": "replay",
    "ReplayView.status": "running",
    "ReplayView.reason": None,
    "SystemState.status": "ready",
    "ReadinessAnswer.status": "ready",
    "HitView.id": EVENT,
    "HitView.name": "order.paid",
    "NewApiKey.key": "zap_live_4fKx…",
    "ApiKeyView.name": "producer",
    "NewApiKey.name": "producer",
    "OrganisationView.name": "acme",
    "WhoAmI.name": "acme",
    "SettingView.name": "host",
    "TableView.name": "events",
    "ApiProcessView.name": "triggers api 4711@node-1",
    "WorkerView.name": "triggers 4712@node-1",
    "WorkerView.id": OTHER,
    "DeliveryListed.id": f"{EVENT}.{SUBSCRIPTION}",
    "DeliveryDetail.id": f"{EVENT}.{SUBSCRIPTION}",
    "EventDelivery.id": f"{EVENT}.{SUBSCRIPTION}",
    "BatchItem.index": 0,
    "BatchItem.status": 201,
    "TestAttempt.outcome": "retry",
}
"""Values of fields whose name alone is not enough."""

_NOTHING_SETTLED: Final[Mapping[str, Any]] = {"results": [], "not_settled": UNSET}
_SOME_STORED: Final = {
    "results": [
        {"index": 0, "status": 201, "id": EVENT},
        {
            "index": 1,
            "status": 422,
            "problem": {
                "type": "/problems/invalid",
                "title": _TEXTS["title"],
                "status": 422,
                "code": "invalid",
                "detail": _TEXTS["detail"],
                "pointer": "/1/type",
            },
        },
    ]
}
DIFFERENCES: Final[Mapping[tuple[str, str], Mapping[str, Any]]] = {
    ("accept_single", "200"): {"duplicate": True},
    ("accept_batch", "207"): _SOME_STORED,
    ("lease_messages", "200"): {"lease_id": None, "leased_until": None, "results": []},
    ("ack_messages", "200"): _NOTHING_SETTLED,
    ("release_messages", "200"): _NOTHING_SETTLED,
    ("extend_lease", "200"): {"leased_until": None},
    ("test_subscription", "202"): {"attempt": None},
    ("create_replay", "200"): {
        "id": None,
        "status": "planned",
        "made": 0,
        "progress": 0.0,
        "created_at": None,
        "updated_at": None,
    },
}
"""Fields with another value than in the usual answer, by operation and status. UNSET: it is absent."""

_IDS: Final = {"subscription_id": SUBSCRIPTION, "lease_id": LEASE, "event_id": EVENT, "inbox_id": OTHER}
_IDS_OF_LEASES: Final = dict.fromkeys(("acked_id", "released_id", "rejected_id", "revoked_id"), LEASE)
_NUMBERS: Final = {
    "status_code": 503,
    "duration_ms": 21,
    "max_concurrency": 64,
    "payload_size": 28,
    "default_lease_seconds": 300,
    "expires_in_seconds": 3_600,
    "requests_per_minute": 1_000,
    "step_seconds": 60,
    "deadline": 259_200,
    "progress": 0.5,
    "rate": 100,
}
_NULL: Final = frozenset(
    {
        "filter_error",
        "filter_error_at",
        "paused_reason",
        "status_reason",
        "old_secret_ends_at",
        "public_key",
        "expires_at",
        "notifies_inbox",
        "failing_since",
        "oldest_pending",
        "next_attempt",
        "notification_url",
        "notification_url_unicode",
        "target_url_unicode",
        "notifications",
        "settled_at",
        "acting_for",
        "revoked_at",
        "dataschema",
        "error_message",
        "subject",
        "source",
        "ordering_key",
        "occurred_at",
        "attributes",
        "explanations",
        "looked_to",
        "retention_seconds",
        "rate_limit",
        "next_cursor",
        "problem",
        "finished_at",
        "deadline",
    }
)
"""Fields that are usually null."""


class Examples:
    """Makes examples of the types of one OpenAPI document."""

    def __init__(self, types: Mapping[str, Any]) -> None:
        self._types = types

    def body(self, schema: Mapping[str, Any]) -> Any:
        """An example of a request's body."""
        if schema.get("type") == "array":
            return [self.body(schema["items"])]
        name = _name_of(schema)
        return BODIES[name] if name in BODIES else self.answer(schema)

    def answer_of(self, operation: str, status: str, schema: Mapping[str, Any]) -> Any:
        """An example of the answer of an operation with this status."""
        usual = self.answer(schema)
        different = DIFFERENCES.get((operation, status))
        if different is None:
            return usual
        return {field: value for field, value in {**usual, **different}.items() if value is not UNSET}

    def answer(self, schema: Mapping[str, Any], owner: str = "", field: str = "") -> Any:
        """An example of a value with this schema, which is that of a field of the type `owner`."""
        if (name := f"{owner}.{field}") in _OF_TYPE:
            return _OF_TYPE[name]
        if "anyOf" in schema:
            return self._one_of(schema["anyOf"], owner, field)
        if "$ref" in schema:
            return self._object(schema["$ref"].rpartition("/")[2], owner, field)
        if "enum" in schema:
            return _TEXTS[field] if _TEXTS.get(field) in schema["enum"] else schema["enum"][0]
        match schema.get("type"):
            case "array":
                return [self.answer(schema.get("items", {}), owner, field)] if "items" in schema else []
            case "object":
                return {"database": self.answer(schema.get("additionalProperties", {}), owner, field)}
            case "string":
                return _text(schema, field)
            case "integer" | "number":
                return _NUMBERS.get(field, 1)
            case "boolean":
                return field.endswith("_exact") or field == "matched"
            case _:
                return _PAYLOAD

    def _one_of(self, members: list[Mapping[str, Any]], owner: str, field: str) -> Any:
        nullable = any(each.get("type") == "null" for each in members)
        if nullable and field in _NULL:
            return None
        return self.answer(next(each for each in members if each.get("type") != "null"), owner, field)

    def _object(self, name: str, owner: str, field: str) -> Any:
        schema = self._types[name]
        if "properties" not in schema:
            return self.answer(schema, owner, field)
        values = {each: self.answer(value, name, each) for each, value in schema["properties"].items()}
        needed = schema.get("required", ())
        return {each: value for each, value in values.items() if value is not None or each in needed}


def written(value: Any) -> str:
    """A value as JSON over several lines; on one line, if it is short."""
    short = json.dumps(value, ensure_ascii=False)
    return short if len(short) <= 88 else json.dumps(value, indent=2, ensure_ascii=False)


def _text(schema: Mapping[str, Any], field: str) -> str:
    if schema.get("format") == "date-time":
        return _MOMENT
    if schema.get("format") == "uuid":
        return (_IDS | _IDS_OF_LEASES).get(field, OTHER if field in ("key_id", "org_id") else EVENT)
    return str(_TEXTS.get(field, "…"))


def _name_of(schema: Mapping[str, Any]) -> str:
    return str(schema.get("$ref", "")).rpartition("/")[2]
