"""A consumer of ten lines. Its handler writes down when it begins, ends and is told that its lease is lost.

`python sdk_consumer.py LEASE_SECONDS threads|tasks` writes lines to its standard output, each with one call
of the system: what happened, the message, its number of leases, the process, and the time.

The time is that of the monotonic clock, which is the same for all processes of a machine and is never set.
The clock of PostgreSQL, which decides about leases, runs on this machine too, at the same rate.
"""

import asyncio
import os
import sys
import time

from triggers_client import AsyncTriggers, Message, Triggers

options = {"concurrency": 8, "lease_seconds": int(sys.argv[1])}


def note(what: str, message: Message) -> None:
    os.write(1, f"{what} {message.id} {message.lease_count} {os.getpid()} {time.monotonic_ns()}\n".encode())


def seconds_of(message: Message) -> float:
    """How long a handler takes. Only the first one may take long."""
    return message.payload["seconds"] if message.lease_count == 1 else 0.05


# Both handlers go on after they were told, as one does that does not look.


def work_in_thread(message: Message) -> None:
    note("begin", message)
    ends = time.monotonic() + seconds_of(message)
    if message.lease_lost.wait(seconds_of(message)):
        note("lost", message)
        time.sleep(max(ends - time.monotonic(), 0))
    note("end", message)


async def work_in_task(message: Message) -> None:
    note("begin", message)
    ends = time.monotonic() + seconds_of(message)
    try:
        await asyncio.sleep(seconds_of(message))
    except asyncio.CancelledError:
        note("lost", message)
        await asyncio.sleep(max(ends - time.monotonic(), 0))
    note("end", message)


if sys.argv[2] == "tasks":
    asyncio.run(AsyncTriggers().inbox("work").consumer(**options)(work_in_task).run())
else:
    Triggers().inbox("work").consumer(**options)(work_in_thread).run()
