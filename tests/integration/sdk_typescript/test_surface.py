"""The library has all routes, parameters and fields of the OpenAPI document, but for exemptions."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

import typescript
from delivering import Workers
from harness import Node, Tenant
from receiving import Receiver
from triggers.node.openapi import encoded

EXEMPT_ROUTES = {
    r"(GET|POST|PUT|DELETE) /v1/admin/.*": "operators use the command line",
    r"(GET|POST|DELETE) /v1/console/.*": "the console is for people",
    r"\w+ /v1/hooks.*": "another name for /v1/subscriptions",
    r"\w+ /(events|inbox|ack|inbox/ack)": "another name for the path with /v1",
    r"POST /v1/inbox/ack": "another name for /v1/ack",
}
EXEMPT_SCHEMAS = {
    "CloudEventBody": "CloudEvents have libraries of their own, which send them over HTTP",
    "StandardBody": "the body of a webhook, which `verify` returns as the caller's type",
    "CloudEvent": "the same",
    "Notice": "the same",
    **dict.fromkeys(["EventPage", "InboxPage"], "the library calls `events` `data`, as in all other lists"),
    "AckBody": "the ids are a parameter",
    "RevokeBody": "the id is a parameter",
    **dict.fromkeys(
        [
            "OrganisationList",
            "OrganisationView",
            "DeletedOrganisationView",
            "OrganisationBody",
            "PlanBody",
            "UseList",
            "OrganisationUse",
            "DeletedOrganisationView",
        ],
        "only of routes for operators",
    ),
    **dict.fromkeys(
        [
            "SystemState",
            "DiskView",
            "SettingView",
            "ApiProcessView",
            "WorkerView",
            "GroupsView",
            "PostgresView",
        ],
        "only of routes for operators",
    ),
    **dict.fromkeys(["PoolView", "TableView", "VersionsView"], "only of routes for operators"),
    **dict.fromkeys(["LinkView", "LinkBody", "SessionList", "SessionView"], "only of routes of the console"),
}
"""Schemas without a type in the library, and why."""

NAMES = {
    "EventBody": "NewEvent",
    "EventAccepted": "SentEvent",
    "EventView": "StoredEvent",
    "DeliveryView": "DeliveryState",
    "InboxView": "Inbox",
    "NotifyingInboxView": "NotifyingInbox",
    "InboxBody": "NewInbox",
    "NoteBody": "Note",
    "NotificationsView": "Notifications",
    "AckAnswer": "Acknowledgement",
    "AckResult": "AcknowledgementResult",
    "Lease": "TakenLease",
    "LeaseBody": "LeaseRequest",
    "LeaseView": "HeldLease",
    "SubscriptionView": "Subscription",
    "NewSubscriptionView": "SubscriptionWithSecret",
    "SubscriptionBody": "NewSubscription",
    "EnabledView": "EnabledSubscription",
    "DryRunAnswer": "DryRun",
    "DryRunBody": "DryRunRequest",
    "TestAnswer": "TestDelivery",
    "AttemptView": "Attempt",
    "DeliveryListed": "ListedDelivery",
    "UndeliveredView": "Undelivered",
    "ReplayView": "Replay",
    "ReplayBody": "NewReplay",
    "Numbers": "StatisticsNumbers",
    "Point": "StatisticsPoint",
    "Failing": "FailingSubscription",
    "SearchAnswer": "SearchResult",
    "HitView": "SearchHit",
    "WhoAmI": "Organisation",
    "ApiKeyView": "ApiKey",
    "ApiKeyBody": "ApiKeyRequest",
    "ReadinessAnswer": "Readiness",
    "SubscriptionStatistics": "SubscriptionHoursPage",
}
"""Names of types in the library, where they are not those of the schemas."""

PARAMETERS = {
    "list_events": "EventListParams",
    "list_inbox": "UnacknowledgedParams",
    "list_inboxes": "InboxListParams",
    "list_messages": "MessageListParams",
    "list_leases": "ListParams",
    "list_subscriptions": "SubscriptionListParams",
    "list_samples": "SampleParams",
    "list_subscription_attempts": "ListParams",
    "list_event_attempts": "AttemptListParams",
    "list_deliveries": "DeliveryListParams",
    "list_undelivered": "UndeliveredListParams",
    "list_replays": "ReplayListParams",
    "list_keys": "ListParams",
    "get_statistics": "StatisticsParams",
    "list_statistics": "ListParams",
    "stream_changes": "ChangeStreamParams",
}
"""Operations with several parameters, and the types of these in the library."""

SINGLE_PARAMETERS = {"explain", "backlog", "verbose", "q", "limit"}
"""Parameters that a method has by itself."""


def document() -> Any:
    return msgspec.json.decode(encoded(""))


async def test_every_route_is_called_by_a_method(
    package: Path, node: Node, tenant: Tenant, workers: Workers, receiver: Receiver
) -> None:
    await workers.start()
    environment = {"TRIGGERS_URL": node.url, "TRIGGERS_API_KEY": tenant.key, "RECEIVER": receiver.url}
    printed = await typescript.run("surface.js", **environment)
    answered = json.loads(printed.splitlines()[-1])
    routes = {
        f"{method.upper()} {path}" for path, methods in document()["paths"].items() for method in methods
    }
    missing = {route for route in routes if not any(_is_call_of(route, call) for call in answered)}
    assert {each for each in missing if not _exempt(each)} == set()
    stale = [each for each in EXEMPT_ROUTES if not any(re.fullmatch(each, route) for route in missing)]
    assert stale == [], "an exemption of routes that the library has, or that are not there"


async def test_every_field_has_the_type_that_the_document_gives_it(package: Path) -> None:
    described = document()
    schemas = described["components"]["schemas"]
    assert set(EXEMPT_SCHEMAS) <= set(schemas), "an exemption of a schema that is not there"
    assert set(NAMES) <= set(schemas), "a name of a schema that is not there"
    await _compiles(package, "fields.ts", "\n".join(_checks_of_fields(schemas)))


async def test_every_parameter_can_be_given(package: Path) -> None:
    checks = [
        f"never<Exclude<{' | '.join(map(json.dumps, names))}, keyof library.{PARAMETERS[operation]}>>();"
        for operation, names in _parameters(document())
        if operation in PARAMETERS or not SINGLE_PARAMETERS.issuperset(names)
    ]
    assert len(checks) == len(PARAMETERS)
    await _compiles(package, "parameters.ts", "\n".join(checks))


async def test_a_field_that_is_missing_or_wrong_does_not_compile(package: Path) -> None:
    schemas = document()["components"]["schemas"]
    retry = schemas["Retry"]["properties"]
    for wrong in ({"new_field": {"type": "string"}}, {"deadline": {"type": "boolean"}}):
        checks = _checks_of_fields({"Retry": {"properties": {**retry, **wrong}}})
        with pytest.raises(AssertionError, match=next(iter(wrong))):
            await _compiles(package, "wrong.ts", "\n".join(checks))


def _exempt(route: str) -> bool:
    return any(re.fullmatch(pattern, route) for pattern in EXEMPT_ROUTES)


def _is_call_of(route: str, call: str) -> bool:
    parts = re.split(r"\{\w+\}", route)
    return re.fullmatch("[^/]+".join(map(re.escape, parts)), call) is not None


def _parameters(described: Any) -> list[tuple[str, list[str]]]:
    """Operations with query parameters, and the names of these."""
    found = []
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            names = [each["name"] for each in operation.get("parameters", ()) if each.get("in") == "query"]
            if names and not _exempt(f"{method.upper()} {path}"):
                found.append((operation["operationId"], names))
    return found


def _checks_of_fields(schemas: Any) -> list[str]:
    """The schemas as types, and a line for each that does not compile unless the library agrees with it."""
    lines = []
    for name, schema in schemas.items():
        if name in EXEMPT_SCHEMAS:
            continue
        properties = schema.get("properties")
        if properties is None:
            lines.append(f"type {name} = {_type(schema)};")
        else:
            required = schema.get("required", ())
            optional = {key for key in properties if key not in required}
            fields = [
                f"{key}?: {_type(each)} | undefined;" if key in optional else f"{key}: {_type(each)};"
                for key, each in properties.items()
            ]
            lines.append(f"interface {name} {{ {' '.join(fields)} }}")
        listed = (
            re.search(r"\((\w+)\)\[\]", _type(properties["data"]))
            if properties and "data" in properties
            else None
        )
        if name.endswith("List") and listed and set(properties) == {"data", "next_cursor"}:
            mine = f"library.Page<library.{NAMES.get(listed[1], listed[1])}>"
        else:
            mine = f"library.{NAMES.get(name, name)}"
        lines.append(f"never<Difference<{name}, {mine}>>();")
    return lines


def _type(schema: Any) -> str:
    """A schema as a type of TypeScript."""
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return " | ".join(f"({_type(each)})" for each in schema[several])
    if "enum" in schema:
        return " | ".join(json.dumps(each) for each in schema["enum"])
    match schema.get("type"):
        case list() as several:
            return " | ".join(_type({**schema, "type": each}) for each in several)
        case "array":
            return f"({_type(schema.get('items', {}))})[]"
        case "object":
            return f"Record<string, {_type(schema.get('additionalProperties') or {})}>"
        case "string" | "boolean" | "null" as same:
            return str(same)
        case "integer" | "number":
            return "number"
    return "unknown"


HEAD = """
import type * as library from "../../dist/index.js";

/** Names of what the library lacks, and of what has another type there. */
type Difference<D, L> = [D] extends [object]
  ? Exclude<keyof D, keyof L> | Wrong<D, L>
  : Same<D, L> extends true ? never : D;
type Wrong<D, L> = {
  [K in keyof D & keyof L]: Same<D[K], L[K]> extends true ? never : K;
}[keyof D & keyof L];
type Same<A, B> = [A] extends [B] ? ([B] extends [A] ? true : false) : false;
declare function never<T extends never>(): T;
"""


OPTIONS = {"noEmit": True, "declaration": False, "noUnusedLocals": False, "rootDir": "../.."}


async def _compiles(package: Path, name: str, text: str) -> None:
    folder = package / "built" / "surface"
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"{HEAD}\n{text}\n")
    config = folder / f"{name}.json"
    config.write_text(
        json.dumps({"extends": "../../tsconfig.json", "compilerOptions": OPTIONS, "files": [name]})
    )
    await typescript.output([str(typescript.TSC), "-p", str(config)])
