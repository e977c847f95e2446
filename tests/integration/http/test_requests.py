"""What any route does with what it is sent: times and cursors at their edges, bodies, content types."""

from __future__ import annotations

import gzip

import httpx
import pytest
import structlog

from triggers.events.routes import _BEYOND
from triggers.http.request import MAX_BODY_BYTES
from triggers.http.views import make_cursor


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


@pytest.mark.parametrize(
    ("path", "parameter", "value"),
    [
        ("/v1/events", "type", "x" * 256),
        ("/v1/samples", "type", "x" * 256),
        ("/v1/samples", "format", "strange"),
        ("/v1/deliveries", "subscription_id", "x" * 37),
        ("/v1/events", "limit", "0"),
        ("/v1/events", "order", "up"),
        ("/v1/events", "since", "yesterday"),
    ],
)
async def test_a_parameter_is_called_as_the_caller_calls_it(
    client: httpx.AsyncClient, path: str, parameter: str, value: str
) -> None:
    answer = await client.get(path, params={parameter: value})
    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == [parameter]


# ---- bodies --------------------------------------------------------------------------------------

BODIES = (
    ("POST", "/v1/ack", b'{"event_ids":[]}'),
    ("POST", "/v1/inboxes", b'{"key":"k"}'),
    ("POST", "/v1/inboxes/default/messages/lease", b'{"lease_limit":1}'),
    ("POST", "/v1/keys", b'{"scopes":["inbox"]}'),
)
DEEP = b"[" * 1_500 + b"]" * 1_500


@pytest.mark.parametrize(("method", "path", "good"), BODIES, ids=lambda each: str(each)[:40])
async def test_every_body_is_i_json(client: httpx.AsyncClient, method: str, path: str, good: bytes) -> None:
    name = good.split(b'"')[1]
    for body in (
        b"{",
        good + b"x",
        DEEP,
        b'{"%b":%b}' % (name, DEEP),
        b"[" * 100_000,
        b'{"%b":"\xff"}' % name,
        b'{"%b":"\\ud800"}' % name,
        b'{"%b":NaN}' % name,
        good.replace(b"}", b',"%b":1}' % name),
        b"\xef\xbb\xbf" + good,
        good.decode().encode("utf-16"),
    ):
        answer = await client.request(method, path, content=body)
        assert answer.status_code == 400, (body[:40], answer.text)
        assert answer.json()["type"] == "/problems/malformed-body"
        assert answer.json()["detail"].endswith(".")
    answer = await client.request(method, path, content=good)
    assert answer.status_code in (200, 201), answer.text


async def test_a_value_has_the_type_that_is_described(client: httpx.AsyncClient) -> None:
    lease = "/v1/inboxes/default/messages/lease"
    for path, body, pointer in (
        (lease, b'{"lease_seconds":"5"}', "/lease_seconds"),
        (lease, b'{"lease_seconds":5.5}', "/lease_seconds"),
        (lease, b'{"lease_seconds":true}', "/lease_seconds"),
        (lease, b'{"wait_seconds":"0"}', "/wait_seconds"),
        (lease, b'{"wait_seconds":1e400}', None),
        (lease, b'{"lease_limit":%b}' % (b"9" * 5_000), None),
        (lease, b'{"lease_id":"x"}', "/lease_id"),
        (lease, b'{"a/b":1}', "/a~1b"),
        (lease, b"[]", ""),
        (lease, b"1", ""),
        (lease, b"null", ""),
        ("/v1/inboxes/default/messages/redrive", b"null", ""),
        ("/v1/events", b"null", ""),
        ("/v1/keys", b'{"live":"true"}', "/live"),
        ("/v1/keys", b'{"live":1}', "/live"),
        ("/v1/keys", b'{"scopes":["inbox",1]}', "/scopes/1"),
        ("/v1/ack", b'{"event_ids":[1]}', "/event_ids/0"),
        ("/v1/ack", b"{}", "/event_ids"),
        ("/v1/ack", b"null", ""),
        ("/v1/ack", b"", ""),
    ):
        answer = await client.post(path, content=body)
        assert (answer.status_code, answer.json()["type"]) == (422, "/problems/invalid"), (
            body[:40],
            answer.text,
        )
        (error,) = answer.json()["errors"]
        assert pointer in (error["pointer"], None), (body, error)
    for body in (b"", b"{}"):
        assert (await client.post(lease, content=body)).status_code == 200, "a lease needs no body"


async def test_a_body_is_json_by_its_content_type(client: httpx.AsyncClient) -> None:
    ack = b'{"event_ids":[]}'
    for content_type, status in (
        (None, 200),
        ("application/json", 200),
        ("Application/JSON; charset=utf-8", 200),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("multipart/form-data; boundary=x", 415),
        ("application/msgpack", 415),
        ("application/jsonx", 415),
    ):
        headers = {} if content_type is None else {"content-type": content_type}
        answer = await client.post("/v1/ack", content=ack, headers=headers)
        assert answer.status_code == status, (content_type, answer.text)
    nothing = await client.post("/v1/inboxes/default/messages/lease", headers={"content-type": "text/plain"})
    assert nothing.status_code == 200, "what is not there has no wrong type"


async def test_every_body_may_be_gzip(client: httpx.AsyncClient) -> None:
    ack = b'{"event_ids":["x"]}'
    for body, coding, status in (
        (gzip.compress(ack), "gzip", 200),
        (gzip.compress(ack), "GZIP", 200),
        (ack, "identity", 200),
        (ack, "gzip", 415),
        (gzip.compress(ack)[:-1], "gzip", 415),
        (gzip.compress(ack), "br", 415),
        (gzip.compress(ack), "gzip, gzip", 415),
        (gzip.compress(ack), "identity", 400),
        (gzip.compress(b"{"), "gzip", 400),
        (gzip.compress(b" " * (MAX_BODY_BYTES + 1)), "gzip", 413),
    ):
        answer = await client.post("/v1/ack", content=body, headers={"content-encoding": coding})
        assert answer.status_code == status, (coding, answer.text)


async def test_a_body_has_a_limit(client: httpx.AsyncClient) -> None:
    frame = b'{"event_ids":["%b"]}'
    for more, status in ((0, 200), (1, 413)):
        body = frame % (b"x" * (MAX_BODY_BYTES - len(frame) + 2 + more))
        answer = await client.post("/v1/ack", content=body)
        assert answer.status_code == status
    assert answer.json()["limit"] == MAX_BODY_BYTES


@pytest.mark.parametrize(
    ("path", "start"), [("/v1/events", '{"type":"x","payload":1'), ("/v1/inboxes", '{"key":"k"')]
)
async def test_the_log_quotes_nothing_that_was_sent(client: httpx.AsyncClient, path: str, start: str) -> None:
    secret = "alice@example.com"
    for body in (f'{start},"a":{{"{secret}":1,"{secret}":2}}}}', f'{start},"{secret}":1}}'):
        with structlog.testing.capture_logs() as lines:
            answer = await client.post(path, content=body)
        assert answer.status_code in (400, 422)
        assert secret in answer.text
        (line,) = [line for line in lines if line["event"] == "request"]
        assert line["detail"]
        assert secret not in str(lines)


async def test_a_missing_body_is_said_without_a_pointer(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/ack")
    assert answer.json()["detail"] == "The body is missing."


async def test_a_name_that_is_not_ours_is_pointed_to_from_outside(client: httpx.AsyncClient) -> None:
    body = {"target_url": "https://receiver.example/", "headers": {"X-A": 5}}
    answer = await client.post("/v1/subscriptions", json=body)
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/headers"]


async def test_metrics_name_their_charset_once(client: httpx.AsyncClient) -> None:
    assert (await client.get("/metrics")).headers["content-type"].count("charset") == 1


async def test_a_parameter_that_is_not_known_is_refused(client: httpx.AsyncClient) -> None:
    for path in ("/v1/deliveries?status=dead&event_id=1", "/v1/inbox?type=a", "/v1/org?x"):
        answer = await client.get(path)
        assert answer.status_code == 422, path
        assert [error["detail"] for error in answer.json()["errors"]] == ["Unknown parameter."]
    for path in (
        "/v1/deliveries?status=dead",
        "/v1/events?type=a&order=asc",
        "/v1/samples?type=a&format=raw",
    ):
        assert (await client.get(path)).status_code == 200, path


@pytest.mark.parametrize("cursor", ["1.3111195303898858e+250", "x" * 21, "x" * 23, "x" * 21 + "."])
async def test_a_cursor_is_taken_only_as_it_was_given_out(client: httpx.AsyncClient, cursor: str) -> None:
    for path in ("/v1/subscriptions", "/v1/inboxes", "/v1/events"):
        refused = await client.get(path, params={"cursor": cursor})
        assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "cursor")
