"""Who releases a lock and takes it again at once leaves others a turn, whatever the loop."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import anyio
import pytest

import aipc
from aipc.locks import base

from ..peers import python, said
from ..subjects import LOCKS, new_name

pytestmark = pytest.mark.anyio

GREEDY = """
import anyio, sys, aipc
async def main():
    async with aipc.open_lock(sys.argv[1]) as lock:
        print("begins", flush=True)
        while True:
            async with lock:
                await anyio.sleep(0.002)
anyio.run(main, backend=sys.argv[2])
"""


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
@pytest.mark.parametrize("mechanism", LOCKS)
async def test_nobody_starves(mechanism: str, loop: str, place: Path) -> None:
    """Twenty times, against a process that works under the lock and hardly lets go of it."""
    subject = LOCKS[mechanism](place)
    with anyio.fail_after(40):
        async with subject.open_two() as (lock, _):
            with python(GREEDY, subject.url, loop) as greedy:
                assert said(greedy) == "begins"
                for _ in range(20):
                    async with lock:
                        await anyio.sleep(0.002)


async def test_rests_become_rare_when_nobody_waits(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Turns double, up to the longest; a gap needs no rest, nor does a wait."""
    now = 1000.0
    rests = []
    monkeypatch.setattr(base, "monotonic", lambda: now)

    async def rest(seconds: float) -> None:
        nonlocal now
        rests.append(now)
        now += seconds

    monkeypatch.setattr(base.anyio, "sleep", rest)
    async with aipc.open_lock(f"flock:{place}/lock") as lock:
        for _ in range(10_000):
            async with lock:
                now += 1e-3
        gaps = [later - sooner for sooner, later in pairwise(rests)]
        assert gaps[:3] == pytest.approx(
            [2 * base.TURN + base.REST, 4 * base.TURN + base.REST, 8 * base.TURN + base.REST], abs=5e-3
        )
        assert gaps[-1] == pytest.approx(base.LONGEST_TURN + base.REST, abs=5e-3)
        rests.clear()
        for _ in range(10_000):
            async with lock:
                now += 1e-3
            now += 0.3e-3
        assert len(rests) <= 1


async def test_cancelled_or_closed_while_resting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is held; a closed one says so."""
    monkeypatch.setattr(base, "TURN", 0.0)
    url = f"posix-sem:{new_name()}"
    with anyio.fail_after(20):
        async with aipc.open_lock(url, create=True, unlink=True) as lock, aipc.open_lock(url) as other:
            async with lock:
                await anyio.sleep(0.01)
            lock._handle._held_on_end = 10.0
            with anyio.move_on_after(0.001) as scope:
                await lock.acquire()
            assert scope.cancelled_caught
            other.acquire_nowait()
            other.release()
            async with anyio.create_task_group() as tasks:

                async def expect_closed() -> None:
                    with pytest.raises(anyio.ClosedResourceError):
                        await lock.acquire()

                tasks.start_soon(expect_closed)
                await anyio.sleep(0.001)
                await lock.aclose()
