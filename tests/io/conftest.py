"""What the tests of the waiting itself share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from aipc._sys import probes


@pytest.fixture
def all_features(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever AIPC_DISABLE says: for tests of what it switches off."""
    monkeypatch.delenv("AIPC_DISABLE", raising=False)
    probes.enabled.cache_clear()
    yield
    probes.enabled.cache_clear()
