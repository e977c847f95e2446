"""Sessions: how they are opened, what they may, and how they end."""

from __future__ import annotations

from harness import Node, Tenant
from triggers.postgres.database import Database


async def test_a_key_opens_a_session_with_its_scopes(node: Node, tenant: Tenant, database: Database) -> None:
    opened = await node.sessions.open_with_key(f" {tenant.key}\n")
    assert opened.session.caller.org_id == tenant.id
    assert opened.session.caller.key_id == tenant.key_id
    found = await node.sessions.session_of({b"cookie": f"a=b; triggers_session={opened.token}".encode()})
    assert found == opened.session
    stored = await database.row("select to_jsonb(s)::text as all from sessions s")
    assert stored is not None
    assert opened.token not in stored["all"]
    await node.sessions.end(opened.session)
    assert await node.sessions.caller_of(opened.token) is None
