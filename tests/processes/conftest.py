from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers import LASTING, compile_peer


def children() -> list[int]:
    """The processes that this one started and nobody has reaped: running ones and zombies."""
    found = []
    for task in os.listdir("/proc/self/task"):
        found += [int(pid) for pid in Path(f"/proc/self/task/{task}/children").read_text().split()]
    return [pid for pid in found if pid not in LASTING]


@pytest.fixture(autouse=True)
def _reaps_its_children() -> Iterator[None]:
    assert children() == []
    yield
    assert children() == []


@pytest.fixture(scope="session")
def misbehaving(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A program whose children do not behave: stubborn, slow, hermit, holder."""
    return str(compile_peer("child", tmp_path_factory))
