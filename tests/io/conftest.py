"""What the tests of the waiting itself share."""

from __future__ import annotations

from pathlib import Path

import pytest

from aipc._sys.doorbell import table as doorbell_table


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
