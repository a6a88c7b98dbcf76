"""The promises of every Lock, as checks: each is an async function of a `LockSubject`, and raises if a promise is broken."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

import anyio
import anyio.lowlevel

from aipc.abc import Lock
from aipc.exceptions import ForkedError

from .expect import at_once, check, in_child, raises, settle, within


@dataclass(frozen=True)
class LockSubject:
    """How to open a lock, and what it can do.

    open_two     opens two objects for the same lock, as two processes would
    url          the URL of the same lock for another process
    dies_free    whether the kernel frees the lock when its holder is killed
    tells        whether `holder` returns a pid
    """

    open_two: Callable[[], AbstractAsyncContextManager[tuple[Lock, Lock]]]
    url: str
    dies_free: bool = True
    tells: bool = True


_HOLD = """
import sys, aipc, anyio
async def main():
    async with aipc.open_lock(sys.argv[1]) as lock, lock:
        print("held", flush=True)
        await anyio.to_thread.run_sync(sys.stdin.read)
anyio.run(main)
"""


def holding_process(url: str) -> subprocess.Popen[str]:
    """Start a Python process that holds the lock until its standard input ends."""
    process = subprocess.Popen([sys.executable, "-c", _HOLD, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = process.stdout.readline()
    check(said == "held\n", f"the other process could not take the lock: {said!r}")
    return process


def end(process: subprocess.Popen[str]) -> None:
    """Let the process release the lock, and reap it."""
    process.communicate()


async def excludes(subject: LockSubject) -> None:
    """Two objects exclude each other, as two processes do."""
    async with subject.open_two() as (one, other):
        await one.acquire()
        with raises(anyio.WouldBlock):
            other.acquire_nowait()
        one.release()
        other.acquire_nowait()
        with raises(anyio.WouldBlock):
            one.acquire_nowait()
        other.release()


async def excludes_tasks(subject: LockSubject) -> None:
    """Two tasks exclude each other on one object, and on two."""
    async with subject.open_two() as (one, other):
        inside = most = 0

        async def enter(lock: Lock) -> None:
            nonlocal inside, most
            for _ in range(20):
                async with lock:
                    inside += 1
                    most = max(most, inside)
                    await anyio.lowlevel.checkpoint()
                    inside -= 1

        async with anyio.create_task_group() as tasks:
            for lock in (one, one, other):
                tasks.start_soon(enter, lock)
        check(most == 1, f"{most} tasks were inside at once")


async def hands_over(subject: LockSubject) -> None:
    """A waiting task gets the lock when it is released."""
    async with subject.open_two() as (one, other):
        await one.acquire()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(other.acquire)
            await settle()
            one.release()
        with raises(anyio.WouldBlock):
            one.acquire_nowait()
        other.release()


async def refuses_unheld_release(subject: LockSubject) -> None:
    """Releasing a lock that is not held is RuntimeError, also while another object holds it."""
    async with subject.open_two() as (one, other):
        with raises(RuntimeError):
            one.release()
        async with one:
            with raises(RuntimeError):
                other.release()
        with raises(RuntimeError):
            one.release()


async def tells_its_state(subject: LockSubject) -> None:
    """`locked`, `holder`, `repr`."""
    async with subject.open_two() as (one, other):
        check(not one.locked() and one.holder() is None, "free, but locked() or holder() say otherwise")
        async with one:
            check(one.locked() and other.locked(), "held, but not locked()")
            if subject.tells:
                check(one.holder() == other.holder() == os.getpid(), f"holder() is {other.holder()}, not {os.getpid()}")
        check(not other.locked(), "released, but locked()")
        check(type(one).__name__ in repr(one), f"repr {one!r}")


async def cancels_clean(subject: LockSubject) -> None:
    """A cancelled acquire does not hold the lock, and does not wait any more."""
    async with subject.open_two() as (one, other):
        await one.acquire()
        for _ in range(5):
            with anyio.move_on_after(0.001):
                await other.acquire()
                check(False, "two holders")
        one.release()
        await settle()
        one.acquire_nowait()
        one.release()
        with raises(RuntimeError):
            other.release()


async def closes_free(subject: LockSubject) -> None:
    """Closing releases; it is idempotent, also when cancelled; using a closed lock is ClosedResourceError."""
    async with subject.open_two() as (one, other):
        await one.acquire()
        with anyio.CancelScope() as scope:
            scope.cancel()
            await one.aclose()
        await one.aclose()
        other.acquire_nowait()
        with raises(anyio.ClosedResourceError):
            await one.acquire()
        with raises(anyio.ClosedResourceError):
            one.acquire_nowait()
        with raises(anyio.ClosedResourceError):
            one.release()
        with raises(anyio.ClosedResourceError):
            one.locked()


async def closes_under_waiters(subject: LockSubject) -> None:
    """A task that waits when its lock is closed gets ClosedResourceError."""
    async with subject.open_two() as (one, other), anyio.create_task_group() as tasks:

        async def expect_closed() -> None:
            with raises(anyio.ClosedResourceError):
                await other.acquire()

        await one.acquire()
        tasks.start_soon(expect_closed)
        await settle()
        await other.aclose()


async def refuses_after_fork(subject: LockSubject) -> None:
    """Any use of an inherited lock in a forked child is ForkedError; the parent still holds it, or waits. Closing does nothing."""
    async with subject.open_two() as (one, other):

        def use() -> None:
            with raises(ForkedError):
                one.release()
            with raises(ForkedError):
                other.acquire_nowait()
            for lock in (one, other):
                with raises(ForkedError):
                    at_once(lock.acquire)
                with raises(ForkedError):
                    lock.locked()
                with raises(ForkedError):
                    lock.holder()
            for lock in (one, other):
                at_once(lock.aclose)

        await one.acquire()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(within, other.acquire)
            await settle()
            in_child(use)
            check(one.locked(), "the child's attempt released its parent's lock")
            with raises(anyio.WouldBlock):
                one.acquire_nowait()
            one.release()
        other.release()


async def excludes_processes(subject: LockSubject) -> None:
    """A task waits for another process's lock, and gets it when it is released."""
    async with subject.open_two() as (one, _):
        process = holding_process(subject.url)
        try:
            with raises(anyio.WouldBlock):
                one.acquire_nowait()
            if subject.tells:
                check(one.holder() == process.pid, f"holder() is {one.holder()}, not {process.pid}")
        finally:
            end(process)
        await within(one.acquire)
        one.release()


async def outlives_its_holder(subject: LockSubject) -> None:
    """A killed holder's lock is free again, and a waiting task gets it."""
    if not subject.dies_free:
        return
    async with subject.open_two() as (one, _):
        process = holding_process(subject.url)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(within, one.acquire)
            await settle()
            process.send_signal(signal.SIGKILL)
            process.communicate()
        one.release()


LOCK_CHECKS: tuple[Callable[[LockSubject], Awaitable[None]], ...] = (
    excludes,
    excludes_tasks,
    hands_over,
    refuses_unheld_release,
    tells_its_state,
    cancels_clean,
    closes_free,
    closes_under_waiters,
    refuses_after_fork,
    excludes_processes,
    outlives_its_holder,
)
