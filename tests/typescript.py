"""The TypeScript library as it is published, and the runtimes in which it is tested."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "sdk" / "typescript"
TSC = PACKAGE / "node_modules/.bin/tsc"
BUILD_SECONDS = 300


def node() -> str:
    """The program of Node, which the tests need."""
    found = shutil.which("node")
    assert found, "the tests of the TypeScript library need the programs node and npm"
    return found


def build() -> Path:
    """Install what the lock names, and compile the library and its tests. Returns the folder of the library.

    Each of them happens only if its input has changed. Test processes wait for each other here.
    """
    with (PACKAGE / ".build-lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        modules, built = PACKAGE / "node_modules", PACKAGE / "built"
        wanted = _digest([PACKAGE / "package.json", PACKAGE / "package-lock.json"])
        # No script of a dependency is run: each brings its program in a package of its own for the platform.
        _once(modules, wanted, lambda: _run("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"))
        sources = sorted([*PACKAGE.glob("src/**/*.ts"), *PACKAGE.glob("tests/*"), PACKAGE / "tsconfig.json"])
        _once(built, wanted + _digest(sources), _compile)
    return PACKAGE


def program(runtime: str) -> str | None:
    """The program of a runtime, None if it is not there."""
    if runtime == "node":
        return node()
    places = [*(PACKAGE / "node_modules").glob(_PLACES[runtime]), *filter(None, [shutil.which(runtime)])]
    return next((str(each) for each in places if _answers(str(each))), None)


RUNTIMES = ("node", "deno", "bun", "workerd")
_PLACES = {
    "deno": "@deno/linux-*-glibc/deno",
    "bun": "@oven/bun-linux-*/bin/bun",
    "workerd": "@cloudflare/workerd-linux-*/bin/workerd",
}


def _answers(program: str) -> bool:
    """Whether a program is for this machine."""
    try:
        asked = subprocess.run([program, "--version"], capture_output=True, check=False, timeout=30)
    except OSError:
        return False
    return asked.returncode == 0


async def run(script: str, *, seconds: float = 60, **environment: str) -> str:
    """Run a compiled test in Node. Returns what it printed."""
    return await output([node(), f"built/{script}"], seconds=seconds, **environment)


async def output(command: list[str], *, seconds: float = 60, **environment: str) -> str:
    """Run a command in the folder of the library. Returns what it printed."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=PACKAGE,
        env={**os.environ, "NO_COLOR": "1", **environment},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, errors = await asyncio.wait_for(process.communicate(), seconds)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, f"{command}: {out.decode()}\n{errors.decode()}"
    return out.decode()


def _compile() -> None:
    for left in ("dist", "built"):
        shutil.rmtree(PACKAGE / left, ignore_errors=True)
    _run(str(TSC), "-p", "tsconfig.json")
    _run(str(TSC), "-p", "tests/tsconfig.json")


def _run(*command: str) -> None:
    ran = subprocess.run(
        command, cwd=PACKAGE, capture_output=True, text=True, check=False, timeout=BUILD_SECONDS
    )
    assert ran.returncode == 0, f"{command}: {ran.stdout}\n{ran.stderr}"


def _once(folder: Path, wanted: str, make: Callable[[], None]) -> None:
    """Make a folder, unless it was made for the same input."""
    stamp = folder / ".made-from"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    make()
    stamp.write_text(wanted)


def _digest(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file}\n".encode() + file.read_bytes())
    return digest.hexdigest()
