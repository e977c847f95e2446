"""Percentiles, thresholds, the chart, and the sentences about the generator, without a service."""

from __future__ import annotations

import random
import xml.etree.ElementTree as ET

import pytest

from triggers.bench_client import chart, generator
from triggers.bench_client.load import Measured
from triggers.bench_client.recording import Recording
from triggers.bench_client.report import BenchReport, ReportRow, Thresholds, as_json


def measured(times_ms: list[float], phase: str = "mixed", endpoint: str = "POST /events") -> Measured:
    found = Measured(phase)
    for time in times_ms:
        found.recordings[endpoint].add(time / 1000)
    found.seconds = 1.0
    found.requests = len(times_ms)
    return found


def report(*phases: Measured) -> BenchReport:
    rows = [ReportRow.of(phase, endpoint) for phase in phases for endpoint in phase.recordings]
    return BenchReport("quick", rows, 10_000.0, [], [])


def test_percentiles_are_within_half_a_percent() -> None:
    dice = random.Random(7)
    times = sorted(dice.lognormvariate(1, 1.5) for _ in range(20_000))
    recording = measured(times).recordings["POST /events"]
    for percent in (50, 95, 99, 99.9):
        exact = times[int((len(times) - 1) * percent / 100)]
        assert recording.percentile_ms(percent) == pytest.approx(exact, rel=0.011)
    assert recording.percentile_ms(100) <= recording.longest_ms == times[-1]
    assert recording.successes == 20_000


def test_a_recording_without_a_success_has_no_times() -> None:
    recording = Recording()
    recording.add_error("503")
    assert (recording.percentile_ms(99), recording.successes, recording.longest_ms) == (0.0, 0, 0.0)


def test_each_threshold_names_the_row_that_misses_it() -> None:
    found = report(measured([1.0] * 90 + [50.0] * 10), measured([1.0] * 100, endpoint="GET /inbox"))
    assert Thresholds(p95_ms=100).missed(found) == []
    (missed,) = Thresholds(p95_ms=20).missed(found)
    assert missed.startswith("mixed, POST /events: P95 was ")
    assert missed.endswith("ms, and should be at most 20 ms.")
    assert Thresholds(p50_ms=20).missed(found) == []
    assert len(Thresholds(p50_ms=0.5, p99_ms=0.5).missed(found)) == 4
    # The rate of a phase is that of all its rows: 200 requests in a second.
    assert Thresholds(per_second=200).missed(found) == []
    (slow,) = Thresholds(per_second=201).missed(found)
    assert slow == "mixed: 200 requests/s, and should be at least 201."


def test_failed_requests_miss_without_any_threshold() -> None:
    phase = measured([1.0] * 9)
    phase.recordings["POST /events"].add_error("503")
    (missed,) = Thresholds().missed(report(phase))
    assert missed == "mixed, POST /events: 1 of 10 failed (1 × 503)."
    nothing = Measured("mixed")
    nothing.seconds = 1.0
    nothing.recordings["POST /ack"].add_error("connection lost")
    assert len(Thresholds(p95_ms=100).missed(report(nothing))) == 2


def test_json_has_each_row_without_its_recording() -> None:
    found = as_json(report(measured([2.0])), Thresholds(p95_ms=1))
    assert found["rows"][0]["p95_ms"] == pytest.approx(2, rel=0.01)
    assert "recording" not in found["rows"][0]
    assert found["thresholds"] == {"p95_ms": 1}
    assert len(found["missed"]) == 1


def test_the_generator_is_blamed_only_when_it_was_the_bottleneck() -> None:
    idle = measured([1.0] * 100)
    assert generator.limits(idle, 10_000) is None
    idle.processor_share = 0.97
    assert "the generator was the bottleneck, because it used 97% of a core" in str(
        generator.limits(idle, 10_000)
    )
    near = measured([1.0] * 800)
    assert generator.limits(near, 10_000) is None
    assert "it sent 800 of the 1,000 requests/s" in str(generator.limits(near, 1_000))
    late = measured([1.0] * 100)
    for _ in range(100):
        late.lateness.add(0.2)
    assert "too late" in str(generator.limits(late, 10_000))


def test_the_chart_is_svg_with_a_curve_for_each_row() -> None:
    dice = random.Random(3)
    phases = [
        measured([dice.lognormvariate(1, 1) for _ in range(count)], endpoint=f"<{count}> & more")
        for count in (1, 2, 100, 5_000)
    ]
    text = chart.distribution(report(*phases), "a < b & c")
    drawn = ET.fromstring(text)  # noqa: S314 - of our own making
    name = "{http://www.w3.org/2000/svg}"
    curves = drawn.findall(f"{name}polyline")
    assert len(curves) == 4
    assert [each.text for each in drawn.findall(f"{name}title")] == ["a < b & c"]
    _, _, width, height = map(float, drawn.attrib["viewBox"].split())
    for curve in curves:
        places = [tuple(map(float, point.split(","))) for point in curve.attrib["points"].split()]
        assert all(0 <= x <= width and 0 <= y <= height for x, y in places)
        assert places == sorted(places, key=lambda place: (place[0], -place[1])), "slower to the right"


def test_a_chart_of_nothing_is_svg_too() -> None:
    text = chart.distribution(report(), "nothing")
    assert ET.fromstring(text).tag.endswith("svg")  # noqa: S314 - of our own making
