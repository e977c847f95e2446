"""Push subscriptions over HTTP: made, shown, changed and ended, and what each leaves in the tables."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import msgspec
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from harness import SECRET_KEYS, Node, Tenant, Tenants, behind_a_lock, eventually
from triggers.domain import first_id_at
from triggers.postgres.database import Database
from triggers.postgres.time_bounds import ACCEPTS_ENDED
from triggers.secrets.key_ring import KeyRing
from triggers.secrets.signing_secrets import generate_secret, read_secret
from triggers.subscriptions import sealed as sealed_secrets
from triggers.subscriptions import store as subscription_store
from triggers.subscriptions.rules import lane_group, open_headers, open_secrets

URL = "https://receiver.example/hook"
RING = KeyRing.from_setting(SECRET_KEYS)


async def make(client: httpx.AsyncClient, **fields: Any) -> dict[str, Any]:
    answer = await client.post("/v1/subscriptions", json={"target_url": URL, **fields})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def stored(database: Database, subscription_id: str) -> Any:
    row = await database.row("select * from subscriptions where id = $1", UUID(subscription_id))
    assert row is not None
    return row


async def version_and_count(database: Database, tenant: Tenant) -> tuple[int, int]:
    row = await database.row(
        "select judging_version, subscription_count from organisations where id = $1", tenant.id
    )
    assert row is not None
    return row[0], row[1]


async def send(client: httpx.AsyncClient, event_type: str, payload: Any = None, **fields: Any) -> str:
    answer = await client.post("/v1/events", json={"type": event_type, "payload": payload, **fields})
    assert answer.status_code == 201, answer.text
    event_id: str = answer.json()["id"]
    return event_id


# ---- making --------------------------------------------------------------------------------------


async def test_the_least_a_hook_platform_sends(client: httpx.AsyncClient, database: Database) -> None:
    answer = await client.post("/v1/hooks", json={"target_url": URL, "event_types": ["order.*"]})
    assert answer.status_code == 201
    made = answer.json()
    assert made["secret"].startswith("whsec_")
    shown = (await client.get(f"/v1/hooks/{made['id']}")).json()
    assert "secret" not in shown
    assert shown == {name: value for name, value in made.items() if name != "secret"}
    assert shown | {"created_at": 0, "changed_at": 0, "status_at": 0} == {
        "id": made["id"],
        "key": None,
        "name": None,
        "target_url": URL,
        "target_url_unicode": None,
        "status": "active",
        "status_reason": None,
        "status_at": 0,
        "event_types": ["order.*"],
        "filter": None,
        "filter_error": None,
        "filter_error_at": None,
        "format": "standard",
        "header_names": [],
        "signature": "v1",
        "public_key": None,
        "old_secret_ends_at": None,
        "ordering": "none",
        "ordering_key": None,
        "max_concurrency": 64,
        "rate_limit": None,
        "retry": {"delays": None, "deadline": None},
        "expires_at": None,
        "notifies_inbox": None,
        "created_at": 0,
        "changed_at": 0,
        "last_success_at": None,
        "failing_since": None,
        "oldest_pending": None,
        "next_attempt": None,
    }
    row = await stored(database, made["id"])
    assert row["type_prefixes"] == ["order."]
    assert row["lane_group"] == lane_group(UUID(made["id"]))


async def test_everything_that_can_be_chosen_is_kept(
    client: httpx.AsyncClient, tenant: Tenant, database: Database
) -> None:
    expires = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
    chosen = {
        "key": "shop",
        "name": "The shop",
        "event_types": ["order.created", "triggers.delivery.dead"],
        "filter": "payload.total > 100",
        "format": "cloudevents",
        "ordering": "key",
        "ordering_key": "/customer/id",
        "max_concurrency": 7,
        "rate_limit": 0.5,
        "retry": {"delays": [0.5, 60], "deadline": 3600.0},
    }
    secret = generate_secret("v1a")
    made = await make(
        client,
        **chosen,
        headers={"Authorization": "Bearer x", "X-Team": "a b"},
        secret=secret,
        expiration_date=expires.isoformat(),
    )
    assert {name: made[name] for name in chosen} == chosen
    assert made["secret"] == secret
    assert made["signature"] == "v1a"
    assert made["public_key"] == read_secret(secret).public_text  # type: ignore[union-attr]
    assert made["header_names"] == ["Authorization", "X-Team"]
    assert datetime.fromisoformat(made["expires_at"]) == expires
    row = await stored(database, made["id"])
    assert b"Bearer" not in row["headers"]
    assert secret.encode() not in row["secrets"]
    assert open_headers(RING, tenant.id, row["id"], row["headers"]) == {
        "Authorization": "Bearer x",
        "X-Team": "a b",
    }
    assert [each.secret for each in open_secrets(RING, tenant.id, row["id"], row["secrets"])] == [secret]
    assert row["ordering_pointer"] == "/customer/id"


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"target_url": "https://10.0.0.1/"}, "/target_url"),
        ({"target_url": "https://metadata@receiver.example/"}, "/target_url"),
        ({"target_url": "ftp://receiver.example/"}, "/target_url"),
        ({"target_url": None}, "/target_url"),
        ({"event_types": []}, "/event_types"),
        ({"event_types": ["a*b"]}, "/event_types/0"),
        ({"filter": "payload.a >"}, "/filter"),
        ({"headers": {"Content-Type": "text/plain"}}, "/headers/Content-Type"),
        ({"headers": {"X-A": "a\r\nX-B: b"}}, "/headers/X-A"),
        ({"format": "xml"}, "/format"),
        ({"signature": "v2"}, "/signature"),
        ({"secret": "whsec_AAAA"}, "/secret"),
        ({"secret": generate_secret("v1"), "signature": "v1a"}, "/secret"),
        ({"ordering": "key", "ordering_key": "customer"}, "/ordering_key"),
        ({"ordering_key": "/customer"}, "/ordering_key"),
        ({"max_concurrency": 0}, "/max_concurrency"),
        ({"max_concurrency": 1001}, "/max_concurrency"),
        ({"rate_limit": 0}, "/rate_limit"),
        ({"retry": {"delays": [1] * 51}}, "/retry/delays"),
        ({"retry": {"delays": [-1]}}, "/retry/delays/0"),
        ({"retry": {"deadline": 0}}, "/retry/deadline"),
        ({"start": "yesterday"}, "/start"),
        ({"start": "2999-01-01T00:00:00Z"}, "/start"),
        ({"start": str(uuid4())}, "/start"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "/expires_at"),
        ({"key": "a\nb"}, "/key"),
    ],
)
async def test_what_is_wrong_is_named(
    client: httpx.AsyncClient, fields: dict[str, Any], pointer: str
) -> None:
    answer = await client.post("/v1/subscriptions", json={"target_url": URL, **fields})
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["pointer"] == pointer, answer.text


async def test_an_unknown_field_is_named(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/subscriptions", json={"target_url": URL, "targeturl": 1})
    assert answer.status_code == 422
    assert "targeturl" in answer.text


async def test_plain_http_only_where_the_operator_allows_it(
    make_node: Callable[..., Any], tenant: Tenant
) -> None:
    strict = await make_node(outbound_allow_http=False)
    async with strict.client(tenant) as client:
        assert (
            await client.post("/v1/subscriptions", json={"target_url": "http://127.0.0.1:1/"})
        ).status_code == 422
    open_ = await make_node(outbound_allow=None)
    async with open_.client(tenant) as client:
        assert (
            await client.post("/v1/subscriptions", json={"target_url": "http://127.0.0.1:1/"})
        ).status_code == 422
        assert (
            await client.post("/v1/subscriptions", json={"target_url": "http://receiver.example/"})
        ).status_code == 201


async def test_a_key_is_taken_until_it_is_deleted(client: httpx.AsyncClient) -> None:
    made = await make(client, key="k")
    again = await client.post("/v1/subscriptions", json={"target_url": URL, "key": "k"})
    assert (again.status_code, again.json()["type"]) == (409, "/problems/name-taken")
    assert (await client.delete(f"/v1/subscriptions/{made['id']}")).status_code == 204
    assert (await make(client, key="k"))["id"] != made["id"]


async def test_one_of_many_that_want_a_key_gets_it(
    client: httpx.AsyncClient, tenant: Tenant, database: Database
) -> None:
    answers = await asyncio.gather(
        *[client.post("/v1/subscriptions", json={"target_url": URL, "key": "k"}) for _ in range(10)]
    )
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 9
    assert (await version_and_count(database, tenant))[1] == 2  # with the default inbox


async def test_an_organisation_has_so_many_subscriptions_and_no_more(
    client: httpx.AsyncClient, tenant: Tenant, database: Database
) -> None:
    await database.fetch("update organisations set max_subscriptions = 2 where id = $1", tenant.id)
    first = await make(client)
    answer = await client.post("/v1/subscriptions", json={"target_url": URL})
    assert answer.status_code == 409
    await client.delete(f"/v1/subscriptions/{first['id']}")
    await make(client)


async def test_ensure_makes_one_and_finds_it_again(client: httpx.AsyncClient) -> None:
    body = {"target_url": URL, "key": "k", "headers": {"X-A": "1"}, "event_types": ["a", "a"], "start": "now"}
    made = await client.put("/v1/subscriptions", json=body)
    assert made.status_code == 201
    found = await client.put("/v1/subscriptions", json=body)
    assert found.status_code == 200
    assert found.json()["id"] == made.json()["id"]
    assert "secret" not in found.json()
    for other in ({"headers": {"X-A": "2"}}, {"name": "x"}, {"secret": generate_secret()}):
        answer = await client.put("/v1/subscriptions", json=body | other)
        assert answer.status_code == 409
        assert next(iter(other)) in answer.json()["detail"]
    assert (await client.put("/v1/subscriptions", json={"target_url": URL})).status_code == 422


async def test_an_internationalised_host_is_stored_in_ascii_and_shown_in_both_forms(
    client: httpx.AsyncClient, database: Database
) -> None:
    forms = {
        "target_url": "https://xn--bcher-kva.example/hook",
        "target_url_unicode": "https://bücher.example/hook",
    }
    for given in (*forms.values(), "https://BÜCHER.example/hook"):
        answer = await client.put("/v1/subscriptions", json={"target_url": given, "key": "k"})
        assert answer.status_code in {200, 201}, "another way to write the same"
        assert answer.json() == answer.json() | forms
    row = await stored(database, answer.json()["id"])
    assert row["target_url"] == forms["target_url"], "an older node can deliver to it"
    changed = await client.patch(
        f"/v1/subscriptions/{answer.json()['id']}", json={"target_url": "https://straße.example/"}
    )
    assert changed.json()["target_url"] == "https://xn--strae-oqa.example/"
    assert changed.json()["target_url_unicode"] == "https://straße.example/"
    refused = await client.post("/v1/subscriptions", json={"target_url": "https://１２７.0.0.1/"})
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/target_url")


async def test_ensure_by_many_at_once_makes_one(client: httpx.AsyncClient) -> None:
    answers = await asyncio.gather(
        *[client.put("/v1/subscriptions", json={"target_url": URL, "key": "k"}) for _ in range(10)]
    )
    assert sorted(answer.status_code for answer in answers) == [200] * 9 + [201]
    assert len({answer.json()["id"] for answer in answers}) == 1


@pytest.mark.parametrize("by", ["time", "event"])
async def test_a_start_in_the_past_is_a_job_for_later(
    client: httpx.AsyncClient, tenant: Tenant, database: Database, by: str
) -> None:
    first = await send(client, "a")
    start = first if by == "event" else (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    made = await make(client, start=start)
    job = await database.row("select *, now() as now from replays where org_id = $1", tenant.id)
    assert job is not None
    assert (job["kind"], job["status"], str(job["subscription_id"])) == ("backfill", "running", made["id"])
    assert job["first_id"] == job["position"] <= UUID(first)
    assert job["end_id"] > UUID(first)
    # Not before every accept has ended that could have missed the subscription.
    assert timedelta(seconds=5) < job["not_before"] - job["created_at"] <= timedelta(seconds=11)


async def test_a_backfill_is_bounded_by_the_time_behind_the_lock(
    client: httpx.AsyncClient, tenant: Tenant, database: Database
) -> None:
    """Were it the time before, an accept that missed the subscription might commit behind the job."""
    first = await send(client, "a")
    _, released_at = await behind_a_lock(
        database, "select from organisations where id = $1", tenant.id, make(client, start=first)
    )
    job = await database.row("select * from replays where org_id = $1", tenant.id)
    assert job is not None
    ended = released_at + ACCEPTS_ENDED
    assert job["not_before"] > ended
    assert job["end_id"] >= first_id_at(ended)


async def test_start_at_another_organisations_event_is_no_start(
    node: Node, client: httpx.AsyncClient, tenants: Tenants
) -> None:
    other = await tenants.make()
    async with node.client(other) as theirs:
        foreign = await send(theirs, "a")
    answer = await client.post("/v1/subscriptions", json={"target_url": URL, "start": foreign})
    assert answer.status_code == 422


# ---- looking -------------------------------------------------------------------------------------


async def test_lists_in_order_by_key_and_by_status(client: httpx.AsyncClient) -> None:
    made = [await make(client, key=f"k{n}") for n in range(5)]
    ids = [each["id"] for each in made]
    page = (await client.get("/v1/subscriptions?limit=2")).json()
    assert [each["id"] for each in page["data"]] == ids[:2]
    rest = (await client.get("/v1/subscriptions", params={"cursor": page["next_cursor"]})).json()
    assert [each["id"] for each in rest["data"]] == ids[2:]
    assert rest["next_cursor"] is None
    assert [e["key"] for e in (await client.get("/v1/subscriptions?key=k3")).json()["data"]] == ["k3"]
    await client.post(f"/v1/subscriptions/{ids[1]}/pause")
    await client.delete(f"/v1/subscriptions/{ids[0]}")
    paused = (await client.get("/v1/hooks?status=paused")).json()["data"]
    assert [each["id"] for each in paused] == [ids[1]]
    assert len((await client.get("/v1/subscriptions")).json()["data"]) == 4


async def test_shows_what_is_oldest_and_what_comes_next(
    client: httpx.AsyncClient, tenant: Tenant, database: Database
) -> None:
    made = await make(client)
    first = await send(client, "a")
    await send(client, "b")
    later = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    await database.fetch(
        "update deliveries set due_at = $3::timestamptz + interval '1 minute'"
        " where org_id = $1 and subscription_id = $2",
        tenant.id,
        UUID(made["id"]),
        later,
    )
    await database.fetch(
        "update deliveries set due_at = $3 where org_id = $1 and subscription_id = $2 and event_id <> $4",
        tenant.id,
        UUID(made["id"]),
        later,
        UUID(first),
    )
    shown = (await client.get(f"/v1/subscriptions/{made['id']}")).json()
    assert datetime.fromisoformat(shown["next_attempt"]) == later
    accepted = datetime.fromisoformat(shown["oldest_pending"])
    assert abs(accepted - datetime.now(UTC)) < timedelta(seconds=30)
    paused = (await client.post(f"/v1/subscriptions/{made['id']}/pause")).json()
    assert paused["next_attempt"] is None
    assert paused["oldest_pending"] == shown["oldest_pending"]


@pytest.mark.parametrize("subscription_id", ["5b5fafe6-8234-4614-9e5a-acad3f51fe25", "nothing"])
async def test_what_does_not_exist_is_not_found(client: httpx.AsyncClient, subscription_id: str) -> None:
    path = f"/v1/subscriptions/{subscription_id}"
    answers = [await client.get(path), await client.patch(path, json={}), await client.delete(path)]
    verbs = ("pause", "resume", "disable", "enable", "rotate-secret", "test")
    answers += [await client.post(f"{path}/{verb}") for verb in verbs]
    assert {answer.status_code for answer in answers} == {404}


async def test_an_inbox_is_no_push_subscription(client: httpx.AsyncClient) -> None:
    inbox = (await client.get("/v1/inboxes/default")).json()["id"]
    assert (await client.get(f"/v1/subscriptions/{inbox}")).status_code == 404
    assert (await client.delete(f"/v1/subscriptions/{inbox}")).status_code == 404


# ---- changing ------------------------------------------------------------------------------------


CHANGES = [
    ("patch", "", {"name": "x"}),
    ("post", "/pause", None),
    ("post", "/disable", None),
    ("post", "/rotate-secret", None),
    ("delete", "", None),
]


@pytest.mark.parametrize(("method", "path", "body"), CHANGES)
@pytest.mark.parametrize("table", ["organisations", "subscriptions"])
async def test_a_change_bears_the_time_behind_its_locks(
    client: httpx.AsyncClient,
    tenant: Tenant,
    database: Database,
    table: str,
    method: str,
    path: str,
    body: Any,
) -> None:
    """Workers look back for changes: one that bore the time before a long wait would be missed."""
    made = await make(client)
    subject = tenant.id if table == "organisations" else UUID(made["id"])
    change = client.request(method, f"/v1/subscriptions/{made['id']}{path}", json=body)
    answer, released_at = await behind_a_lock(database, f"select from {table} where id = $1", subject, change)
    assert answer.status_code in (200, 204), answer.text
    assert (await stored(database, made["id"]))["changed_at"] > released_at


async def test_a_change_that_would_commit_too_late_is_none(
    client: httpx.AsyncClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await make(client)
    monkeypatch.setattr(subscription_store, "COMMIT_SECONDS", -1.0)
    answer = await client.post(f"/v1/subscriptions/{made['id']}/pause")
    assert (answer.status_code, "retry-after" in answer.headers) == (503, True)
    assert (await stored(database, made["id"]))["status"] == "active"
    monkeypatch.undo()
    assert (await client.post(f"/v1/subscriptions/{made['id']}/pause")).status_code == 200


async def test_patch_changes_what_is_named_and_no_more(client: httpx.AsyncClient, database: Database) -> None:
    made = await make(client, name="x", headers={"X-A": "1"}, rate_limit=5, event_types=["a"])
    path = f"/v1/subscriptions/{made['id']}"
    changed = (await client.patch(path, json={"name": "y", "event_types": ["b.*"]})).json()
    expected = {k: v for k, v in made.items() if k != "secret"} | {"name": "y", "event_types": ["b.*"]}
    assert changed | {"changed_at": 0} == expected | {"changed_at": 0}
    assert changed["changed_at"] > made["changed_at"]
    cleared = (
        await client.patch(
            path,
            json={"name": None, "headers": None, "rate_limit": None, "event_types": None, "format": None},
        )
    ).json()
    assert (cleared["name"], cleared["header_names"], cleared["rate_limit"]) == (None, [], None)
    assert (cleared["event_types"], cleared["format"]) == (None, "standard")
    assert (await stored(database, made["id"]))["headers"] is None


@pytest.mark.parametrize(
    "change",
    [{"target_url": None}, {"target_url": "https://127.0.0.1.:x/"}, {"secret": "x"}, {"status": "paused"}],
)
async def test_patch_refuses_what_cannot_be(client: httpx.AsyncClient, change: dict[str, Any]) -> None:
    made = await make(client)
    assert (await client.patch(f"/v1/subscriptions/{made['id']}", json=change)).status_code == 422


@pytest.mark.parametrize(
    ("target_url", "same_origin"),
    [
        ("http://127.0.0.1:80/other?x=1", True),
        ("http://127.0.0.1:81/", False),
        ("http://127.0.0.2/", False),
        ("https://127.0.0.1:80/", False),
        ("HTTP://127.0.0.1/", True),
    ],
)
async def test_headers_go_to_another_origin_only_if_they_are_named(
    client: httpx.AsyncClient, target_url: str, same_origin: bool
) -> None:
    """Otherwise, a key that can change a URL could send the hidden values to an endpoint of its owner."""
    made = await make(client, target_url="http://127.0.0.1/hook", headers={"X-Secret": "1"})
    path = f"/v1/subscriptions/{made['id']}"
    answer = await client.patch(path, json={"target_url": target_url})
    if same_origin:
        assert answer.status_code == 200
        return
    assert answer.status_code == 422
    assert [each["pointer"] for each in answer.json()["errors"]] == ["/headers"]
    assert (await client.get(path)).json()["target_url"] == "http://127.0.0.1/hook"
    moved = await client.patch(path, json={"target_url": target_url, "headers": {"X-Secret": "2"}})
    assert moved.status_code == 200
    back = await client.patch(path, json={"target_url": "http://127.0.0.1/hook", "headers": None})
    assert (back.status_code, back.json()["header_names"]) == (200, [])
    assert (await client.patch(path, json={"target_url": target_url})).status_code == 200, "none to be read"


async def test_order_is_chosen_once(client: httpx.AsyncClient) -> None:
    made = await make(client)
    answer = await client.patch(f"/v1/subscriptions/{made['id']}", json={"ordering": "key"})
    assert answer.status_code == 422
    ordered = await make(client, ordering="key", ordering_key="/a")
    freed = await client.patch(f"/v1/subscriptions/{ordered['id']}", json={"ordering": "none"})
    assert (freed.json()["ordering"], freed.json()["ordering_key"]) == ("none", None)


async def test_another_url_is_another_endpoint(client: httpx.AsyncClient, database: Database) -> None:
    made = await make(client)
    await database.fetch(
        "update subscriptions set failing_since = now(), probe_at = now(), probe_delay = 60 where id = $1",
        UUID(made["id"]),
    )
    path = f"/v1/subscriptions/{made['id']}"
    assert (await client.patch(path, json={"name": "x"})).json()["failing_since"] is not None
    assert (await client.patch(path, json={"target_url": URL + "/2"})).json()["failing_since"] is None
    row = await stored(database, made["id"])
    assert (row["probe_at"], row["probe_delay"]) == (None, None)


async def test_those_whose_endpoint_fails_are_listed(client: httpx.AsyncClient, database: Database) -> None:
    failing, healthy, paused = [await make(client) for _ in range(3)]
    await database.fetch(
        "update subscriptions set failing_since = now() where id = any($1)",
        [UUID(failing["id"]), UUID(paused["id"])],
    )
    await client.post(f"/v1/subscriptions/{paused['id']}/pause")

    async def listed(query: str) -> list[str]:
        return [each["id"] for each in (await client.get(f"/v1/subscriptions?{query}")).json()["data"]]

    assert await listed("failing=true") == [failing["id"]]
    assert await listed("failing=false") == [failing["id"], healthy["id"], paused["id"]]
    assert await listed("failing=true&status=paused") == []


@pytest.mark.parametrize(("end", "begin"), [("pause", "resume"), ("disable", "enable")])
async def test_one_that_is_active_again_has_not_failed_meanwhile(
    client: httpx.AsyncClient, database: Database, end: str, begin: str
) -> None:
    """Six days of a pause are not six days of failures, for which it would be disabled."""
    made = await make(client)
    path = f"/v1/subscriptions/{made['id']}"
    await database.fetch(
        "update subscriptions set failing_since = now(), probe_at = now(), probe_delay = 60 where id = $1",
        UUID(made["id"]),
    )
    assert (await client.post(f"{path}/{end}")).json()["failing_since"] is not None
    assert (await client.post(f"{path}/{begin}")).json()["failing_since"] is None
    row = await stored(database, made["id"])
    assert (row["probe_at"], row["probe_delay"]) == (None, None)


async def test_pause_and_resume_are_harmless_twice(client: httpx.AsyncClient, database: Database) -> None:
    made = await make(client)
    path = f"/v1/hooks/{made['id']}"
    for verb, status in (("pause", "paused"), ("resume", "active")):
        first = await client.post(f"{path}/{verb}")
        second = await client.post(f"{path}/{verb}")
        assert (first.json()["status"], second.status_code) == (status, 200)
        assert first.json()["status_at"] == second.json()["status_at"]
    assert (await stored(database, made["id"]))["changed_at"] > datetime.fromisoformat(made["changed_at"])


async def test_the_version_to_judge_with_follows_those_that_need_judging(
    client: httpx.AsyncClient, tenant: Tenant, database: Database
) -> None:
    async def raised() -> bool:
        nonlocal version
        before, version = version, (await version_and_count(database, tenant))[0]
        return version > before

    version = 0
    plain = await make(client)
    path = f"/v1/subscriptions/{plain['id']}"
    await client.patch(path, json={"event_types": ["a"]})
    await client.post(f"{path}/pause")
    assert not await raised()
    await client.patch(path, json={"filter": "payload.a == 1"})
    assert await raised()
    for verb in ("resume", "disable", "enable"):
        await client.post(f"{path}/{verb}")
        assert await raised(), verb
    await client.patch(path, json={"event_types": ["b"]})
    assert await raised()
    await client.patch(path, json={"filter": None})
    assert await raised()
    await client.delete(path)
    assert not await raised()
    ordered = await make(client, ordering="key", ordering_key="/a")
    assert await raised()
    await client.delete(f"/v1/subscriptions/{ordered['id']}")
    assert await raised()
    await make(client, ordering="key")
    assert not await raised()


async def test_disable_matches_nothing_and_cancels_what_is_queued(
    client: httpx.AsyncClient, tenant: Tenant, database: Database
) -> None:
    made = await make(client)
    path = f"/v1/subscriptions/{made['id']}"
    queued = await send(client, "a")
    disabled = (await client.post(f"{path}/disable", json={"reason": "moving house"})).json()
    assert (disabled["status"], disabled["status_reason"]) == ("disabled", "moving house")
    again = (await client.post(f"{path}/disable")).json()
    assert again["status_reason"] == "moving house"
    await send(client, "b")

    async def cancelled() -> Any:
        return await database.fetch(
            "select event_id, status, reason from settled_deliveries"
            " where org_id = $1 and subscription_id = $2",
            tenant.id,
            UUID(made["id"]),
        )

    rows = await eventually(cancelled, 10)
    assert [tuple(row) for row in rows] == [
        (UUID(queued), "cancelled", "subscription disabled: moving house")
    ]
    for verb in ("pause", "resume"):
        assert (await client.post(f"{path}/{verb}")).status_code == 409
    assert (await client.post(f"{path}/test")).status_code == 409


async def test_enable_starts_from_now_and_offers_what_was_missed(client: httpx.AsyncClient) -> None:
    made = await make(client)
    path = f"/v1/subscriptions/{made['id']}"
    disabled = (await client.post(f"{path}/disable")).json()
    enabled = (await client.post(f"{path}/enable")).json()
    assert (enabled["status"], enabled["status_reason"]) == ("active", None)
    assert enabled["missed_since"] == disabled["status_at"]
    assert enabled["missed_until"] == enabled["status_at"] > disabled["status_at"]
    assert made["id"] in enabled["hint"]
    again = (await client.post(f"{path}/enable")).json()
    assert (again["missed_since"], again["hint"]) == (None, None)


async def test_an_expired_one_is_disabled(client: httpx.AsyncClient, database: Database) -> None:
    made = await make(client, expires_at=(datetime.now(UTC) + timedelta(seconds=1)).isoformat())
    path = f"/v1/subscriptions/{made['id']}"

    async def disabled() -> Any:
        shown = (await client.get(path)).json()
        return shown if shown["status"] == "disabled" else None

    assert (await eventually(disabled, 15))["status_reason"] == "expired"
    assert (await client.post(f"{path}/enable")).status_code == 409
    later = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    assert (await client.patch(path, json={"expires_at": later})).status_code == 200
    assert (await client.post(f"{path}/enable")).json()["status"] == "active"


# ---- ending --------------------------------------------------------------------------------------


async def test_delete_is_204_again_and_again_and_for_nobody_else(
    node: Node, client: httpx.AsyncClient, tenants: Tenants, tenant: Tenant, database: Database
) -> None:
    made = await make(client)
    event = await send(client, "a")
    path = f"/v1/hooks/{made['id']}"
    async with node.client(await tenants.make()) as others:
        assert (await others.delete(path)).status_code == 404
        assert (await client.get(path)).status_code == 200
        deleted = await client.delete(path)
        assert (deleted.status_code, deleted.content) == (204, b"")
        assert (await client.delete(path)).status_code == 204
        assert (await others.delete(path)).status_code == 404
    assert (await client.get(path)).status_code == 404
    assert (await client.post(f"{path}/enable")).status_code == 404
    assert (await version_and_count(database, tenant))[1] == 1

    async def settled() -> Any:
        return await database.row(
            "select status, reason from settled_deliveries where org_id = $1 and subscription_id = $2"
            " and event_id = $3",
            tenant.id,
            UUID(made["id"]),
            UUID(event),
        )

    assert tuple(await eventually(settled, 10)) == ("cancelled", "subscription deleted")


async def test_delete_ends_the_jobs_that_fill_it(
    client: httpx.AsyncClient, tenant: Tenant, database: Database
) -> None:
    made = await make(client, start="2024-01-01T00:00:00Z")
    await client.delete(f"/v1/subscriptions/{made['id']}")
    job = await database.row("select status, reason from replays where org_id = $1", tenant.id)
    assert job is not None
    assert tuple(job) == ("cancelled", "subscription deleted")


# ---- secrets -------------------------------------------------------------------------------------


async def test_rotation_keeps_the_old_secret_for_a_while(
    client: httpx.AsyncClient, tenant: Tenant, database: Database
) -> None:
    made = await make(client)
    path = f"/v1/subscriptions/{made['id']}"
    rotated = (await client.post(f"{path}/rotate-secret")).json()
    assert rotated["secret"] != made["secret"]
    ends_at = datetime.fromisoformat(rotated["old_secret_ends_at"])
    assert abs(ends_at - datetime.now(UTC) - timedelta(days=1)) < timedelta(minutes=1)
    row = await stored(database, made["id"])
    kept = open_secrets(RING, tenant.id, row["id"], row["secrets"])
    assert [(each.secret, each.ends_at is None) for each in kept] == [
        (rotated["secret"], True),
        (made["secret"], False),
    ]
    assert row["changed_at"] > datetime.fromisoformat(made["changed_at"])


async def test_rotation_without_overlap_and_to_another_scheme(
    client: httpx.AsyncClient, tenant: Tenant, database: Database
) -> None:
    made = await make(client)
    path = f"/v1/subscriptions/{made['id']}"
    rotated = (
        await client.post(f"{path}/rotate-secret", json={"overlap_seconds": 0, "signature": "v1a"})
    ).json()
    assert rotated["secret"].startswith("whsk_")
    assert (rotated["signature"], rotated["old_secret_ends_at"]) == ("v1a", None)
    row = await stored(database, made["id"])
    assert len(open_secrets(RING, tenant.id, row["id"], row["secrets"])) == 1
    same = await client.post(f"{path}/rotate-secret", json={"secret": rotated["secret"]})
    assert same.status_code == 422


async def test_a_node_with_a_database_url_and_no_ring_does_not_start(make_node: Callable[..., Any]) -> None:
    with pytest.raises(Exception, match="TRIGGERS_DATABASE_URL needs TRIGGERS_SECRET_KEYS"):
        await make_node(secret_keys=None)


async def test_resealing_brings_everything_under_the_first_key(
    client: httpx.AsyncClient, tenant: Tenant, database: Database
) -> None:
    made = await make(client, headers={"X-A": "1"})
    await make(client)
    gone = await make(client)
    await client.delete(f"/v1/subscriptions/{gone['id']}")
    ring = KeyRing.from_setting(f"{base64.b64encode(b'2' * 32).decode()},{SECRET_KEYS}")
    first, after = await sealed_secrets.reseal(database, ring, (UUID(int=0), UUID(int=0)), 1)
    assert after is not None
    rest, end = await sealed_secrets.reseal(database, ring, after, 10)
    assert end is None
    assert first + rest in (2, 3)  # what is deleted may still be there
    row = await stored(database, made["id"])
    alone = KeyRing.from_setting(base64.b64encode(b"2" * 32).decode())
    assert open_headers(alone, tenant.id, row["id"], row["headers"]) == {"X-A": "1"}
    assert open_secrets(alone, tenant.id, row["id"], row["secrets"])[0].secret == made["secret"]
    assert await sealed_secrets.reseal(database, ring, (UUID(int=0), UUID(int=0)), 10) == (0, None)


async def test_resealing_renews_the_format(
    client: httpx.AsyncClient, tenant: Tenant, database: Database
) -> None:
    """Values of format 1, which had no purpose, are read, and written in format 2 with the same key."""
    made = await make(client, headers={"X-A": "1"})
    key = base64.b64decode(SECRET_KEYS)
    for column, text in (
        ("secrets", msgspec.json.encode([{"secret": made["secret"]}])),
        ("headers", b'{"X-A":"2"}'),
    ):
        header, nonce = b"\x01" + hashlib.sha256(key).digest()[:4], bytes(12)
        bound_to = header + tenant.id.bytes + UUID(made["id"]).bytes
        sealed = header + nonce + AESGCM(key).encrypt(nonce, text, bound_to)
        await database.fetch(
            f"update subscriptions set {column} = $1 where id = $2", sealed, UUID(made["id"])
        )
    shown = (await client.get(f"/v1/subscriptions/{made['id']}")).json()
    assert shown["header_names"] == ["X-A"]
    everything = UUID(int=0), UUID(int=0)
    assert await sealed_secrets.reseal(database, RING, everything, 10) == (1, None)
    row = await stored(database, made["id"])
    assert (row["secrets"][0], row["headers"][0]) == (2, 2)
    assert open_headers(RING, tenant.id, row["id"], row["headers"]) == {"X-A": "2"}
    assert open_secrets(RING, tenant.id, row["id"], row["secrets"])[0].secret == made["secret"]
    assert await sealed_secrets.reseal(database, RING, everything, 10) == (0, None)
