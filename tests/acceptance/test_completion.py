"""Names are completed in a real bash, from a real service; where that is not possible, nothing is said."""

from __future__ import annotations

import os
import pty
import select
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from triggers_client import Triggers

from .processes import TRIGGERS, Service

PATH = f"{TRIGGERS.parent}:{os.environ['PATH']}"


class Bash:
    """A shell on a terminal, into which a person types."""

    def __init__(self, home: Path, variables: dict[str, str]) -> None:
        self._terminal, inside = pty.openpty()
        environment = {"HOME": str(home), "PATH": PATH, "TERM": "dumb", "PS1": "> ", **variables}
        program = [str(shutil.which("bash")), "--norc", "--noprofile", "-i"]
        self._shell = subprocess.Popen(
            program, stdin=inside, stdout=inside, stderr=inside, env=environment, start_new_session=True
        )
        os.close(inside)

    def type(self, keys: str, until: str) -> str:
        """Type, and return what is shown from then on, until a text is there."""
        os.write(self._terminal, keys.encode())
        shown, deadline = "", time.monotonic() + 30
        while until not in shown:
            left = deadline - time.monotonic()
            assert left > 0, f"no {until!r} in {shown!r}"
            if select.select([self._terminal], [], [], left)[0]:
                shown += os.read(self._terminal, 65_536).decode(errors="replace")
        return shown

    def close(self) -> None:
        self._shell.kill()
        self._shell.wait()
        os.close(self._terminal)


@pytest.fixture
def variables(shared: Service) -> dict[str, str]:
    """The environment of a tenant."""
    return {"TRIGGERS_URL": f"http://127.0.0.1:{shared.port}", "TRIGGERS_API_KEY": shared.tenant()}


@pytest.fixture
def bash(tmp_path: Path, variables: dict[str, str]) -> Iterator[Bash]:
    shell = Bash(tmp_path, variables)
    yield shell
    shell.close()


@pytest.fixture
def client(variables: dict[str, str]) -> Iterator[Triggers]:
    with Triggers(variables["TRIGGERS_URL"], variables["TRIGGERS_API_KEY"]) as client:
        yield client


@pytest.fixture
def completed(variables: dict[str, str]) -> Callable[..., tuple[list[str], str]]:
    """What bash is offered for the last word of a line, and what it is told besides."""

    def complete(line: str, **changed: str) -> tuple[list[str], str]:
        asked = {"_TRIGGERS_COMPLETE": "complete_bash", "COMP_WORDS": line}
        words = {"COMP_CWORD": str(line.count(" "))}
        done = subprocess.run(
            [TRIGGERS],
            env={"PATH": PATH, **variables, **asked, **words, **changed},
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        return done.stdout.split(), done.stderr

    return complete


def test_a_person_presses_tab(bash: Bash, client: Triggers) -> None:
    for key in ("billing-eu", "billing-us", "paper"):
        client.inboxes.create(key)
    bash.type("triggers --install-completion\n", "completion installed")
    bash.type("source ~/.bashrc; echo so''urced\n", "sourced")
    bash.type("triggers inboxes show bil\t", "ling-")
    bash.type("e\t --json\n", '"key":"billing-eu"')


def test_names_of_each_kind_are_completed(
    client: Triggers, completed: Callable[..., tuple[list[str], str]]
) -> None:
    client.inboxes.create("billing")
    hostile = client.subscriptions.create("https://a.example/", name="$(touch pwned)")
    shop = client.subscriptions.create("https://a.example/", name="shop")
    client.subscriptions.create("https://a.example/", name="two words", key="words")
    client.keys.create(name="runner")
    client.keys.revoke(client.keys.create(name="retired").id)
    replay = client.replays.create(shop.id, since=datetime.now(UTC) - timedelta(hours=1))
    assert completed("triggers inboxes show ") == (["billing", "default"], "")
    subscriptions = sorted([hostile.id[-8:], "shop", "words"])
    assert completed("triggers subscriptions pause ") == (subscriptions, "")
    assert completed("triggers subscriptions pause sh") == (["shop"], "")
    assert completed("triggers attempts --subscription bil") == (["billing"], "")
    assert completed("triggers inbox peek --inbox d") == (["default"], "")
    assert completed("triggers keys revoke ru") == (["runner"], "")
    assert completed("triggers keys revoke re") == ([], "")
    assert completed("triggers keys revoke --org elsewhere ru") == ([], "")
    assert completed("triggers keys revoke --data-dir /elsewhere ru") == ([], "")
    assert completed("triggers replays show ") == ([replay.id[-8:]], "")


def test_nothing_is_said_if_names_are_not_to_be_had(
    variables: dict[str, str], completed: Callable[..., tuple[list[str], str]]
) -> None:
    nothing: tuple[list[str], str] = ([], "")
    for changed in (
        {"TRIGGERS_API_KEY": "zap_test_nobody"},
        {"TRIGGERS_API_KEY": ""},
        {"TRIGGERS_API_KEY": "not\na key"},
        {"TRIGGERS_URL": "http://127.0.0.1:1"},
        {"TRIGGERS_URL": "file:///etc/passwd"},
        {"TRIGGERS_URL": "http://[::"},
        {"TRIGGERS_URL": f"{variables['TRIGGERS_URL']}/elsewhere"},
    ):
        assert completed("triggers inboxes show ", **changed) == nothing, changed
    assert completed("triggers inboxes show ", TRIGGERS_URL=variables["TRIGGERS_URL"] + "/")[0] == ["default"]


def test_a_service_that_does_not_answer_is_not_waited_for(
    completed: Callable[..., tuple[list[str], str]],
) -> None:
    def seconds(**changed: str) -> float:
        began = time.monotonic()
        assert completed("triggers inboxes show ", **changed) == ([], "")
        return time.monotonic() - began

    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        # The program has to start in both cases, which takes long on a busy machine.
        base = min(seconds(TRIGGERS_API_KEY="") for _ in range(2))
        assert seconds(TRIGGERS_URL=f"http://127.0.0.1:{port}") - base < 5
