"""A process yields the processor to whom it has woken, and not to a busy neighbour."""

from __future__ import annotations

import os
from pathlib import Path

import anyio
import pytest

import aipc
from aipc._io import polling
from aipc._sys import yielding
from aipc._sys.yielding import YieldToPeer
from aipc.testing.expect import settle, until


def test_it_yields_less_often_beside_a_busy_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a yield that took over a millisecond, 1, 2, 4 and more calls yield nothing, at most 256; a short one halves the number."""
    now, slice_, yields = 0.0, 3e-3, 0

    def sched_yield() -> None:
        nonlocal now, yields
        now += slice_
        yields += 1

    monkeypatch.setattr(os, "sched_yield", sched_yield)
    monkeypatch.setattr(yielding, "perf_counter", lambda: now)
    yield_ = YieldToPeer()

    def calls_until_the_next_yield() -> int:
        before, calls = yields, 0
        while yields == before:
            yield_()
            calls += 1
        return calls

    assert [calls_until_the_next_yield() - 1 for _ in range(11)] == [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 256]
    slice_ = 20e-6
    assert [calls_until_the_next_yield() - 1 for _ in range(3)] == [256, 0, 0]
    slice_ = 3e-3
    assert [calls_until_the_next_yield() - 1 for _ in range(2)] == [0, 32]


@pytest.mark.anyio
async def test_a_wait_without_a_descriptor_yields_before_it_parks(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever was answered just now can go on."""
    yields: list[int] = []
    async with aipc.open_lock(f"flock:{place}/lock") as lock, aipc.open_lock(f"flock:{place}/lock") as other:
        monkeypatch.setattr(polling, "_yield", lambda: yields.append(other._handle.polling.waiting))
        async with lock, anyio.create_task_group() as tasks:
            tasks.start_soon(other.acquire)
            await until(lambda: other._handle.polling.waiting)
            await settle()
            tasks.cancel_scope.cancel()
    assert yields == [0]
