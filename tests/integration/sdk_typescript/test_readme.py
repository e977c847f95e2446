"""Every example of the README compiles and runs, and the version is one."""

from __future__ import annotations

import json
import re
from pathlib import Path

import typescript
from harness import Node, Tenant

EXAMPLE = re.compile(r"^```ts\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FIRST = "order.paid { order: 1042, total: 99.9 }"


async def test_the_examples_run_one_after_the_other(package: Path, node: Node, tenant: Tenant) -> None:
    examples = EXAMPLE.findall((package / "README.md").read_text())
    assert len(examples) > 5
    assert len([line for line in examples[0].splitlines() if line]) <= 10
    folder = package / "built" / "readme"
    folder.mkdir(exist_ok=True)
    for number, example in enumerate(examples):
        (folder / f"{number}.ts").write_text(example)
    names = [f"{number}.ts" for number in range(len(examples))]
    options = {"rootDir": ".", "outDir": ".", "declaration": False, "noUnusedLocals": False}
    config = {"extends": "../../tsconfig.json", "compilerOptions": options, "files": names, "include": []}
    (folder / "tsconfig.json").write_text(json.dumps(config))
    await typescript.output([str(typescript.TSC), "-p", str(folder)])
    environment = {"TRIGGERS_URL": node.url, "TRIGGERS_API_KEY": tenant.key}
    printed = [
        await typescript.run(f"readme/{number}.js", seconds=20, **environment)
        for number in range(len(examples))
    ]
    assert printed[0].strip() == FIRST
    assert printed[1].strip() == "true true"
    assert printed[-1].startswith("404 not-found ")


def test_the_version_is_that_of_the_package(package: Path) -> None:
    version = json.loads((package / "package.json").read_text())["version"]
    assert f'export const version = "{version}";' in (package / "src/version.ts").read_text()
