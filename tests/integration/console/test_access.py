"""Access, organisations, the system and sending in a real browser, from the form to the effect."""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID

from playwright.async_api import Page, expect

from console_look import faults_in_both, faults_of
from console_scene import HOSTILE, furnish
from console_scene_access import add_worker, furnish_access
from harness import Node, Tenant, Tenants
from integration.console.test_pages import OURS, signed_in, token_in
from triggers.domain import Scope
from triggers.http.request import request_with
from triggers.postgres.clock import DatabaseClock
from triggers.postgres.database import Database
from triggers.sessions.routes import SessionRoutes


async def sound(page: Page, path: str, shown: str) -> None:
    """Open a page, which shows a text and has no faults."""
    await page.goto(path)
    await expect(page.locator("main")).to_contain_text(shown)
    assert await faults_in_both(page) == {}, path


async def age(database: Database) -> None:
    """Let nothing be a few seconds old, because scripts would write such times anew and move them."""
    for table in ("api_keys", "sessions", "organisations"):
        await database.fetch(f"update {table} set created_at = now() - interval '130 min'")


def without_shift(faults: dict[str, Any]) -> dict[str, Any]:
    """Faults of a page on which a click has opened something, so what is below has moved."""
    return {name: fault for name, fault in faults.items() if name != "shift"}


async def test_every_screen(
    looking: Any, node: Node, database: Database, clock: DatabaseClock, tenant: Tenant, tenants: Tenants
) -> None:
    scene = await furnish(database, clock, tenant)
    access = await furnish_access(node, database, clock, tenant)
    await add_worker(database, silent_seconds=60)
    empty = await tenants.make()
    for width in (360, 1440):
        async with looking.at(tenant, width=width) as page:
            await age(database)
            await sound(page, "/console/access", "billing service")
            await expect(page.locator("main")).to_contain_text("U+202Egpj.exe")
            await page.get_by_label("Change billing service").click()
            await expect(page.get_by_role("button", name="Revoke")).to_be_visible()
            assert await faults_in_both(page) == {}, (width, "revoke")
            await page.keyboard.press("Escape")
            await page.locator("summary", has_text="revoked or expired").click()
            await expect(page.locator("main")).to_contain_text("old laptop")
            assert without_shift(await faults_in_both(page)) == {}, (width, "old keys")
            await sound(page, "/console/access/key", "Its scopes cannot be changed later")
            await page.get_by_label("Chosen scopes").check()
            await expect(page.get_by_label("events:read")).to_be_visible()
            assert without_shift(await faults_in_both(page)) == {}, (width, "boxes")
            await page.get_by_role("button", name="Create the key").click()
            await expect(page.locator("main")).to_contain_text("A key needs at least one scope.")
            assert await faults_in_both(page) == {}, (width, "key without scopes")
            await sound(page, "/console/access/link", "once and within a minute")
            await sound(page, "/console/send", "Enter a type")
            await sound(page, f"/console/send?event={scene.failing}", "subscriptions and inboxes match")
            await page.get_by_label("Type").fill("triggers.mine")
            await page.get_by_role("button", name="Send the event").click()
            await expect(page.locator("#type-wrong")).to_contain_text("reserved")
            assert await faults_in_both(page) == {}, (width, "reserved type")
        async with looking.at(empty, width=width) as page:
            await age(database)
            await sound(page, "/console/access", "1 key is valid")
        async with looking.at(access.operator, width=width) as page:
            await sound(page, "/console/organisations", "Northwind Traders")
            await page.get_by_label("Change Northwind Traders").click()
            await expect(page.get_by_role("button", name="Act for it").nth(0)).to_be_visible()
            assert await faults_in_both(page) == {}, (width, "organisation")
            await page.locator("details[open] summary", has_text="Delete…").click()
            await expect(page.get_by_role("button", name="Delete the organisation")).to_be_visible()
            assert without_shift(await faults_in_both(page)) == {}, (width, "deletion")
            await sound(page, "/console/organisations/new", "a first key")
            await page.goto("/console/system")
            await expect(page.locator("main")).to_contain_text("has been silent for")
            await expect(page.locator("main")).to_contain_text("delivery-1.internal:4711")
            await page.locator("summary", has_text="have their default").click()
            assert without_shift(await faults_in_both(page)) == {}, (width, "settings")
    looking.trouble[:] = [each for each in looking.trouble if "422" not in each]


async def test_keys_without_javascript(
    looking: Any, node: Node, database: Database, clock: DatabaseClock, tenant: Tenant
) -> None:
    await furnish_access(node, database, clock, tenant)
    async with looking.at(tenant, scripts=False) as page:
        await page.get_by_role("link", name="Access").click()
        await page.get_by_role("link", name="Create a key").click()
        await page.get_by_label("Name").fill("exporter")
        await page.get_by_label("Chosen scopes").check()
        await page.get_by_label("events:read").check()
        await page.get_by_label("Expires").select_option("30")
        await page.get_by_label("For production").check()
        await page.get_by_role("button", name="Create the key").click()
        await expect(page.locator("main")).to_contain_text("It is shown only once")
        key = await page.locator(".once code").inner_text()
        assert key.startswith("zap_live_")
        assert await faults_of_without_scripts(page) == []
        async with node.client(Tenant(tenant.id, tenant.name, key, tenant.key_id)) as client:
            assert (await client.get("/v1/org")).json()["scopes"] == ["events:read"]
            assert (await client.post("/v1/events", json={"type": "a", "payload": 1})).status_code == 403
        made = await database.row("select * from api_keys where name = 'exporter'")
        assert made is not None
        assert made["expires_at"] is not None
        await page.get_by_role("link", name="I have copied it").click()
        assert key not in await page.content()

        await page.get_by_label("Change exporter").click()
        row = page.locator("tr", has_text="exporter")
        await row.get_by_label("The old key still works").select_option("3600")
        await row.get_by_role("button", name="Rotate").click()
        await expect(page.locator(".story")).to_contain_text("The old key still works for 1 hour")
        successor = await page.locator(".once code").inner_text()
        assert successor != key
        row_of_old = await database.row(
            "select expires_at - now() < interval '1 hour' as soon from api_keys where id = $1", made["id"]
        )
        assert row_of_old is not None
        assert row_of_old["soon"]

        await page.goto("/console/access")
        row = page.locator("tr", has_text="billing service")
        await row.locator("summary").click()
        await row.get_by_role("button", name="Revoke").click()
        await expect(page.locator("summary", has_text="2 revoked or expired keys")).to_be_visible()
        revoked = await database.row(
            "select revoked_at from api_keys where org_id = $1 and name = 'billing service'", tenant.id
        )
        assert revoked is not None
        assert revoked["revoked_at"] is not None

        row = page.locator("#sessions tr", has_text="Ada, read-only")
        await row.locator("summary").click()
        await row.get_by_role("button", name="End the session").click()
        await expect(page.locator("#sessions tr", has_text="Ada, read-only")).to_have_count(0)
        await page.locator("#sessions tr", has_text="this session").locator("summary").click()
        await page.get_by_role("button", name="End the session").click()
        await expect(page.get_by_label("API key")).to_be_visible()
    assert await database.fetch("select from sessions where org_id = $1", tenant.id) == []


async def test_an_operator_deletes_an_organisation_without_javascript(
    looking: Any, node: Node, database: Database, tenants: Tenants
) -> None:
    operator = await tenants.make(scopes=set(Scope), name="operators")
    victim = await tenants.make(name="victim <b>bold</b>")
    async with looking.at(operator, scripts=False) as page:
        await page.goto("/console/organisations")
        row = page.locator("tr", has_text="victim")
        await row.locator("summary").first.click()
        await expect(row.get_by_role("button", name="Delete the organisation")).not_to_be_visible()
        await row.locator("summary", has_text="Delete…").click()
        await row.get_by_role("button", name="Delete the organisation").click()
        await expect(page.locator("tr", has_text="victim")).to_have_count(0)
        await expect(page.locator("summary", has_text="Delete…")).to_have_count(0)
    assert await database.fetch("select from organisations where id = $1", victim.id) == []
    async with signed_in(node, operator) as client:
        form = {"token": token_in((await client.get("/console/organisations")).text)}
        own = await client.post(f"/console/organisations/{operator.id}/delete", data=form, headers=OURS)
        assert own.status_code == 409
        assert "A key cannot delete its own organisation" in own.text
        gone = await client.post(f"/console/organisations/{victim.id}/delete", data=form, headers=OURS)
        assert gone.status_code == 303, "deleting it again changes nothing"


async def test_a_link_without_javascript(
    looking: Any, node: Node, database: Database, clock: DatabaseClock, tenant: Tenant
) -> None:
    async with looking.at(tenant, scripts=False) as page:
        await page.goto("/console/access/link")
        await page.get_by_role("button", name="Create the link").click()
        await expect(page.locator("main")).to_contain_text("It can be used once, and expires at")
        assert await faults_of_without_scripts(page) == []
        url = await page.locator(".once code").inner_text()
    async with looking.at(None, scripts=False) as page:
        await page.goto(url.removeprefix(node.url))
        await page.get_by_role("button", name="Open the console").click()
        await page.goto("/console/access")
        await expect(page.locator("#sessions")).to_contain_text("Reads everything, changes nothing")
        await expect(page.get_by_role("link", name="Create a key")).to_have_count(0)


async def test_a_session_with_few_scopes_makes_no_link_with_more(node: Node, tenant: Tenant) -> None:
    async with node.client(tenant) as client:
        url = (await client.post("/v1/console/links", json={"scopes": ["read"]})).json()["url"]
    token = url.partition("token=")[2]
    async with node.client() as client:
        opened = await client.post("/console/link", data={"link": token}, headers=OURS)
        client.headers["cookie"] = opened.headers["set-cookie"].partition(";")[0]
        page = (await client.get("/console/access/link")).text
        assert "events:write" not in page
        form = {"token": token_in(page), "choice": "chosen", "scope keys": "on"}
        refused = await client.post("/console/access/link", data=form, headers=OURS)
        assert refused.status_code == 403
        session = await node.sessions.session_of({b"cookie": client.headers["cookie"].encode()})
    assert session is not None
    made = await node_links(node, session.caller)
    offer = await node.sessions.look_at_link(made.partition("token=")[2])
    assert offer.scopes == {Scope.READ}, "the default is what the session may, not what its key may"


async def node_links(node: Node, caller: Any) -> str:
    """A link that is made without saying which scopes."""
    routes = SessionRoutes(node.database, node.clock, node.url)
    return (await routes.create_link(request_with(b""), caller)).url


async def test_a_key_that_may_read_sees_no_actions(
    looking: Any, node: Node, database: Database, clock: DatabaseClock, tenant: Tenant
) -> None:
    scene = await furnish(database, clock, tenant)
    access = await furnish_access(node, database, clock, tenant)
    async with looking.at(access.reader) as page:
        await age(database)
        await sound(page, "/console/access", "billing service")
        for name in ("Change", "End", "Create a key", "Organisations", "System"):
            await expect(page.get_by_role("button", name=name)).to_have_count(0)
            await expect(page.get_by_role("link", name=name)).to_have_count(0)
        await expect(page.locator("main summary")).to_have_count(1)  # the old keys
        await page.goto(f"/console/events/{scene.failing}")
        await expect(page.get_by_role("link", name="Send a copy")).to_have_count(0)
        await page.goto("/console/events")
        await expect(page.get_by_role("link", name="Send an event")).to_have_count(0)
    async with signed_in(node, access.reader) as client:
        token = token_in((await client.get("/console/access")).text)
        for path in ("access/key", "send", "organisations", "organisations/new", "system"):
            assert (await client.get(f"/console/{path}")).status_code == 403, path
        for path in (
            "access/key",
            f"access/keys/{access.sender}/revoke",
            f"access/keys/{access.sender}/rotate",
            "organisations/new",
            f"organisations/{tenant.id}/plan",
            f"organisations/{tenant.id}/keys",
            f"organisations/{access.others[0].id}/act",
            f"organisations/{access.others[0].id}/delete",
            "send",
            "send/check",
        ):
            form = {"token": token, "type": "a", "payload": "1", "choice": "sends", "name": "x"}
            answer = await client.post(f"/console/{path}", data=form, headers=OURS)
            assert answer.status_code == 403, path
    row = await database.row("select revoked_at from api_keys where id = $1", access.sender)
    assert row is not None
    assert row["revoked_at"] is None


async def test_a_key_without_the_scope_for_keys_may_send_but_sees_no_recipients(
    looking: Any, tenants: Tenants
) -> None:
    tenant = await tenants.make(scopes=[Scope.EVENTS_WRITE, Scope.EVENTS_READ])
    async with looking.at(tenant) as page:
        await expect(page.get_by_role("link", name="Access")).to_have_count(0)
        await sound(page, "/console/send", "Send the event")
        await expect(page.get_by_text("Recipients")).to_have_count(0)
        await page.get_by_label("Type").fill("order.paid")
        await page.get_by_role("button", name="Send the event").click()
        await page.wait_for_url("**/console/events/*")


async def test_two_organisations_are_never_mixed(
    node: Node, database: Database, clock: DatabaseClock, tenant: Tenant, tenants: Tenants
) -> None:
    scene = await furnish(database, clock, tenant)
    access = await furnish_access(node, database, clock, tenant)
    [theirs] = await database.fetch("select id from sessions where org_id = $1 limit 1", tenant.id)
    other = await tenants.make()
    async with signed_in(node, other) as client:
        page = (await client.get("/console/access")).text
        assert "billing service" not in page
        form = {"token": token_in(page), "overlap": "0"}
        for path, status in (
            (f"access/keys/{access.sender}/revoke", 404),
            (f"access/keys/{access.sender}/rotate", 404),
            (f"access/sessions/{theirs['id']}/end", 404),
        ):
            answer = await client.post(f"/console/{path}", data=form, headers=OURS)
            assert answer.status_code == status, path
        assert (await client.get(f"/console/send?event={scene.failing}")).status_code == 404
        sent = {**form, "type": "invoice.created", "payload": "{}"}
        checked = await client.post("/console/send/check", data=sent, headers=OURS)
        assert "default" in checked.text
        assert "billing" not in checked.text
    assert await database.fetch("select from sessions where id = $1", theirs["id"]) != []


async def test_organisations_without_javascript(
    looking: Any, node: Node, database: Database, clock: DatabaseClock, tenant: Tenant
) -> None:
    access = await furnish_access(node, database, clock, tenant)
    await furnish(database, clock, access.others[0])
    async with looking.at(access.operator, scripts=False) as page:
        await page.get_by_role("link", name="Organisations").click()
        await expect(page.locator("tr", has_text="Northwind Traders")).to_contain_text("100,000+")
        await page.get_by_role("link", name="Create an organisation").click()
        await page.get_by_label("Name").fill("Contoso")
        await page.get_by_label("Plan").select_option("business")
        await page.get_by_role("button", name="Create the organisation").click()
        await expect(page.locator("#name-wrong")).to_contain_text("already exists")
        assert await page.get_by_label("Plan").input_value() == "business"
        await page.get_by_label("Name").fill("Fabrikam")
        await page.get_by_role("button", name="Create the organisation").click()
        await expect(page.locator("h1")).to_contain_text("The first key of Fabrikam")
        key = await page.locator(".once code").inner_text()
        async with node.client(Tenant(tenant.id, "", key, tenant.key_id)) as client:
            who = (await client.get("/v1/org")).json()
            assert (who["name"], who["plan"]) == ("Fabrikam", "business")
            assert "admin" not in who["scopes"]

        await page.get_by_role("link", name="I have copied it").click()
        row = page.locator("tr", has_text="Fabrikam")
        await row.locator("summary").first.click()
        await row.get_by_label("Plan").select_option("pro")
        await row.get_by_label("Requests a minute").fill("7")
        await row.get_by_role("button", name="Change the plan").click()
        row = page.locator("tr", has_text="Fabrikam")
        await expect(row.locator(".error")).to_be_visible()
        assert await row.get_by_label("Requests a minute").input_value() == "7"
        await row.get_by_label("Plan").select_option("enterprise")
        await row.get_by_role("button", name="Change the plan").click()
        row = page.locator("tr", has_text="Fabrikam")
        await expect(row).to_contain_text("Enterprise, 7 requests a minute")

        row = page.locator("tr", has_text="Northwind Traders")
        await row.locator("summary").first.click()
        await row.get_by_role("button", name="Act for it").click()
        await expect(page.locator(".banner")).to_contain_text("You are acting for Northwind Traders")
        await expect(page.get_by_role("link", name="invoice.payment_failed")).to_be_visible()
        await expect(page.get_by_role("link", name="Organisations")).to_have_count(0)
        await page.get_by_role("link", name="Access").click()
        await expect(page.get_by_role("link", name="Create a link")).to_have_count(0)
        await page.get_by_role("button", name="Back to your own organisation").click()
        await expect(page.locator(".banner")).to_have_count(0)
        await expect(page.get_by_role("link", name="Organisations")).to_be_visible()
    looking.trouble[:] = [each for each in looking.trouble if not re.search("409|422", each)]


async def test_acting_for_an_organisation_that_does_not_exist(node: Node, tenants: Tenants) -> None:
    operator = await tenants.make(scopes=list(Scope))
    async with signed_in(node, operator) as client:
        form = {"token": token_in((await client.get("/console/organisations")).text)}
        for org_id in ("019ab0e4-7c11-7d5f-9f6b-3c2a1e5d8b70", "x"):
            answer = await client.post(f"/console/organisations/{org_id}/act", data=form, headers=OURS)
            assert answer.status_code == 404


async def test_an_event_is_sent_without_javascript(
    looking: Any, database: Database, clock: DatabaseClock, tenant: Tenant
) -> None:
    scene = await furnish(database, clock, tenant)
    async with looking.at(tenant, scripts=False) as page:
        await page.goto(f"/console/events/{scene.failing}")
        await page.get_by_role("link", name="Send a copy").click()
        await expect(page.locator("#judged")).to_contain_text("billing")
        await page.get_by_label("Subject").fill("cus_1")
        await page.get_by_label("Dedup id").fill("once")
        await page.get_by_role("button", name="Send the event").click()
        await page.wait_for_url("**/console/events/*")
        copy = UUID(page.url.rpartition("/")[2])
        rows = await database.fetch(
            "select type, payload, subject, source, dedup_id from events where id = any($1::uuid[])"
            " order by id",
            [scene.failing, copy],
        )
        given = {"subject": "cus_1", "dedup_id": "once"}
        assert dict(rows[1]) == {**dict(rows[0]), **given}, "the payload is kept byte for byte"
        to = await database.fetch("select from deliveries where event_id = $1", copy)
        assert len(to) == 5

        await page.goto("/console/send")
        await page.get_by_label("Type").fill("invoice.payment_failed")
        await page.get_by_label("Payload").fill('{\n  "other": true\n}')
        await page.get_by_label("Dedup id").fill("once")
        await page.get_by_role("button", name="Show the recipients").click()
        await expect(page.locator("#judged")).to_contain_text("billing")
        await page.get_by_role("button", name="Send the event").click()
        await expect(page.locator("#dedup_id-wrong")).to_contain_text("other content")
        assert await page.get_by_label("Payload").input_value() == '{\n  "other": true\n}'
        await page.get_by_role("link", name="The earlier event").click()
        await page.wait_for_url(f"**/console/events/{copy}")
        await page.goto(f"/console/send?event={copy}")
        await page.get_by_label("Payload").fill("[1, 2,, 3]")
        await page.get_by_role("button", name="Send the event").click()
        await expect(page.locator("#payload-wrong")).not_to_be_empty()
        assert await page.get_by_label("Payload").input_value() == "[1, 2,, 3]"
    sent = await database.fetch("select from events where dedup_id = 'once'")
    assert len(sent) == 1
    looking.trouble[:] = [each for each in looking.trouble if not re.search("409|422", each)]


async def test_a_payload_is_checked_while_it_is_typed(
    looking: Any, database: Database, clock: DatabaseClock, tenant: Tenant
) -> None:
    await furnish(database, clock, tenant)
    under_way, most = 0, 0

    def began(request: Any) -> None:
        nonlocal under_way, most
        if request.url.endswith("/send/check"):
            under_way += 1
            most = max(most, under_way)

    def ended(request: Any) -> None:
        nonlocal under_way
        if request.url.endswith("/send/check"):
            under_way -= 1

    async with looking.at(tenant) as page:
        page.on("request", began)
        page.on("requestfinished", ended)
        page.on("requestfailed", ended)
        await page.goto("/console/send")
        await page.get_by_label("Type").fill("order.paid")
        await expect(page.locator("#judged")).to_contain_text("billing")
        await expect(page.locator("#judged")).to_contain_text("audit log")
        payload = page.get_by_label("Payload")
        await payload.fill('{"n": }')
        await expect(page.locator("#payload-wrong")).not_to_be_empty()
        await expect(page.locator("#judged")).to_contain_text("Correct the fields")
        assert await faults_of(page) == {}
        await payload.press("End")
        await payload.press("ArrowLeft")
        await page.keyboard.type("42", delay=30)
        await expect(page.locator("#payload-wrong")).to_be_empty()
        await expect(page.locator("#judged")).to_contain_text("billing")
        assert await payload.input_value() == '{"n": 42}'
        assert await page.evaluate("document.activeElement.id") == "payload"
        assert most == 1, "one check at a time"
        await page.get_by_role("button", name="Send the event").click()
        await page.wait_for_url("**/console/events/*")
    row = await database.row("select payload from events where type = 'order.paid' order by id desc limit 1")
    assert row is not None
    assert bytes(row["payload"]) == b'{"n": 42}'


async def test_a_copy_of_a_hostile_event_is_inert(
    looking: Any, database: Database, clock: DatabaseClock, tenant: Tenant
) -> None:
    scene = await furnish(database, clock, tenant)
    async with looking.at(tenant, width=360) as page:
        await page.goto(f"/console/send?event={scene.hostile}")
        assert await page.get_by_label("Payload").input_value() == HOSTILE
        assert await page.locator("main img, main script").count() == 0
        assert await faults_of(page) == {}
        await page.get_by_role("button", name="Send the event").click()
        await page.wait_for_url("**/console/events/*")
    rows = await database.fetch(
        "select payload from events where org_id = $1 and type = 'order.refunded'", tenant.id
    )
    assert [bytes(row["payload"]).decode() for row in rows] == [HOSTILE, HOSTILE]


async def test_an_event_that_was_sent_before_is_named(node: Node, tenant: Tenant) -> None:
    async with signed_in(node, tenant) as client:
        token = token_in((await client.get("/console/send")).text)
        form = {"token": token, "type": "a", "payload": "1", "dedup_id": "d"}
        first = await client.post("/console/send", data=form, headers=OURS)
        assert first.status_code == 303
        again = await client.post("/console/send", data=form, headers=OURS)
        assert again.status_code == 200
        assert first.headers["location"] in again.text
        too_large = {**form, "payload": f'"{"x" * 300_000}"'}
        refused = await client.post("/console/send", data=too_large, headers=OURS)
        assert (refused.status_code, "262,144 bytes" in refused.text) == (422, True)
        huge = {**form, "payload": "x" * 600_000}
        assert (await client.post("/console/send", data=huge, headers=OURS)).status_code == 413
        assert (
            await client.post("/console/send", data={**form, "token": "x"}, headers=OURS)
        ).status_code == 403


async def faults_of_without_scripts(page: Page) -> list[str]:
    """Pages without scripts cannot be judged by them. They must at least have no sideways scroll."""
    box = await page.locator("main").bounding_box()
    size = page.viewport_size
    assert box is not None
    assert size is not None
    return [] if box["x"] + box["width"] <= size["width"] else ["it is wider than the window"]
