"""A program that sets the values of a primitive's set by SETVAL: an error that says so, and nothing waits for ever."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import pytest

import aipc
from aipc._sys.sysv.semaphore import SemaphoreSet
from aipc.testing.expect import until

from .family import values

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _does_not_spin() -> Iterator[None]:
    """A loop that spins in one step can't be cancelled."""
    before = signal.signal(signal.SIGALRM, lambda *_: pytest.fail("spins"))
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def set_by_hand(key: str, index: int, value: int) -> None:
    SemaphoreSet(int(key, 16), 0, 0).set_value(index, value)


HELD: dict[str, tuple[Callable[[str], Any], Callable[[Any], Any], int]] = {
    "condition": (lambda key: aipc.Condition(key, unlink=True), lambda condition: condition, 1),
    "reader": (lambda key: aipc.RWLock(key, unlink=True), lambda lock: lock.reader, 1),
    "writer": (lambda key: aipc.RWLock(key, unlink=True), lambda lock: lock.writer, 2),
}


@pytest.mark.parametrize("kind", HELD)
async def test_what_is_held_is_gone(kind: str, key: str) -> None:
    """Released, it would have to be less than nothing."""
    opened, side, index = HELD[kind]
    with anyio.fail_after(20):
        async with opened(key) as one:
            await side(one).acquire()
            assert values(key)[index] == 1
            set_by_hand(key, index, 0)
            with pytest.raises(
                aipc.WrongObject, match=rf"{key}.*semaphore {index} of set \d+ is 0.*another program has set it.*ipcrm -s"
            ):
                side(one).release()


async def test_who_waits_can_still_give_up(key: str) -> None:
    with anyio.fail_after(20):
        async with aipc.Barrier(key, 2, unlink=True) as barrier, aipc.RWLock(f"{int(key, 16) ^ 1 << 29}", unlink=True) as lock:
            await lock.writer.acquire()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(barrier.wait)
                tasks.start_soon(lock.reader.acquire)
                await until(lambda: barrier.n_waiting and lock._state.values()[3])
                set_by_hand(key, 2, 0)
                set_by_hand(f"{int(key, 16) ^ 1 << 29:#x}", 3, 0)
                tasks.cancel_scope.cancel()
            assert barrier.n_waiting == 0
            lock.writer.release()


async def test_closing_takes_back_what_is_still_there(key: str) -> None:
    with anyio.fail_after(20):
        async with aipc.RWLock(key, unlink=True):
            other = await aipc.RWLock(key)
            await other.reader.acquire()
            with anyio.move_on_after(0.01):
                await other.writer.acquire()
            await other.reader.acquire()
            set_by_hand(key, 1, 1)
            async with anyio.create_task_group() as tasks:

                async def expect_closed() -> None:
                    with pytest.raises(anyio.ClosedResourceError):
                        await other.writer.acquire()

                tasks.start_soon(expect_closed)
                await until(lambda: values(key)[4] == 1)
                await other.aclose()
            assert values(key)[2:5] == [0, 0, 0]


async def test_an_event_of_a_strange_value_is_set_at_once(key: str) -> None:
    with anyio.fail_after(20):
        async with aipc.Event(key, unlink=True) as event:
            set_by_hand(key, 1, 5)
            assert not event.is_set()
            event.set()
            assert event.is_set()
            await event.wait()
