from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A FIFO, where a module has no `path` of its own."""
    os.mkfifo(tmp_path / "fifo")
    return tmp_path / "fifo"
