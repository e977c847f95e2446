"""How far a run has got. The command shows it; a run only writes it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class RunProgress:
    """The phase that runs, and how much of it is done: requests, messages or seconds."""

    phase: str = "preparing"
    done: float = 0.0
    total: float = 1.0
    remains: str | None = None
    """A sentence about what the run made and could not remove."""

    def begin(self, phase: str, total: float) -> None:
        """Start the next phase."""
        self.phase, self.done, self.total = phase, 0.0, max(total, 1e-9)
