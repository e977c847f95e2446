"""The performance session of the two stacks, step by step, beside this service."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from bench import accept, database
from bench.baselines import chart, environment, page
from bench.baselines.measure import (
    BUDGET,
    CROWDED_BUDGET,
    QUICK_BUDGET,
    SLOW_BUDGET,
    Budget,
    Taken,
    Target,
    mixed,
    post_alone,
    requests,
)
from bench.baselines.stack import ACK_IDS, Stack, stack
from bench.baselines.steps import KEY, PREFIX_LENGTH, STEPS, up_to
from bench.findings import Findings
from bench.processes import ROOT, Service, fill, place

ORGANISATIONS = (1, 10, 100, 10_000)
EVENTS = 50_000
PATIENCE_SECONDS = 12 * 60
"""After so long, no further stage with many organisations begins, so that all is done in 15 minutes."""
RESULTS = ROOT / "bench/results"
_ORGANISATION = """
with made as (
    insert into organisations (id, name, plan, created_at)
    select gen_random_uuid(), 'story ' || n, 'enterprise', now() from generate_series(1, $1::int) n
    returning id)
insert into api_keys (id, org_id, prefix, hash, scopes, created_at)
select gen_random_uuid(), id, 'zap_test_' || lpad(to_hex(abs(hashtext(id::text)) % 4096), 3, '0'),
       encode(sha256(id::text::bytea), 'hex'), '{events:write}', now()
from made
"""


class Plan(NamedTuple):
    """What is run: stages by their number of steps, organisations, and events that are stored before."""

    stages: Sequence[int]
    organisations: Sequence[int]
    events: int
    quick: bool

    def budget(self, steps: tuple[str, ...], organisations: int) -> Budget:
        """bcrypt has more time for its requests, and the whole of a stage is still below a minute."""
        if self.quick:
            return QUICK_BUDGET
        if "sha256" not in steps:
            return SLOW_BUDGET
        return BUDGET if organisations == 1 else CROWDED_BUDGET

    def of(self, steps: tuple[str, ...]) -> list[int]:
        """With bcrypt each organisation costs a quarter of a second a request."""
        return [each for each in self.organisations if each <= 10 or "sha256" in steps]


FULL = Plan(range(len(STEPS) + 1), ORGANISATIONS, EVENTS, quick=False)
QUICK = Plan(range(len(STEPS) + 1), (1, 100), 5_000, quick=True)


def run(*, quick: bool, plan: Plan | None = None, results: Path = RESULTS) -> Findings:
    """Before; each step on top of the one before; after; ours. Writes the page and the chart."""
    plan = plan or (QUICK if quick else FULL)
    found = Findings("story: 2,549 → 96 ms by steps, and this service")
    with place() as home:
        with stack(home) as both:
            stages = list(_theirs(both, plan, home, found))
            found.notes.append(f"durability of the stacks: {accept.describe(both.durability())}")
        with _service(home, plan) as service:
            stages += _ours(service, plan, home)
            found.notes.append(f"durability here: {accept.describe(database.durability(service))}")
    found.rows = [stage.row() for stage in stages]
    found.page = page.markdown(stages, plan.events)
    results.mkdir(exist_ok=True)
    (results / "story.md").write_text(found.page)
    (results / "story.svg").write_text(chart.svg(stages))
    found.notes += [f"the stacks: {environment.versions()}", f"story.md and story.svg are in {results}"]
    return found


def _theirs(both: Stack, plan: Plan, home: Path, found: Findings) -> Iterator[page.Stage]:
    """All stages of the stacks; on a slow machine, those with one organisation at least."""
    ends = time.monotonic() + PATIENCE_SECONDS
    for count in plan.stages:
        steps = up_to(count)
        for organisations in plan.of(steps):
            if organisations > 1 and time.monotonic() > ends:
                found.notes.append(f"no time was left for {page.title(count)} with {organisations:,} org.")
                continue
            ids = [str(each) for each in both.fill(steps, organisations, plan.events)]
            taken = _stage(both, steps, ids, plan.budget(steps, organisations), home)
            yield page.Stage(page.title(count), count, organisations, taken)


def _ours(service: Service, plan: Plan, home: Path) -> Iterator[page.Stage]:
    """With the fewest and with the most organisations."""
    target = Target(service.port, "/v1", KEY, _ids(service, KEY))
    for organisations in sorted({min(plan.organisations), max(plan.organisations)}):
        _crowd(service, organisations)
        taken = measure(target, plan.budget(up_to(len(STEPS)), organisations), home)
        yield page.Stage(page.OURS, page.LAST, organisations, taken)


def measure(target: Target, budget: Budget, home: Path) -> Taken:
    """The whole load of the session, on an app that stays the same."""
    alone = post_alone(target, budget.alone)
    return Taken(
        alone,
        requests(target, "ingest", alone, budget.ingest, home),
        requests(target, "inbox", alone, budget.inbox, home),
        requests(target, "ack", alone, budget.ack, home),
        mixed(target, budget.mixed),
    )


def _stage(both: Stack, steps: tuple[str, ...], ids: list[str], budget: Budget, home: Path) -> Taken:
    if not budget.fresh:
        with both.app(steps) as app:
            return measure(Target(app.port, "", KEY, ids), budget, home)

    @contextmanager
    def fresh() -> Iterator[Target]:
        with both.app(steps) as app:
            yield Target(app.port, "", KEY, ids)

    with fresh() as target:
        alone = post_alone(target, budget.alone)
    timed = []
    for kind, seconds in (("ingest", budget.ingest), ("inbox", budget.inbox), ("ack", budget.ack)):
        with fresh() as target:
            timed.append(requests(target, kind, alone, seconds, home))
    with fresh() as target:
        return Taken(alone, timed[0], timed[1], timed[2], mixed(target, budget.mixed))


@contextmanager
def _service(home: Path, plan: Plan) -> Iterator[Service]:
    """`triggers serve` with as many events as the stacks have, and the key of the session, imported."""
    with Service(home) as service:
        fill(service, service.organisation(), plan.events, "order.paid")
        hashed = hashlib.sha256(KEY.encode()).hexdigest()
        service.command(
            *("keys", "import", "--org", "bench 1", "--prefix", KEY[:PREFIX_LENGTH], "--sha256", hashed)
        )
        yield service


def _ids(service: Service, key: str) -> list[str]:
    """Ids of events that can be acknowledged, twice as many as are needed for each run."""
    events = [{"type": "order.paid", "payload": {"order": number}} for number in range(ACK_IDS)]
    return [each["id"] for each in service.must("POST", "/v1/events/batch", events, key)["results"]]


def _crowd(service: Service, organisations: int) -> None:
    there = int(database.value(service, "select count(*) from organisations"))
    if (missing := organisations - there) > 0:
        database.value(service, _ORGANISATION, missing)
