"""Sending to nginx, to Node's http, and to Python's http.server."""

from __future__ import annotations

import ipaddress
import shutil
from collections.abc import AsyncIterator, Iterator
from uuid import UUID

import pytest

from triggers.outbound.addresses import OutboundPolicy
from triggers.outbound.client import Outbound
from triggers.outbound.result import Answered, Failed, Reason, Result

from .real_receivers import SERVERS, running

POLICY = OutboundPolicy(allow=(ipaddress.ip_network("127.0.0.0/8"),), allow_http=True)


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "node" and shutil.which("node") is None:
        pytest.skip("node is not installed")
    with running(request.param) as url:
        yield url


@pytest.fixture
async def outbound() -> AsyncIterator[Outbound]:
    sender = Outbound(POLICY)
    yield sender
    await sender.close()


async def post(outbound: Outbound, url: str, *, fresh: bool = False) -> Result:
    return await outbound.send(
        url, [("content-type", "application/json")], b"{}", org=UUID(int=1), fresh=fresh
    )


def kept(outbound: Outbound) -> int:
    return len(outbound._pool)


async def test_a_connection_is_kept_and_used_again(server: str, outbound: Outbound) -> None:
    for _ in range(3):
        result = await post(outbound, server + "/")
        assert isinstance(result, Answered), result
        assert (result.status, result.text, result.cut) == (200, "ok", None)
        assert kept(outbound) == 1
    await post(outbound, server + "/", fresh=True)
    assert kept(outbound) == 2


async def test_a_header_over_two_lines_does_not_hide_the_status(server: str, outbound: Outbound) -> None:
    await post(outbound, server + "/")
    for fresh in (False, True):
        result = await post(outbound, server + "/broken", fresh=fresh)
        assert isinstance(result, Answered), result
        assert (result.status, result.cut) == (200, Reason.MALFORMED)
    assert kept(outbound) == 0, "the connection is not used again"


async def test_a_close_is_the_endpoints_fault_only_on_a_new_connection(
    server: str, outbound: Outbound
) -> None:
    await post(outbound, server + "/")
    for fresh in (False, True):
        result = await post(outbound, server + "/closed", fresh=fresh)
        assert isinstance(result, Failed), result
        assert (result.reason, result.status, result.stale_connection) == (Reason.CLOSED, None, not fresh)
    assert kept(outbound) == 0
