"""The benchmarks that compare this service with others run to their end. No time is judged."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import asyncpg
import pytest
from bench import story
from bench.baselines import environment
from bench.baselines.stack import redis_server
from bench.baselines.steps import KEY, PREFIX_LENGTH, STEPS
from bench.peers import comparison, peer
from bench.peers.convoy import Convoy
from bench.peers.hook0 import Hook0
from bench.peers.outpost import Outpost
from bench.peers.svix import REDIS, Svix
from bench.processes import ROOT, BenchError

ROWS = story.Plan((0, len(STEPS)), (1,), 300, quick=True)


@pytest.mark.timeout(300)
def test_the_story_measures_both_stacks_and_this_service(tmp_path: Path) -> None:
    """Before, after, and ours; with bcrypt, the short run may end before many requests are answered."""
    try:
        environment.make()
    except BenchError as error:
        pytest.skip(str(error))
    found = story.run(quick=True, plan=ROWS, results=tmp_path)

    assert [row[""] for row in found.rows] == ["before", f"6. {STEPS[5].title} (after)", "this service"]
    assert all(row["one at a time P50 ms"] > 0 for row in found.rows)
    loads = ("POST P95 ms", "inbox P95 ms", "ack P95 ms", "mixed P95 ms", "mixed req/s")
    for row in found.rows[1:]:
        assert all(row[name] > 0 for name in loads), row
    assert sum("synchronous_commit on" in note for note in found.notes) == 2

    page = (tmp_path / "story.md").read_text()
    assert page == found.page
    assert "2,549 → 96 ms" in page
    assert page.count("\n| this service | 1 |") == 1

    picture = ET.parse(tmp_path / "story.svg").getroot()  # noqa: S314 - it was written a moment ago
    texts = [element.text for element in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert {"before, 1 org.", "session: before 2,549"} <= set(texts)


def test_the_key_of_the_story_is_that_of_the_session() -> None:
    hashed = "b56a97e2a1baafad83204376d8f87b8df7b4c6f2abb4d788fd4758c37d964d69"
    assert (hashlib.sha256(KEY.encode()).hexdigest(), KEY[:PREFIX_LENGTH]) == (hashed, "zap_test_ben")


def test_a_peer_without_its_program_is_named_with_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = (Svix(), Outpost(), Convoy(), Hook0())
    for each in absent:
        for variable in each.programs:
            monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("SVIX_SERVER", "/nowhere/svix-server")
    found = comparison.run(quick=True, peers=absent)
    assert not found.rows
    assert found.notes == [
        "Svix was not measured: set SVIX_SERVER (svix-server) to the path of its program",
        "Outpost was not measured: set OUTPOST (outpost), OUTPOST_SERVER (outpost-server) "
        "to the path of its program",
        "Convoy was not measured: set CONVOY (convoy) to the path of its program",
        "Hook0 was not measured: set HOOK0_API (hook0-api), HOOK0_WORKER (hook0-output-worker) "
        "to the path of its program",
    ]


@pytest.mark.timeout(180)
def test_the_loads_of_the_comparison_reach_a_service() -> None:
    """A process of its own, as it leaves connections to be closed by its end."""
    programs = [variable for each in comparison.PEERS for variable in each.programs]
    done = subprocess.run(
        [sys.executable, "-m", "bench", "peers", "--quick"],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name not in programs},
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    names, _, row = [line for line in done.stdout.splitlines() if line.startswith("|")]
    found = dict(zip(names.split("|")[1:-1], row.split("|")[1:-1], strict=True))
    figures = {name.strip(): float(value.replace(",", "")) for name, value in list(found.items())[1:]}
    assert row.startswith("| this service |")
    assert (figures.pop("lost"), figures.pop("repeated")) == (0, 0)
    assert all(figures.values()), figures
    assert "synchronous_commit on" in done.stdout


def test_a_peer_that_does_not_start_is_named_with_what_it_did(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SVIX_SERVER", "/bin/false")
    found = comparison.run(quick=False, peers=(Svix(),))
    assert not found.rows
    assert found.notes == [f"Svix failed: {Path('/bin/false').resolve()} migrate: "]


def test_a_figure_that_a_peer_does_not_have_is_left_open() -> None:
    rows = [{"": "this service", "accepted/s": 1234.5, "lost": 0.0}, {"": "Outpost", "lost": 0.5}]
    lines = comparison.markdown(rows).splitlines()
    assert lines[2:] == ["| this service | 1,234 | 0.0 |", "| Outpost | – | 0.5 |"]


async def test_what_peers_are_given_is_what_the_servers_take(tmp_path: Path, database_url: str) -> None:
    """The address that programs with another driver get, and the durability that Redis was started with."""
    for url in (peer.go_url(database_url), peer.rust_url(database_url)):
        connection = await asyncpg.connect(url)
        try:
            assert await connection.fetchval("select current_database()") in database_url
        finally:
            await connection.close()
    with redis_server(tmp_path, *REDIS) as (url, _):
        found = peer.redis_durability(url)
        assert found.pop("redis")[0].isdigit()
        assert found == {"redis appendonly": "yes", "redis appendfsync": "everysec"}
