"""Of those who wait for one inbox a few look at a time, in the order in which they came.

If all looked at every hint, two hundred consumers would ask the database two hundred times for one
message, and acknowledgements would find no connection.
"""

from __future__ import annotations

import asyncio
from uuid import UUID
from weakref import WeakValueDictionary

AT_ONCE = 4

_lines: WeakValueDictionary[UUID, asyncio.Semaphore] = WeakValueDictionary()


def line_of(inbox_id: UUID) -> asyncio.Semaphore:
    """The line of an inbox in this process. Who has acquired it looks, until it is released."""
    line = _lines.get(inbox_id)
    if line is None:
        line = _lines[inbox_id] = asyncio.Semaphore(AT_ONCE)
    return line
