"""The cookie of a session, and which requests come from our own pages."""

from __future__ import annotations

import pytest

from triggers.sessions.cookie import SessionCookie, from_our_origin

TOKEN = "t" * 43


@pytest.mark.parametrize(
    ("public_url", "root_path", "expected"),
    [
        (
            None,
            "",
            f"triggers_session={TOKEN}; Path=/console; Max-Age=43200; HttpOnly; SameSite=Lax",
        ),
        (
            "http://10.0.0.7:8080",
            "",
            f"triggers_session={TOKEN}; Path=/console; Max-Age=43200; HttpOnly; SameSite=Lax",
        ),
        (
            "HTTPS://example.com/hooks",
            "/hooks",
            f"__Secure-triggers_session={TOKEN}; Path=/hooks/console; Max-Age=43200; HttpOnly; SameSite=Lax;"
            " Secure",
        ),
    ],
)
def test_its_attributes_follow_from_the_public_url(
    public_url: str | None, root_path: str, expected: str
) -> None:
    cookie = SessionCookie.of(public_url, root_path)
    assert cookie.holding(TOKEN) == expected
    assert cookie.cleared() == expected.replace(TOKEN, "").replace("43200", "0")


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (b"", None),
        (b"a=b", None),
        (f"a=b; triggers_session={TOKEN};c=d".encode(), TOKEN),
        (f"triggers_session={TOKEN}; triggers_session={'u' * 43}".encode(), TOKEN),
        (f"xtriggers_session={TOKEN}".encode(), None),
        (b"triggers_session=", None),
        (b"triggers_session=" + b"t" * 100_000, None),
        (b"triggers_session=" + b"\xff" * 43, None),
    ],
)
def test_it_is_read_from_the_headers(header: bytes, expected: str | None) -> None:
    assert SessionCookie.of(None, "").read({b"cookie": header}) == expected


PUBLIC = "https://example.com/hooks"


@pytest.mark.parametrize(
    ("fields", "public_url", "expected"),
    [
        ({b"sec-fetch-site": b"same-origin"}, PUBLIC, True),
        ({b"sec-fetch-site": b"same-site", b"origin": b"https://example.com"}, PUBLIC, False),
        ({b"sec-fetch-site": b"cross-site", b"origin": b"https://example.com"}, PUBLIC, False),
        ({b"sec-fetch-site": b"none"}, PUBLIC, False),
        ({b"origin": b"https://example.com"}, PUBLIC, True),
        ({b"origin": b"https://EXAMPLE.com"}, PUBLIC, True),
        ({b"origin": b"http://example.com"}, PUBLIC, False),
        ({b"origin": b"https://example.com:8443"}, PUBLIC, False),
        ({b"origin": b"https://example.com.evil.test"}, PUBLIC, False),
        ({b"origin": b"null"}, PUBLIC, False),
        ({b"origin": b"https://[", b"host": b"["}, PUBLIC, False),
        ({b"origin": b"https://\xff"}, PUBLIC, False),
        ({}, PUBLIC, False),
        ({b"origin": b"http://10.0.0.7:8080", b"host": b"10.0.0.7:8080"}, None, True),
        ({b"origin": b"https://10.0.0.7:8080", b"host": b"10.0.0.7:8080"}, None, True),
        ({b"origin": b"http://evil.test", b"host": b"10.0.0.7:8080"}, None, False),
        ({b"origin": b"null", b"host": b""}, None, False),
        ({b"host": b"10.0.0.7:8080"}, None, False),
    ],
)
def test_a_form_comes_from_our_own_pages(
    fields: dict[bytes, bytes], public_url: str | None, expected: bool
) -> None:
    assert from_our_origin(fields, public_url) is expected
