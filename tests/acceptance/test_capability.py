"""docs/add-a-capability.md, done as it says in a copy of the service, and the result used."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import msgspec
import pytest

from .processes import Service

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "add-a-capability.md"
BLOCK = re.compile(r"^```(\w+)\n(?:#|--) file: (\S+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def insert(content: str, changes: str) -> str:
    """Put the lines that begin with `+` behind the line above them, which the file has once."""
    place = 0
    for line in changes.splitlines(keepends=True):
        if line.startswith("+"):
            content = content[:place] + line[1:] + content[place:]
            place += len(line) - 1
        else:
            assert content.count("\n" + line[1:]) == 1, f"not once in the file: {line}"
            place = content.index("\n" + line[1:]) + len(line)
    return content


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The service with the capability in it."""
    place = tmp_path_factory.mktemp("copy")
    for part in ("src", "tests"):
        shutil.copytree(ROOT / part, place / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", place)
    blocks = BLOCK.findall(GUIDE.read_text())
    assert len(blocks) == GUIDE.read_text().count("\n```\n") >= 10, "each block names its file"
    for kind, name, text in blocks:
        file = place / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(insert(file.read_text(), text) if kind == "diff" else text)
    return place


def run(copy: Path, *command: str) -> str:
    """What a command says that runs with the code of the copy."""
    done = subprocess.run(
        command,
        cwd=copy,
        env={**os.environ, "PYTHONPATH": str(copy / "src")},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_its_arrows_point_one_way(copy: Path) -> None:
    assert "0 broken" in run(copy, str(Path(sys.executable).with_name("lint-imports")), "--no-cache")


def test_its_own_test_passes(copy: Path) -> None:
    assert run(copy, sys.executable, "-m", "pytest", "tests/integration/notes").count("100%") == 1


@pytest.mark.timeout(180)
def test_it_serves_notes(copy: Path, launch: Callable[..., Service]) -> None:
    service = launch()
    service.environment["PYTHONPATH"] = str(copy / "src")
    service.start()
    url, key = f"http://127.0.0.1:{service.port}", service.first_key()
    with httpx.Client(base_url=url, headers={"authorization": f"Bearer {key}"}) as client:
        assert client.post("/v1/notes", json={"text": "written"}).status_code == 201
        assert client.post("/v1/notes", json={"text": ""}).status_code == 422
        assert "/v1/notes" in client.get("/openapi.json").json()["paths"]
    triggers = str(Path(sys.executable).with_name("triggers"))
    assert run(copy, triggers, "notes", "--key", key, "--url", url).endswith("  written\n")
    routes = [msgspec.json.decode(line) for line in run(copy, triggers, "routes", "--json").splitlines()]
    assert {"method": "GET", "path": "/v1/notes", "scope": "events:read", "room": "notes"} in routes
