"""The streams of open pages: the live tail, what they show, how many there may be, and when they end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
from playwright.async_api import Page, expect

from console_look import faults_in_both, shift_of
from console_scene import furnish
from console_scene_access import furnish_access
from console_scene_undelivered import furnish_undelivered
from harness import Node, Tenant, Tenants, eventually
from integration.console.test_pages import OURS, signed_in, token_in
from integration.streams.test_streams import send
from streaming import streaming
from triggers.domain import Scope
from triggers.postgres.clock import DatabaseClock
from triggers.postgres.database import Database

COUNT = """() => {
  window.came = 0;
  document.addEventListener("htmx:sse:before:message",
    (event) => event.detail.message.event || window.came++);
}"""
HIDE = """(hidden) => {
  Object.defineProperty(document, "hidden", {value: hidden, configurable: true});
  document.dispatchEvent(new Event("visibilitychange"));
}"""


class Reading:
    """What came on the stream of a page."""

    def __init__(self, status: int) -> None:
        self.status = status
        self.text = ""
        self.ended = False

    async def read(self, answer: httpx.Response) -> None:
        async for piece in answer.aiter_text():
            self.text += piece
        self.ended = True


@asynccontextmanager
async def reading(client: httpx.AsyncClient, path: str) -> AsyncIterator[Reading]:
    async with client.stream("GET", f"/console/{path}") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        found = Reading(answer.status_code)
        task = asyncio.create_task(found.read(answer))
        try:
            yield found
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_the_live_tail_shows_new_events_and_waits_for_who_reads(
    looking: Any, node: Node, database: Database, clock: DatabaseClock, tenant: Tenant
) -> None:
    await furnish(database, clock, tenant)
    async with looking.at(tenant) as page:
        await page.goto("/console/events?type=order.*")
        await page.get_by_role("link", name="Live tail").click()
        await page.wait_for_url("**/console/events/tail?type=order.*")
        rows = page.locator("#live tbody tr")
        await page.mouse.move(1, 1)
        await page.evaluate(COUNT)
        await eventually(lambda: node.streams._streams)
        await send(node, tenant, "order.first")
        await send(node, tenant, "other.type")
        await expect(rows.first).to_contain_text("order.first")
        await expect(page.get_by_role("status")).to_have_text("1 new event.")
        assert await shift_of(page) == 0

        # The reader points at the list, then moves through it with keys, then scrolls.
        await rows.nth(3).hover()
        await _send_unshown(node, tenant, page, "order.second")
        await expect(page.locator(".tail-held")).to_be_visible()
        await expect(rows.first).to_contain_text("order.first")
        await page.mouse.move(1, 1)
        await expect(rows.first).to_contain_text("order.second")
        await page.keyboard.press("j")
        await _send_unshown(node, tenant, page, "order.third")
        await expect(rows.first).to_contain_text("order.second")
        await page.keyboard.press("Escape")
        await expect(rows.first).to_contain_text("order.third")
        await page.set_viewport_size({"width": 1440, "height": 300})
        await page.evaluate("scrollTo(0, 60)")
        await _send_unshown(node, tenant, page, "order.fourth")
        await expect(rows.first).to_contain_text("order.third")
        await page.evaluate("scrollTo(0, 0)")
        await expect(rows.first).to_contain_text("order.fourth")
        await expect(page.locator(".tail-on")).to_be_visible()
        assert await faults_in_both(page) == {}

        # More than a page within a second.
        await send(node, tenant, "order.many", number=120)
        await expect(page.get_by_role("status")).to_contain_text(
            "Only the newest 50 are shown.", timeout=30_000
        )
        await expect(rows).to_have_count(50)
        await page.get_by_role("link", name="Older").click()
        await expect(rows.or_(page.locator(".list tbody tr")).first).to_contain_text("order.many")
        await eventually(lambda: not node.streams._streams)


async def _send_unshown(node: Node, tenant: Tenant, page: Page, event_type: str) -> None:
    """Send an event, and wait until the page has been given it."""
    before = await page.evaluate("came")
    await send(node, tenant, event_type)

    async def has_come() -> bool:
        return bool(await page.evaluate("came") > before)

    await eventually(has_come)


async def test_a_hidden_page_has_no_stream_and_catches_up(
    looking: Any, node: Node, database: Database, clock: DatabaseClock, tenant: Tenant
) -> None:
    await furnish(database, clock, tenant)
    async with looking.at(tenant) as page:
        await page.goto("/console/events/tail")
        await eventually(lambda: len(node.streams._streams) == 1)
        await page.evaluate(HIDE, True)
        await eventually(lambda: not node.streams._streams)
        await send(node, tenant, "order.unseen")
        await page.evaluate(HIDE, False)
        await expect(page.locator("#live tbody tr").first).to_contain_text("order.unseen")
        assert len(node.streams._streams) == 1


async def test_pages_end_with_their_session(
    looking: Any, node: Node, database: Database, clock: DatabaseClock, tenant: Tenant
) -> None:
    scene = await furnish(database, clock, tenant)
    async with looking.at(tenant) as page:
        await page.goto(f"/console/events/{scene.failing}")
        await eventually(lambda: len(node.streams._streams) == 1)
        await expect(page.locator(".pulse-on")).to_be_visible()
        other = await page.context.new_page()
        await other.goto("/console/subscriptions")
        await other.get_by_role("button", name="Sign out").click()
        await expect(page.get_by_label("API key")).to_be_visible()
        assert page.url.endswith(f"/console/sign-in?next=/events/{scene.failing}")
    assert not node.streams._streams


async def test_without_javascript_the_tail_says_that_it_can_be_loaded_again(
    looking: Any, node: Node, tenant: Tenant
) -> None:
    async with looking.at(tenant, scripts=False) as page:
        await page.goto("/console/events/tail")
        await send(node, tenant, "order.paid")
        await page.get_by_role("link", name="Load the page again").click()
        await expect(page.locator("#live tbody tr")).to_have_count(1)
        await expect(page.locator(".pulse-on")).to_be_hidden()


async def test_the_stream_of_an_event_shows_only_that_event_until_nothing_changes(
    node: Node, database: Database, clock: DatabaseClock, tenant: Tenant, tenants: Tenants
) -> None:
    scene = await furnish(database, clock, tenant)
    async with (
        signed_in(node, tenant) as client,
        reading(client, f"events/{scene.failing}/live") as stream,
    ):
        await eventually(lambda: "is failing: 503 from" in stream.text)
        assert "Updates automatically" in stream.text
        await database.fetch("update subscriptions set status = 'paused' where id = $1", scene.billing)
        await eventually(lambda: "Resume" in stream.text, 20)  # no frame tells of it
        await database.fetch("delete from deliveries where event_id = $1", scene.failing)
        await eventually(lambda: "event: over" in stream.text, 20)
        await eventually(lambda: stream.ended, 15)
    async with signed_in(node, await tenants.make()) as client:
        for path in (f"events/{scene.failing}/live", "events/nothing/live"):
            async with reading(client, path) as stream:
                await eventually(lambda stream=stream: "event: reload" in stream.text)  # type: ignore[misc]
                assert "billing" not in stream.text


async def test_pages_count_among_the_streams_of_their_organisation(
    node: Node, tenant: Tenant, tenants: Tenants
) -> None:
    few = await tenants.key_of(tenant.id, tenant.name, [Scope.EVENTS_READ])
    async with AsyncExitStack() as opened:
        for _ in range(19):
            await opened.enter_async_context(streaming(node.url, "/v1/stream", tenant))
        client = await opened.enter_async_context(signed_in(node, tenant))
        page = await opened.enter_async_context(reading(client, "events/tail/live"))
        assert page.status == 200
        refused = await client.get("/console/events/tail/live")
        assert refused.status_code == 429
        assert refused.text == "event: refused\nretry: 10000\ndata: \n\n"
        assert (await client.head("/console/events/tail/live")).status_code == 200
        without = await opened.enter_async_context(signed_in(node, few))
        for path in ("overview/live", "system/live", "jobs/x/live"):
            answer = await without.get(f"/console/{path}")
            assert (answer.status_code, answer.text[:14]) == (403, "event: refused"), path


async def test_a_stream_of_a_page_ends_with_its_session_its_key_and_its_node(
    make_node: Callable[..., Any], tenant: Tenant, tenants: Tenants
) -> None:
    node, other = await make_node(shutdown_timeout=60.0), await make_node()
    key = await tenants.key_of(tenant.id, tenant.name, [Scope.READ])
    async with AsyncExitStack() as opened:
        clients = [await opened.enter_async_context(signed_in(node, each)) for each in (tenant, key, tenant)]
        ending, revoked, staying = [
            await opened.enter_async_context(reading(client, "events/tail/live")) for client in clients
        ]
        async with other.client() as elsewhere:  # signs out on another node
            elsewhere.headers["cookie"] = clients[0].headers["cookie"]
            token = token_in((await elsewhere.get("/console/events")).text)
            await elsewhere.post("/console/sign-out", data={"token": token}, headers=OURS)
        await eventually(lambda: ending.ended, 3)
        async with other.client(tenant) as admin:
            assert (await admin.delete(f"/v1/keys/{key.key_id}")).status_code == 200
        await eventually(lambda: revoked.ended, 3)
        assert not staying.ended
        node.begin_to_stop()
        await eventually(lambda: staying.ended, 3)


async def test_keys_move_through_every_list(
    looking: Any, node: Node, database: Database, clock: DatabaseClock, tenant: Tenant
) -> None:
    made = await furnish_undelivered(node, database, clock, tenant)
    access = await furnish_access(node, database, clock, tenant)
    lists = {
        "undelivered": "**/console/undelivered/*",
        f"undelivered/{made.scene.audit}": "**/console/events/*",
        "jobs": "**/console/jobs/*",
        "inboxes": "**/console/inboxes/*",
        f"inboxes/{made.inbox}?status=quarantined": "**/console/events/*",
        "subscriptions": "**/console/subscriptions/*",
        "search?q=example": "**/console/subscriptions/*",
    }
    async with looking.at(tenant) as page:
        for path, opened in lists.items():
            await page.goto(f"/console/{path}")
            if await page.locator(".box input").count():
                await page.locator(".box input").first.check()  # a ticked row is no text field
            await page.keyboard.press("j")
            await expect(page.locator("[data-row]:focus, [data-row] :focus")).to_have_count(1)
            await page.keyboard.press("?")
            await expect(page.get_by_role("dialog")).to_be_visible()
            await page.keyboard.press("Escape")
            await expect(page.get_by_role("dialog")).to_be_hidden()
            await page.locator("a[data-row]").first.focus()
            await page.keyboard.press("Enter")
            await page.wait_for_url(opened)
        await _opens_and_closes(page, "access", "Change billing service")
        await page.keyboard.press("/")
        await expect(page.locator("[data-search]")).to_be_focused()
    async with looking.at(access.operator) as page:
        await _opens_and_closes(page, "organisations", "Change ")
        await page.goto("/console/system")
        await page.keyboard.press("j")
        await expect(page.locator("tr[data-row]:focus")).to_have_count(1)


async def _opens_and_closes(page: Page, path: str, label: str) -> None:
    """Rows without a page of their own have a menu, which Enter opens and Escape closes."""
    await page.goto(f"/console/{path}")
    menu = page.get_by_label(label).first
    for _ in range(20):
        await page.keyboard.press("j")
        if await menu.evaluate("(each) => each === document.activeElement"):
            break
    await expect(menu).to_be_focused()
    await page.keyboard.press("Enter")
    inside = page.locator(".confirm[open] :is(button, select, input:not([type=hidden]))").first
    await inside.focus()
    await page.keyboard.press("Escape")
    await expect(page.locator(".confirm[open]")).to_have_count(0)
    await expect(menu).to_be_focused()
