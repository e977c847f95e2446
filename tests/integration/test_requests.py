"""What any route does with what it is sent: times and cursors at their edges, bodies, content types."""

from __future__ import annotations

import httpx
import pytest

from triggers.api.events import _BEYOND
from triggers.api.views import make_cursor


async def send(client: httpx.AsyncClient) -> str:
    answer = await client.post("/v1/events", json={"type": "a", "payload": 1})
    assert answer.status_code == 201
    event_id: str = answer.json()["id"]
    return event_id


# ---- parameters ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "found"),
    [
        ({"since": "1960-01-01T00:00:00Z"}, True),
        ({"since": "0001-01-01T00:00:00Z", "until": "9999-12-31T23:59:59.999999Z"}, True),
        ({"until": "1960-01-01T00:00:00Z"}, False),
        ({"since": "9999-12-31T23:59:59.999999Z"}, False),
        ({"cursor": make_cursor(_BEYOND), "order": "asc"}, False),
        ({"cursor": make_cursor(_BEYOND), "order": "desc"}, True),
    ],
)
async def test_a_list_begins_and_ends_anywhere_in_time(
    client: httpx.AsyncClient, parameters: dict[str, str], found: bool
) -> None:
    sent = await send(client)
    answer = await client.get("/v1/events", params=parameters)
    assert answer.status_code == 200, answer.text
    assert [event["id"] for event in answer.json()["events"]] == ([sent] if found else [])
