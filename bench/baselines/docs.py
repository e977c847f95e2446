"""python -m bench.baselines.docs: put the page and the chart of the last story into the documentation."""

from __future__ import annotations

import shutil
import sys

from bench.processes import ROOT

BEGIN = "<!-- story: make bench ARGS=story, then python -m bench.baselines.docs -->"
END = "<!-- end of the story -->"


def main() -> int:
    """Replace what stands between the two marks of docs/benchmarks.md."""
    results, document = ROOT / "bench/results", ROOT / "docs/benchmarks.md"
    page = (results / "story.md").read_text()
    before, _, rest = document.read_text().partition(BEGIN)
    _, mark, after = rest.partition(END)
    if not mark:
        print(f"{document} lacks the marks:\n{BEGIN}\n{END}", file=sys.stderr)
        return 1
    shutil.copy(results / "story.svg", ROOT / "docs/story.svg")
    picture = "![P95 of POST /events by step](story.svg)"
    document.write_text(f"{before}{BEGIN}\n{picture}\n\n{page.strip()}\n{END}{after}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
