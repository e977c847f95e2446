"""Open pages of the console, while the node that serves them is killed: they come back by themselves."""

from __future__ import annotations

import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.async_api import Page, expect

import nginx
from console_look import shift_of
from harness import Tenant, eventually, free_port
from looking import Looking, looking_at
from receiving import Receiver, status
from triggers.domain import OrgId

from .processes import Service, ask, wait_for

_NGINX = """
upstream nodes {{ server 127.0.0.1:{first}; server 127.0.0.1:{second} backup; }}
server {{
  listen 127.0.0.1:{port};
  location / {{
    proxy_pass http://nodes;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_set_header Host $http_host;
  }}
}}
"""
# Messages of a browser about a node that is not there. The page itself has no trouble.
_GONE = (
    "htmx:sse:error",
    "ERR_CONNECTION_REFUSED",
    "ERR_CONNECTION_RESET",
    "ERR_INCOMPLETE_CHUNKED",
    "ERR_EMPTY_RESPONSE",
)


@contextmanager
def proxied(first: Service, second: Service) -> Iterator[str]:
    """Run nginx in front of two nodes. It uses the second one only while the first one does not answer."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="triggers-test-") as name:
        nodes = _NGINX.format(port=port, first=first.port, second=second.port)
        process = subprocess.Popen(nginx.command(Path(name), nodes), stderr=subprocess.DEVNULL)
        try:
            wait_for(lambda: ask(port, "/livez"), 20, "answer through nginx")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(10)


def started(launch: Callable[..., Service]) -> tuple[Service, Service, Tenant]:
    """A service with a worker, a further node that may be killed, and a tenant."""
    service = launch()
    service.environment |= {
        "TRIGGERS_OUTBOUND_ALLOW": "127.0.0.0/8",
        "TRIGGERS_OUTBOUND_ALLOW_HTTP": "1",
    }
    service.start()
    node = launch(name="node", database_url=service.database_url())
    node.start()
    return service, node, Tenant(OrgId(uuid.uuid4()), "", service.tenant(), uuid.uuid4())


def send(service: Service, tenant: Tenant, event_type: str) -> str:
    code, answer = ask(service.port, "/v1/events", tenant.key, {"type": event_type, "payload": {"n": 1}})
    assert code == 201, answer
    return str(answer["id"])


async def remember(page: Page) -> None:
    """Mark the page, so that loading it again would be noticed."""
    await page.evaluate("window.isTheSame = true")


async def is_the_same(page: Page) -> bool:
    return bool(await page.evaluate("window.isTheSame === true"))


async def test_the_page_of_an_event_comes_back_after_its_node_was_killed(
    launch: Callable[..., Service], chromium: str
) -> None:
    service, node, tenant = started(launch)
    async with Receiver(lambda _: status(503)) as receiver:
        wanted: dict[str, Any] = {"target_url": receiver.url, "name": "billing", "retry": {"delays": [3600]}}
        made = ask(service.port, "/v1/subscriptions", tenant.key, wanted)
        assert made[0] == 201, made
        event_id = send(service, tenant, "order.paid")
        await eventually(lambda: receiver.hooks, 20)
        async with (
            looking_at(chromium, f"http://127.0.0.1:{node.port}") as looking,
            looking.at(tenant) as page,
        ):
            await page.set_viewport_size({"width": 1440, "height": 400})
            await page.goto(f"/console/events/{event_id}")
            await expect(page.locator(".story")).to_contain_text("attempt 1 of 2")
            await expect(page.locator(".pulse-on")).to_be_visible()
            attempts = page.locator(f"#attempts-{made[1]['id']}")
            await attempts.locator("summary").first.focus()
            await page.evaluate("scrollTo(0, 40)")
            await remember(page)

            node.kill()
            await expect(page.locator(".pulse-off")).to_be_visible()
            receiver.answer = lambda _: status(200)
            retried = ask(
                service.port, f"/v1/deliveries/{event_id}.{made[1]['id']}/retry", tenant.key, method="POST"
            )
            assert retried[0] in (200, 202), retried
            await eventually(lambda: len(receiver.hooks) == 2, 20)
            await expect(page.locator(".story")).to_contain_text("attempt 1 of 2")
            assert await shift_of(page) == 0

            node.start()
            await expect(page.locator(".story")).to_contain_text("Delivered to billing", timeout=30_000)
            assert await is_the_same(page)
            assert await page.evaluate("scrollY") == 40
            await expect(attempts).to_have_attribute("open", "")
            await expect(attempts.locator("summary").first).to_be_focused()
            forget(looking)


async def test_the_live_tail_goes_on_with_another_node_behind_the_same_address(
    launch: Callable[..., Service], chromium: str
) -> None:
    service, node, tenant = started(launch)
    send(service, tenant, "order.before")
    with proxied(node, service) as url:
        async with looking_at(chromium, url) as looking, looking.at(tenant) as page:
            await page.goto("/console/events/tail")
            rows = page.locator("#live tbody tr")
            await expect(rows.first).to_contain_text("order.before")
            await expect(page.locator(".pulse-on")).to_be_visible()
            await remember(page)

            node.kill()
            send(service, tenant, "order.meanwhile")
            await expect(rows.first).to_contain_text("order.meanwhile", timeout=30_000)
            await expect(page.locator(".pulse-on")).to_be_visible()
            send(service, tenant, "order.after")
            await expect(rows.first).to_contain_text("order.after")
            assert await is_the_same(page)
            assert await shift_of(page) == 0
            forget(looking)


def forget(looking: Looking) -> None:
    """Leave out what the browser said of the killed node."""
    looking.trouble[:] = [each for each in looking.trouble if not any(text in each for text in _GONE)]
