"""kill -9 at random moments: nothing of the dead is left, and the living go on."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import pytest

import aipc

from ..subjects import times
from .family import child, kill_at_random, run, values

TIMES = times(10, 40)
Tell = Callable[[], None]


@pytest.fixture(params=["asyncio", "uvloop", "trio"])
def loop(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def storm(key: str, tell: Tell) -> None:
    """Readers and writers in one process, as fast as they can."""

    async def read(lock: aipc.RWLock) -> None:
        while True:
            async with lock.reader:
                await anyio.sleep(0)

    async def write(lock: aipc.RWLock) -> None:
        while True:
            async with lock.writer:
                await anyio.sleep(0)
            tell()

    async with aipc.RWLock(key) as one, aipc.RWLock(key) as other, anyio.create_task_group() as tasks:
        for lock in (one, other):
            for work in (read, read, write):
                tasks.start_soon(work, lock)


@pytest.mark.costly
def test_rwlock(loop: str, key: str) -> None:
    """Neither a dead holder's share nor a dead waiter's place stays; a process that lives reads and writes on."""

    async def both(lock_key: str) -> None:
        with anyio.fail_after(30):
            async with aipc.RWLock(lock_key, unlink=True) as lock:
                async with lock.writer:
                    pass
                async with lock.reader:
                    pass

    with child("asyncio", storm, key) as survivor:
        survivor.wait_told()
        for _ in range(TIMES):
            with child(loop, storm, key) as victim:
                kill_at_random(victim)
            survivor.forget_told()
            survivor.wait_told(3)
    assert values(key)[1:5] == [0, 0, 0, 0]
    run(loop, both, key)


async def talk(key: str, tell: Tell) -> None:
    """Tasks that wait, and one that notifies them."""

    async def wait(condition: aipc.Condition) -> None:
        async with condition:
            while True:
                await condition.wait()
                tell()

    async with aipc.Condition(key) as condition, anyio.create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(wait, condition)
        while True:
            async with condition:
                condition.notify(2)
            await anyio.sleep(0)


@pytest.mark.costly
def test_condition(loop: str, key: str) -> None:
    """The lock is free, a waiting task's slot, too, and who lives is notified."""

    async def notified(condition_key: str) -> list[int]:
        async def wait(condition: aipc.Condition) -> None:
            async with condition:
                await condition.wait()

        with anyio.fail_after(30):
            async with aipc.Condition(condition_key, unlink=True) as condition, anyio.create_task_group() as tasks:
                tasks.start_soon(wait, condition)
                while not any(0 < value < 0x4000 for value in condition._state.values()[3:]):
                    await anyio.sleep(0)
                async with condition:
                    condition.notify()
            return condition._state._seen[3:]

    with child("asyncio", talk, key) as survivor:
        survivor.wait_told()
        for _ in range(TIMES):
            with child(loop, talk, key) as victim:
                kill_at_random(victim)
            survivor.forget_told()
            survivor.wait_told(3)
    left = values(key)
    assert left[1] == 0
    assert {*left[3:]} <= {0, 0x4000}  # at most notifications that nobody has passed on yet
    assert not any(run(loop, notified, key))


async def meet(key: str, tell: Tell) -> None:
    async with aipc.Barrier(key, 2) as barrier:
        while True:
            await barrier.wait()
            tell()


@pytest.mark.costly
def test_barrier(loop: str, key: str) -> None:
    """A dead party is not counted: the next one takes its place. One that dies while leaving does not block the next round."""

    async def remove(barrier_key: str) -> None:
        async with aipc.Barrier(barrier_key, unlink=True) as barrier:
            assert (barrier.n_waiting, barrier.broken) == (0, False)

    with child("asyncio", meet, key) as survivor:
        for _ in range(TIMES):
            with child(loop, meet, key) as victim:
                kill_at_random(victim)
            survivor.forget_told()
            with child(loop, meet, key) as next_one:
                next_one.wait_told(3)
    assert values(key)[2] == 0
    run(loop, remove, key)


async def flicker(key: str, tell: Tell) -> None:
    async def wait(event: aipc.Event) -> None:
        while True:
            await event.wait()
            tell()
            await anyio.sleep(0)

    async with aipc.Event(key) as event, anyio.create_task_group() as tasks:
        tasks.start_soon(wait, event)
        while True:
            event.set()
            await anyio.sleep(0)
            event.clear()
            await anyio.sleep(0)


@pytest.mark.costly
def test_event(loop: str, key: str) -> None:
    async def works(event_key: str) -> None:
        with anyio.fail_after(30):
            async with aipc.Event(event_key, unlink=True) as event:
                event.clear()
                assert not event.is_set()
                event.set()
                await event.wait()

    with child("asyncio", flicker, key) as survivor:
        for _ in range(TIMES):
            with child(loop, flicker, key) as victim:
                kill_at_random(victim)
            survivor.forget_told()
            survivor.wait_told(3)
    run(loop, works, key)


def test_creators(loop: str, key: str) -> None:
    """One that is killed at any moment of opening leaves nothing that others would wait for."""

    async def make(made_key: str, tell: Tell) -> None:
        tell()
        while True:
            async with aipc.Barrier(made_key, 1, unlink=True):
                pass

    async def works(made_key: str) -> None:
        with anyio.fail_after(30):
            async with aipc.Barrier(made_key, 1, unlink=True) as barrier:
                assert await barrier.wait() == 0

    for _ in range(TIMES):
        with child(loop, make, key) as victim:
            kill_at_random(victim)
        run(loop, works, key)
