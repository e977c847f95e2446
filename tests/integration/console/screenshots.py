"""`make screenshots`: every screen of the console in both themes and two widths, to be looked at."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from console_scene import furnish
from console_scene_access import add_worker, furnish_access
from console_scene_overview import count
from console_scene_undelivered import furnish_undelivered
from harness import Node, Tenant, Tenants
from looking import looking_at
from triggers.postgres.clock import DatabaseClock
from triggers.postgres.database import Database

PLACE = Path(os.environ.get("SCREENSHOTS", "screenshots"))
README = Path(__file__).parents[3] / "docs" / "images"


THEMES = ("light", "dark")


@pytest.mark.parametrize("width", [390, 1440])
async def test_screens(
    looking: Any,
    node: Node,
    database: Database,
    clock: DatabaseClock,
    tenant: Tenant,
    tenants: Tenants,
    make_node: Callable[..., Any],
    chromium: str,
    *,
    width: int,
) -> None:
    made = await furnish_undelivered(node, database, clock, tenant)
    scene = made.scene
    access = await furnish_access(node, database, clock, tenant)
    await add_worker(database)
    await count(database, tenant, scene)
    screens = {
        "overview": "overview",
        "overview-1h": "overview?range=1h",
        "overview-14d": "overview?range=14d",
        "subscription-edit": f"subscriptions/{scene.billing}/edit",
        "event": f"events/{scene.failing}",
        "event-delivered": f"events/{scene.delivered}",
        "event-dead": f"events/{scene.dead}",
        "event-hostile": f"events/{scene.hostile}",
        "events": "events",
        "events-tail": "events/tail",
        "subscriptions": "subscriptions",
        "subscription": f"subscriptions/{scene.billing}",
        "search": "search?q=example",
        "undelivered": "undelivered",
        "undelivered-group": f"undelivered/{scene.audit}",
        "job-plan": f"jobs/new?subscription_id={scene.audit}",
        "job": f"jobs/{made.job}",
        "jobs": "jobs",
        "inboxes": "inboxes",
        "inbox": f"inboxes/{made.inbox}?status=leased",
        "unmatched": f"events/{scene.delivered}/unmatched",
        "error": "events/nothing",
        "access": "access",
        "access-new-key": "access/key",
        "access-new-link": "access/link",
        "send": "send",
        "send-copy": f"send?event={scene.failing}",
    }

    async def take(page: Any, name: str, path: str, click: str | None = None) -> None:
        await page.goto(f"/console/{path}")
        if click is not None:
            await page.locator(click).first.click()
        for theme in THEMES:
            await page.emulate_media(color_scheme=theme)
            place = PLACE / f"{name}-{width}-{theme}.png"
            await page.screenshot(path=place, full_page=name != "event-hostile")

    async with looking.at(None, width=width) as page:
        await take(page, "sign-in", "sign-in")
    async with looking.at(await tenants.make(), width=width) as page:
        await take(page, "events-empty", "events")
        await take(page, "overview-empty", "overview")
        for name in ("subscriptions", "undelivered", "jobs", "inboxes/default", "search?q=nothing"):
            await take(page, f"{name.partition('?')[0].replace('/', '-')}-empty", name)
    async with looking.at(tenant, width=width) as page:
        for name, path in screens.items():
            await take(page, name, path)
        await take(page, "access-menu", "access", "summary[aria-label^=Change]")
        await take(page, "event-menu", f"events/{scene.failing}", ".attempts .confirm summary")
        await take(page, "subscription-menu", f"subscriptions/{scene.billing}", ".rotate summary")
        await page.goto("/console/events")
        await page.keyboard.press("?")
        for theme in THEMES:
            await page.emulate_media(color_scheme=theme)
            await page.screenshot(path=PLACE / f"keys-{width}-{theme}.png")
    async with looking.at(access.operator, width=width) as page:
        await take(page, "organisations", "organisations")
        await take(page, "organisations-new", "organisations/new")
        await take(page, "organisations-menu", "organisations", "summary[aria-label^=Change]")
        await take(page, "system", "system")
    looking.trouble.clear()
    dev = await make_node(dev=True)
    async with looking_at(chromium, dev.url) as others, others.at(None, width=width) as page:
        await take(page, "kit", "_kit")


async def test_readme(
    looking: Any, node: Node, database: Database, clock: DatabaseClock, tenants: Tenants
) -> None:
    """The pictures of the README, for which `make screenshots ARGS="-k readme"` asks."""
    tenant = await tenants.make(name="Northwind")
    scene = await furnish(database, clock, tenant)
    await count(database, tenant, scene)
    async with looking.at(tenant, width=1120) as page:
        await page.set_viewport_size({"width": 1120, "height": 680})
        for name, path in {"event": f"events/{scene.failing}", "overview": "overview"}.items():
            await page.goto(f"/console/{path}")
            for theme in THEMES:
                await page.emulate_media(color_scheme=theme)
                await page.screenshot(path=README / f"{name}-{theme}.png")
