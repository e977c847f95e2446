"""A head that is recognised is read as the parser would read it."""

from __future__ import annotations

from typing import Any

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from triggers.api.repeated_head import LONGEST, RepeatedHead

HEAD = b"POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nAuthorization: Bearer k\r\n\r\n"


class Parsed:
    """What the parser finds in one request that is there as a whole."""

    def __init__(self, data: bytes) -> None:
        self.url, self.body, self.headers, self.messages = b"", b"", [], 0
        parser = httptools.HttpRequestParser(self)
        parser.feed_data(data)
        self.method = parser.get_method()

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.messages += 1

    @property
    def scope(self) -> dict[str, Any]:
        return {"method": self.method, "url": self.url, "headers": self.headers}


def known(data: bytes = HEAD + b"{}") -> RepeatedHead:
    head = RepeatedHead.of(data, Parsed(data).scope)
    assert head is not None
    return head


names = st.sampled_from(
    ["Content-Length", "content-length", "Host", "X-A", "Transfer-Encoding", "Content-Type"]
)
spaces = st.sampled_from(["", " ", "  ", "\t"])
values = st.sampled_from(["", "2", "02", "13", "x", "chunked", "a: b", "content-length: 2"])
headers = st.lists(st.builds("{}:{}{}{}\r\n".format, names, spaces, values, spaces), max_size=4)
bodies = st.sampled_from(["", "{}", "[]", "\r\n", '{"a":"\r\n\r\n"}', "POST / HTTP/1.1\r\n\r\n", "x" * 300])
requests = st.builds(
    lambda path, headers, place, spaces, body: (
        f"POST /{path} HTTP/1.1\r\n{''.join(headers[:place])}Content-Length:{spaces}{len(body)}\r\n"
        f"{''.join(headers[place:])}\r\n{body}"
    ).encode(),
    st.sampled_from(["", "a", "b?c=d"]),
    headers,
    st.integers(0, 4),
    spaces,
    bodies,
)


@given(requests, st.data())
def test_whatever_is_recognised_is_what_the_parser_reads(first: bytes, data: st.DataObject) -> None:
    """The second one is the first with another body, or with any piece of it replaced by another."""
    try:
        parsed = Parsed(first)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        return
    if parsed.messages != 1 or (head := RepeatedHead.of(first, parsed.scope)) is None:
        return
    end = first.index(b"\r\n\r\n") + 4
    at = data.draw(st.integers(0, len(first)))
    piece = data.draw(st.sampled_from([b"", b"0", b"1", b"2", b"\r\n", b" ", b"x"]))
    body = data.draw(bodies).encode()
    second = data.draw(
        st.sampled_from(
            [
                first[:end] + body,
                head.before + str(len(body)).encode() + head.after + body,
                first[:at] + piece + first[at:],
                first[:at] + piece + first[at + len(piece) :],
                first + first,
            ]
        )
    )
    if (read := head.read(second)) is None:
        return
    again = Parsed(second)
    scope, body = read
    assert again.messages == 1
    assert body == again.body
    assert (scope["method"], scope["url"]) == (again.method, again.url)
    assert sorted(scope["headers"]) == sorted(again.headers)


def test_another_length_is_the_same_head() -> None:
    head = known()
    for body in (b"", b"{}", b'{"type":"a"}', b"x" * 100_000):
        read = head.read(HEAD.replace(b": 2", b": %d" % len(body)) + body)
        assert read is not None
        scope, rest = read
        assert rest == body
        assert scope["headers"] == [
            (b"host", b"x"),
            (b"authorization", b"Bearer k"),
            (b"content-length", b"%d" % len(body)),
        ]


def test_each_has_a_scope_of_its_own() -> None:
    """Whoever handles a request may write into its scope."""
    head = known()
    for _ in range(2):
        read = head.read(HEAD + b"{}")
        assert read is not None
        assert read[0]["state"] == {}
        assert len(read[0]["headers"]) == 3
        read[0]["state"]["caller"] = "a"
        read[0]["headers"].append((b"x", b"y"))
        read[0]["path"] = "/elsewhere"
        assert "path" not in head.scope


@pytest.mark.parametrize(
    "data",
    [
        HEAD,
        HEAD + b"{",
        HEAD + b"{} ",
        HEAD + b"{}" + HEAD + b"{}",
        HEAD.replace(b"Bearer k", b"Bearer l") + b"{}",
        HEAD.replace(b"Bearer k", b"Bearer kk") + b"{}",
        HEAD.replace(b": 2", b": +2") + b"{}",
        HEAD.replace(b": 2", b": 2 ") + b"{}",
        HEAD.replace(b": 2", b": ") + b"",
        HEAD.replace(b": 2", b": 0000000002") + b"{}",
        HEAD.replace(b"Host: x", b"Host: y") + b"{}",
        HEAD[:-2] + b"Content-Length: 2\r\n\r\n{}",
        b"",
    ],
)
def test_what_is_not_the_same_in_one_piece_is_parsed(data: bytes) -> None:
    assert known().read(data) is None


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        HEAD + b"{}" + HEAD + b"{}",
        HEAD[:-2] + b"X: " + b"x" * LONGEST + b"\r\n\r\n{}",
    ],
    ids=["no length", "chunked", "two", "long"],
)
def test_what_is_not_remembered(data: bytes) -> None:
    assert RepeatedHead.of(data, Parsed(data).scope) is None
