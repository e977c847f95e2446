"""Keys: what they may, how they end, and what a node knows of them."""

from __future__ import annotations

import asyncio
import hashlib
import re
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx
import pytest

from harness import Node, Tenant, Tenants, eventually, is_waited_for
from triggers.domain import TENANT_SCOPES, PageRequest, Scope
from triggers.errors import Conflict, Invalid
from triggers.keys import authentication
from triggers.keys import store as api_keys
from triggers.postgres.clock import DatabaseClock
from triggers.postgres.database import Database


async def works(client: httpx.AsyncClient, key: str) -> bool:
    return (await client.get("/v1/org", headers={"authorization": f"Bearer {key}"})).status_code == 200


async def refused(client: httpx.AsyncClient, key: str) -> bool:
    answer = await client.get("/v1/org", headers={"authorization": f"Bearer {key}"})
    assert answer.status_code in (200, 401)
    return answer.status_code == 401


async def test_a_key_is_shown_once_and_kept_as_a_hash(
    client: httpx.AsyncClient, tenant: Tenant, database: Database
) -> None:
    made = await client.post("/v1/keys", json={"name": "ci", "scopes": ["inbox"], "live": True})
    assert made.status_code == 201
    key = made.json()["key"]
    assert re.fullmatch(r"zap_live_[\w-]{43}", key)
    rows = await database.fetch(
        "select prefix, hash, to_jsonb(k)::text as all from api_keys k where name = 'ci'"
    )
    assert [(row["prefix"], row["hash"]) for row in rows] == [
        (key[:12], hashlib.sha256(key.encode()).hexdigest())
    ]
    assert key not in rows[0]["all"]
    listed = (await client.get("/v1/keys")).json()["data"]
    shown = {name: value for name, value in made.json().items() if name != "key"}
    assert listed[-1] == shown
    assert (shown["prefix"], shown["scopes"], shown["expires_at"]) == (key[:12], ["inbox"], None)
    assert key not in (await client.get("/v1/keys")).text
    whoami = (await client.get("/v1/org", headers={"authorization": f"Bearer {key}"})).json()
    assert (whoami["id"], whoami["key_id"], whoami["scopes"]) == (str(tenant.id), shown["id"], ["inbox"])
    plain = (await client.post("/v1/keys", json={})).json()
    assert plain["key"].startswith("zap_test_")
    assert set(plain["scopes"]) == {scope.value for scope in TENANT_SCOPES}


async def test_no_key_grants_what_it_lacks(node: Node, tenants: Tenants) -> None:
    tenant = await tenants.make(scopes=[Scope.KEYS, Scope.INBOX])
    stronger = await tenants.key_of(tenant.id, tenant.name, TENANT_SCOPES)
    async with node.client(tenant) as client:
        made = (await client.post("/v1/keys", json={})).json()
        assert made["scopes"] == ["inbox", "keys"]
        for body, status in (
            ({"scopes": ["events:write"]}, 403),
            ({"scopes": ["inbox", "admin"]}, 403),
            ({"scopes": []}, 422),
            ({"scopes": ["everything"]}, 422),
            ({"scopes": ["inbox"], "org_id": str(uuid.uuid4())}, 422),
            ({"name": ""}, 422),
            ({"name": "a\nb"}, 422),
            ({"expires_at": "2020-01-01T00:00:00Z"}, 422),
            ({"expires_at": "tomorrow"}, 422),
        ):
            answer = await client.post("/v1/keys", json=body)
            assert answer.status_code == status, (body, answer.text)
        escalated = await client.post(f"/v1/keys/{stronger.key_id}/rotate")
        assert escalated.status_code == 403, "a successor has the scopes of the old key"


@pytest.mark.parametrize("also", [1, 2])
async def test_a_revoked_key_ends_within_a_second_on_every_node(
    make_node: Callable[..., Any], tenants: Tenants, also: int
) -> None:
    tenant = await tenants.make()
    other = await tenants.key_of(tenant.id, tenant.name, TENANT_SCOPES)
    nodes: list[Node] = [await make_node() for _ in range(also)]
    clients = [node.client(tenant) for node in nodes]
    try:
        for client in clients:
            assert await works(client, other.key)
        revoked = await clients[0].delete(f"/v1/keys/{other.key_id}")
        assert (revoked.status_code, revoked.json()["revoked_at"] is not None) == (200, True)
        for client in clients:
            await eventually(lambda client=client: refused(client, other.key), 1.5)
        again = await clients[0].delete(f"/v1/keys/{other.key_id}")
        assert again.json() == revoked.json()
        assert (await clients[0].post(f"/v1/keys/{other.key_id}/rotate")).status_code == 409
    finally:
        for client in clients:
            await client.aclose()


async def test_rotation_overlaps(
    client: httpx.AsyncClient, tenants: Tenants, tenant: Tenant, database: Database
) -> None:
    old = await tenants.key_of(tenant.id, tenant.name, [Scope.INBOX, Scope.KEYS])
    made = await client.post(f"/v1/keys/{old.key_id}/rotate")
    assert made.status_code == 201
    assert made.json()["scopes"] == ["inbox", "keys"]
    assert await works(client, old.key)
    assert await works(client, made.json()["key"])
    row = await database.row("select expires_at - now() as left from api_keys where id = $1", old.key_id)
    assert row is not None
    assert timedelta(hours=23, minutes=59) < row["left"] <= timedelta(hours=24)
    at_once = await client.post(f"/v1/keys/{made.json()['id']}/rotate", json={"overlap_seconds": 0})
    await eventually(lambda: refused(client, made.json()["key"]), 1.5)
    assert await works(client, at_once.json()["key"])
    await client.post(f"/v1/keys/{old.key_id}/rotate", json={"overlap_seconds": 2_000_000})
    row = await database.row("select expires_at - now() as left from api_keys where id = $1", old.key_id)
    assert row is not None
    assert row["left"] <= timedelta(hours=24), "an overlap never lengthens a life"


async def test_a_rotation_that_fails_half_way_leaves_no_successor(
    tenant: Tenant, database: Database, clock: DatabaseClock
) -> None:
    old = await api_keys.by_id(database, tenant.id, tenant.key_id)
    with pytest.raises(asyncpg.DataError):
        await api_keys.rotate(database, clock, tenant.id, old, timedelta(days=999_999_999))
    assert [key.id for key in await api_keys.listed(database, tenant.id, PageRequest(None, 10))] == [
        tenant.key_id
    ]


async def test_a_successor_lasts_as_long_as_the_key_was_made_to(client: httpx.AsyncClient) -> None:
    """However often it is rotated: the overlap ends the old key, and nothing that comes after it."""
    until = "2099-01-01T00:00:00.000Z"
    for expires_at in (until, None):
        old = (await client.post("/v1/keys", json={"expires_at": expires_at})).json()
        for overlap in (3600, 60):
            rotated = await client.post(f"/v1/keys/{old['id']}/rotate", json={"overlap_seconds": overlap})
            assert rotated.json()["expires_at"] == expires_at
        third = await client.post(f"/v1/keys/{rotated.json()['id']}/rotate")
        assert third.json()["expires_at"] == expires_at


async def test_what_has_ended_has_no_successor(client: httpx.AsyncClient, database: Database) -> None:
    made = (await client.post("/v1/keys", json={"expires_at": "2099-01-01T00:00:00Z"})).json()
    before = len((await client.get("/v1/keys")).json()["data"])
    await database.fetch(
        "update api_keys set expires_at = now() where id = $1",
        uuid.UUID(made["id"]),
    )
    answer = await client.post(f"/v1/keys/{made['id']}/rotate")
    assert (answer.status_code, answer.json()["type"]) == (409, "/problems/conflict")
    assert "expired" in answer.json()["detail"]
    assert len((await client.get("/v1/keys")).json()["data"]) == before


async def test_an_expired_key_ends_without_anybodys_help(
    client: httpx.AsyncClient, database: Database
) -> None:
    soon = (datetime.now(UTC) + timedelta(seconds=1)).isoformat()
    key = (await client.post("/v1/keys", json={"expires_at": soon})).json()["key"]
    assert await works(client, key)
    await eventually(lambda: refused(client, key), 3)


async def test_keys_of_another_system_work_here(
    client: httpx.AsyncClient, tenant: Tenant, tenants: Tenants, database: Database, clock: DatabaseClock
) -> None:
    key = "acme-secret-key-of-2019"
    digest = hashlib.sha256(key.encode()).hexdigest()
    assert await refused(client, key)
    foreign = api_keys.ForeignKey(key[:12], digest.upper(), [Scope.EVENTS_READ])
    imported = await api_keys.import_hash(database, clock, tenant.id, foreign._replace(name="old"))
    await eventually(lambda: works(client, key), 1.5)
    assert (await api_keys.import_hash(database, clock, tenant.id, foreign)).id == imported.id
    stranger = await tenants.make()
    with pytest.raises(Conflict):
        await api_keys.import_hash(database, clock, stranger.id, foreign)
    for prefix, sha256, name in (
        ("short", digest, None),
        (key[:12], digest[:-1], None),
        (key[:12], "z" * 64, None),
        ("with\x00a NUL..", digest, None),
        (key[:12], digest, "x" * 256),
    ):
        with pytest.raises(Invalid):
            await api_keys.import_hash(
                database, clock, tenant.id, api_keys.ForeignKey(prefix, sha256, [Scope.INBOX], name)
            )


async def test_keys_in_every_form_they_may_be_sent(client: httpx.AsyncClient, tenant: Tenant) -> None:
    del client.headers["authorization"]
    key = tenant.key
    for headers, status in (
        ({"authorization": f"Bearer {key}"}, 200),
        ({"authorization": f"bearer   {key}"}, 200),
        ({"x-api-key": key}, 200),
        ({"authorization": f"Basic {key}"}, 401),
        ({"authorization": key}, 401),
        ({"authorization": "Bearer"}, 401),
        ({"authorization": f"Bearer {key[:-1]}"}, 401),
        ({"authorization": f"Bearer {key}x"}, 401),
        ({"authorization": f"Bearer {key.swapcase()}"}, 401),
        ({"x-api-key": "x" * 10_000}, 401),
        ({"x-api-key": "é".encode()}, 401),
        ({"authorization": f"Bearer {key[:-1]}", "x-api-key": key}, 401),
        ({"authorization": f"Bearer {key}", "x-api-key": key[:-1]}, 200),
        ({"authorization": "Bearer", "x-api-key": key}, 401),
        ({"authorization": "Basic dXNlcjpwYXNzd29yZA==", "x-api-key": key}, 200),
        ({"authorization": 'Digest username="a"', "x-api-key": key}, 200),
        ({"authorization": "", "x-api-key": key}, 200),
        ({"authorization": "Basic dXNlcjpwYXNzd29yZA==", "x-api-key": key[:-1]}, 401),
        ({}, 401),
    ):
        for method, path in (("GET", "/v1/org"), ("POST", "/v1/events")):
            answer = await client.request(method, path, headers=headers, json={"type": "a", "payload": 1})
            wanted = 201 if status == 200 and method == "POST" else status
            assert answer.status_code == wanted, (headers, path, answer.text)


# ---- what a node remembers ------------------------------------------------------------------------


async def test_a_node_that_cannot_read_the_version_trusts_nothing(
    node: Node, client: httpx.AsyncClient, tenant: Tenant, database: Database
) -> None:
    """Whatever the reason: a revocation it could not hear of counts all the same."""
    assert await works(client, tenant.key)
    await database.fetch("alter table versions rename to elsewhere")
    await eventually(lambda: node._keys._read_at < asyncio.get_running_loop().time() - 1.0, 3)
    assert await works(client, tenant.key), "looked up each time"
    await database.fetch("update api_keys set revoked_at = now() where id = $1", tenant.key_id)
    assert await refused(client, tenant.key)
    await database.fetch("update api_keys set revoked_at = null where id = $1", tenant.key_id)
    assert await works(client, tenant.key)
    await database.fetch("alter table elsewhere rename to versions")
    await eventually(lambda: node._keys._read_at > asyncio.get_running_loop().time() - 1.0, 3)


async def test_a_node_without_a_database_answers_503_and_not_401(
    client: httpx.AsyncClient, tenant: Tenant, postgres: Any, database_url: str
) -> None:
    found = re.search(r"/(test_\w+)\?", database_url)
    assert found
    assert await works(client, tenant.key)
    await postgres.run(f"alter database {found[1]} allow_connections false", user="postgres")
    await postgres.disconnect(found[1])

    async def unavailable() -> bool:
        answer = await client.get("/v1/org")
        assert answer.status_code in (200, 503)
        if answer.status_code == 503:
            assert int(answer.headers["retry-after"]) > 0
        return answer.status_code == 503

    await eventually(unavailable, 3)
    await postgres.run(f"alter database {found[1]} allow_connections true", user="postgres")

    async def back() -> bool:
        return (await client.get("/v1/org")).status_code == 200

    await eventually(back)


async def test_unknown_keys_are_looked_up_once(
    tenant: Tenant, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    verify = api_keys.verify

    async def counted(database: Database, key: str) -> Any:
        asked.append(key)
        return await verify(database, key)

    monkeypatch.setattr(authentication.api_keys, "verify", counted)
    async with node.client() as client:
        answers = await asyncio.gather(*[refused(client, "zap_live_nobody") for _ in range(100)])
        assert all(answers)
        assert 1 <= len(asked) < 10, "a hundred ask, one looks"

        async def remembered() -> bool:
            before = len(asked)
            assert await refused(client, "zap_live_nobody")
            return len(asked) == before

        await eventually(remembered)  # a node too busy to read the version for a second trusts nothing
        assert await works(client, tenant.key)


async def test_the_last_use_is_noted_with_its_time(
    make_node: Callable[..., Any], tenant: Tenant, database: Database
) -> None:
    """The time of the use is shown, and not the time of storing it, up to a minute later."""
    node: Node = await make_node()

    async def last_use() -> datetime | None:
        row = await database.row("select last_used_at from api_keys")
        assert row is not None
        return row[0]

    async with node.client(tenant) as client:
        for looked_up in (True, False):
            assert (node._keys.remembered(tenant.key.encode()) is None) == looked_up
            before = datetime.fromtimestamp(node.clock.now(), UTC)
            assert await works(client, tenant.key)
            after = datetime.fromtimestamp(node.clock.now(), UTC)
            await eventually(lambda after=after: node.clock.now() > after.timestamp() + 0.05)
            await node._keys._touch()
            used_at = await last_use()
            assert used_at is not None
            assert before - timedelta(milliseconds=1) <= used_at <= after + timedelta(milliseconds=1)
    late = used_at - timedelta(hours=1)
    await api_keys.touch(database, {tenant.key_id: late.timestamp()})
    assert await last_use() == used_at, "another node had noted a later use"


async def test_a_use_that_cannot_be_stored_is_stored_later(
    node: Node, client: httpx.AsyncClient, tenant: Tenant, database: Database
) -> None:
    assert await works(client, tenant.key)
    used_at = dict(node._keys._used_at)
    assert used_at
    await database.fetch("alter table api_keys rename column last_used_at to elsewhere")
    with pytest.raises(Exception, match="last_used_at"):
        await node._keys._touch()
    assert node._keys._used_at == used_at
    await database.fetch("alter table api_keys rename column elsewhere to last_used_at")
    await node._keys._touch()
    row = await database.row("select extract(epoch from last_used_at)::float8 from api_keys")
    assert row is not None
    assert row[0] == pytest.approx(used_at[tenant.key_id], abs=0.001)


async def test_a_tenant_cannot_revoke_the_operators_key(node: Node, tenant: Tenant, tenants: Tenants) -> None:
    operator = await tenants.key_of(tenant.id, tenant.name, [Scope.ADMIN, Scope.KEYS])
    path = f"/v1/keys/{operator.key_id}"
    async with node.client(tenant) as client:
        for answer in (
            await client.delete(path),
            await client.post(f"{path}/rotate", json={"overlap_seconds": 0}),
        ):
            assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
        assert (await client.delete(path)).json()["scope"] == "admin"
        assert await works(client, operator.key)
    async with node.client(operator) as client:
        assert (await client.delete(f"/v1/keys/{tenant.key_id}")).status_code == 200
        assert (await client.delete(path)).json()["revoked_at"]


# ---- the operator's routes ------------------------------------------------------------------------


async def test_the_operator_reaches_every_organisation(node: Node, tenants: Tenants) -> None:
    operator = await tenants.make(scopes=[Scope.ADMIN])
    async with node.client(operator) as client, node.client() as theirs:
        made = await client.post("/v1/admin/orgs", json={"name": "acme"})
        assert made.status_code == 201
        org = made.json()
        assert (org["name"], org["plan"], org["requests_per_minute"]) == ("acme", "free", 100)
        assert (await client.post("/v1/admin/orgs", json={"name": "acme"})).status_code == 409
        key = (await client.post(f"/v1/admin/orgs/{org['id']}/keys", json={})).json()
        assert set(key["scopes"]) == {scope.value for scope in TENANT_SCOPES}
        theirs.headers["x-api-key"] = key["key"]
        assert (await theirs.get("/v1/org")).json()["id"] == org["id"]
        assert (await theirs.get("/v1/inboxes/default")).status_code == 200
        assert (await theirs.get("/v1/admin/orgs")).status_code == 403

        changed = await client.put(f"/v1/admin/orgs/{org['id']}/plan", json={"plan": "business"})
        assert changed.json()["requests_per_minute"] == 10_000

        async def new_plan() -> bool:
            return (await theirs.get("/v1/org")).json()["requests_per_minute"] == 10_000

        await eventually(new_plan, 1.5)
        body = {"plan": "enterprise", "requests_per_minute": 77}
        assert (await client.put(f"/v1/admin/orgs/{org['id']}/plan", json=body)).json()[
            "requests_per_minute"
        ] == 77
        for body, status in (
            ({"plan": "pro", "requests_per_minute": 7}, 422),
            ({"plan": "enterprise", "requests_per_minute": 0}, 422),
            ({"plan": "enterprise", "requests_per_minute": 10_000_001}, 422),
            ({"plan": "gold"}, 422),
            ({}, 422),
        ):
            assert (await client.put(f"/v1/admin/orgs/{org['id']}/plan", json=body)).status_code == status, (
                body
            )
        assert (
            await client.post(f"/v1/admin/orgs/{org['id']}/keys", json={"scopes": ["admin"]})
        ).status_code == 403

        names = [each["name"] for each in (await client.get("/v1/admin/orgs")).json()["data"]]
        assert names == [operator.name, "acme"]
        keys = (await client.get(f"/v1/admin/orgs/{org['id']}/keys")).json()["data"]
        assert [each["id"] for each in keys] == [key["id"]]
        assert (await client.delete(f"/v1/admin/orgs/{org['id']}/keys/{key['id']}")).status_code == 200
        await eventually(lambda: refused(client, key["key"]), 1.5)
        for path in ("nonsense", str(uuid.uuid4())):
            assert (await client.get(f"/v1/admin/orgs/{path}/keys")).status_code == 404


async def test_a_rotation_waits_for_a_revocation_and_never_in_a_ring(
    tenant: Tenant, database: Database, clock: DatabaseClock
) -> None:
    async with database.connection() as connection:
        made = await api_keys.create(connection, clock, tenant.id, api_keys.NewKey(TENANT_SCOPES))
    old = await api_keys.by_id(database, tenant.id, made.id)
    async with database.connection() as connection, connection.transaction():
        await connection.execute("update api_keys set revoked_at = now() where id = $1", old.id)
        rotating = asyncio.create_task(api_keys.rotate(database, clock, tenant.id, old, timedelta(days=1)))
        await eventually(lambda: is_waited_for(connection), 5)
        # What a revocation does next: the rotation must not hold it yet.
        await connection.execute("set local lock_timeout = '1s'")
        await connection.execute("update versions set version = version + 1 where name = 'keys'")
    with pytest.raises(Conflict, match="revoked"):
        await rotating
