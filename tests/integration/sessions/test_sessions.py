"""Sessions: how they are opened, what they may, and how they end."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from harness import Node, Tenant, Tenants, eventually
from triggers.domain import TENANT_SCOPES, OrgId, PageRequest, Scope
from triggers.errors import Forbidden, LinkOver, Unauthenticated, Unavailable
from triggers.http.route import PUBLIC
from triggers.keys import lookups, organisations
from triggers.keys import store as api_keys
from triggers.node.first_run import first_run
from triggers.node.routes import ROUTES
from triggers.postgres.clock import DatabaseClock
from triggers.postgres.database import Database
from triggers.sessions import store
from triggers.sessions.sessions import NewSession, Session

UNKNOWN = "u" * 43
OUR_PAGE = {b"sec-fetch-site": b"same-origin"}


async def link_of(node: Node, tenant: Tenant, **body: Any) -> str:
    """The token of a link that the API made."""
    async with node.client(tenant) as client:
        answer = await client.post("/v1/console/links", json=body)
    assert answer.status_code == 201, answer.text
    return parse_qs(urlsplit(answer.json()["url"]).query)["token"][0]


async def session_with(node: Node, token: str) -> Session:
    found = await node.sessions.caller_of(token)
    assert found is not None
    return found


# ---- signing in ----------------------------------------------------------------------------------


async def test_a_key_opens_a_session_with_its_scopes(node: Node, tenant: Tenant, database: Database) -> None:
    opened = await node.sessions.open_with_key(f" {tenant.key}\n")
    caller = opened.session.caller
    assert (caller.org_id, caller.key_id, caller.scopes) == (tenant.id, tenant.key_id, TENANT_SCOPES)
    assert caller.key_prefix == tenant.key[:12]
    assert caller.expires_at == opened.session.expires_at.timestamp()
    cookie = f"a=b; triggers_session={opened.token}"
    assert await node.sessions.session_of({b"cookie": cookie.encode()}) == opened.session
    stored = await database.row("select to_jsonb(s)::text as all from sessions s")
    assert stored is not None
    assert opened.token not in stored["all"]
    await node.sessions.end(opened.session)
    assert await node.sessions.caller_of(opened.token) is None
    again = await node.sessions.open_with_key(tenant.key)
    assert again.token != opened.token


@pytest.mark.parametrize("key", ["", "zap_live_" + "x" * 43, "é" * 20, "\ud800" * 20, "x" * 100_000])
async def test_a_wrong_key_opens_none(node: Node, key: str) -> None:
    with pytest.raises(Unauthenticated):
        await node.sessions.open_with_key(key)


async def test_a_link_is_looked_at_often_and_used_once(
    node: Node, tenant: Tenant, database: Database
) -> None:
    token = await link_of(node, tenant, return_url="https://platform.example/settings?a=b")
    for _ in range(3):
        offer = await node.sessions.look_at_link(token)
        assert (offer.org_name, offer.key_name, offer.scopes) == (tenant.name, None, TENANT_SCOPES)
        assert offer.return_url == "https://platform.example/settings?a=b"
    stored = await database.row("select to_jsonb(l)::text as all from session_links l")
    assert stored is not None
    assert token not in stored["all"]
    opened = await node.sessions.open_with_link(token)
    assert opened.session.return_url == "https://platform.example/settings?a=b"
    assert opened.session.caller.org_id == tenant.id
    assert await node.sessions.caller_of(opened.token) == opened.session
    for _ in range(2):
        with pytest.raises(LinkOver):
            await node.sessions.open_with_link(token)
        with pytest.raises(LinkOver):
            await node.sessions.look_at_link(token)


async def test_of_many_who_use_a_link_at_once_one_is_signed_in(
    make_node: Callable[..., Any], tenant: Tenant, database: Database
) -> None:
    nodes = [await make_node(), await make_node()]
    for _ in range(3):
        token = await link_of(nodes[0], tenant)
        tries = [node.sessions.open_with_link(token) for node in nodes for _ in range(5)]
        found = await asyncio.gather(*tries, return_exceptions=True)
        assert len([each for each in found if isinstance(each, NewSession)]) == 1
        assert len([each for each in found if isinstance(each, LinkOver)]) == 9
    assert len(await store.listed(database, tenant.id, PageRequest(None, 100))) == 3


@pytest.mark.parametrize("token", ["", UNKNOWN, "x", "é" * 43, "u" * 100_000])
async def test_a_token_that_is_none_opens_nothing(node: Node, token: str) -> None:
    with pytest.raises(LinkOver):
        await node.sessions.look_at_link(token)
    with pytest.raises(LinkOver):
        await node.sessions.open_with_link(token)
    assert await node.sessions.caller_of(token) is None
    assert await node.sessions.session_of({}) is None


async def test_a_link_is_valid_for_a_minute(node: Node, tenant: Tenant, database: Database) -> None:
    token = await link_of(node, tenant)
    row = await database.row("select expires_at - created_at as valid from session_links")
    assert row is not None
    assert row["valid"] == timedelta(seconds=60)
    await database.fetch("update session_links set expires_at = now()")
    with pytest.raises(LinkOver):
        await node.sessions.look_at_link(token)
    with pytest.raises(LinkOver):
        await node.sessions.open_with_link(token)
    # Not even if it was looked at before it expired.
    assert await store.open_with_link(database, node.clock, token) is None


async def test_a_link_narrows_what_its_key_may(node: Node, tenants: Tenants) -> None:
    tenant = await tenants.make(scopes=[Scope.INBOX, Scope.SUBSCRIPTIONS])
    token = await link_of(node, tenant, scopes=["subscriptions"])
    assert (await node.sessions.look_at_link(token)).scopes == {Scope.SUBSCRIPTIONS}
    opened = await node.sessions.open_with_link(token)
    assert opened.session.caller.scopes == {Scope.SUBSCRIPTIONS}
    async with node.client(tenant) as client:
        for body, status in (
            ({"scopes": ["inbox", "keys"]}, 403),
            ({"scopes": ["admin"]}, 403),
            ({"scopes": ["act"]}, 403),
            ({"scopes": []}, 422),
            ({"scopes": ["everything"]}, 422),
            ({"strange": 1}, 422),
            ({"return_url": ""}, 422),
            ({"return_url": "javascript:alert(1)"}, 422),
            ({"return_url": "//evil.example/"}, 422),
            ({"return_url": "/console"}, 422),
            ({"return_url": "https://user@evil.example/"}, 422),
            ({"return_url": "https://evil.example\\@platform.example/"}, 422),
            ({"return_url": "https://[/"}, 422),
            ({"return_url": "https://platform.example/\n"}, 422),
            ({"return_url": "https://platform.example/" + "x" * 2048}, 422),
            ({"return_url": "http://platform.example:8080/?a=b#c"}, 201),
        ):
            answer = await client.post("/v1/console/links", json=body)
            assert answer.status_code == status, (body, answer.text)


@pytest.mark.parametrize(
    ("public_url", "begin"),
    [
        (None, "{node}/console/link?token="),
        ("https://x.example/hooks/", "https://x.example/hooks/console/link?token="),
    ],
)
async def test_a_link_begins_with_the_public_url(
    make_node: Callable[..., Any], tenant: Tenant, public_url: str | None, begin: str
) -> None:
    node = await make_node(public_url=public_url)
    async with node.client(tenant) as client:
        answer = await client.post("/v1/console/links")
    assert answer.json()["url"].startswith(begin.replace("{node}", node.url)), answer.text


# ---- the end -------------------------------------------------------------------------------------


async def test_sessions_and_links_end_with_their_key_on_every_node(
    make_node: Callable[..., Any], tenants: Tenants, tenant: Tenant, database: Database
) -> None:
    nodes: list[Node] = [await make_node(), await make_node()]
    other = await tenants.key_of(tenant.id, tenant.name, TENANT_SCOPES)
    opened = await nodes[0].sessions.open_with_key(other.key)
    kept = await nodes[0].sessions.open_with_key(tenant.key)
    link = await link_of(nodes[0], other)
    for node in nodes:
        assert await node.sessions.caller_of(opened.token) == opened.session
        await node.sessions.look_at_link(link)
    async with nodes[0].client(tenant) as client:
        assert (await client.delete(f"/v1/keys/{other.key_id}")).status_code == 200
        for node in nodes:
            assert await node.sessions.caller_of(opened.token) is None, "at once"
            with pytest.raises(LinkOver):
                await node.sessions.look_at_link(link)
            with pytest.raises(LinkOver):
                await node.sessions.open_with_link(link)
            assert await node.sessions.caller_of(kept.token) == kept.session
        listed = (await client.get("/v1/console/sessions")).json()["data"]
        assert [each["id"] for each in listed] == [str(kept.session.id)]
    assert await store.open_with_link(database, nodes[0].clock, link) is None
    assert await store.open_with_key(database, nodes[0].clock, tenant.id, other.key_id) is None  # type: ignore[arg-type]


async def test_a_session_ends_when_its_key_expires(node: Node, tenant: Tenant, database: Database) -> None:
    opened = await node.sessions.open_with_key(tenant.key)
    link = await link_of(node, tenant)
    await database.fetch("update api_keys set expires_at = now() + interval '1 hour'")
    found = await session_with(node, opened.token)
    assert found.caller.expires_at < opened.session.caller.expires_at
    await database.fetch("update api_keys set expires_at = now()")
    assert await node.sessions.caller_of(opened.token) is None
    with pytest.raises(LinkOver):
        await node.sessions.open_with_link(link)


async def test_a_session_ends_after_twelve_hours(node: Node, tenant: Tenant, database: Database) -> None:
    opened = await node.sessions.open_with_key(tenant.key)
    row = await database.row("select expires_at - created_at as valid from sessions")
    assert row is not None
    assert row["valid"] == timedelta(hours=12)
    await database.fetch("update sessions set expires_at = now()")
    assert await node.sessions.caller_of(opened.token) is None
    async with node.client(tenant) as client:
        assert (await client.get("/v1/console/sessions")).json()["data"] == []
        ended = await client.delete(f"/v1/console/sessions/{opened.session.id}")
        assert ended.status_code == 404


async def test_what_has_ended_is_deleted_and_nothing_else(
    node: Node, tenant: Tenant, database: Database
) -> None:
    kept = await node.sessions.open_with_key(tenant.key)
    link = await link_of(node, tenant)
    for _ in range(3):
        await node.sessions.open_with_key(tenant.key)
        await link_of(node, tenant)
    await database.fetch("update sessions set expires_at = now() where id <> $1", kept.session.id)
    await database.fetch(
        "update session_links set expires_at = now() where hash <> $1", api_keys.hash_of(link)
    )
    assert [await store.sweep(database, 2) for _ in range(3)] == [2, 1, 0]
    assert await node.sessions.caller_of(kept.token) == kept.session
    await node.sessions.look_at_link(link)


async def test_the_oldest_sessions_and_links_give_way(
    node: Node, tenants: Tenants, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "MAX_PER_KEY", 3)
    monkeypatch.setattr(store, "MAX_PER_ORGANISATION", 5)
    neighbour = await tenants.make()
    theirs = await node.sessions.open_with_key(neighbour.key)
    keys = [tenant, *[await tenants.key_of(tenant.id, tenant.name, TENANT_SCOPES) for _ in range(2)]]
    first = [await node.sessions.open_with_key(keys[0].key) for _ in range(4)]
    links = [await link_of(node, keys[0]) for _ in range(4)]
    assert await open_ones(node, first) == [False, True, True, True]
    with pytest.raises(LinkOver):
        await node.sessions.look_at_link(links[0])
    for link in links[1:]:
        await node.sessions.look_at_link(link)
    rest = [await node.sessions.open_with_key(key.key) for key in keys[1:] for _ in range(2)]
    assert await open_ones(node, first) == [False, False, False, True]
    assert await open_ones(node, [*rest, theirs]) == [True] * 5
    # Also if they are opened at once, when some give way before their opener has read them.
    at_once = [node.sessions.open_with_key(key.key) for key in keys for _ in range(4)]
    await asyncio.gather(*at_once, return_exceptions=True)
    async with node.client(tenant) as client:
        listed = (await client.get("/v1/console/sessions")).json()["data"]
    assert 0 < len(listed) <= 5, "two that open at once may each remove one"


async def open_ones(node: Node, opened: list[NewSession]) -> list[bool]:
    return [await node.sessions.caller_of(each.token) is not None for each in opened]


async def test_sessions_are_listed_and_ended(
    make_node: Callable[..., Any], tenants: Tenants, tenant: Tenant
) -> None:
    node, other_node = await make_node(), await make_node()
    token = await link_of(node, tenant, scopes=["read"], return_url="https://platform.example/")
    opened = [await node.sessions.open_with_link(token), await node.sessions.open_with_key(tenant.key)]
    stranger = await tenants.make()
    async with node.client(tenant) as client, node.client(stranger) as theirs:
        listed = (await client.get("/v1/console/sessions", params={"limit": 1})).json()
        assert listed["data"] == [
            {
                "id": str(opened[0].session.id),
                "key_id": str(tenant.key_id),
                "key_name": None,
                "key_prefix": tenant.key[:12],
                "scopes": ["read"],
                "return_url": "https://platform.example/",
                "acting_for": None,
                "created_at": listed["data"][0]["created_at"],
                "expires_at": listed["data"][0]["expires_at"],
            }
        ]
        rest = await client.get("/v1/console/sessions", params={"cursor": listed["next_cursor"]})
        assert [each["id"] for each in rest.json()["data"]] == [str(opened[1].session.id)]
        assert opened[0].token not in rest.text
        assert (await theirs.get("/v1/console/sessions")).json()["data"] == []
        path = f"/v1/console/sessions/{opened[0].session.id}"
        assert (await theirs.delete(path)).status_code == 404
        assert await other_node.sessions.caller_of(opened[0].token) is not None
        assert (await client.delete(path)).status_code == 204
        assert await other_node.sessions.caller_of(opened[0].token) is None
        assert await other_node.sessions.caller_of(opened[1].token) is not None
        for gone in (path, f"/v1/console/sessions/{uuid.uuid4()}", "/v1/console/sessions/x"):
            assert (await client.delete(gone)).status_code == 404


async def test_only_an_operators_key_ends_an_operators_session(node: Node, tenants: Tenants) -> None:
    operator = await tenants.make(scopes=list(Scope))
    tenant = await tenants.key_of(operator.id, operator.name, TENANT_SCOPES)
    opened = await node.sessions.open_with_key(operator.key)
    path = f"/v1/console/sessions/{opened.session.id}"
    async with node.client(tenant) as client:
        assert (await client.delete(path)).status_code == 403
    async with node.client(operator) as client:
        assert (await client.delete(path)).status_code == 204


# ---- requests ------------------------------------------------------------------------------------


async def test_a_form_needs_our_origin_and_the_token_of_its_session(node: Node, tenant: Tenant) -> None:
    session = (await node.sessions.open_with_key(tenant.key)).session
    other = (await node.sessions.open_with_key(tenant.key)).session
    ours = node.sessions.is_our_post
    assert ours(OUR_PAGE, session, session.csrf_token)
    for wrong in (other.csrf_token, "", None, "é", "\ud800", session.csrf_token + "x"):
        assert not ours(OUR_PAGE, session, wrong)
    assert not ours({b"sec-fetch-site": b"cross-site"}, session, session.csrf_token)
    assert not ours({}, session, session.csrf_token)
    # The form that signs in has no session.
    assert ours(OUR_PAGE)
    assert not ours({b"sec-fetch-site": b"cross-site"})
    assert not ours({b"origin": b"https://evil.example", b"host": b"127.0.0.1"})


async def test_no_route_of_the_api_reads_the_cookie(node: Node, tenants: Tenants) -> None:
    operator = await tenants.make(scopes=list(Scope))
    opened = await node.sessions.open_with_key(operator.key)
    cookie = {"cookie": f"{node.sessions.cookie.name}={opened.token}"}
    tried = 0
    async with node.client() as client:
        for route in ROUTES:
            if route.scope == PUBLIC or not route.path.startswith("/v1/"):
                continue
            path = route.path.replace("{", "").replace("}", "")
            answer = await client.request(route.method, path, headers=cookie, json={})
            assert answer.status_code == 401, (route.method, path, answer.text)
            assert "set-cookie" not in answer.headers
            tried += 1
    assert tried > 50
    assert await node.sessions.session_of({b"cookie": cookie["cookie"].encode()}) is not None


async def test_unknown_tokens_hold_up_only_their_own_kind(
    node: Node, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = await node.sessions.open_with_key(tenant.key)
    link = await link_of(node, tenant)
    await node.sessions.look_at_link(link)
    monkeypatch.setattr(lookups, "MAX_LOOKUPS_WAITING", 0)
    for refused in (
        node.sessions.caller_of(UNKNOWN),
        node.sessions.look_at_link(UNKNOWN),
        node.sessions.open_with_link(UNKNOWN),
        node.sessions.open_with_key("zap_live_" + "x" * 43),
    ):
        with pytest.raises(Unavailable):
            await refused
    # Of those that were valid once, one at a time may still be looked up.
    monkeypatch.setattr(lookups, "MAX_LOOKUPS_WAITING", 1)
    assert await node.sessions.caller_of(opened.token) is not None
    assert (await node.sessions.open_with_link(link)).session.caller.org_id == tenant.id


async def test_a_token_is_looked_up_only_as_what_it_is(node: Node, tenant: Tenant) -> None:
    """The look-ups of the same text as a session and as a link, at the same moment, are not one look-up."""
    opened = await node.sessions.open_with_key(tenant.key)
    link = await link_of(node, tenant)
    for token, session in ((opened.token, opened.session), (link, None)):
        found = await asyncio.gather(
            node.sessions.caller_of(token), node.sessions.look_at_link(token), return_exceptions=True
        )
        assert found[0] == session
        assert isinstance(found[1], LinkOver) is (session is not None)


# ---- operators -----------------------------------------------------------------------------------


async def test_an_operator_acts_for_another_organisation_and_comes_back(
    node: Node, tenants: Tenants, tenant: Tenant, database: Database
) -> None:
    operator = await tenants.make(scopes=list(Scope))
    org = await organisations.by_id(database, tenant.id)
    opened = await node.sessions.open_with_key(operator.key)
    session = opened.session
    assert session.is_operator
    await node.sessions.act_for(session, org.id)
    acting = await session_with(node, opened.token)
    assert acting.acting_for == org
    assert (acting.caller.org_id, acting.caller.own_org_id) == (tenant.id, operator.id)
    assert Scope.ADMIN not in acting.caller.scopes
    assert (acting.own.org_id, acting.own.scopes) == (operator.id, set(Scope))
    assert not node.sessions.is_our_post(OUR_PAGE, acting, session.csrf_token), (
        "a form that showed the operator's own organisation is not sent to the other one"
    )
    assert node.sessions.is_our_post(OUR_PAGE, acting, acting.csrf_token)
    async with node.client(operator) as client, node.client(tenant) as theirs:
        [listed] = (await client.get("/v1/console/sessions")).json()["data"]
        assert listed["acting_for"] == str(tenant.id)
        assert (await theirs.get("/v1/console/sessions")).json()["data"] == []
    await node.sessions.act_for(acting, None)
    assert await node.sessions.caller_of(opened.token) == session
    await node.sessions.act_for(acting, operator.id)
    assert await node.sessions.caller_of(opened.token) == session
    await node.sessions.end(acting)
    assert await node.sessions.caller_of(opened.token) is None


async def test_an_operator_without_act_only_reads(
    node: Node, tenants: Tenants, tenant: Tenant, database: Database
) -> None:
    operator = await tenants.make(scopes=set(Scope) - {Scope.ACT})
    opened = await node.sessions.open_with_key(operator.key)
    await node.sessions.act_for(opened.session, tenant.id)
    acting = await session_with(node, opened.token)
    assert acting.caller.scopes == {Scope.READ, Scope.EVENTS_READ}


async def test_a_session_that_is_no_operators_acts_for_nobody(
    node: Node, tenants: Tenants, tenant: Tenant, database: Database
) -> None:
    other = await organisations.by_id(database, OrgId((await tenants.make()).id))
    operator = await tenants.make(scopes=list(Scope))
    narrowed = await node.sessions.open_with_link(await link_of(node, operator, scopes=["read", "act"]))
    for opened in (await node.sessions.open_with_key(tenant.key), narrowed):
        assert not opened.session.is_operator
        with pytest.raises(Forbidden):
            await node.sessions.act_for(opened.session, other.id)
        assert await node.sessions.caller_of(opened.token) == opened.session


# ---- links without the API -----------------------------------------------------------------------


async def test_the_key_for_the_command_is_made_once(
    node: Node, tenant: Tenant, database: Database, clock: DatabaseClock
) -> None:
    links = await asyncio.gather(
        *[store.insert_console_link(database, clock, tenant.id, 60) for _ in range(4)]
    )
    keys = await api_keys.listed(database, tenant.id, PageRequest(None, 100))
    [key] = [key for key in keys if key.name == store.CONSOLE_KEY]
    assert set(key.scopes) == TENANT_SCOPES
    for link in links:
        opened = await node.sessions.open_with_link(link.token)
        assert (opened.session.key_name, opened.session.caller.key_id) == ("console", key.id)
    await api_keys.revoke(database, tenant.id, key.id)
    another = await store.insert_console_link(database, clock, tenant.id, 60)
    opened = await node.sessions.open_with_link(another.token)
    assert opened.session.caller.key_id != key.id


async def test_the_first_run_makes_a_link_for_its_key(
    node: Node, database: Database, clock: DatabaseClock
) -> None:
    made = await first_run(database, clock, terminal=True, data_dir=None)
    assert made is not None
    assert made.link_token is not None
    row = await database.row("select expires_at - created_at as valid from session_links")
    assert row is not None
    assert row["valid"] == timedelta(minutes=10)
    opened = await node.sessions.open_with_link(made.link_token)
    assert (opened.session.key_name, opened.session.caller.org_name) == ("first key", "default")


async def test_without_the_console_nobody_signs_in(make_node: Callable[..., Any], tenant: Tenant) -> None:
    node = await make_node(console="off")
    async with node.client(tenant) as client:
        for method, path in (
            ("POST", "/v1/console/links"),
            ("GET", "/v1/console/sessions"),
            ("GET", "/console"),
        ):
            assert (await client.request(method, path)).status_code == 404
        assert (await client.get("/v1/org")).status_code == 200


async def test_a_node_deletes_what_has_ended(
    make_node: Callable[..., Any], tenant: Tenant, database: Database
) -> None:
    node = await make_node()
    await node.sessions.open_with_key(tenant.key)
    await database.fetch("update sessions set expires_at = now()")
    await make_node()  # which begins with its duties

    async def gone() -> bool:
        return await database.fetch("select from sessions") == []

    await eventually(gone, 10)
