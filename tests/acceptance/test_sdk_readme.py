"""Runs every example of the Python library: those of its README in their order, and the programs."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import django
import httpx
import pytest
from django.conf import settings
from django.test import Client as DjangoClient

from triggers_client.receivers.seen import StillHandled
from triggers_client.testing import RunningService, Sample, new_secret, signed_sample

from .processes import wait_for

SDK = Path(__file__).parents[2] / "sdk/python"
BLOCKS = re.findall(r"```python\n(.*?)```", (SDK / "README.md").read_text(), re.DOTALL)
SECRET = new_secret()


@pytest.fixture(scope="module")
def service() -> Iterator[RunningService]:
    with RunningService() as running:
        yield running


@pytest.fixture
def run(service: RunningService, tmp_path: Path) -> Callable[..., str]:
    """Run a program, and return what it printed. With `until` it is stopped by SIGTERM after that."""
    environment = {**os.environ, "TRIGGERS_URL": service.url, "TRIGGERS_API_KEY": service.api_key}

    def run(program: Path, *arguments: str, until: str | None = None) -> str:
        output = tmp_path / "output"
        with output.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-u", program, *arguments], env=environment, stdout=file, stderr=file
            )
        try:
            if until is not None:
                wait_for(lambda: until in output.read_text() or process.poll() is not None, 30, until)
                process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0, output.read_text()
        finally:
            process.kill()
        return output.read_text()

    return run


@pytest.fixture
def example(run: Callable[..., str], tmp_path: Path) -> Callable[..., str]:
    """Run the block of the README that has this text."""

    def example(text: str, *, until: str | None = None) -> str:
        program = tmp_path / "example.py"
        program.write_text(block(text))
        return run(program, until=until)

    return example


def posted(app: Any, sample: Sample) -> int:
    """The status with which an ASGI app answers a webhook."""

    async def post() -> int:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://receiver") as client:
            answer = await client.post("/hooks", content=sample.body, headers=sample.headers)
        return answer.status_code

    return asyncio.run(post())


def block(text: str) -> str:
    (found,) = [each for each in BLOCKS if text in each]
    return str(found)


def test_the_readme_begins_with_ten_lines_that_run(example: Callable[..., str]) -> None:
    assert len([line for line in BLOCKS[0].splitlines() if line]) <= 10
    assert example('inbox("invoices").consumer', until="billed 1042") == "billed 1042\n"


def test_the_examples_of_clients_run(example: Callable[..., str]) -> None:
    assert example("order-1-paid") == "True True\n2000 stored, 0 failed\n"
    assert example("refund.made") == "order 7 {'order': 7} ['pending']\n"
    assert example('inbox("paper")', until="printed Main Street 1") == "printed Main Street 1\n"
    assert example("lease_limit").startswith("[1, 0, 1, 2, ")
    assert example("new, old") == (
        "order.paid {'order': 1}\nNo signature of the webhook belongs to one of the secrets.\n"
    )
    assert example("not a URL") == "422 invalid\n"


@pytest.mark.parametrize("name", ["fastapi", "flask", "django"])
def test_the_examples_of_receivers_run(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SECRET", SECRET)
    namespace: dict[str, Any] = {"__name__": "example"}
    exec(block(f"receivers.{name.replace('fastapi', 'starlette')} import"), namespace)  # noqa: S102
    sample = signed_sample(SECRET, "order.paid", {"order": 5})
    if name == "fastapi":
        status = posted(namespace["app"], sample)
    elif name == "flask":
        flask_client = namespace["app"].test_client()
        status = flask_client.post("/hooks", data=sample.body, headers=sample.headers).status_code
    else:
        if not settings.configured:
            settings.configure(ALLOWED_HOSTS=["*"], LOGGING_CONFIG=None)
            django.setup()
        monkeypatch.setattr(settings, "ROOT_URLCONF", tuple(namespace["urlpatterns"]), raising=False)
        answer = DjangoClient(enforce_csrf_checks=True).post(
            "/hooks", sample.body, content_type="application/json", headers=sample.headers
        )
        status = answer.status_code
    assert status == 204
    assert capsys.readouterr().out == "paid 5\n"


def test_the_example_of_a_table_is_shared_by_processes(tmp_path: Path) -> None:
    namespace: dict[str, Any] = {"__name__": "example"}
    exec(block("class SeenInTable"), namespace)  # noqa: S102
    one, other = (namespace["SeenInTable"](str(tmp_path / "seen.db"), 600) for _ in range(2))
    assert one.claim("a")
    with pytest.raises(StillHandled):
        other.claim("a")
    one.forget("a")
    assert other.claim("a")
    assert namespace["SeenInTable"](str(tmp_path / "seen.db"), -1).claim("a"), "an abandoned claim"
    other.finish("a")
    assert not one.claim("a")


def test_the_example_of_a_test_runs(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["triggers_client.testing.fixtures"]\n')
    (tmp_path / "test_example.py").write_text(block("triggers_service"))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", tmp_path, tmp_path],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_no_example_of_the_readme_is_left_out() -> None:
    assert len(BLOCKS) == 12, "a new example needs a test here"


def test_the_programs_run(run: Callable[..., str], service: RunningService) -> None:
    programs = SDK / "examples"
    assert run(programs / "producer.py", "0") == "0 sent\n"
    with service.client() as client:
        client.events.send("order.paid", {"order": "no number"})
    assert run(programs / "producer.py", "20") == "20 sent\n"
    assert run(programs / "producer.py", "20") == "20 sent\n"
    shipped = run(programs / "consumer.py", until="shipped 19")
    # Handlers print in threads, so two lines can be mixed up.
    assert sorted(re.findall(r"shipped \d+", shipped)) == sorted(f"shipped {n}" for n in range(20))
    with service.client() as client:

        def put_aside() -> list[str | None]:
            listed = client.inbox("orders").messages(status="quarantined")
            return [each.message_attributes.error_message for each in listed]

        assert wait_for(put_aside, 10, "rejected message") == ["The order has no number."]


def test_the_program_that_receives(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SECRET", f"{new_secret()} {SECRET}")
    namespace: dict[str, Any] = {"__name__": "receiver"}
    exec((SDK / "examples/receiver.py").read_text(), namespace)  # noqa: S102
    sample = signed_sample(SECRET, "order.paid", {"order": 5})
    assert [posted(namespace["app"], sample) for _ in range(2)] == [204, 204]
    assert capsys.readouterr().out == "shipped 5\n"
