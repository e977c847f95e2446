"""The packages of the two stacks, in an environment of their own, which is made when it is missing."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from bench.processes import ROOT, BenchError

PLACE = ROOT / ".venv-baselines"
PYTHON = PLACE / "bin/python"
_STAMP = PLACE / ".from-pyproject"
_PACKAGES = ("fastapi", "uvicorn", "sqlalchemy", "asyncpg", "redis", "bcrypt")
_VERSIONS = f"from importlib.metadata import version\nfor each in {_PACKAGES}: print(each, version(each))"


def make() -> None:
    """Install the dependency group `baselines`, unless pyproject.toml is older than the environment.

    Raises:
        BenchError: the packages cannot be installed.
    """
    project = ROOT / "pyproject.toml"
    if _STAMP.exists() and _STAMP.stat().st_mtime >= project.stat().st_mtime:
        return
    uv = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
    for command in (
        [uv, "venv", "--quiet", "--allow-existing", "--python", sys.executable, str(PLACE)],
        [uv, "pip", "install", "--quiet", "--python", str(PYTHON), "--group", f"{project}:baselines"],
    ):
        _run(command)
    _STAMP.touch()


def versions() -> str:
    """The installed versions, in a line."""
    return ", ".join(_run([str(PYTHON), "-c", _VERSIONS]).splitlines())


def bcrypt_hash(key: str) -> str:
    """The hash of a key as the session made it, with bcrypt's default cost."""
    code = "import bcrypt, sys; print(bcrypt.hashpw(sys.argv[1].encode(), bcrypt.gensalt()).decode())"
    return _run([str(PYTHON), "-c", code, key]).strip()


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BenchError(f"The packages of the baselines cannot be installed: {error}") from error
    if done.returncode:
        raise BenchError(f"The packages of the baselines cannot be installed or run: {done.stderr[-2000:]}")
    return done.stdout
