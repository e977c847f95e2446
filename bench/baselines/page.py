"""What a run of the story found, as Markdown: the session's table, each step's claim, and every stage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from bench.baselines.measure import Taken
from bench.baselines.steps import STEPS, Step
from bench.findings import Row

BEFORE = "before"
OURS = "this service"
LAST = len(STEPS) + 1
HOLDS = 0.8
"""A claim holds if at least that share of the milliseconds is there."""


class Stage(NamedTuple):
    """One stage with so many organisations; `steps` is the number of steps taken, LAST for this service."""

    title: str
    steps: int
    organisations: int
    taken: Taken

    def row(self) -> Row:
        """Columns of a table."""
        taken = self.taken
        return {
            "": self.title,
            "organisations": self.organisations,
            "one at a time P50 ms": taken.alone_ms,
            "POST P95 ms": taken.ingest.p95_ms,
            "inbox P95 ms": taken.inbox.p95_ms,
            "ack P95 ms": taken.ack.p95_ms,
            "mixed P95 ms": taken.mixed.p95_ms,
            "mixed req/s": taken.mixed.per_second,
        }


def title(count: int) -> str:
    """The name of the stage after so many steps."""
    if not count:
        return BEFORE
    step = f"{count}. {STEPS[count - 1].title}"
    return step + (" (after)" if count == len(STEPS) else "")


def markdown(stages: Sequence[Stage], events: int) -> str:
    """The three tables. A stage that was not run leaves out the lines that need it."""
    parts = [_headline(stages), _claims(stages), _stages(stages, events)]
    return "\n".join(part for part in parts if part)


def _headline(stages: Sequence[Stage]) -> str:
    few = min(stage.organisations for stage in stages)
    before, after, ours = (_find(stages, count, few) for count in (0, len(STEPS), LAST))
    if not (before and after and ours):
        return ""
    lines = [
        "| with one organisation | session: before → after | ratio | here: before → after | ratio "
        "| this service | beside after |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, then, now, figure, unit in (
        ("P95, 100 × `POST /events` at 10 concurrent", 2549, 96, _ingest, " ms"),
        ("P95, mixed load", 270, 10, _mixed, " ms"),
        ("requests/s, mixed load", 4, 264, _rate, ""),
    ):
        values = [figure(stage.taken) for stage in (before, after, ours)]
        lines.append(
            f"| {name} | {then:,} → {now:,}{unit} | {_times(then, now)} "
            f"| {_text(values[0])} → {_text(values[1])}{unit} | {_times(values[0], values[1])} "
            f"| {_text(values[2])}{unit} | {_times(values[1], values[2])} |"
        )
    return "\n".join(lines) + "\n"


def _claims(stages: Sequence[Stage]) -> str:
    counts = sorted({stage.organisations for stage in stages})
    head = " | ".join(f"{count:,} org." for count in counts)
    lines = [f"| step | claim | {head} | holds here |", "|---|---|" + "---|" * len(counts) + "---|"]
    for number, step in enumerate(STEPS, 1):
        gains = [_gain(stages, number, count) for count in counts]
        if any(gain is not None for gain in gains):
            cells = " | ".join(_text(gain, " ms") for gain in gains)
            lines.append(
                f"| {number}. {step.title} | {step.claimed} | {cells} | {_verdict(step, counts, gains)} |"
            )
    if len(lines) == 2:
        return ""
    return (
        "Savings of each step on top of the one before, for a `POST /events` that is sent alone (median):\n\n"
        + "\n".join(lines)
        + "\n"
    )


def _gain(stages: Sequence[Stage], number: int, organisations: int) -> float | None:
    earlier, later = (_find(stages, count, organisations) for count in (number - 1, number))
    return earlier.taken.alone_ms - later.taken.alone_ms if earlier and later else None


def _verdict(step: Step, counts: Sequence[int], gains: Sequence[float | None]) -> str:
    """With the fewest organisations, or with the first number that is enough where more of them save more."""
    judged = [(count, gain) for count, gain in zip(counts, gains, strict=True) if gain is not None]
    if not step.by_organisations:
        judged = judged[:1]
    for count, gain in judged:
        if gain >= HOLDS * step.at_least_ms:
            return f"yes, from {count:,} organisations on" if step.by_organisations else "yes"
    return f"no. {step.why_less}"


def _stages(stages: Sequence[Stage], events: int) -> str:
    names = list(stages[0].row())
    lines = ["| " + " | ".join(names) + " |", "|---" * len(names) + "|"]
    lines += ["| " + " | ".join(map(_text, stage.row().values())) + " |" for stage in stages]
    return (
        f"All stages, with {events:,} stored events. An empty cell: no answer in its time.\n\n"
        + "\n".join(lines)
        + "\n"
    )


def _find(stages: Sequence[Stage], steps: int, organisations: int) -> Stage | None:
    return next((one for one in stages if (one.steps, one.organisations) == (steps, organisations)), None)


def _ingest(taken: Taken) -> float | None:
    return taken.ingest.p95_ms


def _mixed(taken: Taken) -> float | None:
    return taken.mixed.p95_ms


def _rate(taken: Taken) -> float | None:
    return taken.mixed.per_second


def _times(one: float | None, other: float | None) -> str:
    if not one or not other:
        return ""
    return (
        f"{max(one, other) / min(one, other):.0f}×"
        if max(one, other) >= 9.5 * min(one, other)
        else (f"{max(one, other) / min(one, other):.1f}×")
    )


def _text(value: object, unit: str = "") -> str:
    if value is None:
        return ""
    if not isinstance(value, float):
        return f"{value:,}" if isinstance(value, int) else str(value)
    size = abs(value)
    return (f"{value:,.0f}" if size >= 99.5 else f"{value:.1f}" if size >= 1 else f"{value:.2f}") + unit
