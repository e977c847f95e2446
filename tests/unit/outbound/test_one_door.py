"""Connections to strangers are opened in one place of the source."""

from __future__ import annotations

import re
from pathlib import Path

SOURCE = Path(__file__).parents[3] / "src/triggers"
ANY = re.compile(r"\b(sock_connect|create_connection|open_connection|start_tls)\(")
"""What opens a connection over TCP, or goes on with one, in asyncio and in `socket`."""
ALLOWED = {
    # The measured service is the caller's own; this code is not part of the service.
    "bench_client/connection.py": {"create_connection"},
    "outbound/dial.py": {"sock_connect"},
    # Both go on with a socket that `dial` has connected.
    "outbound/connector.py": {"create_connection", "start_tls"},
    "outbound/proxy.py": {"create_connection"},
}


def test_only_dial_connects_a_socket() -> None:
    found: dict[str, set[str]] = {}
    for path in SOURCE.rglob("*.py"):
        if calls := set(ANY.findall(path.read_text())):
            found[str(path.relative_to(SOURCE))] = calls
    assert found == ALLOWED


def test_the_others_go_on_with_a_socket_that_is_connected() -> None:
    for name in ("connector", "proxy"):
        text = (SOURCE / f"outbound/{name}.py").read_text()
        (call,) = re.findall(r"create_connection\((?:[^()]|\([^()]*\))*\)", text)
        assert "sock=sock" in call
        assert not re.search(r"\b(host|port)=", call)
