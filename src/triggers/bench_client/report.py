"""The findings of a run, as values: rows of a table, JSON, and the thresholds that it missed."""

from __future__ import annotations

from typing import Any, NamedTuple

from triggers.bench_client.load import Measured
from triggers.bench_client.recording import Recording


class ReportRow(NamedTuple):
    """One kind of request in one phase. Times are in ms, and count successes only."""

    phase: str
    endpoint: str
    requests: int
    errors: dict[str, int]
    per_second: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    p999_ms: float
    longest_ms: float
    recording: Recording

    @classmethod
    def of(cls, measured: Measured, endpoint: str) -> ReportRow:
        """The row of an endpoint."""
        recording = measured.recordings[endpoint]
        return cls(
            measured.phase,
            endpoint,
            recording.successes + recording.errors.total(),
            dict(recording.errors),
            recording.successes / measured.seconds,
            recording.percentile_ms(50),
            recording.percentile_ms(95),
            recording.percentile_ms(99),
            recording.percentile_ms(99.9),
            recording.longest_ms,
            recording,
        )

    def as_json(self) -> dict[str, Any]:
        """The members of the row, with times rounded to a microsecond."""
        found = {name: value for name, value in self._asdict().items() if name != "recording"}
        return {name: round(value, 3) if isinstance(value, float) else value for name, value in found.items()}


class BenchReport(NamedTuple):
    """The result of a run."""

    profile: str
    rows: list[ReportRow]
    ceiling_per_second: float
    notes: list[str]
    warnings: list[str]
    """Sentences: where the generator was the bottleneck, and what could not be removed."""

    @property
    def errors(self) -> int:
        """Requests that failed, and events that did not arrive."""
        return sum(sum(row.errors.values()) for row in self.rows)


class Thresholds(NamedTuple):
    """Thresholds for every row: maximum percentiles in ms, and a minimum rate. None: no threshold."""

    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    per_second: float | None = None

    def missed(self, report: BenchReport) -> list[str]:
        """A sentence for each threshold that a row misses, and for each row with errors."""
        found = []
        for row in report.rows:
            where = f"{row.phase}, {row.endpoint}"
            if row.errors:
                shown = ", ".join(f"{count:,} × {reason}" for reason, count in row.errors.items())
                found.append(f"{where}: {sum(row.errors.values()):,} of {row.requests:,} failed ({shown}).")
            for name in ("p50_ms", "p95_ms", "p99_ms"):
                wanted, was = getattr(self, name), getattr(row, name)
                if wanted is not None and (was > wanted or not row.recording.successes):
                    label = name[:3].upper()
                    found.append(f"{where}: {label} was {was:.1f} ms, and should be at most {wanted:g} ms.")
        return found + self._slow(report)

    def _slow(self, report: BenchReport) -> list[str]:
        """The rate of a phase is that of all its requests together."""
        if self.per_second is None:
            return []
        rates: dict[str, float] = {}
        for row in report.rows:
            rates[row.phase] = rates.get(row.phase, 0.0) + row.per_second
        return [
            f"{phase}: {rate:,.0f} requests/s, and should be at least {self.per_second:,.0f}."
            for phase, rate in rates.items()
            if rate < self.per_second
        ]

    def as_json(self) -> dict[str, float]:
        """The thresholds that were given."""
        return {name: value for name, value in self._asdict().items() if value is not None}


def as_json(report: BenchReport, thresholds: Thresholds) -> dict[str, Any]:
    """The whole report as JSON values."""
    return {
        "profile": report.profile,
        "generator_per_second": round(report.ceiling_per_second, 1),
        "rows": [row.as_json() for row in report.rows],
        "notes": report.notes,
        "warnings": report.warnings,
        "thresholds": thresholds.as_json(),
        "missed": thresholds.missed(report),
    }
