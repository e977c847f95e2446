"""The overview, the numbers of subscriptions, and the forms that change their settings and secrets."""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID

import httpx
import pytest
from playwright.async_api import Page, expect

from console_look import faults_in_both, faults_of
from console_scene import furnish
from console_scene_overview import count
from harness import SECRET_KEYS, Node, Tenant, Tenants
from triggers.domain import Scope
from triggers.postgres.clock import DatabaseClock
from triggers.postgres.database import Database
from triggers.secrets.key_ring import KeyRing
from triggers.subscriptions import store as subscription_store

SCREENS = {
    "overview": "billing has been failing for ",
    "overview?range=1h": "There are no numbers from",
    "overview?range=14d": "billing",
    "subscriptions": "billing",
}


def without_refusals(trouble: list[str]) -> list[str]:
    """The browser logs each answer that refuses something."""
    return [each for each in trouble if not re.search("40[49]|422", each)]


async def faults_when_opened(page: Page) -> dict[str, Any]:
    """What is wrong with a page of which a part was just opened, which moves what is below."""
    return {name: value for name, value in (await faults_in_both(page)).items() if name != "shift"}


async def test_every_screen(
    looking: Any, database: Database, clock: DatabaseClock, tenant: Tenant, tenants: Tenants
) -> None:
    scene = await furnish(database, clock, tenant)
    await count(database, tenant, scene)
    empty = await tenants.make()
    place = f"/console/subscriptions/{scene.billing}"
    for width in (360, 1440):
        async with looking.at(tenant, width=width) as page:
            for path, shown in SCREENS.items():
                await page.goto(f"/console/{path}")
                await expect(page.locator("main")).to_contain_text(shown)
                assert await faults_in_both(page) == {}, (width, path)
            await page.goto("/console/overview?range=14d")
            await page.locator("summary", has_text="as a table").click()
            await expect(page.locator(".scrolls tbody tr")).to_have_count(336)
            assert await faults_when_opened(page) == {}, (width, "table")
            await page.goto(place)
            await expect(page.locator(".results")).to_contain_text("503")
            assert await faults_in_both(page) == {}, (width, "subscription")
            await page.locator("summary", has_text="Rotate").click()
            box = await page.locator(".rotate .floating").bounding_box()
            assert box is not None
            assert 0 <= box["x"] <= box["x"] + box["width"] <= width
            assert await faults_when_opened(page) == {}, (width, "confirmation")
            await page.goto(f"{place}/edit")
            await expect(page.locator("#matches")).to_contain_text("Matches 8 of the last 28 events.")
            await page.locator("summary", has_text="More settings").click()
            assert await faults_when_opened(page) == {}, (width, "form")
            await page.get_by_label("Requests at once").fill("many")
            await page.get_by_role("button", name="Save").click()
            await expect(page.locator("#max_concurrency-wrong")).to_have_text(
                "Must be a whole number from 1 to 1,000."
            )
            assert await faults_in_both(page) == {}, (width, "error")
            assert await page.get_by_label("Requests at once").input_value() == "many"
        async with looking.at(empty, width=width) as page:
            await page.wait_for_url("**/console/overview")
            await expect(page.locator("main")).to_contain_text("No event has been accepted yet.")
            await expect(page.locator("pre").first).to_contain_text(f"export URL={looking.url}")
            assert await faults_in_both(page) == {}, (width, "empty")
    looking.trouble[:] = without_refusals(looking.trouble)


async def test_the_charts_show_what_was_counted(
    looking: Any, database: Database, clock: DatabaseClock, tenant: Tenant
) -> None:
    scene = await furnish(database, clock, tenant)
    await count(database, tenant, scene)
    async with looking.at(tenant) as page:
        await page.wait_for_url("**/console/overview")
        story = page.locator(".story")
        await expect(story).to_contain_text("In the last 24 hours, ")
        await expect(page.locator(".matters li")).to_have_count(4)
        await expect(page.locator(".matters")).to_contain_text("warehouse is paused, and events wait")
        await page.get_by_role("link", name="1 h", exact=True).click()
        await expect(page.get_by_role("img", name="Failed attempts: 18, peak 0.05")).to_be_visible()
        assert await page.locator("rect.missing").count() == 5, "each chart shows the gap"
        broken = await page.locator(".curve.arrived .line").first.get_attribute("d")
        assert broken is not None
        assert broken.count("M") == 2, "the line is interrupted"
        await expect(page.locator("section", has_text="Worst endpoints").last).to_contain_text(
            "api.example.com"
        )
        await page.get_by_role("link", name="billing has been failing").click()
        await page.wait_for_url(f"**/console/subscriptions/{scene.billing}")
        await expect(page.locator("main")).to_contain_text("18 failed attempts in 24 h")
        await page.goto("/console/subscriptions")
        spark = page.get_by_role("row", name="billing").get_by_role("img")
        assert re.fullmatch(
            r"[\d,]+ delivered, [\d,]+ failed in 24 h", await spark.get_attribute("aria-label") or ""
        )


async def test_typing_checks_the_filter_with_one_request_at_a_time(
    looking: Any, database: Database, clock: DatabaseClock, tenant: Tenant
) -> None:
    scene = await furnish(database, clock, tenant)
    async with looking.at(tenant) as page:
        under_way, most, asked = 0, 0, 0

        def begun(request: Any) -> None:
            nonlocal under_way, most, asked
            if request.url.endswith("/matches"):
                under_way, asked = under_way + 1, asked + 1
                most = max(most, under_way)

        def ended(request: Any) -> None:
            nonlocal under_way
            if request.url.endswith("/matches"):
                under_way -= 1

        page.on("request", begun)
        page.on("requestfinished", ended)
        await page.goto(f"/console/subscriptions/{scene.billing}/edit")
        await expect(page.locator("#matches")).to_contain_text("Matches 8 of the last 28 events.")
        await page.get_by_label("Filter").press_sequentially("event.type == 'order.paid'", delay=10)
        await expect(page.locator("#matches")).to_contain_text("Matches 6 of the last 28 events.")
        assert await page.evaluate("document.activeElement.id") == "filter", "the focus stays"
        await page.get_by_label("Filter").fill("event.type ==")
        await expect(page.locator("#matches")).to_contain_text("The filter is not valid")
        await page.get_by_label("Types").fill("nothing.*\n")
        await page.get_by_label("Filter").fill("")
        await expect(page.locator("#matches")).to_contain_text("Matches 0 of the last 28 events.")
        assert most == 1
        assert asked <= 8
    row = await database.row("select filter, event_types from subscriptions where id = $1", scene.billing)
    assert row is not None
    assert (row["filter"], row["event_types"]) == (None, ["invoice.*", "order.paid"])


async def test_without_javascript_from_the_form_to_the_database(
    looking: Any, database: Database, clock: DatabaseClock, tenant: Tenant
) -> None:
    scene = await furnish(database, clock, tenant)
    async with looking.at(tenant, scripts=False) as page:
        await page.goto(f"/console/subscriptions/{scene.billing}")
        await page.get_by_role("link", name="Edit").click()
        await page.get_by_label("Name").fill("accounts")
        await page.get_by_label("Types").fill("order.paid\ncustomer.*")
        await page.get_by_role("button", name="Check").click()
        await expect(page.locator("#matches")).to_contain_text("Matches 13 of the last 28 events.")
        assert await page.get_by_label("Name").input_value() == "accounts"
        await page.get_by_label("URL").fill("http://10.0.0.1/")
        await page.get_by_role("button", name="Save").click()
        await expect(page.locator("#target_url-wrong")).to_be_visible()
        assert await page.get_by_label("URL").input_value() == "http://10.0.0.1/"
        await page.get_by_label("URL").fill("https://api.example.com/v2")
        await page.locator("summary", has_text="More settings").click()
        await page.get_by_label("Delays of retries").fill("1, 60.5")
        await page.get_by_label("Headers").fill("X-Token: secret-value")
        await page.get_by_role("button", name="Save").click()
        await expect(page.get_by_role("heading", name="accounts")).to_be_visible()
        await expect(page.locator(".settings")).to_contain_text("X-Token")
        assert "secret-value" not in await page.content()
    row = await database.row("select * from subscriptions where id = $1", scene.billing)
    assert row is not None
    assert (row["name"], row["target_url"]) == ("accounts", "https://api.example.com/v2")
    assert row["event_types"] == ["order.paid", "customer.*"]
    assert list(row["retry_delays"]) == [1.0, 60.5]
    looking.trouble[:] = without_refusals(looking.trouble)


async def test_a_form_that_is_older_than_the_settings_is_not_saved(
    looking: Any, node: Node, database: Database, clock: DatabaseClock, tenant: Tenant
) -> None:
    scene = await furnish(database, clock, tenant)
    async with looking.at(tenant) as page, node.client(tenant) as client:
        await page.goto(f"/console/subscriptions/{scene.billing}/edit")
        await client.patch(f"/v1/subscriptions/{scene.billing}", json={"name": "by another"})
        await page.get_by_label("Name").fill("mine")
        await page.get_by_role("button", name="Save").click()
        await expect(page.get_by_role("status").first).to_contain_text(
            "was changed after this form was loaded"
        )
        assert await name_of(client, scene.billing) == "by another"
        assert await page.get_by_label("Name").input_value() == "mine"
        await page.get_by_role("button", name="Save").click()
        await expect(page.get_by_role("heading", name="mine")).to_be_visible()
        assert await name_of(client, scene.billing) == "mine"
    looking.trouble[:] = without_refusals(looking.trouble)


async def name_of(client: httpx.AsyncClient, subscription_id: UUID) -> str:
    return str((await client.get(f"/v1/subscriptions/{subscription_id}")).json()["name"])


@pytest.mark.parametrize("scripts", [True, False])
async def test_a_secret_is_rotated_and_shown_once(
    looking: Any, database: Database, clock: DatabaseClock, tenant: Tenant, *, scripts: bool
) -> None:
    scene = await furnish(database, clock, tenant)

    ring = KeyRing.from_setting(SECRET_KEYS)

    async def stored() -> list[tuple[str, bool]]:
        found = await subscription_store.find(database, ring, tenant.id, str(scene.audit))
        return [(each.secret, each.ends_at is None) for each in found.secrets]

    [(old, _)] = await stored()
    async with looking.at(tenant, scripts=scripts) as page:
        for overlap, told in (("for 7 days", "also signs until"), ("not at all", "does not sign any more")):
            await page.goto(f"/console/subscriptions/{scene.audit}")
            await page.locator("summary", has_text="Rotate").click()
            await page.get_by_label("The old secret also signs").select_option(label=overlap)
            await page.get_by_role("button", name="Rotate", exact=True).click()
            await expect(page.locator(".story")).to_contain_text(told)
            shown = await page.locator(".once code").first.inner_text()
            assert (await stored())[0] == (shown, True)
            assert ((old, False) in await stored()) is (overlap == "for 7 days")
            if scripts:
                assert await faults_of(page) == {}
            await page.get_by_role("link", name="I have copied it").click()
            assert shown not in await page.content()
            if overlap == "for 7 days":
                await expect(page.locator(".settings")).to_contain_text("also with the old secret until")


async def test_a_key_that_may_only_read_changes_nothing(
    looking: Any, tenant: Tenant, tenants: Tenants, database: Database, clock: DatabaseClock
) -> None:
    scene = await furnish(database, clock, tenant)
    await count(database, tenant, scene)
    reader = await tenants.key_of(tenant.id, tenant.name, [Scope.READ])
    place = f"/console/subscriptions/{scene.billing}"
    async with looking.at(reader) as page:
        await page.wait_for_url("**/console/overview")
        await expect(page.locator(".matters")).to_contain_text("billing has been failing")
        await page.goto(place)
        await expect(page.locator(".settings")).to_contain_text("invoice.*")
        for name in ("Edit", "Rotate", "Pause"):
            assert await page.get_by_text(name).count() == 0
        assert await refused(page, f"{place}/edit", None) == 403
        token = await page.locator("input[name=token]").first.get_attribute("value")
        for path in ("edit", "matches", "rotate"):
            assert await refused(page, f"{place}/{path}", {"token": token or "", "name": "x"}) == 403, path
    row = await database.row("select name from subscriptions where id = $1", scene.billing)
    assert row is not None
    assert row["name"] == "billing"


async def test_a_key_without_numbers_begins_with_the_events(
    looking: Any, tenant: Tenant, tenants: Tenants
) -> None:
    reader = await tenants.key_of(tenant.id, tenant.name, [Scope.EVENTS_READ])
    async with looking.at(reader) as page:
        await page.wait_for_url("**/console/events")
        assert await page.get_by_role("link", name="Overview").count() == 0
        assert await refused(page, "/console/overview", None) == 403


async def refused(page: Page, path: str, form: dict[str, str] | None) -> int:
    """The status of a request with the session of a page. The forms come from a page of our own."""
    request = page.context.request
    if form is None:
        return (await request.get(path)).status
    return (await request.post(path, form=form, headers={"sec-fetch-site": "same-origin"})).status


async def test_two_organisations_are_never_mixed(
    looking: Any, tenant: Tenant, tenants: Tenants, database: Database, clock: DatabaseClock
) -> None:
    scene = await furnish(database, clock, tenant)
    await count(database, tenant, scene)
    other = await tenants.make()
    theirs = await furnish(database, clock, other)
    place = f"/console/subscriptions/{scene.billing}"
    async with looking.at(other) as page:
        await expect(page.locator(".matters")).to_contain_text("billing has been failing")
        assert await page.locator(f"a[href*='{theirs.billing}']").count() == 1
        assert str(scene.billing) not in await page.content()
        await expect(page.get_by_role("img", name="Accepted: 0, in 24 h")).to_be_visible()
        token = await page.locator("input[name=token]").first.get_attribute("value")
        assert await refused(page, f"{place}/edit", None) == 404
        for path in ("edit", "rotate"):
            assert await refused(page, f"{place}/{path}", {"token": token or "", "name": "x"}) == 404, path


async def test_hostile_names_are_inert(
    looking: Any, tenant: Tenant, database: Database, clock: DatabaseClock
) -> None:
    scene = await furnish(database, clock, tenant)
    await count(database, tenant, scene)
    hostile = "<script>alert(1)</script>\u202egpj {{ 7 * 7 }} " + "x" * 150
    await database.fetch(
        "update subscriptions set name = $2, status_reason = $2, filter = $3 where id = $1",
        scene.billing,
        hostile,
        "'</textarea><img src=x onerror=alert(2)>' != ''",
    )
    async with looking.at(tenant, width=360) as page:
        for path in ("overview", "subscriptions", f"subscriptions/{scene.billing}"):
            await page.goto(f"/console/{path}")
            await expect(page.locator("main")).to_contain_text(
                "<script>alert(1)</script>U+202Egpj {{ 7 * 7 }}"
            )
            assert await page.locator("main img, main script").count() == 0
            assert await faults_of(page) == {}, path
        await page.goto(f"/console/subscriptions/{scene.billing}/edit")
        assert "</textarea><img" in await page.get_by_label("Filter").input_value()
        assert await page.locator("main img, main script").count() == 0
        assert await faults_of(page) == {}
