"""Consumers of both libraries through kill -9 of themselves, of the node and of PostgreSQL.

Leases of 5 seconds end during the outages, so that handlers overlap. Each of them has to be told before.
`SDK_KILLS=5000 make test ARGS=tests/acceptance/test_sdk_consumer.py` also runs the long form, with leases of
60 seconds, that outlast the outages, and of 5 seconds.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pytest

import typescript
from triggers_client import Triggers

from .processes import Service, wait_for

PROGRAM = Path(__file__).with_name("sdk_consumer.py")
MANY = int(os.environ.get("SDK_KILLS", "0"))
SLOW = 6
"""So many messages take longer than an outage, and are in work when it begins."""


def commands(language: str, lease_seconds: int) -> list[list[str]]:
    """Two consumers of a library."""
    if language == "python":
        return [[sys.executable, str(PROGRAM), str(lease_seconds), kind] for kind in ("threads", "tasks")]
    return [[typescript.node(), str(typescript.build() / "built/consumer.js"), str(lease_seconds)]] * 2


class Plan(NamedTuple):
    """A story: how many messages, and for how long the node and PostgreSQL are gone."""

    language: str
    messages: int
    lease_seconds: int
    outage_seconds: float

    def seconds(self) -> list[float]:
        """How long the handler of each message takes, at its first call."""
        # A node starts within seconds, and its consumers look for it every two seconds.
        slow = self.outage_seconds + 10
        return [slow if n in {*self.slow(2), *self.slow(3)} else 0.05 for n in range(self.messages)]

    @property
    def ends_leases(self) -> bool:
        """Whether leases end during an outage."""
        return self.outage_seconds > self.lease_seconds

    def slow(self, fifth: int) -> range:
        """The messages that are in work during an outage which begins after so many fifths of all."""
        first = self.messages * fifth // 5
        return range(first, first + SLOW)


@dataclass
class Turn:
    """One call of the handler: its message, and when it began, was told of the loss, and ended, in ns."""

    message: str
    began: int
    ended: int
    told: int | None = None
    finished: bool = False


class Consumers:
    """Two processes that consume, of which some are killed."""

    def __init__(self, service: Service, key: str, plan: Plan) -> None:
        self.journal = service.place / f"journal-{plan.lease_seconds}"
        self.journal.touch()
        self._errors = service.place / "consumers.log"
        self._environment = {
            **os.environ,
            "TRIGGERS_URL": f"http://127.0.0.1:{service.port}",
            "TRIGGERS_API_KEY": key,
        }
        self._commands = commands(plan.language, plan.lease_seconds)
        self._running = [self._start(command) for command in self._commands]
        self.killed: dict[int, int] = {}  # when, by pid

    def _start(self, command: list[str]) -> subprocess.Popen[bytes]:
        with self.journal.open("ab") as journal, self._errors.open("ab") as errors:
            return subprocess.Popen(command, env=self._environment, stdout=journal, stderr=errors)

    def kill(self) -> None:
        """SIGKILL for the first, and another in its place."""
        victim = self._running[0]
        victim.kill()
        victim.wait()
        self.killed[victim.pid] = time.monotonic_ns()
        self._running[0] = self._start(self._commands[0])

    def stop(self) -> list[int]:
        """SIGTERM for all; return their exit codes."""
        for process in self._running:
            process.terminate()
        return [process.wait(40) for process in self._running]

    def close(self) -> None:
        """End all. What they said is shown if the test fails."""
        for process in self._running:
            process.kill()
            process.wait()
        print(self._errors.read_text(errors="replace")[-8_000:])

    def turns(self) -> list[Turn]:
        """Every call of the handler. One in a process that was killed ended with it."""
        found: dict[tuple[str, str, str], Turn] = {}
        whole, _, _ = self.journal.read_text().rpartition("\n")  # the last line may be half written
        for line in whole.splitlines():
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

    def in_work(self, among: set[str]) -> set[str]:
        """The messages among these whose handler goes on."""
        return {turn.message for turn in self.turns() if turn.ended == sys.maxsize} & among

    def repeated(self, among: set[str]) -> set[str]:
        """The messages among these whose handler was called more than once."""
        called = Counter(turn.message for turn in self.turns())
        return {message for message in among if called[message] > 1}


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


class Ending(NamedTuple):
    """What is known at the end of a story."""

    consumers: Consumers
    sent: set[str]
    cut_off: list[set[str]]
    """For each outage, messages whose handlers went on when it began."""


@contextmanager
def story(service: Service, plan: Plan) -> Iterator[Ending]:
    """Send messages, consume them with two processes, and kill everything in turn meanwhile."""
    if service.process is None:
        service.start()
    key = service.tenant()
    with ExitStack() as stack:
        client = stack.enter_context(Triggers(f"http://127.0.0.1:{service.port}", key))
        client.inboxes.create("work", event_types=["work"])
        sent: list[str] = []

        def send(seconds: list[float]) -> None:
            report = client.events.send_many(
                {"type": "work", "payload": {"seconds": each}} for each in seconds
            )
            report.raise_for_failures()
            sent.extend(str(item.id) for item in report.items)

        def cut_off_by(end: Callable[[Service, float], None], fifth: int) -> set[str]:
            slow = {sent[n] for n in plan.slow(fifth)}
            wait_for(lambda: len(consumers.in_work(slow)) > 2, 200, "handlers that take long")
            messages = consumers.in_work(slow)
            end(service, plan.outage_seconds)
            if plan.ends_leases:
                # Their leases ended late, so older messages go before them.
                wait_for(lambda: consumers.repeated(messages), 30, "message that is handled again")
            return messages

        half = plan.messages // 2
        send(plan.seconds()[:half])
        consumers = Consumers(service, key, plan)
        stack.callback(consumers.close)
        wait_for(lambda: consumers.handled() >= plan.messages // 5, 100, "fifth of the messages")
        consumers.kill()
        cut_off = [cut_off_by(end_node, 2)]
        send(plan.seconds()[half:])
        cut_off.append(cut_off_by(end_postgres, 3))
        wait_for(lambda: consumers.handled() == plan.messages, 200, "handler that finished each message")

        def backlog() -> int:
            counted = client.inboxes.get("work", backlog=True).backlog
            assert counted is not None
            return counted.messages + counted.leased + counted.quarantined

        wait_for(lambda: backlog() == 0, 100, "empty inbox")
        assert consumers.stop() == [0, 0]
        yield Ending(consumers, set(sent), cut_off)


def end_node(service: Service, outage_seconds: float) -> None:
    service.kill()
    time.sleep(outage_seconds)  # how long the node is gone
    service.start()


def end_postgres(service: Service, outage_seconds: float) -> None:
    """PostgreSQL stops to answer, and is killed. The service starts it again."""
    postmaster = wait_for(service.postmaster_pid, 10, "postmaster")
    service.signal_postgres(signal.SIGSTOP)
    time.sleep(outage_seconds)  # how long PostgreSQL is silent
    os.kill(postmaster, signal.SIGKILL)
    service.signal_postgres(signal.SIGCONT)


def judge(ending: Ending, plan: Plan, note: Callable[[str], None]) -> list[bool]:
    """Return for each outage whether one of the handlers that it cut off overlapped with another."""
    turns = ending.consumers.turns()
    found = overlaps(turns)
    assert {turn.message for turn in turns if turn.finished} == ending.sent
    note(
        f"{plan.language}, {plan.messages} messages, leases of {plan.lease_seconds} s, outages of"
        f" {plan.outage_seconds:g} s: {len(turns)} calls of handlers, none lost, {len(found)} overlaps,"
        f" {len(found) - len(not_told(found))} of them told before"
    )
    assert not not_told(found)
    if not plan.ends_leases:
        assert not found
    overlapping = {one.message for one, _ in found}
    return [bool(messages & overlapping) for messages in ending.cut_off]


@pytest.mark.parametrize("language", ["python", "typescript"])
def test_no_message_is_lost_and_no_handler_is_left_in_the_dark(
    language: str, launch: Callable[..., Service], note: Callable[[str], None]
) -> None:
    plan = Plan(language, 500, lease_seconds=5, outage_seconds=6)
    with story(launch(), plan) as ending:
        assert judge(ending, plan, note) == [True, True], "an outage tested nothing"


@pytest.mark.skipif(not MANY, reason="takes minutes; SDK_KILLS=5000 runs it")
@pytest.mark.timeout(600)
@pytest.mark.parametrize("language", ["python", "typescript"])
@pytest.mark.parametrize(("lease_seconds", "outage_seconds"), [(60, 4), (5, 8)])
def test_many_messages(
    language: str,
    lease_seconds: int,
    outage_seconds: float,
    launch: Callable[..., Service],
    note: Callable[[str], None],
) -> None:
    plan = Plan(language, MANY, lease_seconds, outage_seconds)
    with story(launch(), plan) as ending:
        # Thousands of older messages may go first, for longer than a handler that was cut off goes on.
        assert any(judge(ending, plan, note)) is plan.ends_leases


def test_the_judge_finds_what_it_looks_for() -> None:
    one, other = Turn("m", 10, 30), Turn("m", 20, 40)
    assert overlaps([other, one]) == [(one, other)]
    assert not_told([(one, other)]) == [(one, other)]
    assert not_told([(Turn("m", 10, 30, told=25), other)])
    assert not not_told([(Turn("m", 10, 30, told=15), other)])
    assert overlaps([one, Turn("m", 30, 40)]) == overlaps([one, Turn("n", 20, 40)]) == []
