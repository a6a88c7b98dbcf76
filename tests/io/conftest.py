"""What the tests of the waiting itself share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from aipc._sys import membarrier, probes
from aipc._sys.doorbell import table as doorbell_table


@pytest.fixture
def all_features(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever AIPC_DISABLE says: for tests of what it switches off."""
    monkeypatch.delenv("AIPC_DISABLE", raising=False)
    _forget_features()
    yield
    _forget_features()


def _forget_features() -> None:
    probes.enabled.cache_clear()
    membarrier.registered.cache_clear()


@pytest.fixture
def bells(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the board is, for this process, too."""
    directory = place / "bells"
    directory.mkdir()
    monkeypatch.setattr(doorbell_table, "DIRECTORY", str(directory))
    return directory


@pytest.fixture
def url(place: Path) -> str:
    return f"flock:{place}/lock"
