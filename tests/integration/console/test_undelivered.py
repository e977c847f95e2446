"""Undelivered events, jobs and inboxes in a real browser, and without scripts up to their effect."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from playwright.async_api import expect

from console_look import faults_in_both, faults_of
from console_scene_undelivered import DEAD, bury, furnish_undelivered
from harness import Node, Tenant, Tenants, eventually
from triggers.domain import Scope
from triggers.postgres.clock import DatabaseClock
from triggers.postgres.database import Database


async def test_every_screen(
    looking: Any, node: Node, database: Database, clock: DatabaseClock, tenant: Tenant, tenants: Tenants
) -> None:
    made = await furnish_undelivered(node, database, clock, tenant)
    scene, audit = made.scene, f"/console/undelivered/{made.scene.audit}"
    plan = f"/console/jobs/new?subscription_id={scene.audit}"
    screens = {
        "/console/undelivered": "The worst is billing: 1 dead and 1 pending",
        audit: "report.ready",
        f"{audit}?status=pending": "No pending deliveries",
        f"{audit}?since=yesterday": "RFC 3339",
        f"/console/undelivered/{scene.billing}?status=pending": "invoice.payment_failed",
        "/console/undelivered/nothing": "No subscription has this id",
        plan: f"This sends {DEAD + 1} deliveries of audit log again",
        f"{plan}&action=cancel": "has no pending deliveries that match",
        f"/console/jobs/new?subscription_id={scene.billing}&action=retry": "one delivery is sent now",
        f"{plan}&rate=soon": "per second must be a whole number",
        "/console/jobs": "Send again",
        f"/console/jobs/{made.job}": "deliveries of audit log",
        "/console/inboxes": "fulfilment",
        f"/console/inboxes/{made.inbox}": "holds 6 messages, of which 2 are leased",
        f"/console/inboxes/{made.inbox}?status=leased": "<b>worker</b> U+202E7",
        f"/console/inboxes/{made.inbox}?status=quarantined": "<i>no address</i>",
        f"/console/events/{scene.failing}/unmatched": "1 is disabled, 1 was created after the event",
    }
    empty = await tenants.make()
    for width in (360, 1440):
        async with looking.at(tenant, width=width) as page:
            for path, shown in screens.items():
                await page.goto(path)
                await expect(page.locator("main")).to_contain_text(shown)
                assert await faults_in_both(page) == {}, (width, path)
            await page.goto(f"/console/inboxes/{made.inbox}?status=leased")
            for summary in ("Revoke", "Reject"):
                await page.locator("summary", has_text=summary).first.click()
                await expect(page.locator(".floating >> visible=true")).to_be_visible()
                assert await faults_in_both(page) == {}, (width, summary)
        async with looking.at(empty, width=width) as page:
            for path, shown in {
                "/console/undelivered": "Nothing is undelivered",
                "/console/jobs": "No jobs",
                "/console/inboxes": "No message waits",
            }.items():
                await page.goto(path)
                await expect(page.locator("main")).to_contain_text(shown)
                assert await faults_in_both(page) == {}, (width, path)
    looking.trouble[:] = [each for each in looking.trouble if "404" not in each and "422" not in each]


async def test_without_scripts_chosen_deliveries_and_pages_of_them_are_sent_again(
    looking: Any, node: Node, database: Database, clock: DatabaseClock, tenant: Tenant
) -> None:
    made = await furnish_undelivered(node, database, clock, tenant)
    audit = made.scene.audit
    async with looking.at(tenant, scripts=False) as page:
        await page.get_by_role("link", name="Undelivered", exact=True).click()
        await page.get_by_role("link", name="audit log").click()
        await page.get_by_role("button", name="Send again").click()
        await expect(page.locator(".notice")).to_contain_text("Nothing is chosen")
        await page.locator(".ticked .box input").nth(0).check()
        await page.locator(".ticked .box input").nth(1).check()
        await page.get_by_role("button", name="Send again").click()
        await expect(page.locator(".notice")).to_contain_text("2 deliveries are due now.")
        assert await _pending(database, audit) == 2
        await page.get_by_label("This page (50)").check()
        await page.get_by_role("button", name="Send again").click()
        await expect(page.locator(".notice")).to_contain_text("50 deliveries are due now.")
        assert await _pending(database, audit) == 52
        await expect(page.locator(".story")).to_contain_text(f"{DEAD + 1 - 52} dead and 52 pending")

        await page.get_by_role("navigation", name="Status").get_by_role("link", name="Pending").click()
        await page.locator(".ticked .box input").first.check()
        await page.locator("summary", has_text="Cancel").click()
        await page.get_by_role("button", name="Cancel deliveries").click()
        await expect(page.locator(".notice")).to_contain_text("1 delivery was cancelled.")
        assert await _pending(database, audit) == 51

        await page.goto(f"/console/undelivered/{made.scene.billing}?status=pending")
        await page.get_by_label("All 1 that match").check()
        await page.locator(".ticked .box input").first.check()
        await page.get_by_label("Ticked").check()
        await page.get_by_role("button", name="Retry now").click()
        await expect(page.locator(".notice")).to_contain_text(
            "1 delivery is due now. The endpoint is failing"
        )

        async with node.client(tenant) as client:
            assert (await client.post(f"/v1/subscriptions/{audit}/pause")).status_code == 200
        await page.set_viewport_size({"width": 360, "height": 640})
        await page.goto(f"/console/undelivered/{audit}?status=pending")
        row = page.locator(".ticked tbody tr").first
        await expect(row.get_by_text("paused", exact=True).first).to_be_visible()


async def test_all_that_match_become_a_job_that_is_planned_confirmed_watched_and_stopped(
    looking: Any, node: Node, database: Database, clock: DatabaseClock, tenant: Tenant
) -> None:
    made = await furnish_undelivered(node, database, clock, tenant)
    audit = made.scene.audit
    async with looking.at(tenant, scripts=False) as page:
        await page.goto(f"/console/undelivered/{audit}")
        await page.get_by_label("All dead, cancelled and expired").check()
        await page.get_by_role("button", name="Send again").click()
        await page.wait_for_url("**/console/jobs/new?**")
        await expect(page.locator(".story")).to_contain_text(f"This sends {DEAD + 1} deliveries of audit log")
        assert await _pending(database, audit) == 0
        await page.get_by_label("Types").fill("report.*")
        await page.get_by_label("At most per second").fill("4")
        await page.get_by_role("button", name="Plan again").click()
        await expect(page.locator(".story")).to_contain_text(
            "with the types report.*. At 4 a second it takes"
        )
        await page.get_by_role("button", name=f"Send {DEAD} again").click()
        await page.wait_for_url("**/console/jobs/*-*")
        await eventually(lambda: _made(database, page.url))
        await page.locator("summary", has_text="Stop the job").click()
        await page.locator(".floating button").click()
        await expect(page.locator(".story")).to_contain_text("Then the job was cancelled.")
        stopped = await _pending(database, audit)
        assert 0 < stopped < DEAD
        await page.get_by_role("link", name="Jobs").click()
        await expect(page.locator(".list tbody tr").first).to_contain_text("Cancelled")


async def test_the_page_of_a_job_updates_itself(
    looking: Any, node: Node, database: Database, clock: DatabaseClock, tenant: Tenant
) -> None:
    made = await furnish_undelivered(node, database, clock, tenant)
    await bury(database, tenant, made.scene.audit, 0)
    async with looking.at(tenant) as page:
        await page.goto(f"/console/jobs/new?subscription_id={made.scene.audit}&rate=30")
        await page.locator(".confirm-plan button").click()
        await page.wait_for_url("**/console/jobs/*-*")
        await expect(page.locator(".pulse")).to_be_visible()
        await expect(page.locator(".story")).to_contain_text(
            f"{DEAD + 1} deliveries of audit log were sent again.", timeout=30_000
        )
        await expect(page.locator(".heading .state")).to_contain_text("Done")
        await eventually(lambda: not node.streams._streams)  # nothing changes any more


async def test_messages_and_leases_of_an_inbox(
    looking: Any, node: Node, database: Database, clock: DatabaseClock, tenant: Tenant
) -> None:
    made = await furnish_undelivered(node, database, clock, tenant)
    inbox, lease = UUID(made.inbox), UUID(made.lease)
    async with looking.at(tenant, scripts=False) as page:
        await page.get_by_role("link", name="Inboxes").click()
        await page.get_by_role("link", name="fulfilment").click()
        tabs = page.get_by_role("navigation", name="Status")

        await tabs.get_by_role("link", name="Quarantined").click()
        await page.locator(".ticked .box input").first.check()
        await page.get_by_role("button", name="Re-drive").click()
        await expect(page.locator(".notice")).to_contain_text("1 message was made available again.")
        assert await _messages(database, inbox, "pending") == 5

        await tabs.get_by_role("link", name="Leased").click()
        await page.locator(".ticked .box input").first.check()
        await page.get_by_role("button", name="Acknowledge").click()
        await expect(page.locator(".notice")).to_contain_text("1 message was acknowledged.")
        assert await _messages(database, inbox, "leased") == 1
        await page.locator("summary", has_text="Revoke").click()
        await page.get_by_role("button", name="Revoke the lease").click()
        await expect(page.locator(".notice")).to_contain_text("1 message was made available again.")
        await expect(page.locator(".leases")).to_contain_text("No consumer holds a message.")
        assert await _messages(database, inbox, "leased") == 0
        async with node.client(tenant) as client:
            ack = {"lease_id": str(lease)}
            answer = await client.post(f"/v1/inboxes/{inbox}/messages/ack", json=ack)
            assert answer.status_code == 409, "the consumer settles nothing any more"
            for action in ("release", "reject"):
                taken = await client.post(f"/v1/inboxes/{inbox}/messages/lease", json={"lease_limit": 1})
                assert taken.status_code == 201
                await page.goto(f"/console/inboxes/{inbox}?status=leased")
                await page.get_by_label("This page (1)").check()
                if action == "reject":
                    await page.locator("summary", has_text="Reject").click()
                    await page.get_by_label("Reason").fill("wrong address")
                    await page.get_by_role("button", name="Reject messages").click()
                    await expect(page.locator(".notice")).to_contain_text("1 message was quarantined.")
                else:
                    await page.get_by_role("button", name="Release").click()
                    await expect(page.locator(".notice")).to_contain_text("1 message was released.")
        await page.goto(f"/console/inboxes/{inbox}?status=quarantined")
        await expect(page.locator(".ticked")).to_contain_text("wrong address")

        await page.goto(f"/console/inboxes/{inbox}")
        await page.get_by_label("This page (5)").check()
        await page.locator("summary", has_text="Cancel").click()
        await page.get_by_role("button", name="Cancel messages").click()
        await expect(page.locator(".notice")).to_contain_text("5 messages were cancelled.")
        assert await _messages(database, inbox, "pending") == 0
        await page.locator("summary", has_text="Pause").click()
        await page.locator(".tools .floating button").click()
        await expect(page.locator(".story")).to_contain_text("It is paused")
        await page.get_by_role("button", name="Resume").click()
        await expect(page.locator("summary", has_text="Pause")).to_be_visible()


async def test_the_default_inbox_acknowledges_without_a_lease(
    looking: Any, node: Node, database: Database, tenant: Tenant
) -> None:
    async with node.client(tenant) as client:
        await client.post("/v1/events", json={"type": "a", "payload": 1})
    async with looking.at(tenant, scripts=False) as page:
        await page.goto("/console/inboxes/default")
        await page.locator(".ticked .box input").first.check()
        await page.get_by_role("button", name="Acknowledge").click()
        await expect(page.locator(".notice")).to_contain_text("1 message was acknowledged.")
    rows = await database.fetch("select status from settled_deliveries where org_id = $1", tenant.id)
    assert [row["status"] for row in rows] == ["acknowledged"]


async def test_why_an_event_was_not_sent_to_others(
    looking: Any, node: Node, database: Database, clock: DatabaseClock, tenant: Tenant
) -> None:
    made = await furnish_undelivered(node, database, clock, tenant)
    path = f"/console/events/{made.scene.delivered}"
    async with looking.at(tenant) as page:
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        await page.goto(path)
        others = page.locator("#others")
        await expect(others.locator("summary")).to_contain_text("Not sent to ")
        assert not any("unmatched" in url for url in asked), "it is loaded only when it is opened"
        await others.locator("summary").click()
        await expect(others).to_contain_text("By today’s rules")
        await expect(others).to_contain_text("fulfilment")
        await expect(others).to_contain_text("changed since the event")
        assert await faults_of(page) == {}
    async with looking.at(tenant, scripts=False) as page:
        await page.goto(path)
        await page.locator("#others summary").click()
        await page.get_by_role("link", name="Show why it was not sent to them").click()
        await expect(page.locator("main")).to_contain_text("By today’s rules")


async def test_readers_see_no_actions_and_other_organisations_see_nothing(
    looking: Any, node: Node, database: Database, clock: DatabaseClock, tenant: Tenant, tenants: Tenants
) -> None:
    made = await furnish_undelivered(node, database, clock, tenant)
    paths = [
        f"/console/undelivered/{made.scene.audit}",
        f"/console/jobs/{made.job}",
        f"/console/inboxes/{made.inbox}",
        f"/console/inboxes/{made.inbox}?status=leased",
    ]
    reader = await tenants.key_of(tenant.id, tenant.name, [Scope.READ])
    async with looking.at(reader) as page:
        for path in paths:
            await page.goto(path)
            await expect(page.locator("main h1")).to_be_visible()
            assert await page.locator("main form[method=post], main .box").count() == 0, path
        await page.goto(f"/console/jobs/new?subscription_id={made.scene.audit}")
        await expect(page.locator("main, .alone")).to_contain_text("scope")
    async with looking.at(await tenants.make()) as page:
        for path in [*paths, f"/console/events/{made.scene.failing}/unmatched"]:
            answer = await page.goto(path)
            assert answer is not None
            assert answer.status == 404, path
        await page.goto("/console/undelivered")
        assert "billing" not in await page.locator("main").inner_text()
    looking.trouble[:] = [each for each in looking.trouble if "404" not in each and "403" not in each]


async def _pending(database: Database, to: UUID) -> int:
    row = await database.row("select count(*) from deliveries where subscription_id = $1", to)
    assert row is not None
    return int(row[0])


async def _messages(database: Database, inbox: UUID, status: str) -> int:
    row = await database.row(
        "select count(*) from deliveries where subscription_id = $1 and status = $2", inbox, status
    )
    assert row is not None
    return int(row[0])


async def _made(database: Database, url: str) -> int:
    row = await database.row("select made from replays where id = $1", UUID(url.rpartition("/")[2]))
    assert row is not None
    return int(row["made"])
