"""RWLock: who may be inside with whom, and that nobody starves."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio
import pytest

import aipc
from aipc.abc import Lock
from aipc.locks import base
from aipc.testing import LOCK_CHECKS, LockSubject
from aipc.testing.expect import settle, until

from ..peers import python, said

pytestmark = pytest.mark.anyio

BY_URL = {"excludes_processes", "outlives_its_holder"}  # they open it by open_lock elsewhere


@pytest.mark.parametrize("check", [check for check in LOCK_CHECKS if check.__name__ not in BY_URL], ids=lambda c: c.__name__)
async def test_writers_keep_the_promises_of_locks(check: Callable[[LockSubject], Awaitable[None]], key: str) -> None:
    @asynccontextmanager
    async def open_two() -> AsyncIterator[tuple[Lock, Lock]]:
        async with aipc.RWLock(key, unlink=True), aipc.RWLock(key) as one, aipc.RWLock(key) as other:
            yield one.writer, other.writer

    with anyio.fail_after(60):
        await check(LockSubject(open_two, key, tells=False))


async def test_who_may_be_inside(key: str) -> None:
    with anyio.fail_after(20):
        async with aipc.RWLock(key, unlink=True) as one, aipc.RWLock(key) as other:
            async with one.reader, one.reader, other.reader:
                assert one.reader.locked()
                assert not one.writer.locked()
                with pytest.raises(anyio.WouldBlock):
                    other.writer.acquire_nowait()
                with pytest.raises(RuntimeError, match="does not hold"):
                    one.writer.release()
            async with other.writer:
                for side in (one.reader, other.reader, one.writer, other.writer):
                    with pytest.raises(anyio.WouldBlock):
                        side.acquire_nowait()
                with pytest.raises(RuntimeError):
                    one.reader.release()
            assert one.writer.holder() is None
            assert "reader of" in repr(one.reader)


async def test_a_waiting_writer_goes_before_later_readers(key: str) -> None:
    """And readers that wait go before the next writer."""
    with anyio.fail_after(20):
        async with aipc.RWLock(key, unlink=True) as one, aipc.RWLock(key) as other, anyio.create_task_group() as tasks:
            order: list[str] = []

            async def enter(side: Lock, name: str) -> None:
                async with side:
                    order.append(name)
                    await settle()

            await one.reader.acquire()
            tasks.start_soon(enter, other.writer, "writer")
            await until(lambda: one._state.values()[4] == 1)
            with pytest.raises(anyio.WouldBlock):
                other.reader.acquire_nowait()
            tasks.start_soon(enter, one.reader, "reader")
            await until(lambda: one._state.values()[3] == 1)
            tasks.start_soon(enter, one.writer, "second writer")
            await until(lambda: one._state.values()[4] == 2)
            assert order == []
            one.reader.release()
            await until(lambda: len(order) == 3)
            assert order.index("reader") == 1  # whichever writer was first


async def test_whose_turn(key: str) -> None:
    """Who comes newly, when a reader and a writer wait, and it is the one's turn or the other's."""
    with anyio.fail_after(20):
        async with aipc.RWLock(key, unlink=True) as lock, aipc.SysVSemaphoreSet(key) as row:
            for turn, may, may_not in ((0, lock.writer, lock.reader), (1, lock.reader, lock.writer)):
                row.set_values([row.values[0], 0, 0, 1, 1, turn])
                with pytest.raises(anyio.WouldBlock):
                    may_not.acquire_nowait()
                may.acquire_nowait()
                may.release()
            row.set_values([row.values[0], 0, 0, 0, 1, 1])  # the readers whose turn it was are dead
            with pytest.raises(anyio.WouldBlock):
                lock.reader.acquire_nowait()
            lock.writer.acquire_nowait()
            lock.writer.release()


async def test_another_task_saw_the_change_first(key: str) -> None:
    """What one task finds is not good enough for it wakes another of the same object, for which it is."""
    with anyio.fail_after(20):
        async with aipc.RWLock(key, unlink=True) as one, aipc.RWLock(key) as other, anyio.create_task_group() as tasks:
            await other.writer.acquire()
            tasks.start_soon(one.reader.acquire)
            await until(lambda: other._state.values()[3] == 1)
            await until(lambda: one._state.polling.waiting)
            other.writer.release()
            other.reader.acquire_nowait()
            with pytest.raises(anyio.WouldBlock):
                one.writer.acquire_nowait()


async def test_invariant(key: str) -> None:
    """Never a writer with anybody else, whatever is cancelled."""
    readers = writers = rounds = 0
    with anyio.fail_after(60):
        async with aipc.RWLock(key, unlink=True) as one, aipc.RWLock(key) as other:

            async def read(side: Lock) -> None:
                nonlocal readers
                for number in range(60):
                    with anyio.move_on_after(0.0002 * (number % 4)):
                        async with side:
                            readers += 1
                            try:
                                assert not writers
                                await anyio.sleep(0)
                            finally:
                                readers -= 1

            async def write(side: Lock) -> None:
                nonlocal writers, rounds
                for _ in range(60):
                    async with side:
                        writers += 1
                        assert (readers, writers) == (0, 1)
                        await anyio.sleep(0)
                        writers -= 1
                        rounds += 1

            async with anyio.create_task_group() as tasks:
                for lock in (one, other):
                    tasks.start_soon(read, lock.reader)
                    tasks.start_soon(read, lock.reader)
                    tasks.start_soon(write, lock.writer)
            assert rounds == 120
            assert one._state.values()[1:5] == [0] * 4


BUSY = """
import anyio, sys, aipc
async def use(side):
    while True:
        async with side:
            await anyio.sleep(0.002)
async def main():
    async with aipc.RWLock(sys.argv[1]) as lock, anyio.create_task_group() as tasks:
        print("begins", flush=True)
        for _ in range(3):
            tasks.start_soon(use, getattr(lock, sys.argv[2]))
anyio.run(main)
"""


@pytest.mark.parametrize("others", ["reader", "writer"])
@pytest.mark.parametrize("side", ["reader", "writer"])
async def test_nobody_starves(side: str, others: str, key: str) -> None:
    """Twenty times each, against a process whose readers, or writers, take turns without a gap."""
    with anyio.fail_after(60):
        async with aipc.RWLock(key, unlink=True) as lock:
            with python(BUSY, key, others) as peer:
                assert said(peer) == "begins"
                for _ in range(20):
                    async with getattr(lock, side):
                        await anyio.sleep(0.001)


async def test_writers_of_several_objects_take_turns(key: str) -> None:
    """A writer that has had a whole turn and comes again at once finds that another one waits, and lets it go first."""
    entered = 0
    with anyio.fail_after(20):
        async with aipc.RWLock(key, unlink=True) as one, aipc.RWLock(key) as other, anyio.create_task_group() as tasks:

            async def enter() -> None:
                nonlocal entered
                async with other.writer:
                    entered += 1

            await one.writer.acquire()
            for turn in range(3):
                tasks.start_soon(enter)
                await until(lambda: one._state.values()[4] == 1)
                await anyio.sleep(1.2 * base.TURN * 2**turn)  # turns double, as far as can be seen nobody took it
                one.writer.release()
                await one.writer.acquire()
                assert entered == turn + 1


async def test_closing_gives_all_back(key: str) -> None:
    with anyio.fail_after(20):
        async with aipc.RWLock(key, unlink=True) as one, anyio.create_task_group() as tasks:
            other = await aipc.RWLock(key)
            await other.reader.acquire()
            await other.reader.acquire()

            async def expect_closed() -> None:
                with pytest.raises(anyio.ClosedResourceError):
                    await other.writer.acquire()

            tasks.start_soon(expect_closed)
            await until(lambda: one._state.values()[1:5] == [2, 0, 0, 1])
            await other.writer.aclose()
            assert one._state.values()[1:5] == [0] * 4
            await one.writer.acquire()
            one.remove()
            with pytest.raises(aipc.ObjectRemoved):
                await one.reader.acquire()
            with pytest.raises(aipc.ObjectRemoved):
                one.writer.release()
