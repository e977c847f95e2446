"""The values that labels of metrics can have."""

from __future__ import annotations

import re

import httpx

from harness import Node, Tenant
from triggers.node.routes import ROUTES


async def test_a_route_is_called_as_in_the_document(node: Node, tenant: Tenant) -> None:
    """A parameter is a name in braces, without a type. No label contains text from a caller."""
    async with node.client(tenant) as client:
        event = (await client.post("/v1/events", json={"type": "a", "payload": 1})).json()["id"]
        for path in (f"/v1/events/{event}", f"/v1/events/{event}/payload", "/v1/deliveries/x.y", "/no/route"):
            await client.get(path)
        await client.request("PROPFIND", f"/v1/events/{event}")
        labels = re.findall(r'route="([^"]*)"', (await client.get("/metrics")).text)
    assert {"/v1/events/{event_id}", "/v1/events/{event_id}/payload", "none"} <= set(labels)
    assert set(labels) <= {"none", *(route.path for route in ROUTES)}
    assert all(re.fullmatch(r"(/[a-z0-9._-]*|/\{[a-z_]+\})+", route.path) for route in ROUTES)
    async with httpx.AsyncClient(base_url=node.url) as client:
        document = (await client.get("/openapi.json")).json()
    assert {route.path for route in ROUTES if not route.hidden} <= set(document["paths"])
