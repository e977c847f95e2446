"""Heads that the parser accepts, but that a proxy in front could read as another request."""

from __future__ import annotations

import json
from typing import Any

import pytest

from serving import GET, SIZED, answering, asked, give_back

BODY = b"2\r\n{}\r\n0\r\n\r\n"


def head(*lines: bytes, first: bytes = b"POST / HTTP/1.1") -> bytes:
    return b"\r\n".join((first, *lines)) + b"\r\n\r\n"


def statuses(answers: bytes) -> list[int]:
    return [int(line.split()[1]) for line in answers.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]


def problem(answers: bytes) -> Any:
    return json.loads(answers.rpartition(b"\r\n\r\n")[2])


REFUSED = {
    "no host": head(b"content-length: 0"),
    "no host, and asks to go on": head(b"connection: keep-alive", b"content-length: 0"),
    "no host, and asks to close": head(b"connection: close", b"content-length: 0"),
    "two hosts": head(b"host: x", b"Host: x", b"content-length: 0"),
    "two hosts apart": head(b"host: a", b"x: y", b"content-length: 0", b"HOST: b"),
    "two hosts of an old caller": head(b"host: x", b"host: x", first=b"GET / HTTP/1.0"),
    "a tunnel without a host": head(first=b"CONNECT example.com:443 HTTP/1.1"),
    "an offer without a host": head(b"connection: upgrade", b"upgrade: h2c"),
    "gzip, chunked": head(b"host: x", b"transfer-encoding: gzip, chunked") + BODY,
    "gzip and chunked": head(b"host: x", b"transfer-encoding: gzip", b"transfer-encoding: chunked") + BODY,
    "chunked twice": head(b"host: x", b"transfer-encoding: chunked", b"transfer-encoding: chunked") + BODY,
    "chunked, chunked": head(b"host: x", b"transfer-encoding: chunked, chunked") + BODY,
    "an empty coding first": head(b"host: x", b"transfer-encoding: ,chunked") + BODY,
    "a vertical tab": head(b"host: x", b"transfer-encoding: \x0bchunked") + BODY,
    "quoted": head(b"host: x", b'transfer-encoding: "chunked"') + BODY,
    "with a parameter": head(b"host: x", b"transfer-encoding: chunked;q=1") + BODY,
    "identity": head(b"host: x", b"transfer-encoding: identity") + BODY,
    "gzip": head(b"host: x", b"transfer-encoding: gzip") + BODY,
    "xchunked": head(b"host: x", b"transfer-encoding: xchunked") + BODY,
    "no coding": head(b"host: x", b"transfer-encoding:") + BODY,
    "a length too": head(b"host: x", b"transfer-encoding: chunked", b"content-length: 2") + BODY,
    "gzip, chunked, and an offer": head(
        b"host: x", b"connection: upgrade", b"upgrade: h2c", b"transfer-encoding: gzip, chunked"
    )
    + BODY,
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("before", [0, 2])
async def test_a_head_that_can_be_read_in_two_ways_is_refused(name: str, before: int) -> None:
    answers = await asked(give_back, GET * before + REFUSED[name] + GET)
    assert statuses(answers) == [200] * before + [400]
    assert b"connection: close" in answers
    assert problem(answers)["type"] == "/problems/malformed-request"


@pytest.mark.parametrize(("number", "lines"), [(0, []), (2, [b"host: x", b"host: y"])])
async def test_a_refused_head_is_told_how_many_hosts_it_has(number: int, lines: list[bytes]) -> None:
    answers = await asked(give_back, head(*lines))
    assert (
        problem(answers)["detail"] == f"The request must have exactly one Host header, and it has {number}."
    )


TAKEN = {
    "an old caller without a host": head(first=b"GET / HTTP/1.0"),
    "an empty host": head(b"host:", b"content-length: 0"),
    "chunked": head(b"host: x", b"transfer-encoding: chunked") + BODY,
    "Chunked": head(b"host: x", b"Transfer-Encoding: Chunked ") + BODY,
    "headers twice": head(b"x: y", b"host: x", b"x: z", b"content-length: 0"),
    "TE": head(b"host: x", b"te: gzip, trailers;q=0.5", b"connection: TE", b"content-length: 0"),
    "TE that names no coding": head(b"host: x", b"TE: ,;chunked,identity", b"content-length: 0"),
    "TE before a chunked body": head(b"host: x", b"te: gzip", b"transfer-encoding: chunked") + BODY,
    "a URL without a path": head(b"host: x", first=b"GET http://example.com HTTP/1.1"),
    "a URL without a path and with a query": head(b"host: x", first=b"GET http://example.com?a HTTP/1.1"),
}


@pytest.mark.parametrize("name", TAKEN)
async def test_a_head_that_can_be_read_in_one_way_is_taken(name: str) -> None:
    answers = await asked(answering(SIZED, b"12345"), TAKEN[name] + GET)
    assert statuses(answers) == [200] if "old caller" in name else [200, 200]


@pytest.mark.parametrize("before", [0, 2])
@pytest.mark.parametrize(
    "text",
    [
        head(b"host: x", first=b"GET / HTTP/2.0"),
        head(b"host: x", b"connection: keep-alive", first=b"GET / HTTP/2.0"),
        head(first=b"GET / HTTP/2.0"),
        head(b"host: x", first=b"GET / HTTP/2"),
        head(b"host: x", first=b"GET / HTTP/3.0"),
        head(b"host: x", first=b"GET / HTTP/0.9"),
        b"GET /\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
    ids=["2.0", "2.0 kept alive", "2.0 without a host", "2", "3.0", "0.9", "0.9, bare", "HTTP/2 itself"],
)
async def test_another_version_is_not_supported(text: bytes, before: int) -> None:
    answers = await asked(give_back, GET * before + text)
    assert statuses(answers) == [200] * before + [505]
    assert b"connection: close" in answers
    assert problem(answers)["type"] == "/problems/http-version-not-supported"
