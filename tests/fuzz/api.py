"""Requests that Schemathesis makes from the OpenAPI document, to a real service."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec

from acceptance.processes import Service, ask
from fuzz.watching import Processes, log_errors
from fuzz.wire import Say

HERE = Path(__file__).parent
SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")
SCOPES = ("admin", "events:write", "events:read", "inbox", "subscriptions", "keys")
LONGEST_SECONDS = 1_800
CASES_AN_EXAMPLE = 250
"""How many requests one more example for each operation adds at least; `run` judges if there are enough."""


def run(service: Service, cases: int, seed: int, say: Say, *, short: bool = False) -> list[str]:
    """Send at least so many requests to a service that has not started yet; return what is wrong.

    The short form does only the phase that makes the same requests each time.
    """
    extent = [f"--max-examples={max(1, cases // CASES_AN_EXAMPLE)}"]
    if short:
        extent = ["--phases=coverage"]
    service.environment["TRIGGERS_OUTBOUND_ALLOW"] = "127.0.0.0/8"
    service.environment["TRIGGERS_OUTBOUND_ALLOW_HTTP"] = "1"
    service.start("--log-level", "warning")
    processes = Processes(service)
    report, output = service.place / "report.json", service.place / "schemathesis.txt"
    with output.open("wb") as out, _endpoint() as url:
        done = subprocess.run(
            [
                SCHEMATHESIS,
                "--config-file",
                HERE / "schemathesis.toml",
                "--no-color",
                "run",
                f"http://127.0.0.1:{service.port}/openapi.json",
                *extent,
                f"--seed={seed}",
                f"--report-json-path={report}",
            ],
            env={**os.environ, **_environment(service), "FUZZ_TARGET_URL": url},
            cwd=service.place,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            check=False,
            timeout=LONGEST_SECONDS,
        )
    if not report.exists():
        return [f"Schemathesis ended with {done.returncode}:\n{output.read_text(errors='replace')[-4_000:]}"]
    found: dict[str, Any] = msgspec.json.decode(report.read_bytes())
    made = found["test_cases"]["generated"]
    ended = ", ".join(f"{name} {phase['status']}" for name, phase in found["phases"].items())
    say(f"Schemathesis: {made:,} requests in {found['running_time']:.0f} s; {ended}")
    wrong = [] if made >= cases else [f"Schemathesis made {made} requests, which is less than {cases}"]
    if done.returncode:
        wrong.append(f"Schemathesis: {_told(output.read_text(errors='replace'))}")
    return wrong + processes.deaths() + [f"the log says: {line}" for line in log_errors(service)[:10]]


class _Receiving(BaseHTTPRequestHandler):
    """Takes every delivery: a test delivery that does not succeed is waited for 20 seconds long."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def _endpoint() -> Iterator[str]:
    """The URL of an endpoint that answers as long as the block lasts."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Receiving) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/hook"
        finally:
            server.shutdown()
            serving.join()


def _environment(service: Service) -> dict[str, str]:
    """A key with every scope, of an organisation without a rate limit, and where the hooks are."""
    _, org = ask(service.port, "/v1/org", service.tenant())
    scopes = [part for scope in SCOPES for part in ("--scope", scope)]
    made = service.command("keys", "create", "--org", org["name"], *scopes, "--json")
    assert made.returncode == 0, made.stderr
    key = msgspec.json.decode(made.stdout)
    return {
        "FUZZ_KEY": key["key"],
        "FUZZ_KEY_ID": key["id"],
        "FUZZ_ORG_ID": org["id"],
        "FUZZ_HOOKS": str(HERE / "hooks.py"),
    }


def _told(output: str) -> str:
    """The part of the output that shows what failed."""
    begin = min((at for at in map(output.find, ("= ERRORS =", "= FAILURES =")) if at >= 0), default=0)
    return output[begin:][:20_000]
