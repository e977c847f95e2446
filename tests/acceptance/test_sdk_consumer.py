"""Consumers of the Python library through kill -9 of themselves, of the node and of PostgreSQL.

`SDK_KILLS=5000 make test ARGS=tests/acceptance/test_sdk_consumer.py` also runs the long form, with leases of
60 seconds and of 5 seconds.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from triggers_client import Triggers

from .processes import Service, wait_for

PROGRAM = Path(__file__).with_name("sdk_consumer.py")
MANY = int(os.environ.get("SDK_KILLS", "0"))


@dataclass
class Turn:
    """One call of the handler: its message, and when it began, was told of the loss, and ended, in ns."""

    message: str
    began: int
    ended: int
    told: int | None = None
    finished: bool = False


class Consumers:
    """Processes that consume, of which some are killed."""

    def __init__(self, service: Service, key: str, lease_seconds: int) -> None:
        self.journal = service.place / f"journal-{lease_seconds}"
        self.journal.touch()
        self._service = service
        self._lease_seconds = lease_seconds
        self._environment = {
            **os.environ,
            "TRIGGERS_URL": f"http://127.0.0.1:{service.port}",
            "TRIGGERS_API_KEY": key,
        }
        self._running: list[subprocess.Popen[bytes]] = []
        self.killed: dict[int, int] = {}  # when, by pid

    def start(self) -> None:
        log = (self._service.place / "consumers.log").open("ab")
        command = [sys.executable, PROGRAM, self.journal, str(self._lease_seconds)]
        with log:
            self._running.append(subprocess.Popen(command, env=self._environment, stdout=log, stderr=log))

    def kill(self) -> None:
        """SIGKILL for the oldest, and another in its place."""
        victim = self._running.pop(0)
        victim.kill()
        victim.wait()
        self.killed[victim.pid] = time.time_ns()
        self.start()

    def stop(self) -> list[int]:
        """SIGTERM for all; return their exit codes."""
        for process in self._running:
            process.terminate()
        return [process.wait(40) for process in self._running]

    def close(self) -> None:
        for process in self._running:
            process.kill()
            process.wait()

    def turns(self) -> list[Turn]:
        """Every call of the handler. One in a process that was killed ended with it."""
        found: dict[tuple[str, str, str], Turn] = {}
        for line in self.journal.read_text().splitlines():
            what, message, count, pid, at = line.split()
            key, when = (message, count, pid), int(at)
            if what == "begin":
                found[key] = Turn(message, when, self.killed.get(int(pid), sys.maxsize))
            elif what == "lost":
                found[key].told = when
            else:
                found[key].ended, found[key].finished = when, True
        return list(found.values())

    def handled(self) -> int:
        """How many messages a handler has finished."""
        return len({turn.message for turn in self.turns() if turn.finished})


def overlaps(turns: list[Turn]) -> list[tuple[Turn, Turn]]:
    """Pairs of calls with one message that went on at the same time, the earlier one first."""
    by_message: defaultdict[str, list[Turn]] = defaultdict(list)
    for turn in turns:
        by_message[turn.message].append(turn)
    return [
        (one, other)
        for same in by_message.values()
        for one, other in itertools.combinations(sorted(same, key=lambda turn: turn.began), 2)
        if other.began < one.ended
    ]


def not_told(found: list[tuple[Turn, Turn]]) -> list[tuple[Turn, Turn]]:
    """The pairs whose earlier handler was not told of the loss before the other began."""
    return [(one, other) for one, other in found if one.told is None or one.told > other.began]


@contextmanager
def story(
    service: Service, messages: int, lease_seconds: int, outage_seconds: float
) -> Iterator[tuple[Consumers, set[str]]]:
    """Send messages, consume them with two processes, and kill everything in turn meanwhile."""
    if service.process is None:
        service.start()
    key = service.tenant()
    with ExitStack() as stack:
        client = stack.enter_context(Triggers(f"http://127.0.0.1:{service.port}", key))
        client.inboxes.create("work", event_types=["work"])
        # Some last longer than a short lease, so that they live by its renewal, and longer than the outage,
        # so that they still go on when another consumer gets their message.
        slow = 1.0 if lease_seconds > 10 else 1.5 * (lease_seconds + outage_seconds)
        seconds = [slow if n % (messages // 5) == 1 else 0.05 for n in range(messages)]
        report = client.events.send_many({"type": "work", "payload": {"seconds": each}} for each in seconds)
        report.raise_for_failures()
        consumers = Consumers(service, key, lease_seconds)
        stack.callback(consumers.close)
        consumers.start()
        consumers.start()
        kills = (consumers.kill, lambda: restart(service, outage_seconds), lambda: kill_postgres(service))
        for number, kill in enumerate(kills, start=1):
            least = messages * number // 5
            wait_for(lambda least=least: consumers.handled() >= least, 200, f"{least} handled messages")
            kill()
        wait_for(lambda: consumers.handled() == messages, 200, "handler that finished each message")

        def backlog() -> int:
            counted = client.inboxes.get("work", backlog=True).backlog
            assert counted is not None
            return counted.messages + counted.leased

        wait_for(lambda: backlog() == 0, 100, "empty inbox")
        assert consumers.stop() == [0, 0]
        yield consumers, {str(item.id) for item in report.items}


def restart(service: Service, outage_seconds: float) -> None:
    service.kill()
    time.sleep(outage_seconds)  # how long the node is gone
    service.start()


def kill_postgres(service: Service) -> None:
    """SIGKILL. The service starts it again."""
    postmaster = wait_for(service.postmaster_pid, 10, "postmaster")
    os.kill(postmaster, signal.SIGKILL)


def judge(consumers: Consumers, sent: set[str], note: Callable[[str], None], lease_seconds: int) -> None:
    turns = consumers.turns()
    found = overlaps(turns)
    assert {turn.message for turn in turns if turn.finished} == sent
    note(
        f"{len(sent)} messages, leases of {lease_seconds} s: {len(turns)} calls of handlers, none lost,"
        f" {len(found)} overlaps, {len(found) - len(not_told(found))} of them told before"
    )
    assert not not_told(found)
    if lease_seconds > 10:
        assert not found


def test_no_message_is_lost_and_no_handler_is_left_in_the_dark(
    launch: Callable[..., Service], note: Callable[[str], None]
) -> None:
    with story(launch(), 500, lease_seconds=5, outage_seconds=0) as (consumers, sent):
        judge(consumers, sent, note, 5)


@pytest.mark.skipif(not MANY, reason="takes minutes; SDK_KILLS=5000 runs it")
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("lease_seconds", "outage_seconds"), [(60, 4), (5, 8)])
def test_many_messages(
    launch: Callable[..., Service], note: Callable[[str], None], lease_seconds: int, outage_seconds: float
) -> None:
    with story(launch(), MANY, lease_seconds, outage_seconds) as (consumers, sent):
        judge(consumers, sent, note, lease_seconds)


def test_the_judge_finds_what_it_looks_for() -> None:
    one, other = Turn("m", 10, 30), Turn("m", 20, 40)
    assert overlaps([other, one]) == [(one, other)]
    assert not_told([(one, other)]) == [(one, other)]
    assert not_told([(Turn("m", 10, 30, told=25), other)])
    assert not not_told([(Turn("m", 10, 30, told=15), other)])
    assert overlaps([one, Turn("m", 30, 40)]) == overlaps([one, Turn("n", 20, 40)]) == []
