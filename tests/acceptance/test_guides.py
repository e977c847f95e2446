"""The commands of the guides, as a reader runs them: with a real service, each page in an empty directory."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from guide_fences import Fence, fences, pages, run
from harness import free_port

from .processes import TRIGGERS, Service

PAGES = {
    name: commands
    for name, found in pages().items()
    if (commands := [each for each in found if each.info == "sh run"])
}


@pytest.fixture(scope="module")
def service(cluster: Path) -> Iterator[Service]:
    """A service for development, as the tutorial starts it."""
    place = Path(tempfile.mkdtemp(prefix="triggers-guides-", dir="/tmp"))
    place.chmod(0o755)
    started = Service(place)
    try:
        subprocess.run(["/bin/cp", "-a", cluster, started.data_dir], check=True)
        started.start("--dev")
        yield started
    finally:
        started.close()
        shutil.rmtree(place)


@pytest.mark.parametrize("name", PAGES)
def test_the_commands_of_a_page_do_what_it_says(name: str, service: Service, tmp_path: Path) -> None:
    _run(PAGES[name], service, tmp_path)


def test_a_wrong_page_would_be_noticed(service: Service, tmp_path: Path) -> None:
    for number, text in enumerate(
        (
            "```sh run\ncurl $URL/v1/nothing\n```\n",
            "```sh run\necho one\n```\n\n```text output\ntwo\n```\n",
        )
    ):
        with pytest.raises(AssertionError):
            _run(fences(text), service, tmp_path / str(number))


def test_how_many_commands_are_only_shown(note: Callable[[str], None]) -> None:
    shown = [
        f"{name}: {each.info.removeprefix('sh shown ')}"
        for name, found in pages().items()
        for each in found
        if each.info.startswith("sh shown ")
    ]
    note(f"{len(shown)} commands of the guides are shown and not run: " + "; ".join(shown))
    assert len(shown) <= 15


def _run(commands: list[Fence], service: Service, place: Path) -> None:
    home = place / "home"
    home.mkdir(parents=True)
    url, key = f"http://127.0.0.1:{service.port}", service.tenant()
    environment = {
        "PATH": f"{TRIGGERS.parent}:/usr/sbin:/usr/bin:/sbin:/bin",
        "URL": url,
        "KEY": key,
        "TRIGGERS_URL": url,
        "TRIGGERS_API_KEY": key,
        "TRIGGERS_DATA_DIR": str(service.data_dir),
    }
    ports = {"8080": service.port, "8081": free_port(), "9000": free_port()}
    run(commands, home, environment, ports)
