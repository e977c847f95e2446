"""The frames of a stream, read line by line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from triggers_client.json_text import read_json


@dataclass(frozen=True)
class Frame:
    """One thing that happened. `event` says what, and `data` has its ids and states."""

    event: str
    data: Any
    id: str | None


class FrameReader:
    """Puts the lines of Server-Sent Events together."""

    def __init__(self) -> None:
        self.last_id: str | None = None
        self.restart()

    def restart(self) -> None:
        """Forget a frame that is not complete."""
        self._event = "message"
        self._data: list[str] = []

    def read(self, line: str) -> Frame | None:
        """Take one line. An empty one ends a frame, which is returned."""
        if not line:
            return self._ended()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            self._event = value
        elif name == "data":
            self._data.append(value)
        elif name == "id":
            self.last_id = value
        return None

    def _ended(self) -> Frame | None:
        event, data = self._event, self._data
        self.restart()
        if not data:
            return None
        return Frame(event, read_json("\n".join(data)), self.last_id)
