"""Logs and metrics: how they are set up, the wide line of a request, and every metric by name.

The wide line `request` carries: request_id, method, path, status, seconds, client, org_id,
key_prefix, and `detail` for what was refused. Keys and payloads are in no line.
"""

from __future__ import annotations

import logging
import os
import sys
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Literal, TextIO

import structlog
from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    disable_created_metrics,
)
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from triggers import __version__
from triggers.terminal import Lines

if TYPE_CHECKING:
    from triggers.domain import Caller

log = structlog.get_logger()

lines: Lines | None = None
"""The short lines of requests and attempts, if people read them on a terminal."""

disable_created_metrics()  # type: ignore[no-untyped-call] # a series beside each counter and histogram
LATENCY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

build_info = Info("triggers_build", "The version that runs.")
build_info.info({"version": __version__})
events_total = Counter("triggers_events", "Events by `result`: accepted, duplicate, rejected.", ["result"])
requests_total = Counter(
    "triggers_http_requests",
    "Requests other than those that send events, by `route` and by class of `status`: 2xx, 4xx, 5xx.",
    ["route", "status"],
)
request_seconds = Histogram(
    "triggers_http_request_seconds",
    "Duration of requests other than those that send events, by `area`, which is a part of the API, such as"
    " `inboxes`. A stream counts with its whole duration, in the area `streams`.",
    ["area"],
    buckets=(0.005, 0.025, 0.1, 0.5, 2.5),
)
waiting_events = Gauge("triggers_waiting_events", "Events that wait to be stored.")
waiting_bytes = Gauge("triggers_waiting_bytes", "Size of the events that wait to be stored.")
flushes_total = Counter("triggers_flushes", "Transactions that store events.")
leased_total = Counter("triggers_inbox_leased", "Leased messages.")
acknowledged_total = Counter("triggers_inbox_acknowledged", "Acknowledged messages.")
pool_connections = Gauge(
    "triggers_database_connections",
    "Connections of the pool for requests, by `state`: busy, open, most (the limit).",
    ["state"],
)
redis_up = Gauge("triggers_redis_up", "1 while Redis answers. 0 if no Redis is configured.")
trouble = Gauge(
    "triggers_background_trouble",
    "1 for each background task of the API, by `work`, that failed in its last run or has ended.",
    ["work"],
)
streams_open = Gauge("triggers_streams_open", "Open streams (Server-Sent Events).")
expired_total = Counter("triggers_inbox_expired", "Messages that expired unread.")


class QuickHistogram(Collector):
    """A histogram without labels or locks, for what one event loop does thousands of times a second."""

    def __init__(
        self,
        name: str,
        documentation: str,
        buckets: tuple[float, ...],
        registry: CollectorRegistry = REGISTRY,
    ) -> None:
        self._name = name
        self._documentation = documentation
        self._bounds = buckets
        self._counts = [0] * (len(buckets) + 1)
        self._sum = 0.0
        registry.register(self)

    def observe(self, value: float) -> None:
        """Count one value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """The histogram as the registry collects it."""
        totals = list(accumulate(self._counts))
        bounds = [*(str(float(bound)) for bound in self._bounds), "+Inf"]
        yield HistogramMetricFamily(
            self._name,
            self._documentation,
            buckets=list(zip(bounds, totals, strict=True)),
            sum_value=self._sum,
        )


class QuickCounter(Collector):
    """A counter without locks, for what one event loop does thousands of times a second."""

    def __init__(
        self, name: str, documentation: str, labels: Sequence[str], registry: CollectorRegistry = REGISTRY
    ) -> None:
        self._name = name
        self._documentation = documentation
        self._label_names = labels
        self._counts: dict[tuple[str, ...], int] = {}
        registry.register(self)

    def count(self, *labels: str) -> None:
        """Count one thing that has these values of the labels."""
        self._counts[labels] = self._counts.get(labels, 0) + 1

    def collect(self) -> Iterator[CounterMetricFamily]:
        """The counter as the registry collects it."""
        family = CounterMetricFamily(self._name, self._documentation, labels=self._label_names)
        for labels, number in self._counts.items():
            family.add_metric(labels, number)
        yield family


accept_seconds = QuickHistogram(
    "triggers_accept_seconds",
    "Duration of requests that send events.",
    LATENCY_BUCKETS,
)


def show_trouble(gauge: Gauge, trouble: Iterable[str]) -> None:
    """Set a gauge, which has a label for names, to 1 for each of these and for nothing else."""
    gauge.clear()
    for name in trouble:
        gauge.labels(name).set(1)


class _LogWriter:
    """Writes log lines. A line that cannot be written is lost, and the service goes on: the disk of the log
    may be full, or its reader may have ended."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def msg(self, message: str) -> None:
        """Write one line."""
        try:
            self._file.write(message + "\n")
            self._file.flush()
        except OSError:
            pass

    debug = info = warning = error = critical = msg


def configure_logging(log_format: Literal["auto", "console", "json"], level: str) -> None:
    """One line per event: for people on a terminal, JSON otherwise.

    With `auto` on a terminal, requests and attempts have short lines (`lines`) instead of events with fields.
    """
    global lines  # noqa: PLW0603 - set once, before anything is logged
    terminal = log_format == "auto" and sys.stderr.isatty()
    console = log_format == "console" or terminal
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    written: list[Any] = (
        [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
        if console
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    structlog.configure(
        processors=shared + written,
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=lambda *_: _LogWriter(sys.stderr),
        cache_logger_on_first_use=True,
    )
    wanted = terminal and level in ("debug", "info")
    lines = Lines(sys.stderr, coloured="NO_COLOR" not in os.environ) if wanted else None
    # Libraries log through the standard library: only their warnings, in our format, to the same stream.
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *written],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)


def log_request(
    scope: Mapping[str, Any],
    *,
    request_id: str,
    status: int,
    seconds: float,
    caller: Caller | None,
    **facts: Any,
) -> None:
    """The wide line of one request, whose ASGI scope is `scope`."""
    if lines is not None:
        lines.request(scope["method"], scope["path"], status, seconds, facts.get("detail"))
        return
    client = scope.get("client")
    write = log.error if status == 500 else log.info
    write(
        "request",
        request_id=request_id,
        method=scope["method"],
        path=scope["path"],
        status=status,
        seconds=round(seconds, 6),
        client=client[0] if client else None,
        org_id=str(caller.org_id) if caller else None,
        key_prefix=caller.key_prefix if caller else None,
        **(
            {} if caller is None or caller.own_org_id is None else {"operator_org_id": str(caller.own_org_id)}
        ),
        **facts,
    )
