"""python -m bench [part …] [--quick]: measure, print, and keep every figure in bench/results/."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console

from bench import machine
from bench.processes import BenchError, clean_up_when_terminated

PARTS = {
    "accept": "POST /v1/events beside a no-op app",
    "batch": "batches of 500 beside the machine's own INSERT … unnest",
    "real": "329 real payloads, one by one",
    "inbox": "leases and acknowledgements",
    "mixed": "70 % ingest, 20 % inbox, 10 % ack at 10 concurrent",
    "deliver": "deliveries from a backlog beside clients alone",
    "latency": "sent → received at 300 and 1,000 events/s",
    "road": "accepted and delivered at once",
    "neighbours": "a new event beside another organisation's mountain of work",
    "hostile": "one caller or endpoint attacks while another organisation posts and receives",
    "console": "each page of the console over millions of events, beside 500 events/s",
    "streams": "memory and CPU of the API with 200 open streams",
    "story": "the two stacks of the performance session, step by step, beside this service",
    "peers": "Svix, Outpost, Convoy and Hook0 beside this service, given their programs",
    "outage": "PostgreSQL gone for eight seconds, again and again, and a worker killed",
}
RESULTS = Path(__file__).parent / "results"


def main() -> int:
    """Run the parts in turn; one that fails says why and the next goes on."""
    listed = "\n".join(f"  {name:11} {text}" for name, text in PARTS.items())
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description=__doc__.partition("\n")[0],
        epilog=f"parts:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("parts", nargs="*", metavar="part", help="which to run; all if none is named")
    parser.add_argument(
        "--quick", action="store_true", help="short runs: to see that it works, not to publish"
    )
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")

    clean_up_when_terminated()
    console = Console(width=None if sys.stdout.isatty() else 140)
    facts = machine.facts()
    console.print("  ".join(f"{name} [bold]{value}[/]" for name, value in facts.items()), highlight=False)
    console.print()
    begun = datetime.now(UTC)
    results: dict[str, Any] = {"begun": begun, "quick": arguments.quick, "machine": facts, "parts": {}}
    failed = False
    for name in arguments.parts or PARTS:
        began = time.monotonic()
        around = {"load before": round(os.getloadavg()[0], 2), **machine.unrest()}
        stolen = machine.Stolen()
        try:
            findings = importlib.import_module(f"bench.{name}").run(quick=arguments.quick)
        except Exception as error:  # noqa: BLE001 - the other parts can still be measured
            failed = True
            if not isinstance(error, BenchError):
                console.print_exception()
            console.print(f"[red]{name}:[/] {error}\n", highlight=False)
            continue
        around |= {"stolen %": stolen.percent(), "seconds": round(time.monotonic() - began, 1)}
        findings.facts |= around
        findings.notes.append("machine: " + ", ".join(f"{name} {value:g}" for name, value in around.items()))
        findings.show(console)
        results["parts"][name] = findings.as_json()
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"{begun:%Y-%m-%d-%H%M%S}.json"
    file.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=2))
    console.print(f"kept in {file}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
