"""How many series /metrics can have."""

from __future__ import annotations

import subprocess
import sys

COUNT = """
from itertools import product
from prometheus_client import REGISTRY, generate_latest
from triggers import observability
from triggers.domain import AttemptOutcome
from triggers.node import app
from triggers.outbound.result import Reason
from triggers.push import metrics

for (area, route), status in product([*app.LABELS.values(), ("none", "none")], ("2xx", "4xx", "5xx")):
    app.requests_total(route, status).inc()
    app.request_seconds(area).observe(1)
for result in ("accepted", "duplicate", "rejected"):
    observability.events_total.labels(result)
for state in ("busy", "open", "most"):
    observability.pool_connections.labels(state)
observability.show_trouble(observability.trouble, map(str, range(20)))
observability.show_trouble(metrics.trouble, map(str, range(10)))
# A delivered attempt has one reason. Each other reason has two outcomes.
metrics.attempts.count("delivered", "delivered")
for outcome, reason in product(("retry", "dead"), Reason):
    metrics.attempts.count(outcome, str(reason))
lines = (generate_latest(REGISTRY) + generate_latest(metrics.registry)).decode().splitlines()
series = [line for line in lines if not line.startswith("#")]
print(len(series))
print(*[line for line in series if "org" in line or "created" in line])
"""


def test_there_are_at_most_500_series() -> None:
    """Count every route with every class of status, and every outcome with every reason. This runs in a
    process of its own, because counters belong to a process."""
    counted = subprocess.run([sys.executable, "-c", COUNT], check=True, capture_output=True, text=True)
    number, *others = counted.stdout.splitlines()
    assert 300 < int(number) <= 500
    assert all("area" in line or "route" in line for line in others if line)
    assert "created" not in counted.stdout
