"""The scopes `read` and `act`: what a key with them may do, route by route."""

from __future__ import annotations

from functools import partial
from typing import Any

import httpx

from harness import Node, Tenant, Tenants, eventually
from integration.keys.test_tenancy import EVERY, build, call, names_of, nobody
from triggers.domain import Plan, Scope
from triggers.http.route import PUBLIC
from triggers.postgres.database import Database

SHOW_PAYLOADS = {"/v1/events/{event_id}/payload", "/v1/inbox", "/inbox", "/v1/samples"}
"""The GET routes, besides those of operators, that a key with the scope `read` may not use."""
PAYLOAD = "only-for-those-who-may-see-payloads"
EVENT = {"type": "a", "payload": PAYLOAD}


def is_readable(method: str, path: str) -> bool:
    return method == "GET" and not path.startswith("/v1/admin/") and path not in SHOW_PAYLOADS


async def test_a_key_that_may_read_can_use_every_get_and_nothing_else(node: Node, tenants: Tenants) -> None:
    tenant = await tenants.make(scopes=[Scope.READ])
    async with node.client(tenant) as client:
        for route, path in EVERY:
            if route.scope in (PUBLIC, None):
                continue
            answer = await call(client, route, path, nobody())
            expected = 404 if names_of(path) else 200
            assert answer.status_code == (expected if is_readable(route.method, path) else 403), (
                f"{route.method} {path}: {answer.text}"
            )
        assert (await client.post("/v1/console/links", json={"scopes": ["inbox"]})).status_code == 403
        assert (await client.post("/v1/console/links")).status_code == 201


async def test_a_key_that_may_read_sees_no_payload(node: Node, tenants: Tenants, database: Database) -> None:
    estate = await build(node, tenants)
    async with node.client(estate.tenant) as client:
        inbox = (await client.get("/v1/inboxes", params={"key": "mine"})).json()["data"][0]
        assert (await client.post("/v1/events", json=EVENT)).status_code == 201
        # A filter that fails on the event quotes it.
        filtered = {"filter": '{"a": true}[payload]', "key": "filtered"}
        to = {"target_url": "https://example.com/"}
        made = (await client.post("/v1/subscriptions", json=filtered | to)).json()
        assert (await client.post("/v1/inboxes", json=filtered)).status_code == 201
        event = (await client.post("/v1/events", json=EVENT)).json()

        async def is_quoted(path: str) -> bool:
            return PAYLOAD in (await client.get(path, params={"key": "filtered"})).text

        for path in ("/v1/subscriptions", "/v1/inboxes"):
            await eventually(partial(is_quoted, path))
        assert PAYLOAD in (await client.get(f"/v1/events/{event['id']}")).text
    ids = {name: values[0] for name, values in estate.ids.items()}
    ids |= {"event_id": event["id"], "delivery_id": f"{event['id']}.{made['id']}", "inbox": inbox["id"]}
    reader = await tenants.key_of(estate.tenant.id, estate.tenant.name, [Scope.READ])
    seen = 0
    async with node.client(reader) as client:
        for route, path in EVERY:
            if route.scope == PUBLIC or not is_readable(route.method, path):
                continue
            unknown = set(names_of(path)) - set(ids)
            assert not unknown, f"say in build() what {unknown} of {path} are"
            answer = await call(client, route, path, ids)
            assert answer.status_code == 200, (path, answer.text)
            assert PAYLOAD not in answer.text, path
            seen += event["id"] in answer.text
        detail = await client.get(f"/v1/events/{event['id']}?explain")
        assert detail.status_code == 200
        assert PAYLOAD not in detail.text
        assert "payload" not in detail.json()
    assert seen >= 4, "it saw the event, without the payload"
    both = await tenants.key_of(estate.tenant.id, estate.tenant.name, [Scope.READ, Scope.EVENTS_READ])
    async with node.client(both) as client:
        assert (await client.get(f"/v1/events/{event['id']}")).json()["payload"] == PAYLOAD


async def test_a_key_from_before_has_the_scope_without_storing_it(
    client: httpx.AsyncClient, tenant: Tenant, database: Database
) -> None:
    stored = await database.row("select scopes from api_keys where id = $1", tenant.key_id)
    assert stored is not None
    assert "read" not in stored["scopes"], "a node of the version before does not know it"
    assert "read" in (await client.get("/v1/org")).json()["scopes"]
    made = await client.post("/v1/keys", json={"scopes": ["read"]})
    assert (made.status_code, made.json()["scopes"]) == (201, ["read"])
    for scopes in (["act"], ["read", "act"], ["admin"]):
        assert (await client.post("/v1/keys", json={"scopes": scopes})).status_code == 403


async def operator_with(tenants: Tenants, *scopes: Scope) -> Tenant:
    return await tenants.make(scopes=[Scope.ADMIN, *scopes])


async def test_an_operator_may_only_look_at_another_organisation(
    node: Node, tenants: Tenants, logs: list[Any]
) -> None:
    estate = await build(node, tenants)
    operator = await operator_with(tenants, *(set(Scope) - {Scope.ACT, Scope.EVENTS_READ}))
    ids = {name: values[0] for name, values in estate.ids.items()}
    async with node.client(operator) as client:
        client.headers["triggers-org"] = str(estate.tenant.id)
        who = (await client.get("/v1/org")).json()
        assert (who["id"], who["scopes"]) == (str(estate.tenant.id), ["read"])
        for route, path in EVERY:
            if route.scope in (PUBLIC, None):
                continue
            answer = await call(client, route, path, ids)
            expected = 200 if is_readable(route.method, path) else 403
            assert answer.status_code == expected, (route.method, path, answer.text)
        refused = await client.post("/v1/events", json=EVENT)
        assert "acts for another organisation" in refused.json()["detail"]
        assert (await client.post("/v1/console/links")).status_code == 403
        looked = await client.get("/v1/events")
        assert {event["id"] for event in looked.json()["events"]} == set(estate.ids["event_id"])
    [line] = [
        entry
        for entry in logs
        if entry["event"] == "request" and entry["request_id"] == looked.headers["x-request-id"]
    ]
    assert (line["org_id"], line["operator_org_id"]) == (str(estate.tenant.id), str(operator.id))
    assert line["key_prefix"] == operator.key[:12]


async def test_an_operator_who_may_act_acts_for_the_other_organisation_only(
    node: Node, tenants: Tenants, tenant: Tenant
) -> None:
    third = await tenants.make()
    operator = await operator_with(tenants, Scope.ACT, Scope.EVENTS_WRITE, Scope.EVENTS_READ)
    async with node.client(operator) as client, node.client(tenant) as theirs:
        headers = {"triggers-org": str(tenant.id)}
        made = await client.post("/v1/events", json=EVENT, headers=headers)
        assert made.status_code == 201
        batch = await client.post("/v1/events/batch", json=[EVENT], headers=headers)
        assert batch.json()["results"][0]["status"] == 201
        assert len((await theirs.get("/v1/events")).json()["events"]) == 2
        assert (await client.get("/v1/events")).json()["events"] == [], "none is the operator's own"
        of_third = {"triggers-org": str(third.id)}
        assert (await client.get(f"/v1/events/{made.json()['id']}", headers=of_third)).status_code == 404
        # It has the other scopes of the key and no more.
        refused = await client.post("/v1/inboxes", json={"key": "x"}, headers=headers)
        assert (refused.status_code, refused.json()["scope"]) == (403, "inbox")
        # Its own organisation is no other one.
        own = {"triggers-org": str(operator.id)}
        assert (await client.get("/v1/admin/orgs", headers=own)).status_code == 200


async def test_who_may_not_act_learns_nothing(node: Node, tenants: Tenants, tenant: Tenant) -> None:
    other = await tenants.make()
    operator = await operator_with(tenants, Scope.EVENTS_WRITE)
    async with node.client(tenant) as client:
        for org_id in (other.id, "0" * 36, "x", tenant.id):
            for method, path, body in (("GET", "/v1/org", None), ("POST", "/v1/events", EVENT)):
                answer = await client.request(method, path, json=body, headers={"triggers-org": str(org_id)})
                assert (answer.status_code, answer.json()["scope"]) == (403, "admin")
        assert (await client.get("/v1/events")).json()["events"] == []
    async with node.client(operator) as client:
        for org_id in (b"00000000-0000-7000-8000-000000000000", b"x", b"", b"\xff"):
            for path in ("/v1/org", "/v1/events"):
                answer = await client.get(path, headers=[(b"triggers-org", org_id)])
                assert answer.status_code == 404, answer.text
                assert "Triggers-Org" in answer.json()["detail"]
            answer = await client.post("/v1/events", json=EVENT, headers=[(b"triggers-org", org_id)])
            assert answer.status_code == 404, answer.text


async def test_looking_does_not_use_up_what_the_other_organisation_may_use(
    node: Node, tenants: Tenants
) -> None:
    limited = await tenants.make(plan=Plan.ENTERPRISE, requests_per_minute=2)
    operator = await operator_with(tenants)
    async with node.client(operator) as looking, node.client(limited) as client:
        for _ in range(5):
            answer = await looking.get("/v1/events", headers={"triggers-org": str(limited.id)})
            assert answer.status_code == 200
        assert [(await client.get("/v1/org")).status_code for _ in range(3)] == [200, 200, 429]
