"""`triggers demo`: a demonstration in one terminal, on a free port and in a temporary directory."""

from __future__ import annotations

import json
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import typer

from triggers.cli.service import ask, call, open_client
from triggers.errors import OperatorError
from triggers.node.settings import ENV_PREFIX, KEY_FILE
from triggers.terminal import inert

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")
DEADLINE_SECONDS = 60.0
_TERMINATED = 143
"""Exit code after SIGTERM."""


class Arrival(NamedTuple):
    """One request that the receiver got, and what it answered."""

    path: str
    event_id: str
    body: dict[str, Any]
    answered: int
    at: float


class Receiver:
    """A webhook endpoint: `/broken` fails until `repaired` is set, `/flaky` fails twice."""

    def __init__(self) -> None:
        self.arrivals: queue.Queue[Arrival] = queue.Queue()
        self.repaired = False
        self._failures = iter((503, 503))
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                status = receiver.answer(self.path)
                receiver.arrivals.put(
                    Arrival(self.path, self.headers["webhook-id"], json.loads(body), status, time.time())
                )
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Print nothing: the demonstration prints what arrived."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        Thread(target=self._server.serve_forever, daemon=True).start()

    def next_arrival(self) -> Arrival:
        """Wait for the next request."""
        try:
            return self.arrivals.get(timeout=DEADLINE_SECONDS)
        except queue.Empty:
            raise OperatorError(_waited("a delivery")) from None

    def answer(self, path: str) -> int:
        if path == "/flaky":
            return next(self._failures, 204)
        return 500 if path == "/broken" and not self.repaired else 204

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def demo() -> None:
    """Run a demonstration on a temporary service.

    It shows deliveries, an endpoint that fails and recovers, and the retry of a dead letter.

    \b
    Example:
      triggers demo
    """
    receiver = Receiver()
    try:
        with _ended_by_sigterm(), _service() as client:
            _deliver(client, receiver)
            _recover(client, receiver)
            _replay(client, receiver)
    finally:
        receiver.stop()
    typer.secho("\nThe demo is complete.", fg="green", bold=True, nl=False)
    typer.echo(" Start a service of your own with `triggers serve`.")


def _deliver(client: httpx.Client, receiver: Receiver) -> None:
    _chapter("A subscription and five events")
    subscription = _subscribe(client, receiver.url + "/orders", "order.*")
    _say(f"subscribed {receiver.url}/orders to order.*   ({subscription})")
    sent: dict[str, float] = {}
    for number in range(1, 6):
        event = _post(
            client,
            "/v1/events",
            {"type": "order.created", "payload": {"order": number}, "dedup_id": f"o-{number}"},
        )
        sent[event["id"]] = time.time()
        _say(f"accepted  {event['id']}  order {number}")
    for _ in sent:
        arrival = receiver.next_arrival()
        milliseconds = max(0.0, arrival.at - sent[arrival.event_id]) * 1000
        _say(
            f"delivered {arrival.event_id}  order {arrival.body['data']['order']}"
            f"  {milliseconds:.0f} ms later",
            "green",
        )
    again = _post(client, "/v1/events", {"type": "order.created", "payload": {"order": 1}, "dedup_id": "o-1"})
    _say(f"sent order 1 again: duplicate={again['duplicate']}, same id, not delivered again")


def _recover(client: httpx.Client, receiver: Receiver) -> None:
    _chapter("An endpoint that fails and recovers")
    _subscribe(client, receiver.url + "/flaky", "status.*", delays=[0.5, 1, 2])
    event = _post(client, "/v1/events", {"type": "status.changed", "payload": {}})
    _say(f"accepted  {event['id']}")
    while True:
        arrival = receiver.next_arrival()
        if arrival.answered < 300:
            _say(f"the endpoint answered {arrival.answered}: delivered", "green")
            return
        _say(f"the endpoint answered {arrival.answered}: will be retried", "yellow")


def _replay(client: httpx.Client, receiver: Receiver) -> None:
    _chapter("The retry of a dead letter")
    subscription = _subscribe(client, receiver.url + "/broken", "invoice.*", delays=[0.2])
    event = _post(client, "/v1/events", {"type": "invoice.paid", "payload": {"invoice": 7}})
    dead = _until(
        "the dead letter",
        lambda: _get(client, "/v1/deliveries", status="dead", subscription_id=subscription)["data"],
    )[0]
    _say(f"dead letter {event['id']}: {dead['reason']}, after {dead['attempts']} attempts", "red")
    receiver.repaired = True
    _say("the endpoint is repaired; the delivery is retried")
    _post(client, f"/v1/deliveries/{event['id']}.{subscription}/retry", None)
    _until("the retry", lambda: _arrived(receiver, event["id"]))
    _say(f"delivered {event['id']}, the same webhook-id as before", "green")
    _say("every attempt is recorded (generation 1 is the retry):")
    for attempt in reversed(
        _until("the attempts", lambda: _enough(_get(client, f"/v1/events/{event['id']}/attempts")["data"], 3))
    ):
        _say(
            f"  generation {attempt['generation']}, attempt {attempt['attempt']}:"
            f" outcome {attempt['outcome']}, reason {attempt['reason']}"
        )


def _arrived(receiver: Receiver, event_id: str) -> bool:
    arrival = receiver.next_arrival()
    return arrival.event_id == event_id and arrival.answered < 300


def _enough(found: list[T], count: int) -> list[T]:
    return found if len(found) >= count else []


def _subscribe(client: httpx.Client, url: str, pattern: str, delays: list[float] | None = None) -> str:
    body: dict[str, Any] = {"target_url": url, "event_types": [pattern]}
    if delays is not None:
        body["retry"] = {"delays": delays}
    return str(_post(client, "/v1/subscriptions", body)["id"])


def _post(client: httpx.Client, path: str, body: Any) -> dict[str, Any]:
    return ask(client, "POST", path, **({} if body is None else {"json": body}))


def _get(client: httpx.Client, path: str, **parameters: str) -> dict[str, Any]:
    return ask(client, "GET", path, params=parameters)


def _until(what: str, look: Callable[[], T | None]) -> T:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.05)
    raise OperatorError(_waited(what))


def _waited(what: str) -> str:
    return f"The demo waited {DEADLINE_SECONDS:g} seconds in vain for {what}."


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """End the block at SIGTERM as at Ctrl-C, so that the service is stopped and its files are deleted."""

    def end(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # what is stopped is stopped only once
        raise SystemExit(_TERMINATED)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _service() -> Iterator[httpx.Client]:
    """Start a separate `triggers serve`, and yield a client with its first API key."""
    _chapter("Starting `triggers serve` with a private PostgreSQL")
    home = Path(tempfile.mkdtemp(prefix="triggers-demo-"))
    home.chmod(0o755)  # root runs PostgreSQL as another user, which needs access
    environ = {name: value for name, value in os.environ.items() if not name.startswith(ENV_PREFIX)} | {
        "TRIGGERS_DATA_DIR": str(home / "data"),
        "TRIGGERS_PORT": "0",
        "TRIGGERS_LOG_FORMAT": "json",
        "TRIGGERS_OUTBOUND_ALLOW": "127.0.0.0/8",
        "TRIGGERS_OUTBOUND_ALLOW_HTTP": "1",
    }
    log = home / "serve.log"
    with log.open("wb") as output:
        serve = subprocess.Popen(
            [sys.executable, "-m", "triggers", "serve"], env=environ, stdout=output, stderr=output
        )
    try:
        url = _until("the service to start", lambda: _announced(serve, log))
        key = (home / "data" / KEY_FILE).read_text(encoding="ascii")
        _say(f"the API listens on {url}")
        with open_client(url, key) as client:
            _until("the delivery worker", lambda: _delivers(client))
            _say("the delivery worker is ready")
            yield client
    finally:
        serve.send_signal(signal.SIGTERM)
        try:
            serve.wait(30)
        except subprocess.TimeoutExpired:
            serve.kill()
        shutil.rmtree(home, ignore_errors=True)


def _delivers(client: httpx.Client) -> bool:
    """Whether the worker owns its lanes, which is the last step of its start."""
    metrics = call(client, "GET", "/metrics", media_type="text/plain").text.splitlines()
    return any(
        line.startswith("triggers_lane_groups_owned") and not line.endswith(" 0.0") for line in metrics
    )


def _announced(serve: subprocess.Popen[bytes], log: Path) -> str | None:
    """The URL, once the service has printed it."""
    said = log.read_text(encoding="utf-8", errors="replace")
    if serve.poll() is not None:
        raise OperatorError(f"The service did not start:\n{said}")
    found = re.search(r"answers on (http://\S+) ", said)
    return found and found[1]


def _chapter(title: str) -> None:
    typer.secho(f"\n{title}", bold=True)


def _say(text: str, colour: str | None = None) -> None:
    typer.secho(f"  {inert(text)}", fg=colour)


def add_to(app: typer.Typer) -> None:
    """Register this command."""
    app.command("demo")(demo)
