"""One organisation never sees, changes or guesses anything of another: every route, from the route table.

A new route is covered the moment it stands in the table. One that these tests cannot call, for
want of a body or of another organisation's id to put in, fails them until it is told here how.
"""

from __future__ import annotations

import inspect
import re
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, get_args, get_type_hints

import httpx
import msgspec

from harness import Node, Tenant, Tenants, eventually
from streaming import beginning
from triggers.domain import Scope
from triggers.http.event_stream import MEDIA_TYPE
from triggers.http.route import PUBLIC, Route
from triggers.node.routes import ROUTES
from triggers.postgres.database import Database

MARK = "belongs-to-the-victim"

# Per route with a body: one that is valid. `{event}`, `{lease}` and `{key}` become ids, see `filled`.
BODIES: dict[tuple[str, str], Any] = {
    ("POST", "/v1/events"): {"type": "a", "payload": 1},
    ("POST", "/v1/events/dry-run"): {"type": "a", "payload": 1},
    ("POST", "/v1/events/batch"): [{"type": "a", "payload": 1}],
    ("POST", "/v1/ack"): {"event_ids": ["{event}"]},
    ("POST", "/v1/inboxes"): {"key": "{random}"},
    ("PUT", "/v1/inboxes"): {"key": "{random}"},
    ("PATCH", "/v1/inboxes/{inbox}"): {"event_types": ["x"]},
    ("POST", "/v1/inboxes/{inbox}/pause"): None,
    ("POST", "/v1/inboxes/{inbox}/resume"): None,
    ("POST", "/v1/inboxes/{inbox}/messages/lease"): {"lease_id": "{lease}"},
    ("POST", "/v1/inboxes/{inbox}/messages/ack"): {"lease_id": "{lease}", "message_ids": ["{event}"]},
    ("POST", "/v1/inboxes/{inbox}/messages/release"): {"lease_id": "{lease}", "message_ids": ["{event}"]},
    ("POST", "/v1/inboxes/{inbox}/messages/reject"): {
        "lease_id": "{lease}",
        "message_ids": ["{event}"],
        "reason": "x",
    },
    ("POST", "/v1/inboxes/{inbox}/messages/revoke"): {"lease_id": "{lease}"},
    ("POST", "/v1/inboxes/{inbox}/messages/extend"): {"lease_id": "{lease}"},
    ("POST", "/v1/inboxes/{inbox}/messages/redrive"): {"message_ids": ["{quarantined}"]},
    ("POST", "/v1/subscriptions"): {"target_url": "https://example.com/", "key": "{random}"},
    ("PUT", "/v1/subscriptions"): {"target_url": "https://example.com/", "key": "{random}"},
    ("POST", "/v1/subscriptions/dry-run"): {"filter": "true"},
    ("PATCH", "/v1/subscriptions/{subscription_id}"): {"name": "x"},
    ("POST", "/v1/subscriptions/{subscription_id}/pause"): None,
    ("POST", "/v1/subscriptions/{subscription_id}/resume"): None,
    ("POST", "/v1/subscriptions/{subscription_id}/disable"): None,
    ("POST", "/v1/subscriptions/{subscription_id}/enable"): None,
    ("POST", "/v1/subscriptions/{subscription_id}/rotate-secret"): None,
    ("POST", "/v1/subscriptions/{subscription_id}/test"): None,
    ("POST", "/v1/deliveries/{delivery_id}/retry"): None,
    ("POST", "/v1/deliveries/{delivery_id}/cancel"): None,
    ("POST", "/v1/replays"): {"subscription_id": "{subscription_id}"},
    ("POST", "/v1/keys"): {"scopes": ["inbox"]},
    ("POST", "/v1/keys/{key_id}/rotate"): None,
    ("POST", "/v1/console/links"): None,
    ("POST", "/v1/admin/orgs"): {"name": "{random}"},
    ("PUT", "/v1/admin/orgs/{org_id}/plan"): {"plan": "pro"},
    ("POST", "/v1/admin/orgs/{org_id}/keys"): {"scopes": ["inbox"]},
}

EVERY: list[tuple[Route, str]] = [(route, path) for route in ROUTES for path in route.paths]


def names_of(path: str) -> list[str]:
    return re.findall(r"\{(\w+)\}", path)


@dataclass
class Estate:
    """Everything that an organisation can have, by the name that paths and bodies give it."""

    tenant: Tenant
    ids: dict[str, list[str]] = field(default_factory=dict)


async def build(node: Node, tenants: Tenants) -> Estate:
    """An organisation with an event, a lease, a quarantined message, an inbox, a subscription with a
    delivery and a replay, and a key."""
    tenant = await tenants.make(name=MARK + uuid.uuid4().hex)
    dedup_id = MARK + uuid.uuid4().hex
    async with node.client(tenant) as client:
        inbox = (await client.post("/v1/inboxes", json={"key": "mine", "max_leases": 1})).json()
        push = (await client.post("/v1/subscriptions", json={"target_url": "https://example.com/"})).json()
        event = (
            await client.post("/v1/events", json={"type": MARK, "payload": MARK, "dedup_id": dedup_id})
        ).json()
        other = (await client.post("/v1/events", json={"type": MARK, "payload": MARK})).json()
        lease = (await client.post("/v1/inboxes/default/messages/lease", json={"lease_limit": 1})).json()
        messages = "/v1/inboxes/mine/messages"
        worn = (await client.post(f"{messages}/lease", json={"lease_limit": 2})).json()
        await client.post(f"{messages}/release", json={"lease_id": worn["lease_id"]})
        assert (await client.post(f"{messages}/lease")).json()["results"] == []
        quarantined = (await client.get(messages, params={"status": "quarantined"})).json()["data"]
        assert len(quarantined) == 2
        replay = (await client.post("/v1/replays", json={"subscription_id": push["id"]})).json()
        await eventually(lambda: is_done(client, replay["id"]))
    session = (await node.sessions.open_with_key(tenant.key)).session
    return Estate(
        tenant,
        {
            "event_id": [event["id"], other["id"]],
            "inbox": [inbox["id"], "mine"],
            "key_id": [str(tenant.key_id)],
            "org_id": [str(tenant.id)],
            "subscription_id": [push["id"]],
            "delivery_id": [f"{event['id']}.{push['id']}", f"{other['id']}.{inbox['id']}"],
            "replay_id": [replay["id"]],
            "session_id": [str(session.id)],
            "dedup_id": [dedup_id],
            "event": [other["id"]],
            "lease": [lease["lease_id"]],
            "quarantined": [quarantined[0]["id"]],
        },
    )


async def is_done(client: httpx.AsyncClient, replay_id: str) -> bool:
    answer = await client.get(f"/v1/replays/{replay_id}")
    return bool(answer.json()["status"] == "done")


def filled(body: Any, values: dict[str, str]) -> Any:
    """The body with its placeholders replaced."""
    if isinstance(body, dict):
        return {name: filled(value, values) for name, value in body.items()}
    if isinstance(body, list):
        return [filled(value, values) for value in body]
    if isinstance(body, str) and body.startswith("{"):
        name = body.strip("{}")
        return uuid.uuid4().hex if name == "random" else values[name]
    return body


async def call(client: httpx.AsyncClient, route: Route, path: str, values: dict[str, str]) -> httpx.Response:
    if route.method in ("POST", "PUT", "PATCH"):
        assert (route.method, route.path) in BODIES, f"say in BODIES what {route.method} {route.path} takes"
    url = re.sub(r"\{(\w+)\}", lambda found: values[found[1]], path)
    body = BODIES.get((route.method, route.path))
    if route.media_type == MEDIA_TYPE:
        return await beginning(client, url)
    return await client.request(route.method, url, json=None if body is None else filled(body, values))


def nobody() -> dict[str, str]:
    """An id that does not exist, for every name."""
    names = {name for _, path in EVERY for name in names_of(path)} | {"event", "lease", "quarantined"}
    return {name: str(uuid.uuid4()) for name in names}


async def everything_of(database: Database, org_id: uuid.UUID) -> dict[str, list[Any]]:
    """Every row of an organisation, whichever table it is in."""
    tables = await database.fetch(
        "select c.relname as name, exists (select from pg_attribute a where a.attrelid = c.oid"
        " and a.attname = 'org_id') as owned from pg_class c"
        " where c.relkind in ('r', 'p') and c.relnamespace = 'public'::regnamespace and not c.relispartition"
    )
    found = {}
    for table in tables:
        name = table["name"]
        if table["owned"] or name == "organisations":
            column = "org_id" if table["owned"] else "id"
            rows = await database.fetch(
                f"select to_jsonb(t) - 'last_used_at' as row from {name} t where {column} = $1",
                org_id,
            )
            found[name] = sorted(row["row"] for row in rows)
    return found


@asynccontextmanager
async def unharmed(database: Database, victim: Estate) -> AsyncIterator[None]:
    before = await everything_of(database, victim.tenant.id)
    assert all(
        before[name] for name in ("organisations", "api_keys", "events", "deliveries", "subscriptions")
    )
    yield
    assert await everything_of(database, victim.tenant.id) == before


def without_ids(answer: httpx.Response, values: dict[str, str]) -> tuple[int, str]:
    """An answer with the ids that were asked for, and those of requests and new things, blanked."""
    text = answer.text
    for value in sorted(values.values(), key=len, reverse=True):
        text = text.replace(value, "·")
    text = re.sub(r'"request_id":"[^"]+"', "", text)
    text = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}|\d{4}-\d\d-\d\dT[\d:.]+Z", "·", text)
    return answer.status_code, re.sub(r"zap_test_\w{3}", "", re.sub(r'"key":"[^"]+"', "", text))


async def test_no_route_answers_without_a_key_or_without_its_scope(
    node: Node, tenants: Tenants, database: Database
) -> None:
    tenant = await tenants.make()
    everything = list(Scope)
    lacking = {
        scopes: await tenants.key_of(tenant.id, tenant.name, set(Scope) - set(scopes))
        for scopes in {route.scopes for route in ROUTES if route.scopes}
    }
    stale = await tenants.key_of(tenant.id, tenant.name, everything)
    await database.fetch("update api_keys set revoked_at = now() where id = $1", stale.key_id)
    async with node.client() as client:
        for route, path in EVERY:
            if route.scope == PUBLIC:
                assert path.startswith(
                    ("/livez", "/readyz", "/metrics", "/openapi.json", "/problems", "/docs", "/console")
                ) or (path in ("/", "/llms.txt")), f"{path} asks for no key: is that meant?"
                continue
            for headers in ({}, {"authorization": "Bearer zap_live_" + "x" * 43}, stale.headers):
                client.headers = httpx.Headers(headers)
                answer = await call(client, route, path, nobody())
                assert answer.status_code == 401, (route.method, path, answer.text)
                assert answer.json()["type"] == "/problems/unauthenticated"
            if route.scope is None:
                continue
            client.headers = httpx.Headers(lacking[route.scopes].headers)
            answer = await call(client, route, path, nobody())
            assert answer.status_code == 403, (route.method, path, answer.text)
            assert answer.json()["scope"] == route.scope


async def test_another_organisations_ids_in_a_path_do_not_exist(
    node: Node, tenants: Tenants, database: Database
) -> None:
    victim = await build(node, tenants)
    attacker = await tenants.make()
    with_all = await tenants.key_of(attacker.id, attacker.name, set(Scope))
    tried = 0
    async with node.client(with_all) as client, unharmed(database, victim):
        for route, path in EVERY:
            names = names_of(path)
            if not names or route.scope == PUBLIC:
                continue
            unknown = set(names) - set(victim.ids)
            assert not unknown, f"say in build() what {unknown} of {path} are"
            if route.scope == Scope.ADMIN:
                if names == ["org_id"]:
                    continue  # the operator's: made to reach every organisation
                names.remove("org_id")  # but a thing of one is not found under another
            for name in names:
                for value in victim.ids[name]:
                    asked = nobody() | {n: v[0] for n, v in victim.ids.items()} | {name: value}
                    if route.scope == Scope.ADMIN:
                        asked["org_id"] = str(attacker.id)
                    answer = await call(client, route, path, asked)
                    assert answer.status_code == 404, (route.method, path, value, answer.text)
                    assert MARK not in answer.text
                    nothing = nobody() | ({"org_id": str(attacker.id)} if route.scope == Scope.ADMIN else {})
                    assert without_ids(answer, asked) == without_ids(
                        await call(client, route, path, nothing), nothing
                    ), f"{route.method} {path} tells what exists from what does not"
                    tried += 1
    assert tried >= 25


async def test_another_organisations_ids_in_a_body_do_not_exist(
    node: Node, tenants: Tenants, database: Database
) -> None:
    victim = await build(node, tenants)
    mine = await build(node, tenants)
    with_all = await tenants.key_of(mine.tenant.id, mine.tenant.name, set(Scope))
    tried = 0
    async with node.client(with_all) as client, unharmed(database, victim):
        for route, path in EVERY:
            body = BODIES.get((route.method, route.path))
            fields = id_fields(route)
            said = set(body) if isinstance(body, dict) else set()
            assert fields <= said, f"say in BODIES what {fields - said} of {route.method} {path} are"
            if not fields:
                continue
            own = {name: values[0] for name, values in mine.ids.items() if name in names_of(path)}
            if "inbox" in own:
                own["inbox"] = "mine"
            theirs = {name: values[0] for name, values in victim.ids.items()} | own
            nothing = nobody() | own
            answer = await call(client, route, path, theirs)
            # Nothing is made of what is not there; what only names things says which it did not find.
            assert answer.status_code < 400 or answer.status_code in (409, 422), answer.text
            assert MARK not in answer.text
            assert without_ids(answer, theirs) == without_ids(
                await call(client, route, path, nothing), nothing
            )
            tried += 1
    assert tried >= 8


async def test_another_organisations_ids_in_a_query_do_not_exist(
    node: Node, tenants: Tenants, database: Database
) -> None:
    victim, mine = await build(node, tenants), await build(node, tenants)
    told_apart = 0
    async with node.client(mine.tenant) as client, unharmed(database, victim):
        paths = (await client.get("/openapi.json")).json()["paths"]
        asked = [
            (path, parameter["name"])
            for path, operations in paths.items()
            for parameter in operations.get("get", {}).get("parameters", [])
            if parameter["in"] == "query" and re.search(r"(^|_)ids?$", parameter["name"])
        ]
        for path, name in asked:
            assert name in victim.ids, f"say in build() what {name} of {path} is"
            url = re.sub(r"\{(\w+)\}", lambda found: mine.ids[found[1]][0], path)
            theirs, own, nothing = victim.ids[name][0], mine.ids[name][0], str(uuid.uuid4())
            answers = [
                without_ids(await client.get(url, params={name: value}), {name: value})
                for value in (theirs, nothing, own)
            ]
            assert answers[0] == answers[1], path
            told_apart += answers[1] != answers[2]
    assert told_apart >= 2


async def test_lists_show_nothing_of_another(node: Node, tenants: Tenants, database: Database) -> None:
    victim = await build(node, tenants)
    attacker = await tenants.make()
    async with node.client(attacker) as client, unharmed(database, victim):
        for route, path in EVERY:
            if route.method == "GET" and not names_of(path) and route.scope not in (PUBLIC, Scope.ADMIN):
                answer = await call(client, route, path, {})
                assert answer.status_code == 200, (path, answer.text)
                ids = [value for values in victim.ids.values() for value in values if value != "mine"]
                assert not [found for found in [MARK, *ids] if found in answer.text], path
        for method in ("HEAD", "OPTIONS", "TRACE", "PUT"):
            for event_id in victim.ids["event_id"]:
                answer = await client.request(method, f"/v1/events/{event_id}")
                expected = (404,) if method == "HEAD" else (204, 405)
                assert answer.status_code in expected, (method, answer.status_code)
                nothing = await client.request(method, f"/v1/events/{uuid.uuid4()}")
                assert (answer.status_code, answer.headers.get("allow")) == (
                    nothing.status_code,
                    nothing.headers.get("allow"),
                )


async def test_the_same_words_mean_different_things(node: Node, tenants: Tenants) -> None:
    """Keys of inboxes, dedup ids and lease ids are an organisation's own."""
    first, second = await tenants.make(), await tenants.make()
    lease_id = str(uuid.uuid4())
    found = []
    for tenant in (first, second):
        async with node.client(tenant) as client:
            assert (await client.post("/v1/inboxes", json={"key": "jobs"})).status_code == 201
            posted = await client.post(
                "/v1/events", json={"type": "a", "payload": tenant.name, "dedup_id": "d"}
            )
            assert posted.status_code == 201
            lease = await client.post("/v1/inboxes/jobs/messages/lease", json={"lease_id": lease_id})
            assert [message["payload"] for message in lease.json()["results"]] == [tenant.name]
            found.append(lease.json()["lease_id"])
    assert found == [lease_id, lease_id]
    async with node.client(first) as client:
        acked = await client.post("/v1/inboxes/jobs/messages/ack", json={"lease_id": lease_id})
        assert len(acked.json()["results"]) == 1
    async with node.client(second) as client:
        messages = (await client.get("/v1/inboxes/jobs/messages")).json()["data"]
        assert [message["status"] for message in messages] == ["leased"]


def id_fields(route: Route) -> set[str]:
    """The fields of a route's body that hold ids of things that exist."""
    if route.takes is not None:
        return set()  # its dedup_id is the caller's own word
    data = get_type_hints(route.handler).get("data")
    types = [t for t in (data, *get_args(data)) if inspect.isclass(t) and issubclass(t, msgspec.Struct)]
    return {name for t in types for name in t.__struct_fields__ if re.search(r"(^|_)ids?$", name)}


async def test_the_table_is_the_whole_surface(client: httpx.AsyncClient, node: Node) -> None:
    """Nothing answers that is not in the table, so nothing escapes the tests above."""
    served = [(route.method, route.paths) for route in node.server.config.app.routes]
    assert sorted(served) == sorted((route.method, route.paths) for route in ROUTES)
    table = {route.method + path for route, path in EVERY}
    for path in {path for _, path in EVERY if "{" not in path}:
        allowed = (await client.options(path)).headers["allow"].split(", ")
        assert {method + path for method in allowed} - table <= {f"OPTIONS{path}", f"HEAD{path}"}
