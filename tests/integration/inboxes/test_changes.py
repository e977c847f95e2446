"""Inboxes with filters and notices: what they keep, and the push subscription that follows each."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import httpx
import pytest

from harness import SECRET_KEYS, Tenant, behind_a_lock, eventually
from triggers.postgres.database import Database
from triggers.secrets.key_ring import KeyRing
from triggers.subscriptions.rules import lane_group, open_secrets

URL = "https://receiver.example/notices"


async def make(client: httpx.AsyncClient, key: str = "work", **fields: Any) -> dict[str, Any]:
    answer = await client.post("/v1/inboxes", json={"key": key, **fields})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def row_of(database: Database, subscription_id: Any) -> Any:
    return await database.row("select * from subscriptions where id = $1", UUID(str(subscription_id)))


async def sender_of(database: Database, inbox: dict[str, Any]) -> Any:
    return await database.row(
        "select * from subscriptions where notifies_inbox = $1 and status <> 'deleting'", UUID(inbox["id"])
    )


async def numbers(database: Database, tenant: Tenant) -> tuple[int, int]:
    row = await database.row(
        "select judging_version, subscription_count from organisations where id = $1", tenant.id
    )
    assert row is not None
    return row[0], row[1]


@pytest.mark.parametrize("column", ["id", "notifies_inbox"])
async def test_a_change_bears_the_time_behind_its_locks(
    client: httpx.AsyncClient, database: Database, column: str
) -> None:
    """Of the inbox and of what sends its notices: neither may look older than what held it up."""
    made = await make(client, notification_url=URL)
    answer, released_at = await behind_a_lock(
        database,
        f"select from subscriptions where {column} = $1",
        UUID(made["id"]),
        client.post("/v1/inboxes/work/pause"),
    )
    assert answer.status_code == 200, answer.text
    for row in (await row_of(database, made["id"]), await sender_of(database, made)):
        assert row["status"] == "paused"
        assert row["changed_at"] > released_at


async def test_a_filter_is_kept_judged_and_cleared(
    client: httpx.AsyncClient, tenant: Tenant, database: Database
) -> None:
    made = await make(client, filter="payload.total > 100")
    assert made["filter"] == "payload.total > 100"
    assert made["notifications"] is None
    assert "notification_secret" not in made
    version, count = await numbers(database, tenant)
    assert (version > 0, count) == (True, 2)
    for action in ("pause", "resume"):
        await client.post(f"/v1/inboxes/work/{action}")
        before, (version, _) = version, await numbers(database, tenant)
        assert version > before
    wanted = {"key": "work", "filter": "payload.total > 100"}
    assert (await client.put("/v1/inboxes", json=wanted)).status_code == 200
    other = await client.put("/v1/inboxes", json=wanted | {"filter": "true"})
    assert (other.status_code, "filter" in other.json()["detail"]) == (409, True)
    cleared = await client.patch("/v1/inboxes/work", json={"filter": None})
    assert cleared.json()["filter"] is None
    assert (await numbers(database, tenant))[0] > version


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"filter": "payload >"}, "/filter"),
        ({"notification_url": "https://10.0.0.1/"}, "/notification_url"),
        ({"notification_url": "nowhere"}, "/notification_url"),
        ({"event_types": ["a*"]}, "/event_types/0"),
    ],
)
async def test_what_is_wrong_is_named(
    client: httpx.AsyncClient, fields: dict[str, Any], pointer: str
) -> None:
    await make(client)
    for answer in (
        await client.post("/v1/inboxes", json={"key": "other", **fields}),
        await client.patch("/v1/inboxes/work", json=fields),
    ):
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer)


async def test_an_inbox_with_notices_has_a_sender_that_wishes_for_the_same(
    client: httpx.AsyncClient, tenant: Tenant, database: Database
) -> None:
    made = await make(client, notification_url=URL, event_types=["order.*"], filter="true")
    assert made["notification_url"] == URL
    sender = await sender_of(database, made)
    assert made["notifications"] == {
        "subscription_id": str(sender["id"]),
        "status": "active",
        "status_reason": None,
    }
    assert (sender["kind"], sender["target_url"], sender["filter"]) == ("push", URL, "true")
    assert (sender["type_prefixes"], sender["all_types"]) == (["order."], False)
    assert sender["lane_group"] == lane_group(sender["id"])
    ring = KeyRing.from_setting(SECRET_KEYS)
    kept = open_secrets(ring, tenant.id, sender["id"], sender["secrets"])
    assert [each.secret for each in kept] == [made["notification_secret"]]
    assert (await numbers(database, tenant))[1] == 3
    shown = (await client.get("/v1/inboxes/work")).json()
    assert shown == {name: value for name, value in made.items() if name != "notification_secret"}
    listed = (await client.get("/v1/inboxes?key=work")).json()["data"]
    assert listed == [shown]


async def test_an_internationalised_host_is_stored_in_ascii_and_shown_in_both_forms(
    client: httpx.AsyncClient, database: Database
) -> None:
    forms = {
        "notification_url": "https://xn--bcher-kva.example/hook",
        "notification_url_unicode": "https://bücher.example/hook",
    }
    for given in forms.values():
        answer = await client.put("/v1/inboxes", json={"key": "work", "notification_url": given})
        assert answer.status_code in {200, 201}, "another way to write the same"
        assert answer.json() == answer.json() | forms
    assert (await sender_of(database, answer.json()))["target_url"] == forms["notification_url"]
    changed = await client.patch("/v1/inboxes/work", json={"notification_url": "https://ü.example/"})
    assert changed.json()["notification_url"] == "https://xn--tda.example/"


async def test_the_sender_follows_the_inbox(
    client: httpx.AsyncClient, tenant: Tenant, database: Database
) -> None:
    made = await make(client)
    first = (await client.patch("/v1/inboxes/work", json={"notification_url": URL})).json()
    assert first["notification_secret"].startswith("whsec_")
    sender = await sender_of(database, made)

    other = {"notification_url": URL + "/2", "event_types": ["a"], "filter": "payload.b"}
    second = (await client.patch("/v1/inboxes/work", json=other)).json()
    assert "notification_secret" not in second
    changed = await sender_of(database, made)
    assert changed["id"] == sender["id"]
    assert (changed["target_url"], changed["type_names"], changed["filter"]) == (
        URL + "/2",
        ["a"],
        "payload.b",
    )
    assert changed["changed_at"] > sender["changed_at"]

    for action, status in (("pause", "paused"), ("resume", "active")):
        shown = (await client.post(f"/v1/inboxes/work/{action}")).json()
        assert shown["notifications"]["status"] == status

    ended = (await client.patch("/v1/inboxes/work", json={"notification_url": None})).json()
    assert (ended["notification_url"], ended["notifications"]) == (None, None)
    assert await sender_of(database, made) is None
    assert (await row_of(database, sender["id"]))["status"] == "deleting"
    assert (await numbers(database, tenant))[1] == 2


async def test_a_disabled_sender_starts_anew_with_another_url(
    client: httpx.AsyncClient, database: Database
) -> None:
    made = await make(client, notification_url=URL)
    await database.fetch(
        "update subscriptions set status = 'disabled', status_reason = 'gone', emptied_at = now()"
        " where notifies_inbox = $1",
        UUID(made["id"]),
    )
    shown = (await client.get("/v1/inboxes/work")).json()["notifications"]
    assert (shown["status"], shown["status_reason"]) == ("disabled", "gone")
    await client.post("/v1/inboxes/work/pause")
    await client.post("/v1/inboxes/work/resume")
    assert (await sender_of(database, made))["status"] == "disabled"
    again = (await client.patch("/v1/inboxes/work", json={"notification_url": URL + "/2"})).json()
    assert again["notifications"]["status"] == "active"


async def test_the_sender_is_changed_through_its_inbox_alone(
    client: httpx.AsyncClient, database: Database
) -> None:
    made = await make(client, notification_url=URL)
    sender = made["notifications"]["subscription_id"]
    path = f"/v1/subscriptions/{sender}"
    shown = await client.get(path)
    assert shown.json()["notifies_inbox"] == made["id"]
    assert (await client.get("/v1/subscriptions")).json()["data"] == []
    assert (await client.patch(path, json={"name": "x"})).status_code == 409
    assert (await client.delete(path)).status_code == 409
    assert (await client.post(f"{path}/pause")).status_code == 409
    rotated = await client.post(f"{path}/rotate-secret")
    assert rotated.json()["secret"] != made["notification_secret"]


async def test_the_sender_ends_with_its_inbox(
    client: httpx.AsyncClient, tenant: Tenant, database: Database
) -> None:
    made = await make(client, notification_url=URL)
    sender = UUID(made["notifications"]["subscription_id"])
    event = await client.post("/v1/events", json={"type": "a", "payload": 1})
    assert (await client.delete("/v1/inboxes/work")).status_code == 202
    assert (await numbers(database, tenant))[1] == 1

    async def cancelled() -> Any:
        return await database.fetch(
            "select subscription_id from settled_deliveries where status = 'cancelled' and event_id = $1",
            UUID(event.json()["id"]),
        )

    async def both() -> bool:
        return {row[0] for row in await cancelled()} == {sender, UUID(made["id"])}

    await eventually(both, 10)
    assert (await client.delete("/v1/inboxes/work")).status_code == 404
    assert (await make(client))["id"] != made["id"]


async def test_there_must_be_room_for_both(
    client: httpx.AsyncClient, tenant: Tenant, database: Database
) -> None:
    await database.fetch("update organisations set max_subscriptions = 2 where id = $1", tenant.id)
    answer = await client.post("/v1/inboxes", json={"key": "work", "notification_url": URL})
    assert answer.status_code == 409
    assert (await client.get("/v1/inboxes/work")).status_code == 404
    assert (await numbers(database, tenant))[1] == 1
    await make(client)


async def test_one_of_many_that_want_a_key_gets_it(
    client: httpx.AsyncClient, tenant: Tenant, database: Database
) -> None:
    answers = await asyncio.gather(*[client.post("/v1/inboxes", json={"key": "work"}) for _ in range(10)])
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 9
    assert (await numbers(database, tenant))[1] == 2
