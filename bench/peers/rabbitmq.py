"""A RabbitMQ of the benchmark's own."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import psutil

from bench.peers import peer
from bench.processes import free_port, program

SERVER = "/usr/lib/rabbitmq/bin"


class Broker(NamedTuple):
    """A running node, and the settings with which its tools find it."""

    url: str
    process: psutil.Process
    settings: Mapping[str, str]

    def durability(self, place: peer.Place) -> dict[str, str]:
        """Which queues are durable, by type. A quorum queue writes each message before it confirms it."""
        tool = shutil.which("rabbitmqctl", path=SERVER) or program("rabbitmqctl", "rabbitmq-server")
        asked = ["--quiet", "--no-table-headers", "list_queues", "durable", "type", "name"]
        listed = peer.command(place, [tool, *asked], self.settings)
        queues = [line.split() for line in listed.splitlines() if line.strip()]
        durable = Counter(kind for lasts, kind, _ in queues if lasts == "true")
        passing = [name for lasts, _, name in queues if lasts != "true"]
        return {
            "rabbitmq": peer.command(place, [tool, "version"], self.settings).strip(),
            "durable queues": ", ".join(f"{number} {kind}" for kind, number in durable.items()) or "none",
            "other queues": " ".join(passing) or "none",
        }


@contextmanager
def rabbitmq(place: peer.Place) -> Iterator[Broker]:
    """One node with its files in the home.

    It gets an epmd of its own, because the one that Erlang starts by itself outlives the node.
    """
    names, port, distribution = free_port(), free_port(), free_port()
    home = place.home / "rabbitmq"
    home.mkdir()
    (home / "plugins").write_text("[].")
    settings = {
        "HOME": str(home),
        "ERL_EPMD_PORT": str(names),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODENAME": f"bench{port}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(distribution),
        "RABBITMQ_MNESIA_BASE": str(home / "data"),
        "RABBITMQ_LOG_BASE": str(home / "log"),
        "RABBITMQ_CONFIG_FILE": str(home / "none"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "plugins"),
    }
    # Debian's program on PATH changes the user; the one behind it runs as whoever starts it.
    command = shutil.which("rabbitmq-server", path=SERVER) or program("rabbitmq-server", "rabbitmq-server")
    epmd = [program("epmd", "erlang-base"), "-port", str(names), "-address", "127.0.0.1"]
    with (
        peer.process(place, epmd, settings, names),
        peer.process(place, [command], settings, port) as server,
    ):
        yield Broker(f"amqp://guest:guest@127.0.0.1:{port}", server, settings)
