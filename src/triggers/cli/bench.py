"""`triggers bench`: measures a running service over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from triggers.bench_client.size import Profile, ProfileSize, ReceiverAddress
from triggers.cli.service import DEFAULT_URL, Key, Url
from triggers.errors import OperatorError

if TYPE_CHECKING:
    from triggers.bench_client.progress import RunProgress
    from triggers.bench_client.report import BenchReport
    from triggers.bench_client.service import MeasuredService

_TERMINATED = 143


Milliseconds = Annotated[
    float | None, typer.Option(min=0, help="Threshold for every row, in milliseconds. Missed: exit code 1.")
]


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("bench")(bench)


def bench(  # noqa: PLR0913 - the options of a command
    profile: Annotated[Profile, typer.Argument(help="Kind of measurement.")] = Profile.QUICK,
    key: Key = ...,  # type: ignore[assignment]
    url: Url = DEFAULT_URL,
    *,
    seconds: Annotated[
        float,
        typer.Option(min=0.1, max=3600, help="Duration of each phase of quick, heavy, open and deliver."),
    ] = 10,
    requests: Annotated[
        int, typer.Option(min=10, max=100_000, help="quick: requests to each endpoint before the mix.")
    ] = 100,
    rate: Annotated[
        float, typer.Option(min=1, max=20_000, help="open and deliver: events per second.")
    ] = 300,
    messages: Annotated[
        int, typer.Option(min=10, max=1_000_000, help="lease: messages to lease and acknowledge.")
    ] = 5_000,
    lease_limit: Annotated[int, typer.Option(min=1, max=1000, help="lease: messages of one lease.")] = 100,
    listen: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="deliver: where its receiver listens. Port 0: any.")
    ] = "127.0.0.1:0",
    receiver_url: Annotated[
        str | None,
        typer.Option(
            help="deliver: URL by which the service reaches the receiver. Default: that of --listen."
        ),
    ] = None,
    p50_ms: Milliseconds = None,
    p95_ms: Milliseconds = None,
    p99_ms: Milliseconds = None,
    min_per_second: Annotated[
        float | None,
        typer.Option(min=0, help="Threshold for every phase, in requests per second. Missed: exit code 1."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    svg: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="Write the distribution of the times to this file, as SVG."),
    ] = None,
    disposable: Annotated[
        bool,
        typer.Option(
            "--this-organisation-is-disposable",
            help="Also use an organisation that has events, or that sends the events of the benchmark on.",
        ),
    ] = False,
) -> None:
    """Measure a running service.

    quick sends 100 requests to each of POST /events, GET /inbox and POST /ack from 10 callers, then a mix of
    70, 20 and 10 % for 10 seconds. heavy sends events from 64 and then 256 callers, each as fast as it is
    answered. open sends events at a fixed rate. deliver measures from sending an event until a receiver gets
    it. lease leases and acknowledges messages.

    With a key that has the scope admin, the benchmark makes an organisation of its own and deletes it at the
    end. With another key, it uses the organisation of the key, and refuses if the organisation is in use.
    The exit code is 1 if a request failed or a threshold was missed.

    \b
    Examples:
      triggers bench quick --p95-ms 100
      triggers bench open --rate 1000 --seconds 60 --svg latency.svg
      triggers bench deliver --listen 0.0.0.0:9000 --receiver-url http://10.0.0.7:9000
    """
    from triggers.bench_client import report as reports
    from triggers.bench_client.service import MeasuredService

    thresholds = reports.Thresholds(p50_ms, p95_ms, p99_ms, min_per_second)
    size = ProfileSize(requests, seconds, rate, messages, lease_limit, _address(listen, receiver_url))
    if svg is not None:
        _write(svg, "")  # a path that cannot be written fails before the run
    report = _run(MeasuredService.at(url, key), profile, size, disposable=disposable)
    missed = thresholds.missed(report)
    if svg is not None:
        from triggers.bench_client.chart import distribution

        _write(svg, distribution(report, f"triggers bench {profile}"))
    if as_json:
        typer.echo(json.dumps(reports.as_json(report, thresholds), ensure_ascii=False))
    else:
        _show(report)
    for sentence in (*report.warnings, *missed):
        typer.echo(sentence, err=True)
    if missed:
        raise typer.Exit(1)


def _address(listen: str, url: str | None) -> ReceiverAddress:
    host, _, port = listen.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65_535:
        raise OperatorError("--listen must be a host and a port, such as 127.0.0.1:9000.")
    if url is not None and not url.startswith(("http://", "https://")):
        raise OperatorError("--receiver-url must begin with http:// or https://.")
    return ReceiverAddress(host.strip("[]"), int(port), url)


def _run(service: MeasuredService, profile: Profile, size: ProfileSize, *, disposable: bool) -> BenchReport:
    """Run with a progress bar. Ctrl-C and SIGTERM end the run after its organisation is removed."""
    from triggers.bench_client.progress import RunProgress
    from triggers.bench_client.run import Interrupted, run

    progress = RunProgress()

    async def work() -> BenchReport:
        showing = asyncio.create_task(_show_progress(progress))
        try:
            return await run(service, profile, size, progress, disposable=disposable)
        finally:
            showing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await showing

    try:
        return asyncio.run(work())
    except BaseException as error:
        if progress.remains is not None:  # without an error, the report has it
            typer.echo(progress.remains, err=True)
        if not isinstance(error, Interrupted):
            raise
        typer.echo("The benchmark was terminated.", err=True)
        raise typer.Exit(_TERMINATED) from None


async def _show_progress(progress: RunProgress) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    if not console.is_terminal:
        return
    # Drawn by this loop and not by a thread of rich, which would take the processor at any time.
    with Progress(*columns, console=console, transient=True, auto_refresh=False) as bar:
        task = bar.add_task(progress.phase, total=1.0)
        while True:
            bar.update(task, description=progress.phase, completed=min(1.0, progress.done / progress.total))
            bar.refresh()
            await asyncio.sleep(0.5)


def _show(report: BenchReport) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("PHASE", "ENDPOINT", box=None, header_style="bold")
    for name in ("REQUESTS", "ERRORS", "PER SECOND", "P50 ms", "P95 ms", "P99 ms", "P99.9 ms", "LONGEST"):
        table.add_column(name, justify="right")
    for row in report.rows:
        times = (row.p50_ms, row.p95_ms, row.p99_ms, row.p999_ms, row.longest_ms)
        table.add_row(
            row.phase,
            row.endpoint,
            f"{row.requests:,}",
            f"{sum(row.errors.values()):,}",
            f"{row.per_second:,.0f}",
            *(f"{time:.1f}" for time in times),
        )
    console = Console(width=200, highlight=False, markup=False, emoji=False)
    console.print(f"generator alone: {report.ceiling_per_second:,.0f} requests/s against a no-op server")
    console.print(table)
    for note in report.notes:
        console.print(note)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OperatorError(f"{path} cannot be written: {error.strerror}.") from None
