"""Barrier: asyncio's semantics between objects and processes."""

from __future__ import annotations

import threading

import anyio
import pytest

import aipc
from aipc.testing.expect import until

from ..peers import python, said

pytestmark = pytest.mark.anyio


async def test_rounds(key: str) -> None:
    """Each round lets all go, and gives each a number of its own."""
    with anyio.fail_after(20):
        async with aipc.Barrier(key, 3, unlink=True) as one, aipc.Barrier(key) as other:
            assert (one.parties, one.n_waiting, one.broken) == (3, 0, False)
            rounds: list[list[int]] = [[], [], [], []]

            async def go(barrier: aipc.Barrier) -> None:
                for positions in rounds:
                    positions.append(await barrier.wait())

            async with anyio.create_task_group() as tasks:
                for barrier in (one, other, one):
                    tasks.start_soon(go, barrier)
            assert [sorted(positions) for positions in rounds] == [[0, 1, 2]] * 4


async def test_more_than_parties(key: str) -> None:
    """Nobody overtakes: six at a barrier for two make three rounds."""
    with anyio.fail_after(20):
        async with aipc.Barrier(key, 2, unlink=True) as barrier:
            positions = []

            async def go() -> None:
                positions.append(await barrier.wait())

            async with anyio.create_task_group() as tasks:
                for _ in range(6):
                    tasks.start_soon(go)
            assert sorted(positions) == [0, 0, 0, 1, 1, 1]


async def test_abort_and_reset(key: str) -> None:
    with anyio.fail_after(20):
        async with aipc.Barrier(key, 2, unlink=True) as one, aipc.Barrier(key) as other:
            for end in (one.abort, one.reset):
                async with anyio.create_task_group() as tasks:

                    async def expect_broken() -> None:
                        with pytest.raises(aipc.BrokenBarrierError, match=key):
                            await other.wait()

                    tasks.start_soon(expect_broken)
                    await until(lambda: one.n_waiting == 1)
                    end()
                assert other.broken == (end == one.abort)
                if other.broken:
                    with pytest.raises(threading.BrokenBarrierError):
                        await one.wait()
                    one.reset()
                assert (one.broken, one.n_waiting) == (False, 0)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(one.wait)
                await other.wait()


async def test_reset_lets_the_next_in_at_once(key: str) -> None:
    """Who comes between a reset and the leaving of those who waited is of the next round."""
    with anyio.fail_after(20):
        async with aipc.Barrier(key, 2, unlink=True) as one, aipc.Barrier(key) as other, anyio.create_task_group() as tasks:
            broken = []

            async def expect_broken() -> None:
                try:
                    await other.wait()
                except aipc.BrokenBarrierError:
                    broken.append(1)

            tasks.start_soon(expect_broken)
            await until(lambda: one.n_waiting == 1)
            one.reset()
            tasks.start_soon(one.wait)
            await one.wait()
            await until(lambda: broken == [1])


async def test_cancelled_is_not_counted(key: str) -> None:
    with anyio.fail_after(20):
        async with aipc.Barrier(key, 2, unlink=True) as barrier:
            for _ in range(5):
                with anyio.move_on_after(0.002):
                    await barrier.wait()
                assert barrier.n_waiting == 0


async def test_closed_and_removed(key: str) -> None:
    with anyio.fail_after(20):
        async with aipc.Barrier(key, 2, unlink=True) as one, anyio.create_task_group() as tasks:
            other = await aipc.Barrier(key)

            async def expect(error: type[Exception], barrier: aipc.Barrier) -> None:
                with pytest.raises(error):
                    await barrier.wait()

            tasks.start_soon(expect, anyio.ClosedResourceError, other)
            await until(lambda: one.n_waiting == 1)
            await other.aclose()
            await other.aclose()
            assert one.n_waiting == 0
            tasks.start_soon(expect, aipc.ObjectRemoved, one)
            await until(lambda: one.n_waiting == 1)
            one.remove()


async def test_parties_must_agree(key: str) -> None:
    with anyio.fail_after(20):
        for bad in ({}, {"parties": 0}, {"parties": 32_768}, {"parties": 2, "value": 1}):
            with pytest.raises(aipc.AddressError):
                await aipc.Barrier(key, create=True, **bad)
        with pytest.raises(aipc.AddressError):
            await aipc.Barrier("private")
        with pytest.raises(aipc.ObjectMissing):
            await aipc.Barrier(key)
        async with aipc.Barrier(f"sysv-sem:{key}?parties=2&unlink=1") as barrier:
            with pytest.raises(aipc.AddressError, match=r"parties=3.*with 2"):
                await aipc.Barrier(key, 3, unlink=True)
            assert barrier.parties == 2


PARTY = """
import anyio, sys, aipc
async def main():
    async with aipc.Barrier(sys.argv[1], 3) as barrier:
        print("there", flush=True)
        for _ in range(20):
            await barrier.wait()
    print("over", flush=True)
anyio.run(main, backend=sys.argv[2], backend_options={"use_uvloop": True} if sys.argv[3:] else {})
"""


async def test_other_loops(key: str) -> None:
    """Processes on other loops; whoever comes first makes it."""
    with anyio.fail_after(30):
        with python(PARTY, key, "trio") as a, python(PARTY, key, "asyncio", "uvloop") as b:
            async with aipc.Barrier(key, 3, unlink=True) as barrier:
                for _ in range(20):
                    await barrier.wait()
                assert [said(a), said(a), said(b), said(b)] == ["there", "over"] * 2
