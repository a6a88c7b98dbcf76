from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .peers.servers import RedisServer


@pytest.fixture
def redis(place: Path) -> Iterator[RedisServer]:
    server = RedisServer(place)
    yield server
    server.end()
