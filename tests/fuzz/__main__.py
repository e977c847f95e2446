"""python -m fuzz [--seconds 600] [--seed N] [--cases 5000]: attack a real service, and judge how it did."""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from acceptance.processes import Service
from fuzz import api, wire


def main() -> int:
    """Both parts in turn; each has a service of its own."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__.partition(": ")[2])
    parser.add_argument("--seconds", type=float, default=600, help="how long to attack over raw sockets")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**9))
    parser.add_argument(
        "--cases", type=int, default=5_000, help="requests that Schemathesis makes at least; 0 for none"
    )
    arguments = parser.parse_args()
    _say(f"seed {arguments.seed}")
    wrong: list[str] = []
    if arguments.seconds:
        with _service() as service:
            wrong += asyncio.run(wire.run(service, arguments.seconds, str(arguments.seed), _say))
    if arguments.cases:
        with _service() as service:
            wrong += api.run(service, arguments.cases, arguments.seed, _say)
    for line in wrong:
        _say(f"WRONG: {line}")
    _say("nothing is wrong" if not wrong else f"{len(wrong)} faults with seed {arguments.seed}")
    return 1 if wrong else 0


def _say(text: str) -> None:
    print(time.strftime("%H:%M:%S"), text, flush=True)


@contextmanager
def _service() -> Iterator[Service]:
    """A service with data of its own. PostgreSQL's user must be able to get to these."""
    place = Path(tempfile.mkdtemp(prefix="triggers-fuzz-", dir="/tmp"))
    place.chmod(0o755)
    service = Service(place)
    try:
        yield service
    finally:
        service.close()
        shutil.rmtree(place)


if __name__ == "__main__":
    sys.exit(main())
