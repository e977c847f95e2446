"""The console without a browser: who gets which page, which forms count, and where links lead."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx

from console_scene import furnish
from harness import Node, Tenant, Tenants
from triggers.console.routes import ROUTES
from triggers.domain import Scope
from triggers.postgres.clock import DatabaseClock
from triggers.postgres.database import Database

OURS = {"sec-fetch-site": "same-origin"}


@asynccontextmanager
async def signed_in(node: Node, tenant: Tenant, wanted: str = "") -> AsyncIterator[httpx.AsyncClient]:
    async with node.client() as client:
        form = {"key": tenant.key, "next": wanted}
        answer = await client.post("/console/sign-in", data=form, headers=OURS)
        assert answer.status_code == 303, answer.text
        cookie = answer.headers["set-cookie"].partition(";")[0]
        client.headers["cookie"] = cookie
        client.headers["x-landed"] = answer.headers["location"]
        yield client


def token_in(html: str) -> str:
    found = re.search(r'name="token" value="([^"]+)"', html)
    assert found
    return found[1]


async def test_a_page_without_a_session_leads_to_the_form_and_back(node: Node, tenant: Tenant) -> None:
    async with node.client() as client:
        answer = await client.get("/console/events?type=order.paid")
        assert answer.status_code == 303
        assert answer.headers["location"] == "/console/sign-in?next=/events%3Ftype%3Dorder.paid"
        part = await client.get("/console/events/x/unmatched", headers={"hx-request": "true"})
        assert part.status_code == 204
        assert part.headers["hx-redirect"] == "/console/sign-in?next=/events/x/unmatched"
    async with signed_in(node, tenant, "/events?type=order.paid") as client:
        assert client.headers["x-landed"] == "/console/events?type=order.paid"
    for elsewhere in ("https://evil.example", "//evil.example", "/\\evil.example", "evil"):
        async with signed_in(node, tenant, elsewhere) as client:
            assert client.headers["x-landed"] == "/console"


async def test_no_page_shows_or_changes_anything_without_a_session(node: Node) -> None:
    open_to_all = {"/console/sign-in", "/console/link", "/console/assets/{name}", "/console/_kit"}
    async with node.client() as client:
        for route in ROUTES:
            if route.path in open_to_all:
                continue
            path = re.sub(r"\{\w+\}", "x", route.path)
            answer = await client.request(route.method, path, headers=OURS)
            if path.endswith("/live"):  # the stream of an open page, which then loads itself again
                assert answer.text == "event: reload\nretry: 10000\ndata: \n\n"
                continue
            assert answer.status_code == 303, (route.method, path)
            assert answer.headers["location"].startswith("/console/sign-in"), path


async def test_an_address_of_a_form_leads_to_its_page(node: Node, tenant: Tenant) -> None:
    """The answer to a form can be a page at its address, which somebody may open again."""
    forms = {route.path for route in ROUTES if route.method == "POST"}
    pages = {route.path for route in ROUTES if route.method == "GET"}
    assert forms - pages == {"/console/sign-out", "/console/act-for-none"}
    async with signed_in(node, tenant) as client:
        for path, place in {
            "/console/subscriptions/x/test": "/console/subscriptions/x",
            "/console/inboxes/orders/leases/x/revoke": "/console/inboxes/orders",
            "/console/undelivered/x/chosen": "/console/undelivered/x",
            "/console/deliveries/x.y/retry": "/console/events/x",
        }.items():
            answer = await client.get(path)
            assert (answer.status_code, answer.headers["location"]) == (303, place)


async def test_a_wrong_key_opens_nothing(node: Node) -> None:
    async with node.client() as client:
        for key in ("", "nonsense", "trg_live_" + "x" * 40, "ü" * 600):
            answer = await client.post("/console/sign-in", data={"key": key}, headers=OURS)
            assert answer.status_code == 401
            assert "set-cookie" not in answer.headers
            assert "This API key is not valid" in answer.text


async def test_forms_of_other_sites_and_other_sessions_are_refused(
    node: Node, tenant: Tenant, tenants: Tenants, database: Database, clock: DatabaseClock
) -> None:
    scene = await furnish(database, clock, tenant)
    path = f"/console/subscriptions/{scene.billing}/pause"
    other = await tenants.make()
    async with signed_in(node, other) as stranger:
        foreign = token_in((await stranger.get("/console/events")).text)
    async with signed_in(node, tenant) as client:
        token = token_in((await client.get("/console/events")).text)
        for form, headers in [
            ({"token": token}, {"sec-fetch-site": "cross-site"}),
            ({"token": token}, {"origin": "https://evil.example"}),
            ({"token": token}, {}),
            ({"token": foreign}, OURS),
            ({}, OURS),
        ]:
            answer = await client.post(path, data=form, headers=headers)
            assert answer.status_code == 403, (form, headers)
        bad = await client.post(
            "/console/sign-in", data={"key": tenant.key}, headers={"sec-fetch-site": "none"}
        )
        assert bad.status_code == 403
        answer = await client.post(path, data={"token": token}, headers=OURS)
        assert answer.status_code == 303
    row = await database.row("select status from subscriptions where id = $1", scene.billing)
    assert row is not None
    assert row["status"] == "paused"


async def test_an_organisation_sees_nothing_of_another(
    node: Node, tenant: Tenant, tenants: Tenants, database: Database, clock: DatabaseClock
) -> None:
    scene = await furnish(database, clock, tenant)
    async with signed_in(node, await tenants.make()) as client:
        for path in (
            f"/events/{scene.failing}",
            f"/events/{scene.failing}/payload",
            f"/events/{scene.failing}/curl",
            f"/subscriptions/{scene.billing}",
        ):
            answer = await client.get(f"/console{path}")
            assert answer.status_code == 404, path
            assert "api.example.com" not in answer.text
        assert "billing" not in (await client.get("/console/subscriptions")).text
        assert "Nothing found" in (await client.get("/console/search", params={"q": "billing"})).text
        assert "invoice" not in (await client.get("/console/events")).text
        token = token_in((await client.get("/console/events")).text)
        for path in (
            f"/deliveries/{scene.dead}.{scene.billing}/retry",
            f"/subscriptions/{scene.billing}/pause",
        ):
            answer = await client.post(f"/console{path}", data={"token": token}, headers=OURS)
            assert answer.status_code == 404, path


async def test_a_key_that_may_only_read_sees_no_payload_and_no_buttons(
    node: Node, tenant: Tenant, tenants: Tenants, database: Database, clock: DatabaseClock
) -> None:
    scene = await furnish(database, clock, tenant)
    reader = await tenants.key_of(tenant.id, tenant.name, [Scope.READ])
    async with signed_in(node, reader) as client:
        html = (await client.get(f"/console/events/{scene.failing}")).text
        assert "billing" in html
        assert "503" in html
        assert "Ada Lovelace" not in html
        assert "Retry now" not in html
        token = token_in(html)
        answer = await client.post(
            f"/console/deliveries/{scene.failing}.{scene.billing}/retry", data={"token": token}, headers=OURS
        )
        assert answer.status_code == 403
        for path in ("payload", "curl"):
            assert (await client.get(f"/console/events/{scene.failing}/{path}")).status_code == 403
        assert "Pause" not in (await client.get(f"/console/subscriptions/{scene.billing}")).text


async def test_every_link_stays_behind_the_path_of_the_public_url(
    make_node: Callable[..., Any], tenant: Tenant, database: Database, clock: DatabaseClock
) -> None:
    node = await make_node(public_url="https://host.example/some/path")
    scene = await furnish(database, clock, tenant)
    async with node.client() as client:
        answer = await client.post("/console/sign-in", data={"key": tenant.key}, headers=OURS)
        assert answer.headers["location"] == "/some/path/console"
        assert "Secure" in answer.headers["set-cookie"]
        client.headers["cookie"] = answer.headers["set-cookie"].partition(";")[0]
        wanted, seen = ["/console/sign-in", "/console", f"/console/events/{scene.failing}"], set()
        while wanted:
            path = wanted.pop()
            if path in seen or len(seen) > 60:
                continue
            seen.add(path)
            page = await client.get(path, follow_redirects=False)
            assert page.status_code in (200, 303), path
            links = re.findall(r'(?:href|src|action|hx-get|data-copy-url)="([^"]*)"', page.text)
            if page.status_code == 303:
                links.append(page.headers["location"])
            for link in links:
                if link.startswith(("#", "?")):
                    continue
                assert link.startswith("/some/path/console"), (path, link)
                inside = link.removeprefix("/some/path").partition("#")[0].replace("&amp;", "&")
                if "/sign-out" not in inside and f'action="{link}"' not in page.text:
                    wanted.append(inside)
        assert len(seen) > 20


async def test_pages_are_private_and_files_are_kept(node: Node, tenant: Tenant) -> None:
    async with signed_in(node, tenant) as client:
        page = await client.get("/console/events")
        policy = page.headers["content-security-policy"]
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert page.headers["cache-control"] == "no-store"
        assert page.headers["referrer-policy"] == "no-referrer"
        names = set(re.findall(r'/console/assets/([^"]+)"', page.text))
        assert len(names) >= 5
        for name in names:
            file = await client.get(f"/console/assets/{name}")
            assert file.status_code == 200
            assert "max-age=31536000" in file.headers["cache-control"]
        assert (await client.get("/console/assets/../pyproject.toml")).status_code == 404
        assert (await client.get("/console/_kit")).status_code == 404


async def test_it_can_be_switched_off(make_node: Callable[..., Any], tenant: Tenant) -> None:
    node = await make_node(console="off")
    async with node.client(tenant) as client:
        for path in ("/console", "/console/sign-in", "/console/events", "/console/link"):
            assert (await client.get(path)).status_code == 404
        assert (await client.get("/v1/events")).status_code == 200


async def test_the_search_box(node: Node, tenant: Tenant, database: Database, clock: DatabaseClock) -> None:
    scene = await furnish(database, clock, tenant)
    async with signed_in(node, tenant) as client:

        async def found(text: str) -> str:
            answer = await client.get("/console/search", params={"q": text})
            return answer.headers.get("location", "") if answer.status_code == 303 else answer.text

        for text in (str(scene.failing), str(scene.failing)[-8:], "evt-28-9f21"):
            assert await found(text) == f"/console/events/{scene.failing}"
        delivery = f"{scene.failing}.{scene.billing}"
        assert await found(delivery) == f"/console/events/{scene.failing}#delivery-{scene.billing}"
        for text in ("billing", "BILLING", "api.example.com", str(scene.billing), str(scene.billing)[-8:]):
            assert await found(text) == f"/console/subscriptions/{scene.billing}"
        several = await found("example")
        assert "audit log" in several
        assert "warehouse" in several
        assert "Nothing found" in await found("<script>nothing</script>")


async def test_a_mistake_in_a_filter_is_told_beside_it(node: Node, tenant: Tenant) -> None:
    async with signed_in(node, tenant) as client:
        answer = await client.get("/console/events", params={"since": "yesterday"})
        assert answer.status_code == 422
        assert "RFC 3339" in answer.text
        assert 'value="yesterday"' in answer.text


async def test_the_list_of_events_is_filtered_by_subject_and_by_deliveries(
    node: Node, tenant: Tenant, database: Database, clock: DatabaseClock
) -> None:
    scene = await furnish(database, clock, tenant)
    await database.fetch("delete from deliveries where lane_group is null")  # the default inbox has all
    async with signed_in(node, tenant) as client:

        async def listed(**query: str) -> set[str]:
            page = (await client.get("/console/events", params=query)).text
            return set(re.findall(r'/console/events/([0-9a-f-]{36})" data-row', page))

        everything = await listed()
        undelivered = await listed(undelivered="true")
        assert {str(scene.failing), str(scene.dead)} <= undelivered < everything
        assert str(scene.delivered) not in undelivered
        assert await listed(subject="cus_Q4yT25") == {str(scene.dead)}
        assert await listed(subject="cus_Q4yT25", type="nothing.*") == set()
        page = (await client.get("/console/events", params={"subject": "a\x00b"})).text
        assert "control characters" in page
