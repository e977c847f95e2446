"""The same tests pass in every runtime that is found here. Only Node has to be there."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

import typescript
from harness import Node, Tenant, eventually, free_port

ARGUMENTS = {
    "node": ["--no-warnings"],
    "deno": ["run", "--quiet", "--no-lock", "--allow-net", "--allow-env"],
    "bun": [],
}
WORKER = """
using Workerd = import "/workerd/workerd.capnp";

const config :Workerd.Config = (
  services = [
    (name = "main", worker = .tests),
    (name = "internet", network = (allow = ["private"])),
  ],
  sockets = [(name = "http", address = "127.0.0.1:%(port)d", http = (), service = "main")],
);

const tests :Workerd.Worker = (
  compatibilityDate = "2026-01-01",
  modules = [
%(modules)s
  ],
);
"""


@pytest.mark.parametrize("runtime", typescript.RUNTIMES)
async def test_the_library_works_in(runtime: str, package: Path, node: Node, tenant: Tenant) -> None:
    program = typescript.program(runtime)
    if program is None:
        pytest.skip(f"{runtime} is not installed, and npm has none for this machine")
    if runtime == "workerd":
        outcomes = await _in_workerd(program, package, node, tenant)
    else:
        command = [program, *ARGUMENTS[runtime], "built/main.js"]
        environment = {"TRIGGERS_URL": node.url, "TRIGGERS_API_KEY": tenant.key}
        outcomes = json.loads((await typescript.output(command, **environment)).splitlines()[-1])
    failed = [f"{each['name']}\n{each['error']}" for each in outcomes if each["error"]]
    assert failed == [], "\n\n".join(failed)
    assert len(outcomes) > 20


async def _in_workerd(program: str, package: Path, node: Node, tenant: Tenant) -> Any:
    port = free_port()
    config = package / "built" / "workerd.capnp"
    config.write_text(WORKER % {"port": port, "modules": _modules(package)})
    serving = await asyncio.create_subprocess_exec(
        program, "serve", str(config), stdin=asyncio.subprocess.DEVNULL
    )
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:

            async def is_up() -> bool:
                assert serving.returncode is None, "workerd ended"
                with suppress(httpx.TransportError):
                    return (await client.get("/")).status_code > 0
                return False

            await eventually(is_up, 20)
            answer = await client.post("/", json={"url": node.url, "apiKey": tenant.key})
            assert answer.status_code == 200, answer.text
            return answer.json()
    finally:
        serving.kill()
        await serving.wait()


def _modules(package: Path) -> str:
    """The entry first. Names are paths, by which the modules import each other."""
    files = [*package.glob("built/*.js"), *package.glob("dist/**/*.js")]
    names = sorted(
        (str(each.relative_to(package)) for each in files), key=lambda name: name != "built/worker.js"
    )
    return "\n".join(f'    (name = "{name}", esModule = embed "../{name}"),' for name in names)
