"""The console in a real browser: screens, themes, widths, actions up to their effect, and hostile content."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import msgspec
from playwright.async_api import expect

from console_look import faults_in_both, faults_of
from console_scene import furnish
from delivering import Workers, subscribe
from harness import Node, Tenant, Tenants, eventually
from looking import looking_at
from receiving import Receiver, status
from triggers.postgres.clock import DatabaseClock
from triggers.postgres.database import Database


async def test_every_screen(
    looking: Any, database: Database, clock: DatabaseClock, tenant: Tenant, tenants: Tenants
) -> None:
    scene = await furnish(database, clock, tenant)
    empty = await tenants.make()
    screens = {
        f"/console/events/{scene.failing}": 'is failing: 503 from api.example.com (“{"error":{"code"',
        f"/console/events/{scene.dead}?view=raw": "Delivered to 2 of 4",
        f"/console/events/{scene.delivered}": "Delivered to",
        "/console/events": "invoice.payment_failed",
        "/console/events?since=yesterday": "RFC 3339",
        "/console/subscriptions": "billing",
        f"/console/subscriptions/{scene.billing}": "has been failing for ",
        "/console/search?q=example": "audit log",
        "/console/search?q=nothing": "Nothing found",
        "/console/events/nothing": "No event has this id.",
    }
    for width in (360, 1440):
        async with looking.at(None, width=width) as page:
            await page.goto("/console/sign-in")
            assert await faults_in_both(page) == {}, (width, "sign-in")
        async with looking.at(tenant, width=width) as page:
            for path, shown in screens.items():
                await page.goto(path)
                await expect(page.locator("main")).to_contain_text(shown)
                assert await faults_in_both(page) == {}, (width, path)
            await page.goto("/console/events")
            await page.keyboard.press("?")
            await expect(page.get_by_role("dialog")).to_be_visible()
            assert await faults_in_both(page) == {}, (width, "dialog")
        async with looking.at(empty, width=width) as page:
            for path, shown in {
                "/console/events": "No events",
                "/console/subscriptions": "No subscr",
            }.items():
                await page.goto(path)
                await expect(page.locator("main")).to_contain_text(shown)
                assert await faults_in_both(page) == {}, (width, path, "empty")
    looking.trouble[:] = [each for each in looking.trouble if "404" not in each and "422" not in each]


async def test_the_kit(make_node: Callable[..., Any], chromium: str) -> None:
    node = await make_node(dev=True)
    async with looking_at(chromium, node.url) as looking:
        for width in (360, 1440):
            async with looking.at(None, width=width) as page:
                await page.goto("/console/_kit")
                await expect(page.locator("main")).to_contain_text("too long")
                assert await faults_in_both(page) == {}, width


async def test_a_hostile_payload_and_answer_are_inert(
    looking: Any, database: Database, clock: DatabaseClock, tenant: Tenant
) -> None:
    scene = await furnish(database, clock, tenant)
    async with looking.at(tenant, width=360) as page:
        for view in ("tree", "raw"):
            await page.goto(f"/console/events/{scene.hostile}?view={view}")
            text = await page.locator("#payload").inner_text()
            assert "<script>alert(1)</script>" in text
            assert "annexU+202Egpj.exe" in text
            assert "zeroU+200Bwidth" in text
            assert "{{ 7 * 7 }}" in text
            assert await page.locator("#payload img, #payload script").count() == 0
            answer = await page.locator("pre.answer").first.inner_text()
            assert answer.startswith("<script>alert(3)</script> U+202Eevil")
            assert await faults_of(page) == {}, view
        bytes_shown = await page.context.request.get(f"/console/events/{scene.hostile}/payload")
        assert bytes_shown.headers["content-type"] == "text/plain; charset=utf-8"
        assert "sandbox" in bytes_shown.headers["content-security-policy"]


async def test_without_javascript_from_signing_in_to_the_effect(
    looking: Any, database: Database, clock: DatabaseClock, tenant: Tenant
) -> None:
    scene = await furnish(database, clock, tenant)
    async with looking.at(tenant, scripts=False) as page:
        await page.get_by_role("link", name="Events", exact=True).click()
        await page.get_by_role("link", name="invoice.created").click()
        await expect(page.locator(".story")).to_contain_text(
            "The delivery to billing failed after 1 attempt: 410"
        )
        await page.get_by_role("button", name="Send again").click()
        await expect(page.locator(".story")).to_contain_text("billing")
        row = await database.row(
            "select generation from deliveries where event_id = $1 and subscription_id = $2",
            scene.dead,
            scene.billing,
        )
        assert row is not None
        assert row["generation"] == 1

        await page.get_by_role("link", name="Subscriptions").click()
        await page.get_by_role("link", name="audit log").click()
        await page.get_by_role("button", name="Pause").click()
        await expect(page.locator(".story")).to_contain_text("is paused")
        assert await _status(database, scene.audit) == "paused"
        await page.get_by_role("button", name="Resume").click()
        await expect(page.get_by_role("button", name="Pause")).to_be_visible()
        assert await _status(database, scene.audit) == "active"
        await page.locator("summary", has_text="Disable").click()
        await page.locator(".heading .floating button").click()
        await expect(page.locator(".story")).to_contain_text("is disabled")
        assert await _status(database, scene.audit) == "disabled"
        await page.get_by_role("button", name="Enable").click()
        await expect(page.get_by_role("button", name="Pause")).to_be_visible()
        assert await _status(database, scene.audit) == "active"

        await page.get_by_role("button", name="Sign out").click()
        await page.goto("/console/events")
        await expect(page.get_by_label("API key")).to_be_visible()
    assert await database.fetch("select 1 from sessions") == []


async def test_an_event_is_retried_and_its_page_updates_itself(
    looking: Any, node: Node, database: Database, database_url: str, clock: DatabaseClock, tenant: Tenant
) -> None:
    async with Receiver(lambda _: status(503)) as receiver, Workers(database_url) as workers:
        to = await subscribe(database, clock, tenant, f"{receiver.url}/hook", delays=[3600], name="billing")
        await workers.start()
        async with node.client(tenant) as client:
            sent = await client.post("/v1/events", json={"type": "order.paid", "payload": {"n": 1}})
            event_id = sent.json()["id"]
        await eventually(lambda: receiver.hooks)
        async with looking.at(tenant) as page:
            await page.goto(f"/console/events/{event_id}")
            await expect(page.locator(".story")).to_contain_text("attempt 1 of 2", timeout=15_000)
            await page.locator(".attempts summary").first.focus()
            receiver.answer = lambda _: status(200)
            await page.get_by_role("button", name="Retry now").click()
            await eventually(lambda: len(receiver.hooks) == 2)
            await expect(page.locator(".story")).to_contain_text("Delivered to billing", timeout=40_000)
            assert await page.locator(".delivery.arrived").count() >= 1
    rows = await database.fetch(
        "select status from settled_deliveries where event_id = $1 and subscription_id = $2",
        UUID(event_id),
        to.id,
    )
    assert [row["status"] for row in rows] == ["delivered"]


async def test_keys_and_copying(
    looking: Any, database: Database, clock: DatabaseClock, tenant: Tenant
) -> None:
    scene = await furnish(database, clock, tenant)
    permissions = {"permissions": ["clipboard-read", "clipboard-write"]}
    async with looking.at(tenant, **permissions) as page:
        await page.goto("/console/events")
        await page.keyboard.press("j")
        await page.keyboard.press("j")
        await page.keyboard.press("k")
        await page.keyboard.press("Enter")
        await page.wait_for_url(f"**/console/events/{scene.failing}")
        await page.get_by_role("button", name="Copy the event id").click()
        assert await page.evaluate("navigator.clipboard.readText()") == str(scene.failing)
        await page.get_by_role("button", name="Copy as curl").click()
        await expect(page.locator(".copied").last).to_contain_text("Copy as curl")
        command = await page.evaluate("navigator.clipboard.readText()")
        assert "$KEY" in command
        assert '"amount_due":12900000000000000000001' in command
        await page.keyboard.press("/")
        await page.keyboard.type("billing")
        await page.keyboard.press("Enter")
        await page.wait_for_url(f"**/console/subscriptions/{scene.billing}")


async def test_a_link_signs_in_once(looking: Any, node: Node, tenant: Tenant) -> None:
    async with node.client(tenant) as client:
        url = msgspec.json.decode((await client.post("/v1/console/links")).content)["url"]
    path = url.removeprefix(node.url)
    async with looking.at(None) as page:
        for _ in range(2):  # a preview of the link does not use it
            await page.goto(path)
            await expect(page.locator("main")).to_contain_text(tenant.name)
        assert await faults_of(page) == {}
        await page.get_by_role("button", name="Open the console").click()
        await page.wait_for_url("**/console/overview")
        await page.goto(path)
        await expect(page.locator("main")).to_contain_text("This link cannot be used")
        assert await faults_of(page) == {}
    looking.trouble[:] = [each for each in looking.trouble if "410" not in each]


async def _status(database: Database, subscription_id: UUID) -> str:
    row = await database.row("select status from subscriptions where id = $1", subscription_id)
    assert row is not None
    return str(row["status"])
