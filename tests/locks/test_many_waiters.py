"""Many tasks that wait for one lock through one object: each release lets one of them try, the one that has waited longest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

import aipc
from aipc.testing.expect import settle

from ..subjects import new_key, new_name, times

pytestmark = pytest.mark.anyio

FEW, MANY = times(25, 100), times(100, 400)


class Herd:
    """So many tasks come one after the other while the lock is held, and each has it once after that."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.tries = 0
        self.had: list[int] = []

    async def run(self, lock: aipc.abc.Lock) -> None:
        async with anyio.create_task_group() as tasks, lock:
            for number in range(self.size):
                tasks.start_soon(self.take_turn, lock, number)
                await settle()  # also longer than it may spin, before it parks behind those who came first
            self.tries = 0

    async def take_turn(self, lock: aipc.abc.Lock, number: int) -> None:
        async with lock:
            self.had.append(number)
            await anyio.lowlevel.checkpoint()


@pytest.mark.parametrize("scheme", ["flock", "fcntl", "sysv-sem", "posix-sem"])
async def test_four_times_as_many_tasks(scheme: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They take about four times as many tries, and have the lock in the order in which they came."""
    name = {"flock": f"{place}/lock", "fcntl": f"{place}/lock", "sysv-sem": new_key(), "posix-sem": new_name()}[scheme]
    made = {"create": True, "unlink": True} if scheme.endswith("sem") else {}
    few, many = Herd(FEW), Herd(MANY)
    for herd in (few, many):
        async with aipc.open_lock(f"{scheme}:{name}", **made) as lock:
            handle = type(lock._handle)  # type: ignore[attr-defined]
            take = handle.take

            def counted(handle: Any, *arguments: int, herd: Herd = herd, take: Any = take) -> None:
                herd.tries += 1  # a try is a system call on this object: no public figure tells how many there were
                take(handle, *arguments)

            with monkeypatch.context() as patched, anyio.fail_after(60):
                patched.setattr(handle, "take", counted)
                await herd.run(lock)
        assert herd.had == list(range(herd.size))
    assert few.tries >= FEW
    assert many.tries <= 5 * few.tries
