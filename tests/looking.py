"""One Chromium for all tests of pages, in which the pages of a service are looked at."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from playwright.async_api import Browser, BrowserContext, Page, Request, async_playwright

from harness import Node, Tenant


class Looking:
    """Opens pages of a service, and remembers what went wrong in them."""

    def __init__(self, browser: Browser, url: str) -> None:
        self._browser = browser
        self.url = url
        self.trouble: list[str] = []

    @asynccontextmanager
    async def at(
        self,
        tenant: Tenant | None,
        *,
        dark: bool = False,
        width: int = 1440,
        scripts: bool = True,
        **options: Any,
    ) -> AsyncIterator[Page]:
        """A page of a browser of its own, signed in with the tenant's key."""
        context = await self._browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme="dark" if dark else "light",
            java_script_enabled=scripts,
            reduced_motion="reduce",
            base_url=self.url,
            **options,
        )
        context.set_default_timeout(15_000)
        try:
            page = await context.new_page()
            self._listen(context, page)
            if tenant is not None:
                await page.goto("/console/sign-in")
                await page.get_by_label("API key").fill(tenant.key)
                await page.get_by_role("button", name="Sign in").click()
                await page.get_by_role("navigation", name="Console").wait_for()
            yield page
        finally:
            await context.close()

    def _listen(self, context: BrowserContext, page: Page) -> None:
        page.on("pageerror", lambda error: self.trouble.append(f"error: {error}"))
        page.on(
            "console",
            lambda message: (
                self.trouble.append(message.text) if message.type in ("error", "warning") else None
            ),
        )
        page.on("dialog", lambda dialog: self.trouble.append(f"dialog: {dialog.message}"))
        context.on("requestfailed", self._note_failed)

    def _note_failed(self, request: Request) -> None:
        if request.failure != "net::ERR_ABORTED":  # which is a page that was left before its files had come
            self.trouble.append(f"failed: {request.url} {request.failure}")


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Chromium, which is started once. Each test has contexts of its own in it."""
    process = subprocess.Popen(
        [
            "/usr/bin/chromium",
            "--headless=new",
            "--remote-debugging-port=0",
            f"--user-data-dir={tmp_path_factory.mktemp('chromium')}",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--hide-scrollbars",
            "--mute-audio",
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        ],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    # What it says later is thrown away, so that it never waits for a reader.
    reader = threading.Thread(target=process.stderr.read)
    try:
        for line in process.stderr:
            if found := re.search(r"DevTools listening on ws://([0-9.:]+)/", line):
                break
        else:
            raise AssertionError("Chromium did not start")
        reader.start()
        yield f"http://{found[1]}"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if reader.is_alive():
            reader.join()
        process.stderr.close()


@asynccontextmanager
async def looking_at(chromium: str, url: str) -> AsyncIterator[Looking]:
    """A browser for the pages below this URL, which has no trouble at the end."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.connect_over_cdp(chromium)
        found = Looking(browser, url)
        yield found
        await browser.close()
    assert not found.trouble, found.trouble


@pytest.fixture
async def looking(node: Node, chromium: str) -> AsyncIterator[Looking]:
    """A browser for the node's pages. The test fails if a page broke a rule of its security policy."""
    async with looking_at(chromium, node.url) as found:
        yield found
