"""A consumer of ten lines, and a handler that writes down when it begins, ends and loses its lease.

All processes of the test run on one machine, so `time.time_ns` reads the clock that the database reads.
"""

import os
import sys
import time

from triggers_client import Message, Triggers

journal = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
client = Triggers()


def note(what: str, message: Message) -> None:
    line = f"{what} {message.id} {message.lease_count} {os.getpid()} {time.time_ns()}\n"
    os.write(journal, line.encode())


@client.inbox("work").consumer(concurrency=8, lease_seconds=int(sys.argv[2]))
def work(message: Message) -> None:
    note("begin", message)
    began = time.monotonic()
    seconds = message.payload["seconds"]
    if message.lease_lost.wait(seconds):
        note("lost", message)
        time.sleep(max(began + seconds - time.monotonic(), 0))  # a handler that does not look goes on
    note("end", message)


work.run()
