"""The state of the service: true, bounded, only for operators, and without secrets."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from console_scene_access import add_worker
from harness import Node, Tenants, eventually, node_settings
from integration.console.test_pages import signed_in
from triggers.domain import Scope
from triggers.node.facts import shown
from triggers.node.settings import Settings, describe, settings_list
from triggers.postgres.database import Database
from triggers.system import store

MARK = "mark-of-a-secret"


async def system(node: Node, tenants: Tenants, **headers: str) -> Any:
    operator = await tenants.make(scopes=[Scope.ADMIN])
    async with node.client(operator) as client:
        answer = await client.get("/v1/admin/system", headers=headers)
        assert answer.status_code == 200, answer.text
        return answer.json()


async def test_it_shows_processes_postgresql_and_tables(
    node: Node, tenants: Tenants, database: Database
) -> None:
    await add_worker(database, silent_seconds=7)
    found = await system(node, tenants)
    [worker] = found["workers"]
    assert (worker["groups"], worker["lanes"]) == (64, 214)
    assert 7 <= worker["heartbeat_age_seconds"] < 300
    assert found["groups"] == {"total": 64, "without_owner": 0}
    [this] = [each for each in found["api_processes"] if each["is_this"]]
    assert this["connections"] >= 1
    assert found["postgresql"]["pool"]["most"] == node.settings.pool_size
    assert found["postgresql"]["oldest_xmin_age"] >= 0
    tables = {each["name"]: each for each in found["postgresql"]["tables"]}
    assert tables["events"]["partitions"] > 1
    assert tables["events"]["size_bytes"] > 0
    assert tables["organisations"]["partitions"] == 0
    assert found["versions"]["migration"] >= 15
    assert (found["status"], found["redis"], found["disk"]) == ("ready", "off", None)


async def test_a_transaction_that_holds_vacuum_back_is_seen(
    node: Node, tenants: Tenants, database: Database
) -> None:
    connection = await database.connect(60)
    try:
        await connection.execute("begin isolation level repeatable read")
        await connection.execute("select count(*) from workers")
        for _ in range(5):
            await database.fetch("select pg_current_xact_id()")
        found = (await system(node, tenants))["postgresql"]
        assert found["oldest_xmin_age"] >= 5
        assert found["oldest_transaction_seconds"] > 0
    finally:
        await connection.close()


async def test_a_table_that_is_locked_costs_two_seconds_and_not_the_answer(
    node: Node, tenants: Tenants, database: Database
) -> None:
    connection = await database.connect(60)
    try:
        await connection.execute("begin; lock table replays in access exclusive mode")
        found = await system(node, tenants)
        assert found["postgresql"]["tables"] is None
        assert found["groups"]["total"] == 64
    finally:
        await connection.close()


async def test_no_statement_reads_a_table_that_grows(database: Database) -> None:
    grow = {"events", "deliveries", "settled_deliveries", "attempts", "dedup", "subscriptions"}
    for name, statement in store._SQL.items():
        values = {"api_processes": ("triggers api ", 5), "workers": (5,), "tables": (5,)}.get(name, ())
        rows = await database.fetch(f"explain {statement}", *values)
        plan = "\n".join(row[0] for row in rows)
        assert not grow & set(plan.split()), name


async def test_only_an_operator_sees_it(node: Node, tenants: Tenants) -> None:
    for scopes in ([Scope.READ, Scope.KEYS], [scope for scope in Scope if scope != Scope.ADMIN]):
        tenant = await tenants.make(scopes=scopes)
        async with node.client(tenant) as client:
            assert (await client.get("/v1/admin/system")).status_code == 403
        async with signed_in(node, tenant) as client:
            for path in ("/console/system", "/console/system/live", "/console/organisations"):
                assert (await client.get(path)).status_code == 403, path


async def test_no_secret_is_in_the_answer_or_on_the_page(
    make_node: Callable[..., Any], database_url: str, tenants: Tenants
) -> None:
    url = urlsplit(database_url)
    key = base64.b64encode(MARK.encode().ljust(32)).decode()
    host = url.netloc.rpartition("@")[2]
    given = {
        "database_url": urlunsplit(url._replace(netloc=f"ada:{MARK}@{host}")),
        "redis_url": f"redis://ada:{MARK}@127.0.0.1:1/0",
        "secret_keys": key,
        "outbound_proxy": f"http://ada:{MARK}@127.0.0.1:1",
        "public_url": f"http://ada:{MARK}@triggers.example",
    }
    secrets = {each.name for each in settings_list() if each.secret}
    assert secrets <= given.keys(), "give every secret setting a mark"
    node: Node = await make_node(
        **{name: value for name, value in given.items() if name not in ("database_url", "public_url")}
    )
    # The database of the test needs no password, and the cookie must fit the address of the node. So these
    # two settings are changed for the answer only.
    node.settings = Settings(
        **{name: getattr(node.settings, name) for name in node.settings.__struct_fields__}
        | {"data_dir": None}
        | {name: given[name] for name in ("database_url", "public_url")}
    )
    operator = await tenants.make(scopes=list(Scope))
    async with node.client(operator) as client:
        answer = (await client.get("/v1/admin/system")).text
    async with signed_in(node, operator) as client:
        page = (await client.get("/console/system")).text
    for text in (answer, page):
        assert "TRIGGERS_SECRET_KEYS" in text
        assert MARK not in text
        assert key not in text
    values = {each.name: each.value for each in shown(node.settings)}
    for name in secrets:
        assert values[f"TRIGGERS_{name.upper()}"] == "(set)"
        assert describe(name).secret


async def test_redis_and_disk(
    make_node: Callable[..., Any], tenants: Tenants, redis_server: Any, tmp_path: Any
) -> None:
    node: Node = await make_node(redis_url=redis_server.url, data_dir=tmp_path)

    async def is_up() -> bool:
        return bool((await system(node, tenants))["redis"] == "up")

    await eventually(is_up, 10)
    found = await system(node, tenants)
    assert found["disk"]["free_bytes"] > 0
    assert found["disk"]["least_free_bytes"] == node_settings().min_free_disk * 2**20
