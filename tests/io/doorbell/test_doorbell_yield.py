"""After a call the caller yields the processor to whom it has woken, and not to a busy neighbour."""

from __future__ import annotations

import pytest

from aipc._sys.doorbell import table


def test_it_yields_less_often_beside_a_busy_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a yield that took over a millisecond, 1, 2, 4 and more calls yield nothing, at most 256; a short one halves the number."""
    now, slice_, yields = 0.0, 3e-3, 0

    def sched_yield() -> None:
        nonlocal now, yields
        now += slice_
        yields += 1

    monkeypatch.setattr(table.os, "sched_yield", sched_yield)
    monkeypatch.setattr(table, "perf_counter", lambda: now)
    after_call = table._YieldAfterCall()

    def calls_until_the_next_yield() -> int:
        before, calls = yields, 0
        while yields == before:
            after_call()
            calls += 1
        return calls

    assert [calls_until_the_next_yield() - 1 for _ in range(11)] == [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 256]
    slice_ = 20e-6
    assert [calls_until_the_next_yield() - 1 for _ in range(3)] == [256, 0, 0]
    slice_ = 3e-3
    assert [calls_until_the_next_yield() - 1 for _ in range(2)] == [0, 32]
