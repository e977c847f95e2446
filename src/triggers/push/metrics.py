"""Metrics of the delivery worker. No label names a tenant."""

from prometheus_client import CollectorRegistry, Gauge

from triggers.observability import LATENCY_BUCKETS, QuickCounter, QuickHistogram

registry = CollectorRegistry()
"""A separate registry, because the worker is a separate process. Its metrics are collected from there."""

attempts = QuickCounter(
    "triggers_delivery_attempts",
    "Attempts by `outcome` (delivered, retry, dead) and `reason`.",
    ["outcome", "reason"],
    registry,
)
attempt_seconds = QuickHistogram(
    "triggers_delivery_attempt_seconds", "Duration of attempts.", LATENCY_BUCKETS, registry
)
lag_seconds = QuickHistogram(
    "triggers_delivery_lag_seconds",
    "Time from the acceptance of an event to its first attempt.",
    (*LATENCY_BUCKETS, 30, 120, 600),
    registry,
)
groups_owned = Gauge(
    "triggers_lane_groups_owned", "Groups of lanes that this worker owns.", registry=registry
)
lanes_in_memory = Gauge("triggers_lanes_active", "Lanes that this worker holds in memory.", registry=registry)
in_flight = Gauge("triggers_deliveries_in_flight", "Attempts in flight.", registry=registry)
breakers_open = Gauge("triggers_breakers_open", "Endpoints that are only probed.", registry=registry)
trouble = Gauge(
    "triggers_worker_trouble",
    "1 for each part of the worker, by `work`, that failed in its last run or has ended.",
    ["work"],
    registry=registry,
)
due_sampled = Gauge(
    "triggers_deliveries_due", "Due deliveries. At most 1,000 of each group are counted.", registry=registry
)
oldest_due_seconds = Gauge(
    "triggers_oldest_due_seconds", "Age of the oldest due delivery.", registry=registry
)
