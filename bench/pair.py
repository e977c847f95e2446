"""Compare two checkouts of this project: both run at once, and are measured in turns, A B B A.

A single run says little on a machine that is shared: its speed changes from minute to minute. Here each
round of one checkout is divided by the round of the other just beside it, and the order is turned round
each time, so that what changes meanwhile falls on both. The median of these ratios counts.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console

from bench import accept, deliver, machine, road
from bench.findings import Findings, Row
from bench.processes import BenchError, Service, clean_up_when_terminated, place
from bench.pushing import OPEN, subscribe
from bench.receiver import Receiver, receiver

WANTED = 0.97
WARM_SECONDS = 2
LANES = 10_000
DRAINED_PER_SECOND = 10_000
"""Sizes the backlog of a round. It is the same for both checkouts, so neither of them decides it."""
Measure = Callable[[float], Row]
"""One round of about so many seconds."""


def _accept(service: Service, _: Receiver) -> Measure:
    return lambda seconds: accept.measure(service, seconds)


def _accept_duplicates(service: Service, _: Receiver) -> Measure:
    return lambda seconds: accept.measure(service, seconds, repeat_every=20)


def _accept_filter(service: Service, nginx: Receiver) -> Measure:
    subscribe(service, service.key, nginx.url + "/hook", filter="payload.order < 0")
    return _accept(service, nginx)


def _road(service: Service, nginx: Receiver) -> Measure:
    subscribe(service, service.key, nginx.url + "/hook")
    return lambda seconds: road.measure(service, nginx, seconds)


def _deliver(service: Service, nginx: Receiver) -> Measure:
    return lambda seconds: deliver.one_lane(service, nginx, int(DRAINED_PER_SECOND * seconds))


def _lines(service: Service) -> Path:
    """An event for each of LANES types, as a file for the load."""
    lines = service.data_dir.parent / "lines"
    lines.write_text(
        "\n".join(f'{{"type":"lane.{lane}","payload":{{"lane":{lane}}}}}' for lane in range(LANES))
    )
    return lines


def _accept_lanes(service: Service, nginx: Receiver) -> Measure:
    (key,) = deliver.make_lanes(service, nginx, 1, LANES)
    return lambda seconds: accept.measure(service, seconds, key)


def _road_lanes(service: Service, nginx: Receiver) -> Measure:
    (key,) = deliver.make_lanes(service, nginx, 1, LANES)
    lines = _lines(service)
    return lambda seconds: road.measure(service, nginx, seconds, key=key, lines=lines)


def _deliver_lanes(service: Service, nginx: Receiver, organisations: int = 1) -> Measure:
    each = LANES // organisations
    keys = deliver.make_lanes(service, nginx, organisations, each)
    return lambda seconds: deliver.one_each(service, nginx, keys, each, times=max(1, round(seconds / 5)))


def _deliver_lanes_of_many(service: Service, nginx: Receiver) -> Measure:
    return _deliver_lanes(service, nginx, 10)


PARTS: dict[str, tuple[Callable[[Service, Receiver], Measure], str, str]] = {
    "accept": (_accept, "per second", "POST /v1/events one by one, 64 connections"),
    "accept-duplicates": (_accept_duplicates, "per second", "the same; 5 % repeat an earlier dedup_id"),
    "accept-filter": (
        _accept_filter,
        "per second",
        "the same beside a subscription whose filter never matches",
    ),
    "road": (_road, "delivered per second", "accepted and delivered at once, 64 connections"),
    "deliver": (_deliver, "per second", "one lane drained from a backlog"),
    "accept-lanes": (_accept_lanes, "per second", "accept, in an organisation with 10,000 subscriptions"),
    "road-lanes": (_road_lanes, "delivered per second", "road, to 10,000 lanes of one organisation in turn"),
    "deliver-lanes": (_deliver_lanes, "per second", "one event for each of 10,000 lanes of one organisation"),
    "deliver-lanes-many": (
        _deliver_lanes_of_many,
        "per second",
        "one event for each of 10,000 lanes of ten organisations",
    ),
}
"""How a service is prepared, the column that is compared, and what is done."""


def compare(part: str, base: Path, other: Path, *, rounds: int, seconds: float) -> Findings:
    """Run one part; both services run all the time, and one at a time is under load."""
    prepare, column, text = PARTS[part]
    checkouts = {"base": base, "other": other}
    rows: dict[str, list[Row]] = {side: [] for side in checkouts}
    with ExitStack() as stack:
        nginx = stack.enter_context(receiver())
        measures: dict[str, Measure] = {}
        for side, checkout in checkouts.items():
            home = stack.enter_context(place())
            service = stack.enter_context(Service(home, checkout=checkout, **OPEN))
            measures[side] = prepare(service, nginx)
        for measure in measures.values():
            measure(min(seconds, WARM_SECONDS))
        for number in range(rounds):
            for side in ("base", "other") if number % 2 == 0 else ("other", "base"):
                rows[side].append(measures[side](seconds))
    ratios = [
        after[column] / before[column] for before, after in zip(rows["base"], rows["other"], strict=True)
    ]
    found = Findings(f"pair {part}: {text}; {rounds} rounds of {seconds:g} s a side")
    found.rows = [
        {"": f"{side} ({machine.commit(checkout)})", **accept.median(rows[side])}
        for side, checkout in checkouts.items()
    ]
    found.at_least(f"{column}, other / base, median", statistics.median(ratios), WANTED)
    found.notes.append(f"range of the ratios: {min(ratios):.3f} to {max(ratios):.3f}")
    found.notes.append("round by round: " + " ".join(f"{ratio:.3f}" for ratio in ratios))
    return found


def main() -> int:
    """Compare the parts one after the other."""
    listed = "\n".join(f"  {name:18} {text}" for name, (_, _, text) in PARTS.items())
    parser = argparse.ArgumentParser(
        prog="python -m bench.pair",
        description=__doc__,
        epilog=f"parts:\n{listed}\n\nNeeds wrk and nginx. Each checkout runs in its own .venv if it has one.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("base", type=Path, help="directory of the checkout to compare with")
    parser.add_argument(
        "other",
        type=Path,
        nargs="?",
        default=Path(),
        help="directory of the other one; default: the current directory",
    )
    parser.add_argument(
        "--part", action="append", choices=PARTS, help="what to measure, may be repeated; default: all parts"
    )
    parser.add_argument(
        "--rounds",
        type=int,
        default=10,
        help="rounds for each checkout; fewer than 10 say little (default: 10)",
    )
    parser.add_argument("--seconds", type=float, default=5, help="length of a round (default: 5)")
    arguments = parser.parse_args()
    if arguments.rounds < 1 or arguments.seconds < 1:
        parser.error("--rounds and --seconds must be at least 1.")
    base, other = arguments.base.resolve(), arguments.other.resolve()
    for checkout in (base, other):
        if not (checkout / "src/triggers").is_dir():
            parser.error(f"{checkout} is no checkout of this project: it has no src/triggers.")

    clean_up_when_terminated()
    console = Console(width=None if sys.stdout.isatty() else 140)
    failed = False
    for part in arguments.part or PARTS:
        try:
            compare(part, base, other, rounds=arguments.rounds, seconds=arguments.seconds).show(console)
        except BenchError as error:
            failed = True
            console.print(f"[red]{part}:[/] {error}\n", highlight=False)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
