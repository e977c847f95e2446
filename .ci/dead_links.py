"""Find links in the Markdown files of the tree that lead nowhere: to no file, or to no heading of one.

Only what is in the tree is followed; addresses of other sites are left alone.
"""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from urllib.parse import unquote

ROOT = Path(__file__).resolve().parent.parent

_CODE = re.compile(r"^(```|~~~).*?^\1|`[^`\n]+`", re.MULTILINE | re.DOTALL)
_LINK = re.compile(
    r"!?\[(?:[^\[\]]|\[[^\]]*\])*\]\(\s*<?([^)\s>]+)>?[^)]*\)|^\[[^\]]+\]:\s*(\S+)", re.MULTILINE
)
_HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*$", re.MULTILINE)
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)


def main() -> int:
    """Print every dead link with its place; return 1 if there is one."""
    dead = [found for file in markdown_files() for found in dead_links(file)]
    for found in dead:
        print(found)
    return 1 if dead else 0


def markdown_files() -> list[Path]:
    """What git has or would take, so that no environment or build is searched."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "*.md"],  # noqa: S607
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    return [path for name in listed.stdout.decode().split("\0") if name and (path := ROOT / name).is_file()]


def dead_links(file: Path) -> list[str]:
    """Where each dead link of a file stands, and what it names."""
    text = _CODE.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), file.read_text(encoding="utf-8"))
    return [
        f"{file.relative_to(ROOT)}:{text.count(chr(10), 0, link.start()) + 1}: {target}: {why}"
        for link in _LINK.finditer(text)
        if (why := _fault(file, target := link[1] or link[2])) is not None
    ]


def _fault(file: Path, target: str) -> str | None:
    if _SCHEME.match(target):
        return None
    name, _, anchor = unquote(target).partition("#")
    path = (ROOT / name.lstrip("/") if name.startswith("/") else file.parent / name) if name else file
    if not path.exists():
        return "no such file"
    if anchor and path.suffix == ".md" and anchor not in _anchors(path):
        return "no such heading"
    return None


@cache
def _anchors(path: Path) -> set[str]:
    """The headings of a file as GitHub names them."""
    text = re.sub(r"^(```|~~~).*?^\1", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    found: set[str] = set()
    for heading in _HEADING.findall(text):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        anchor = base = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        number = 0
        while anchor in found:
            number += 1
            anchor = f"{base}-{number}"
        found.add(anchor)
    return found


if __name__ == "__main__":
    sys.exit(main())
