"""The short forms of `make fuzz`: half a minute of attack, and some hundred generated API requests."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from fuzz import api, wire

from .processes import Service

ATTACK_SECONDS = 25.0
CASES = 300


# A connection that is cancelled while it is being opened is closed when it is collected, with this warning.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.timeout(240)
async def test_hostile_callers_and_endpoints(
    launch: Callable[..., Service], note: Callable[[str], None]
) -> None:
    seed = str(random.SystemRandom().randrange(10**9))
    note(f"seed {seed}")
    wrong = await wire.run(launch(), ATTACK_SECONDS, seed, note)
    assert not wrong, "\n".join(wrong)


@pytest.mark.timeout(240)
def test_generated_api_requests(launch: Callable[..., Service], note: Callable[[str], None]) -> None:
    wrong = api.run(launch(), CASES, 1, note, short=True)
    assert not wrong, "\n".join(wrong)
