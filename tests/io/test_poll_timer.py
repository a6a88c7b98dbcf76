"""The clock: all polled waits of a loop share one timer, and look less often the more of them there are."""

from __future__ import annotations

import asyncio
import fcntl
import os
import resource
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from math import inf
from pathlib import Path
from time import monotonic

import anyio
import pytest
import trio
import uvloop

import aipc
from aipc._io import polling
from aipc._io.poll_timer import (
    LONG_WAITS_SHARE,
    LONGEST_STRETCH,
    POLL_PRICE,
    SHARED_TICK,
    SHORT_WAITS_SHARE,
    PollTimer,
    poll_timer,
)
from aipc.abc import Lock
from aipc.testing.expect import settle, until

from ..peers import process, python, said
from .waiters import CHILD

pytestmark = pytest.mark.usefixtures("all_features")

RUNNERS: dict[str, Callable[[Callable[[], Awaitable[object]]], object]] = {
    "asyncio": lambda main: asyncio.run(main()),
    "uvloop": lambda main: uvloop.run(main()),
    "trio": trio.run,
}


@contextmanager
def running_clock() -> Iterator[PollTimer]:
    """This loop's clock, which stays as long as it is used."""
    used = poll_timer()
    try:
        yield used
    finally:
        used.release()


def timers() -> int:
    """How many timer descriptors this process has."""
    links = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}")]
    return sum(link == "anon_inode:[timerfd]" for link in links)


async def take(lock: Lock) -> None:
    async with lock:
        pass


@pytest.mark.anyio
async def test_many_waits_share_one_timer(place: Path) -> None:
    """A wait more takes no descriptor more; all of them come through; the last to close gives the timer back."""
    files = len(os.listdir("/proc/self/fd"))
    async with AsyncExitStack() as stack:
        held = [await stack.enter_async_context(aipc.open_lock(f"flock:{place}/{number}")) for number in range(20)]
        waiting = [await stack.enter_async_context(aipc.open_lock(f"flock:{place}/{number}")) for number in range(20)]
        for lock in held:
            lock.acquire_nowait()
        before = len(os.listdir("/proc/self/fd"))
        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(take, waiting[0])
                await settle()
                shared = len(os.listdir("/proc/self/fd"))
                assert timers() == 1
                for lock in waiting[1:]:
                    tasks.start_soon(take, lock)
                await settle()
                assert len(os.listdir("/proc/self/fd")) == shared
                for lock in held:
                    lock.release()
        assert before < shared
    assert timers() == 0
    assert len(os.listdir("/proc/self/fd")) == files


class Idle:
    """A wait that never ends."""

    def __init__(self, long_waiting: bool) -> None:
        self.due = inf
        self.long_waiting = long_waiting
        self.price = POLL_PRICE

    def poll(self) -> float | None:
        return 1.0


@pytest.mark.anyio
@pytest.mark.parametrize(("long_waiting", "share"), [(False, SHORT_WAITS_SHARE), (True, LONG_WAITS_SHARE)])
async def test_pauses_stretch(long_waiting: bool, share: float) -> None:
    """The looks of N waits, all together, take no more than their share of a processor; a few keep their pauses."""
    with running_clock() as used:
        waits = [Idle(long_waiting) for _ in range(2_000)]
        pauses = []
        for wait in waits:
            used.schedule(wait, 1e-3)
            pauses.append(wait.due - monotonic())
        assert pauses[0] < SHARED_TICK
        for others in (100, 500, 1_000, 1_999):
            stretched = min(others * POLL_PRICE * 1e-9 / share, LONGEST_STRETCH)
            assert stretched / 2 - 1e-3 <= pauses[others] <= stretched  # they end on common instants, early rather than late
        for wait in waits:
            used.cancel(wait)
        used.schedule(waits[0], 1e-3)
        assert waits[0].due - monotonic() < SHARED_TICK  # nobody else waits any more
        used.cancel(waits[0])


@pytest.mark.anyio
async def test_young_and_old_waits_are_counted_apart() -> None:
    """A thousand idle waits do not make a new one slow."""
    with running_clock() as used:
        crowd = [Idle(long_waiting=True) for _ in range(1_000)]
        for wait in crowd:
            used.schedule(wait, 0.1)
        young = Idle(long_waiting=False)
        used.schedule(young, 1e-3)
        assert young.due - monotonic() < SHARED_TICK
        for wait in (*crowd, young):
            used.cancel(wait)


@pytest.mark.anyio
async def test_long_pauses_end_on_common_instants() -> None:
    """So that many waits cost one wake-up; none is longer than asked for, nor shorter than half of it."""
    with running_clock() as used:
        waits = [Idle(long_waiting=True) for _ in range(10)]
        for wait in waits:
            used.schedule(wait, 0.1)
            assert 0.05 - 1e-3 <= wait.due - monotonic() <= 0.1
        assert len({wait.due for wait in waits}) <= 2
        for wait in waits:
            used.cancel(wait)


@pytest.mark.anyio
async def test_cancelled_and_closed_waits_are_forgotten(place: Path) -> None:
    """The next look is the last of a cancelled one; a closed one needs none."""
    with running_clock() as used:
        async with aipc.open_lock(f"flock:{place}/lock") as held, aipc.open_lock(f"flock:{place}/lock") as waiting:
            held.acquire_nowait()
            for _ in range(2):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(waiting.acquire)
                    await settle()
                    tasks.cancel_scope.cancel()
            with anyio.fail_after(30):
                while any(wait.due < inf for _, _, wait in used._heap):
                    await anyio.sleep(0)
            assert used._prices == {False: 0, True: 0}

            async def closed() -> None:
                with pytest.raises(anyio.ClosedResourceError):
                    await waiting.acquire()

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(closed)
                await until(lambda: used._prices[False] > 0)
                await waiting.aclose()
                assert used._prices == {False: 0, True: 0}
        assert used.users == 1


@pytest.mark.parametrize("second", RUNNERS)
@pytest.mark.parametrize("first", RUNNERS)
def test_a_loop_that_is_over(first: str, second: str, place: Path) -> None:
    """What was never closed there has no timer and no bell any more when the next loop waits; closed late, it does no harm."""
    left: list[Lock] = []

    async def leave_open() -> None:
        left.extend([await aipc.open_lock(f"flock:{place}/lock") for _ in range(2)])
        left[0].acquire_nowait()
        with anyio.move_on_after(0.01):
            await left[1].acquire()

    async def wait_and_close() -> None:
        async with aipc.open_lock(f"flock:{place}/other") as one, aipc.open_lock(f"flock:{place}/other") as other:
            one.acquire_nowait()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(take, other)
                await settle()
                assert timers() == 1
                one.release()
            for lock in left:
                await lock.aclose()

    RUNNERS[first](leave_open)
    RUNNERS[second](wait_and_close)


@pytest.mark.parametrize("loop", RUNNERS)
def test_waits_on_in_the_next_loop(loop: str, place: Path) -> None:
    """A lock that is waited for in one loop after another."""
    locks: list[Lock] = []

    async def wait() -> None:
        if not locks:
            locks.extend([await aipc.open_lock(f"flock:{place}/lock") for _ in range(2)])
        locks[0].acquire_nowait()
        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(take, locks[1])
                await settle()
                locks[0].release()

    async def close() -> None:
        for lock in locks:
            await lock.aclose()

    for _ in range(3):
        RUNNERS[loop](wait)
    RUNNERS[loop](close)


AFTERWARDS = (
    CHILD
    + """
import resource, time
async def main():
    async with aipc.open_lock(sys.argv[2]) as one, aipc.open_lock(sys.argv[2]) as other:
        one.acquire_nowait()
        with anyio.move_on_after(0.2):
            await other.acquire()
        await anyio.sleep(0.3)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw
        await anyio.sleep(0.5)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw - before, flush=True)
start(sys.argv[1], main)
"""
)


@pytest.mark.parametrize("loop", RUNNERS)
def test_no_wake_ups_once_nobody_waits(loop: str, place: Path) -> None:
    """The process sleeps once: for the clock that ends the half second."""
    with python(AFTERWARDS, loop, f"flock:{place}/lock") as idle:
        assert int(said(idle)) <= 3


QUIET = (
    CHILD
    + """
async def main():
    async with aipc.open_lock(sys.argv[2]) as it:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(it.acquire)
            while not parked():
                await anyio.sleep(0)
            print(sum(os.readlink(f"/proc/self/fd/{fd}") == "anon_inode:[timerfd]" for fd in range(3, 20)
                if os.path.exists(f"/proc/self/fd/{fd}")), flush=True)
    print("acquired", flush=True)
start(sys.argv[1], main)
"""
)


@pytest.mark.parametrize("loop", RUNNERS)
def test_without_timerfd(loop: str, place: Path) -> None:
    """AIPC_DISABLE=timerfd: the loop's own timer does, without a doorbell, too."""
    path = f"{place}/lock"
    with open(path, "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        code = sys.executable, "-c", QUIET, loop, f"flock:{path}"
        with process("env", "AIPC_DISABLE=timerfd,doorbell", *code) as waiter:
            assert said(waiter) == "0"
            fcntl.flock(held, fcntl.LOCK_UN)
            assert said(waiter) == "acquired"


@pytest.mark.anyio
async def test_no_descriptor_to_be_had(place: Path) -> None:
    """A wait begins all the same: by the loop's own timer, and without a bell."""
    async with aipc.open_lock(f"flock:{place}/lock") as held, aipc.open_lock(f"flock:{place}/lock") as waiting:
        held.acquire_nowait()
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                highest = max(map(int, os.listdir("/proc/self/fd")))
                filling = [os.dup(0) for _ in range(highest)]
                resource.setrlimit(resource.RLIMIT_NOFILE, (1 + max(filling), limits[1]))
                try:
                    tasks.start_soon(take, waiting)
                    await settle()
                finally:
                    resource.setrlimit(resource.RLIMIT_NOFILE, limits)
                    for fd in filling:
                        os.close(fd)
                held.release()


def test_the_ladder_of_pauses() -> None:
    """As documented: from 50 µs, doubling, to 10 ms, and to 100 ms after a second."""
    assert (polling.FIRST_PAUSE, polling.RUNG_PAUSE, polling.LONG_PAUSE, polling.LONGEST_PAUSE) == (50e-6, 3e-3, 10e-3, 100e-3)
