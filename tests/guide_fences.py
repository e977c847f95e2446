"""The commands of the guides: blocks of Markdown that a test runs, and the lines that they must print."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from pathlib import Path
from typing import NamedTuple

import psutil

DOCS = Path(__file__).parents[1] / "docs"
_FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_PORTS = re.compile(r"\b(8080|8081|9000)\b")

# A reader sees the error of a failed request. Here it ends the run.
_PRELUDE = """set -eu
curl() {
    case "$*" in
        *http_code*) command curl "$@" ;;
        *) command curl --fail-with-body -sS "$@" ;;
    esac
}
"""


class Fence(NamedTuple):
    """A block of code: what stands behind its backticks, its text, and the output that follows it."""

    info: str
    code: str
    output: str


def pages() -> dict[str, list[Fence]]:
    """The fences of every guide, by the name of its file."""
    return {
        path.relative_to(DOCS).as_posix(): fences(path.read_text()) for path in sorted(DOCS.rglob("*.md"))
    }


def fences(text: str) -> list[Fence]:
    """The fences of a page. An output belongs to the fence before it."""
    found: list[Fence] = []
    for info, code in _FENCE.findall(text):
        if info == "text output":
            found[-1] = found[-1]._replace(output=code)
        else:
            found.append(Fence(info, code, ""))
    return found


def run(commands: list[Fence], place: Path, environment: dict[str, str], ports: dict[str, int]) -> None:
    """Run the commands of a page in order, in one shell that begins in an empty directory.

    `ports` are used instead of those that the page names. Fails if a command fails or does not print its
    output, in which `…` stands for any text.
    """
    script = _PRELUDE + "".join(f"printf '\\n@@%s\\n' {n}\n{each.code}" for n, each in enumerate(commands))
    script = _PORTS.sub(lambda found: str(ports[found[0]]), script)
    log = place.with_suffix(".log")
    with log.open("wb") as output:
        shell = subprocess.Popen(
            ["/bin/bash", "-c", script],
            cwd=place,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            status = shell.wait(60)
        except subprocess.TimeoutExpired:
            status = -1
        finally:
            _end(shell.pid, place)
            shell.wait()
    printed = log.read_text(errors="replace").replace("\r", "")
    assert status == 0, printed
    parts = re.split(r"\n@@\d+\n", printed)[1:]
    for each, part in zip(commands, parts, strict=True):
        for line in each.output.splitlines():
            pattern = ".*".join(map(re.escape, line.split("…")))
            assert re.search(pattern, part), f"not printed: {line}\nby: {each.code}\nbut: {part}"


def _end(group: int, place: Path) -> None:
    """End what the commands left running in the background."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.cwd() == str(place):
                process.kill()
