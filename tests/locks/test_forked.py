"""Plain calls in a forked child: ForkedError, beside those of every lock, which the conformance checks ask."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import aipc
from aipc.testing.expect import in_child

from ..subjects import new_key, new_name

pytestmark = pytest.mark.anyio


def refused(*calls: Callable[[], object]) -> None:
    def use() -> None:
        for call in calls:
            with pytest.raises(aipc.ForkedError):
                call()

    in_child(use)


@pytest.mark.parametrize("owner", ["file", "process"])
async def test_byte_range(owner: str, place: Path) -> None:
    async with aipc.open_lock(f"fcntl:{place}/lock", owner=owner, shared=True) as lock, lock:
        assert isinstance(lock, aipc.ByteRangeLock)
        refused(lock.upgrade_nowait, lock.downgrade, lock.release, lock.acquire_nowait)
        assert lock.locked()


@pytest.mark.parametrize("kind", ["sysv-sem", "posix-sem"])
async def test_semaphore(kind: str) -> None:
    url = f"{kind}:{new_key() if kind == 'sysv-sem' else new_name()}"
    async with aipc.open_lock(url, create=True, unlink=True, value=3) as semaphore, semaphore:
        assert isinstance(semaphore, aipc.Semaphore)
        refused(lambda: semaphore.value, lambda: semaphore.release(2), lambda: semaphore.acquire_nowait(2))
        assert semaphore.value == 2


async def test_semaphore_set() -> None:
    async with aipc.SysVSemaphoreSet("private", count=2) as row:
        calls: list[Callable[[], Any]] = [
            lambda: row.values,
            lambda: row.pids,
            lambda: row.waiting(0),
            lambda: row.set_value(0, 5),
            lambda: row.set_values([5, 5]),
            lambda: row.operate_nowait([(0, -1)]),
            row.remove,
        ]
        refused(*calls)
        assert row.values == [1, 1]
