"""What the tests of segments share."""

from __future__ import annotations

from pathlib import Path

import pytest

from .kinds import Kind


@pytest.fixture(params=["posix", "sysv", "memfd", "file"])
def kind(request: pytest.FixtureRequest, place: Path) -> Kind:
    return Kind(request.param, place)
