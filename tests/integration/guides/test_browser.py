"""Guides in a real browser: both themes, two widths, accessibility, and with and without JavaScript."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.async_api import expect

from console_look import faults_of

PAGES = ("/", "/docs", "/docs/consume-an-inbox", "/docs/search?q=lease", "/problems")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
async def test_pages_look_right(looking: Any, *, dark: bool) -> None:
    for width in (390, 1440):
        async with looking.at(None, dark=dark, width=width) as page:
            for path in PAGES:
                await page.goto(path)
                await expect(page.locator("h1")).to_be_visible()
                assert await faults_of(page) == {}, (width, path)


async def test_the_reference_on_a_phone(looking: Any) -> None:
    """The menu folds, and no line is wider than the screen."""
    async with looking.at(None, width=390) as page:
        await page.goto("/docs/api")
        menu = page.get_by_role("navigation", name="Guides")
        await expect(menu).to_be_hidden()
        await page.get_by_label("Menu").check()
        await expect(menu).to_be_visible()
        await menu.get_by_role("link", name="POST /v1/events/batch").click()
        await expect(page.get_by_role("heading", name="POST /v1/events/batch")).to_be_in_viewport()
        wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert await page.evaluate(wide) == 0


async def test_code_is_copied_and_results_come_while_a_search_is_typed(looking: Any) -> None:
    async with looking.at(None, permissions=["clipboard-read", "clipboard-write"]) as page:
        await page.goto("/docs/tutorial")
        code = page.locator(".code").first
        await code.hover()
        await code.get_by_role("button", name="Copy").click()
        shown = await code.locator("pre").text_content()
        assert await page.evaluate("navigator.clipboard.readText()") == (shown or "").rstrip()
        await page.keyboard.press("/")
        await page.keyboard.type("poison")
        await page.locator("[data-found] a").first.click()
        found = "/docs/consume-an-inbox#when-a-message-always-fails"
        await expect(page).to_have_url(looking.url + found)


async def test_without_javascript(looking: Any) -> None:
    async with looking.at(None, width=390, scripts=False) as page:
        await page.goto("/docs/tutorial")
        await expect(page.get_by_role("button", name="Copy").first).to_be_hidden()
        await page.get_by_role("searchbox").fill("poison")
        await page.keyboard.press("Enter")
        await page.locator("#results a").first.click()
        await expect(page.locator("h1")).to_have_text("Consume an inbox")
        await page.get_by_label("Menu").check()
        await page.get_by_role("link", name="Glossary").click()
        await expect(page.locator("h1")).to_have_text("Glossary")
