"""Sessions of a database whose defaults differ from those that our statements need."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import pytest

from delivering import States, Subscribe, Workers, post
from harness import Node, Tenant, eventually
from receiving import Receiver
from triggers.postgres import session
from triggers.postgres.database import PLAN_BY_INDEX, Database
from triggers.postgres.embedded_cluster import SUPERUSER
from triggers.postgres.time_bounds import ACCEPT_SECONDS

OURS_TO_SET: Final = {
    "standard_conforming_strings": "off",
    "array_nulls": "off",
    "transform_null_equals": "on",
    "bytea_output": "escape",
    "datestyle": "SQL, DMY",
    "intervalstyle": "sql_standard",
    "timezone": "Asia/Kathmandu",
    "extra_float_digits": "-15",
    "quote_all_identifiers": "on",
    "default_transaction_isolation": "serializable",
    "default_transaction_deferrable": "on",
    "row_security": "off",
    "exit_on_error": "on",
    "idle_session_timeout": "1000",
    "transaction_timeout": "1000",
    "jit": "on",
    "statement_timeout": "1000",
    "lock_timeout": "1000",
    "idle_in_transaction_session_timeout": "1000",
    "synchronous_commit": "off",
}
"""Each setting that a connection sets for itself, with another value."""

THE_OPERATORS: Final = {
    "search_path": "names the schema of our tables",
    "default_transaction_read_only": "such a database is refused by name",
    "default_tablespace": "must exist",
    "temp_tablespaces": "must exist",
    "default_table_access_method": "must exist",
    "local_preload_libraries": "must exist",
    "default_text_search_config": "must exist",
    "timezone_abbreviations": "must exist",
    "transaction_isolation": "belongs to one transaction",
    "transaction_read_only": "belongs to one transaction",
    "transaction_deferrable": "belongs to one transaction",
    "client_encoding": "the driver sets it",
    "application_name": "is set at the connection's start",
}
"""The settings of a user that the test leaves as they are."""


def another(setting: Any) -> str:
    """A value that differs from the present one as much as possible."""
    now, kind = setting["setting"], setting["vartype"]
    if kind == "bool":
        return "off" if now == "on" else "on"
    if kind == "enum":
        return next((value for value in setting["enumvals"] if value != now), now)
    if kind == "string":
        return str(now)
    lowest, highest = float(setting["min_val"]), float(setting["max_val"])
    chosen = min(highest, 1000.0) if float(now) == lowest else lowest
    return str(int(chosen)) if kind == "integer" else str(chosen)


async def alter(postgres: Any, url: str, settings: dict[str, str]) -> None:
    """Set the defaults of the database for new sessions, and end the existing sessions."""
    name = url.split("/")[3].split("?", maxsplit=1)[0]
    quoted = {setting: value.replace("'", "''") for setting, value in settings.items()}
    statements = [f"alter database {name} set {setting} = '{value}'" for setting, value in quoted.items()]
    await postgres.run(";".join(statements), user=SUPERUSER)
    await postgres.disconnect(name)


async def test_every_setting_that_a_connection_sets_has_another_value_in_these_tests() -> None:
    pinned = {*session.session_settings(1), "synchronous_commit"}
    assert pinned == OURS_TO_SET.keys()


@pytest.fixture
def story(
    make_node: Callable[..., Any],
    tenant: Tenant,
    workers: Workers,
    subscribed: Subscribe,
    receiver: Receiver,
    states: States,
) -> Callable[[], Awaitable[None]]:
    """Accept, lease and settle an event; run a filter, and a statement that is expected to fail."""

    async def tell() -> None:
        node: Node = await make_node()
        async with node.client(tenant) as client:
            subscription = await subscribed(receiver.url)
            await workers.start()
            made = await client.post("/v1/inboxes", json={"key": "box", "filter": "payload.n == '\\\\'"})
            assert made.status_code == 201, made.text
            wanted = {"type": "a", "payload": {"n": "\\"}, "dedup_id": "twice"}
            for expected in (201, 200):
                answer = await client.post("/v1/events", json=wanted)
                assert answer.status_code == expected, answer.text
            await post(client, [{"type": "b", "payload": {"n": None}}] * 3)
            leased = (await client.post("/v1/inboxes/box/messages/lease", json={})).json()
            (message,) = leased["results"]
            assert message["message_attributes"]["event_type"] == "a"
            body = {"lease_id": leased["lease_id"]}
            acked = await client.post("/v1/inboxes/box/messages/ack", json=body)
            assert acked.is_success, acked.text

        async def all_settled() -> bool:
            return bool(await states.settled(subscription.id) == {"delivered": 4})

        await eventually(all_settled, 20)

    return tell


async def test_a_database_with_other_defaults_changes_nothing(
    postgres: Any,
    database_url: str,
    database: Database,
    story: Callable[[], Awaitable[None]],
) -> None:
    await alter(postgres, database_url, OURS_TO_SET)
    connection = await database.connect(ACCEPT_SECONDS, PLAN_BY_INDEX)
    try:
        expected = session.session_settings(ACCEPT_SECONDS) | {"synchronous_commit": "on"}
        for name, value in expected.items():
            found = await connection.fetchrow(
                "select setting, reset_val from pg_settings where lower(name) = $1", name
            )
            assert found["setting"].startswith(value), name
            assert found["reset_val"] != found["setting"], f"{name} is not changed by this test"
    finally:
        await connection.close()
    await story()


async def test_no_other_setting_of_a_user_matters(
    postgres: Any,
    database_url: str,
    database: Database,
    story: Callable[[], Awaitable[None]],
) -> None:
    rows = await database.fetch(
        "select lower(name) as name, vartype, setting, min_val, max_val, enumvals from pg_settings"
        " where context = 'user'"
    )
    left = {*OURS_TO_SET, *THE_OPERATORS}
    others = {row["name"]: another(row) for row in rows if row["name"] not in left}
    assert len(others) > 90
    await alter(postgres, database_url, others)
    await story()


async def test_a_role_may_wait_for_more_than_a_commit(postgres: Any, database_url: str) -> None:
    await alter(postgres, database_url, {"synchronous_commit": "remote_apply"})
    database = Database(database_url, pool_size=2)
    await database.open()
    row = await database.row("select current_setting('synchronous_commit')")
    await database.close()
    assert row is not None
    assert row[0] == "remote_apply"


def test_an_older_server_is_not_asked_for_what_it_does_not_know() -> None:
    assert "transaction_timeout" not in session.setting_statement(session.session_settings(1), 16)
    assert "transaction_timeout" in session.setting_statement(session.session_settings(1), 17)
