"""The compiled library."""

from __future__ import annotations

from pathlib import Path

import pytest

import typescript


@pytest.fixture(scope="session")
def package() -> Path:
    """The folder of the library, compiled."""
    return typescript.build()
