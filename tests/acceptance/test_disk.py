"""Below the mark of free disk: accept refuses, everything else goes on."""

from __future__ import annotations

from collections.abc import Callable

from .processes import Service
from .wire import whole_inbox


async def test_accept_refuses_and_the_rest_goes_on(launch: Callable[..., Service]) -> None:
    service = launch()
    service.start()
    key = service.first_key()
    path = "/v1/inboxes/default/messages"
    async with service.client(key) as client:
        ids = [(await client.post("/v1/events", {"type": "kept", "payload": n})).json["id"] for n in range(3)]
    assert service.stop() == 0

    service.start("--min-free-disk", "1000000000")  # a petabyte, in MiB
    async with service.client(key) as client:
        for route in ("/v1/events", "/v1/events/batch"):
            event = {"type": "refused", "payload": 1}
            answer = await client.post(route, [event] if route.endswith("batch") else event)
            assert (answer.status, answer.json["type"]) == (503, "/problems/disk-full")
            assert int(answer.headers["retry-after"]) > 0
        readiness = await client.get("/readyz")
        assert readiness.status == 200, "reads and deliveries still need it"
        assert readiness.json["status"] == "degraded"
        assert "TRIGGERS_MIN_FREE_DISK" in readiness.json["checks"]["disk"]

        assert [each.id for each in await whole_inbox(client)] == ids
        assert (await client.get(f"/v1/events/{ids[0]}/payload")).body == b"0"
        lease = (await client.post(f"{path}/lease", {"lease_limit": 1})).json
        assert [each["id"] for each in lease["results"]] == ids[:1]
        assert (await client.post(f"{path}/ack", {"lease_id": lease["lease_id"]})).status == 201
        assert (await client.post("/v1/ack", {"event_ids": ids})).json["acknowledged"] == 2
        assert await whole_inbox(client) == []
        made = await client.post("/v1/inboxes", {"key": "another"})
        assert made.status == 201
    assert service.stop() == 0
