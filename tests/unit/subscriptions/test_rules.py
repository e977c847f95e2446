"""What is a valid subscription, field by field."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec
import pytest

from triggers.errors import Invalid
from triggers.outbound.addresses import OutboundPolicy
from triggers.secrets.key_ring import KeyRing, SealBroken
from triggers.secrets.signing_secrets import generate_secret
from triggers.subscriptions.rules import (
    MAX_SECRETS,
    PushSettings,
    Retry,
    StoredSecret,
    check_headers,
    check_ordering,
    check_pointer,
    checked,
    lane_group,
    living,
    new_secret,
    open_headers,
    open_secrets,
    rotated,
    seal_headers,
    seal_secrets,
)

NOW = datetime(2026, 5, 1, tzinfo=UTC)
URL = "https://receiver.example/hook"
STRICT = OutboundPolicy()
ORG, SUBSCRIPTION = UUID(int=1), UUID(int=2)


def settings(**fields: object) -> PushSettings:
    return PushSettings(**{"target_url": URL, **fields})  # type: ignore[arg-type]


def pointer_of(error: pytest.ExceptionInfo[Invalid]) -> str:
    pointer: str = error.value.facts["errors"][0]["pointer"]
    return pointer


def test_what_is_valid_passes_with_repeated_types_once() -> None:
    found = checked(settings(event_types=["a", "b.*", "a"], expires_at=NOW + timedelta(1)), STRICT, NOW)
    assert found.event_types == ["a", "b.*"]


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"target_url": "http://receiver.example/"}, "/target_url"),
        ({"target_url": "https://[::1]/"}, "/target_url"),
        ({"target_url": "https://localhost/"}, "/target_url"),
        ({"name": "a\nb"}, "/name"),
        ({"event_types": ["*.created"]}, "/event_types/0"),
        ({"filter": "payload +"}, "/filter"),
        ({"headers": {"Host": "x"}}, "/headers/Host"),
        ({"ordering": "key", "ordering_key": "a"}, "/ordering_key"),
        ({"ordering_key": "/a"}, "/ordering_key"),
        ({"expires_at": NOW}, "/expires_at"),
    ],
)
def test_what_is_not_names_its_field(fields: dict[str, object], pointer: str) -> None:
    with pytest.raises(Invalid) as error:
        checked(settings(**fields), STRICT, NOW)
    assert pointer_of(error) == pointer


def test_only_what_changes_is_judged() -> None:
    old = settings(expires_at=NOW - timedelta(1), target_url="http://old.example/", name="x")
    assert checked(old, STRICT, NOW, changed={"name"}) == old
    with pytest.raises(Invalid):
        checked(old, STRICT, NOW, changed={"name", "expires_at"})


def test_without_order_the_key_goes() -> None:
    found = checked(settings(ordering_key="/a"), STRICT, NOW, changed={"ordering"})
    assert found.ordering_key is None
    assert not found.needs_judging


def test_order_is_not_brought_in_later() -> None:
    with pytest.raises(Invalid):
        check_ordering("none", "key")
    check_ordering("key", "none")
    check_ordering("key", "key")


@pytest.mark.parametrize("pointer", ["/a", "/a/0/~0~1", "/", "/ü b", "//"])
def test_pointers(pointer: str) -> None:
    assert check_pointer(pointer) == pointer


@pytest.mark.parametrize("pointer", ["", "a", "/~", "/~2", "/a\n", "/" + "a" * 255])
def test_no_pointers(pointer: str) -> None:
    with pytest.raises(Invalid):
        check_pointer(pointer)


def test_headers_that_may_be_sent() -> None:
    headers = {"Authorization": "Bearer a.b=", "X-Empty": "", "X-Space": "a b\tc", "Cookie": "a=b"}
    assert check_headers(headers) == headers


@pytest.mark.parametrize(
    "headers",
    [
        *[{name: "x"} for name in ("Host", "content-TYPE", "Content-Length", "Transfer-Encoding", "TE")],
        *[{name: "x"} for name in ("Connection", "Upgrade", "Proxy-Authorization", "webhook-id", "ce-type")],
        *[{name: "x"} for name in ("traceparent", "User-Agent", "Accept-Encoding", "Expect", "Keep-Alive")],
        *[{name: "x"} for name in ("", "a b", "a:", "é", "a\r\nb", "x" * 101)],
        *[{"X-A": value} for value in ("a\nb", "a\rb", "a\0", " a", "a ", "é", "x" * 4097, "\x7f")],
        {"X-A": "1", "x-a": "2"},
        {f"X-{n}": "1" for n in range(33)},
        {f"X-{n}": "1" * 4096 for n in range(5)},
    ],
)
def test_headers_that_may_not(headers: dict[str, str]) -> None:
    with pytest.raises(Invalid) as error:
        check_headers(headers)
    assert pointer_of(error).startswith("/headers")


@pytest.mark.parametrize(
    ("retry", "good"),
    [
        ({}, True),
        ({"delays": []}, True),
        ({"delays": [0, 0.5, 604_800]}, True),
        ({"delays": [1] * 50, "deadline": 60}, True),
        ({"delays": [1] * 51}, False),
        ({"delays": [-0.1]}, False),
        ({"delays": [604_801]}, False),
        ({"deadline": 0}, False),
        ({"delay": []}, False),
    ],
)
def test_schedules(retry: dict[str, object], good: bool) -> None:
    if good:
        msgspec.convert(retry, Retry)
    else:
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(retry, Retry)


def test_lane_groups_are_even() -> None:
    groups = [lane_group(UUID(int=n)) for n in range(256)]
    assert sorted(set(groups)) == list(range(64))
    assert {groups.count(group) for group in groups} == {4}


# ---- secrets -------------------------------------------------------------------------------------


def test_a_given_secret_is_kept_and_a_wrong_one_never_shown() -> None:
    given = generate_secret("v1a")
    assert new_secret(given, "v1a") == given
    assert new_secret(None, "v1").startswith("whsec_")
    for bad, scheme in ((given, "v1"), (generate_secret("v1"), "v1a"), ("whsec_c2hvcnQ=", "v1")):
        with pytest.raises(Invalid) as error:
            new_secret(bad, scheme)  # type: ignore[arg-type]
        assert pointer_of(error) == "/secret"
        assert bad not in str(error.value)


def test_rotation_ends_the_old_after_the_overlap() -> None:
    day = timedelta(days=1)
    first = [StoredSecret("a")]
    second = rotated(first, "b", day, NOW)
    assert second == [StoredSecret("b"), StoredSecret("a", NOW + day)]
    # A longer overlap later does not lengthen the life of what is ending already.
    third = rotated(second, "c", 2 * day, NOW + day / 2)
    assert third == [StoredSecret("c"), StoredSecret("b", NOW + 2.5 * day), StoredSecret("a", NOW + day)]
    assert living(third, NOW + 2 * day) == third[:2]
    assert rotated(third, "d", timedelta(0), NOW + day) == [StoredSecret("d")]


def test_an_ending_secret_may_become_the_current_one_again() -> None:
    day = timedelta(days=1)
    found = rotated(rotated([StoredSecret("a")], "b", day, NOW), "a", day, NOW)
    assert found == [StoredSecret("a"), StoredSecret("b", NOW + day)]


def test_rotation_has_bounds() -> None:
    secrets = [StoredSecret("0")]
    with pytest.raises(Invalid):
        rotated(secrets, "0", timedelta(1), NOW)
    for n in range(1, MAX_SECRETS):
        secrets = rotated(secrets, str(n), timedelta(1), NOW)
    with pytest.raises(Invalid):
        rotated(secrets, "x", timedelta(1), NOW)


def test_sealed_values_open_in_their_own_row_alone() -> None:
    ring = KeyRing([bytes(32)])
    secrets = [StoredSecret("b"), StoredSecret("a", NOW)]
    sealed = seal_secrets(ring, ORG, SUBSCRIPTION, secrets)
    assert open_secrets(ring, ORG, SUBSCRIPTION, sealed) == secrets
    with pytest.raises(SealBroken):
        open_secrets(ring, ORG, UUID(int=3), sealed)
    headers = {"X-A": "1", "Authorization": "ü"}
    assert open_headers(ring, ORG, SUBSCRIPTION, seal_headers(ring, ORG, SUBSCRIPTION, headers)) == headers
    assert seal_headers(ring, ORG, SUBSCRIPTION, {}) is None
    assert open_headers(ring, ORG, SUBSCRIPTION, None) == {}


def test_secrets_are_in_no_repr() -> None:
    assert "whsec" not in repr(StoredSecret("whsec_x"))
