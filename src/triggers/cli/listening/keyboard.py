"""Single keys of a person at a terminal."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager


def is_at_terminal() -> bool:
    """Whether keys can be read: both ends are a terminal, and this program is in its foreground."""
    if not (sys.stdin.isatty() and sys.stdout.isatty() and hasattr(os, "tcgetpgrp")):
        return False
    return os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()


async def keys() -> AsyncIterator[str]:
    """The keys as they are pressed, without a line break after them. Ends when the terminal is closed."""
    pressed: asyncio.Queue[str] = asyncio.Queue()
    descriptor = sys.stdin.fileno()
    loop = asyncio.get_running_loop()

    def read() -> None:
        try:
            found = os.read(descriptor, 64).decode(errors="replace")
        except OSError:
            found = ""
        if not found:
            loop.remove_reader(descriptor)
        for each in found or [""]:
            pressed.put_nowait(each)

    with _key_by_key(descriptor):
        loop.add_reader(descriptor, read)
        try:
            while key := await pressed.get():
                yield key
        finally:
            loop.remove_reader(descriptor)


@contextmanager
def _key_by_key(descriptor: int) -> Iterator[None]:
    """Have the terminal give each key at once and without an echo. Ctrl-C stays an interrupt."""
    import termios  # Windows has no such module
    import tty

    before = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor, termios.TCSANOW)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
