"""Write the generated parts of docs/ from the code: settings, metrics, errors, commands, client libraries.

With `--check` nothing is written, and the exit code is 1 if a part differs from the code.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import typer
from prometheus_client import REGISTRY, CollectorRegistry

from triggers import observability
from triggers.cli import app
from triggers.cli.options import _duration
from triggers.http.problems import KINDS
from triggers.node import openapi
from triggers.node.settings import Setting, env_name, settings_list
from triggers.push import metrics

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
_PART = re.compile(r"(<!-- begin generated: ([a-z-]+) -->\n).*?(<!-- end generated -->)", re.DOTALL)


def main(arguments: list[str]) -> int:
    """Write or check every file; return 1 if a check found a difference."""
    different = []
    for path in sorted(DOCS.glob("*.md")):
        text = path.read_text(encoding="utf-8")
        wanted = _PART.sub(lambda found: f"{found[1]}\n{PARTS[found[2]]().strip()}\n\n{found[3]}", text)
        if wanted != text:
            different.append(path.name)
            if "--check" not in arguments:
                path.write_text(wanted, encoding="utf-8")
    if "--check" not in arguments or not different:
        return 0
    print(f"docs/ differs from the code: {', '.join(different)}. Run `make docs`.", file=sys.stderr)
    return 1


# ---- settings --------------------------------------------------------------------------------------


def settings_table() -> str:
    """Every setting with its default and its help."""
    rows = [
        f"| `{env_name(each.name)}` | {_default(each)} | {_cell(each.help)} |" for each in settings_list()
    ]
    return "\n".join(["| variable | default | |", "|---|---|---|", *rows])


def _default(setting: Setting) -> str:
    if setting.default is None:
        return ""
    if isinstance(setting.default, bool):
        return "`on`" if setting.default else "`off`"
    return f"`{_duration(setting.default) if setting.duration else setting.default}`"


# ---- metrics ---------------------------------------------------------------------------------------


def metrics_of_the_api() -> str:
    """Metrics of processes that serve the API."""
    assert observability.build_info is not None
    return _metrics_table(REGISTRY)


def metrics_of_the_worker() -> str:
    """Metrics of delivery workers."""
    return _metrics_table(metrics.registry)


def _metrics_table(registry: CollectorRegistry) -> str:
    suffixes = {"counter": "_total", "info": "_info"}
    rows = [
        f"| `{family.name}{suffixes.get(family.type, '')}` | {family.type} | {_cell(family.documentation)} |"
        for family in registry.collect()
        if family.name.startswith("triggers_")
    ]
    return "\n".join(["| metric | type | |", "|---|---|---|", *sorted(rows)])


# ---- errors ----------------------------------------------------------------------------------------


def errors_list() -> str:
    """A table of all errors, and what each one means."""
    found = sorted(KINDS.items(), key=lambda each: each[1])
    lines = ["| status | code | meaning |", "|---|---|---|"]
    lines += [f"| {kind.status} | [{kind.slug}](#{kind.slug}) | {kind.title} |" for _, kind in found]
    for error, kind in found:
        lines += ["", f"## {kind.slug}", "", f"**{kind.status}.** {inspect.cleandoc(error.__doc__ or '')}"]
    return "\n".join(lines)


# ---- commands --------------------------------------------------------------------------------------


def commands() -> str:
    """Every command with its arguments and options."""
    return "\n".join(_command("triggers", typer.main.get_command(app), 1))


def _command(path: str, command: Any, level: int) -> Iterator[str]:
    if level > 1:
        yield f"\n{'#' * min(level, 3)} {path}\n"
        yield inspect.cleandoc(command.help or "") + "\n"
    inner = getattr(command, "commands", {})
    if not inner:
        yield f"```text\n{_usage(path, command)}\n```\n"
        yield from _options(command)
    for name, each in sorted(inner.items()):
        if not each.hidden:
            yield from _command(f"{path} {name}", each, level + 1)


def _usage(path: str, command: Any) -> str:
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    return " ".join([path, "[OPTIONS]", *map(_argument, arguments)])


def _argument(argument: Any) -> str:
    name = argument.name.upper() + (" …" if argument.nargs == -1 else "")
    return name if argument.required else f"[{name}]"


def _options(command: Any) -> Iterator[str]:
    every = {each.name for each in settings_list()}
    settings = [each for each in command.params if each.name in every]
    own = [each for each in command.params if each.name not in every]
    if len(settings) == len(every):
        yield "Every [setting](configuration.md) is an option.\n"
    elif settings:
        names = ", ".join(f"`{each.opts[0]}`" for each in settings)
        yield f"These [settings](configuration.md) are options: {names}.\n"
    if own:
        yield "| option | |\n|---|---|"
        for each in own:
            yield f"| {_names(each)} | {_cell(_help(each))} |"
        yield ""


def _names(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return f"`{parameter.name.upper()}`"
    return ", ".join(f"`{each}`" for each in (*parameter.opts, *parameter.secondary_opts))


def _help(parameter: Any) -> str:
    parts = [parameter.help or ""]
    variable = parameter.envvar
    if variable:
        parts.append(f"Variable: `{variable}`.")
    if parameter.required:
        parts.append("Required.")
    elif parameter.default not in (None, False, [], ()) and not callable(parameter.default):
        parts.append(f"Default: `{parameter.default}`.")
    return " ".join(parts)


# ---- client libraries ------------------------------------------------------------------------------


def client_methods() -> str:
    """The methods of both client libraries by their route.

    Methods of the TypeScript library have the names of the Python library, but in camelCase.
    """
    sys.path.append(str(ROOT / "tests"))
    from python_surface import methods  # noqa: PLC0415 - it is next to the tests that use it

    typescript = "".join(path.read_text() for path in (ROOT / "sdk/typescript/src").rglob("*.ts"))
    found = methods()
    lines = ["| route | Python | TypeScript |", "|---|---|---|"]
    for path, operations in json.loads(openapi.encoded())["paths"].items():
        for method in operations:
            names = found.get(f"{method.upper()} {re.sub('{[^}]*}', '{}', path)}", ())
            camel = [re.sub("_(.)", lambda letter: letter[1].upper(), name) for name in names]
            for name in camel:
                assert re.search(rf"^  (async )?{name.rpartition('.')[2]}\(", typescript, re.MULTILINE), name
            if names:
                lines.append(f"| `{method.upper()} {path}` | {_names_of(names)} | {_names_of(camel)} |")
    return "\n".join(lines)


def readme_of(language: str) -> str:
    """The README of a client library without its title."""
    text = (ROOT / "sdk" / language / "README.md").read_text(encoding="utf-8")
    return text.partition("\n")[2]


def _names_of(methods: Iterable[str]) -> str:
    return ", ".join(f"`{each}`" for each in methods)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


PARTS: dict[str, Callable[[], str]] = {
    "settings": settings_table,
    "metrics-of-the-api": metrics_of_the_api,
    "metrics-of-the-worker": metrics_of_the_worker,
    "errors": errors_list,
    "commands": commands,
    "client-methods": client_methods,
    "python-readme": partial(readme_of, "python"),
    "typescript-readme": partial(readme_of, "typescript"),
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
