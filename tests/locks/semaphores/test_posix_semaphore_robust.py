"""POSIX semaphores with `robust`: who waits takes over from a holder that has died, one at a time, and from nobody else."""

from __future__ import annotations

import os
import signal
import struct
from contextlib import ExitStack
from pathlib import Path

import anyio
import pytest

import aipc
from aipc._sys.holder_record import HolderRecord
from aipc._sys.posix import semaphore as posix
from aipc._sys.processes import Process, has_ended, this_process
from aipc.abc import Lock, Semaphore
from aipc.testing.expect import settle

from ...peers import python, said, tell, wait_ended
from ...peers.posix_semaphore import hammer
from ...subjects import new_name, times

pytestmark = pytest.mark.anyio


@pytest.fixture
def name() -> str:
    return new_name()


def fresh(name: str, **options: object) -> aipc.Opening[Lock]:
    """A new semaphore, which goes when it is closed."""
    return aipc.open_lock(f"posix-sem:{name}?robust=1", exclusive=True, unlink=True, **options)


def value_of(lock: Lock) -> int:
    assert isinstance(lock, Semaphore)
    return lock.value


HOLDERS = """
import asyncio, os, signal, sys, aipc
async def hold():
    lock = await aipc.open_lock(sys.argv[1])
    await lock.acquire()
    print(os.getpid(), flush=True)
    signal.pause()
aipc.open_lock(sys.argv[1])  # imports what each would
for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)
        asyncio.run(hold())
    os.waitpid(pid, 0)
    print("reaped", flush=True)
"""
"""Makes a holder for each line that it is told; all die by the test's hand."""


async def test_killed_holder_lets_a_waiting_task_in(name: str) -> None:
    async with fresh(name) as lock:
        with python(HOLDERS, f"posix-sem:{name}?robust=1") as holders, anyio.fail_after(50):
            for _ in range(times(20, 70)):
                tell(holders, "another")
                pid = int(said(holders))
                assert lock.locked()
                assert lock.holder() == pid
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(lock.acquire)
                    await settle()
                    os.kill(pid, signal.SIGKILL)
                assert lock.holder() == os.getpid()
                assert value_of(lock) == 0
                lock.release()
                assert said(holders) == "reaped"
                assert value_of(lock) == 1


KILLS = times(30, 100)
RIVAL = """
import asyncio, fcntl, itertools, os, random, signal, sys, aipc
async def main():
    inside = os.open(sys.argv[2], os.O_CREAT | os.O_RDWR)
    async with aipc.open_lock(sys.argv[1]) as lock:
        for number in itertools.count():
            await lock.acquire()
            fcntl.flock(inside, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails if somebody else is inside
            os.write(1, b".")
            fcntl.flock(inside, fcntl.LOCK_UN)
            if not number:  # however busy the machine is, each has entered once
                signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-6, 10e-3))
            lock.release()
signal.signal(signal.SIGALRM, signal.SIG_DFL)
aipc.open_lock(sys.argv[1])  # imports what each would
for _ in range(int(sys.argv[3])):
    pid = os.fork()
    if pid == 0:
        try:
            asyncio.run(main())
        finally:
            os._exit(1)
    status = os.waitpid(pid, 0)[1]
    assert status == signal.SIGALRM, status
"""


def test_never_two_holders_and_never_none(name: str, place: Path) -> None:
    """Three lines of processes, each killed at some moment of acquiring, holding and releasing: the others go on, one at a time."""
    posix.create(name, 0o600, 1).close()
    url = f"posix-sem:{name}?robust=1"
    try:
        with ExitStack() as stack:
            lines = [stack.enter_context(python(RIVAL, url, str(place / "inside"), str(KILLS))) for _ in range(3)]
            entered = [len(line.communicate(timeout=60)[0]) for line in lines]
            assert [line.returncode for line in lines] == [0, 0, 0]
            assert min(entered) >= KILLS

        async def is_free() -> None:
            async with aipc.open_lock(url) as lock:
                lock.acquire_nowait()

        anyio.run(is_free)
    finally:
        posix.attach(name).unlink()


async def test_dead_holder_is_no_holder(name: str) -> None:
    """Before anybody takes over: not locked, no holder, though the value is still 0; and plain `acquire_nowait` has it."""
    async with fresh(name) as lock:
        with python(HOLDERS, f"posix-sem:{name}?robust=1") as holders, anyio.fail_after(10):
            tell(holders, "one")
            pid = int(said(holders))
            os.kill(pid, signal.SIGKILL)
            assert said(holders) == "reaped"
            assert (lock.locked(), lock.holder(), value_of(lock)) == (False, None, 0)
            lock.acquire_nowait()
            assert (lock.locked(), lock.holder(), value_of(lock)) == (True, os.getpid(), 0)
            with pytest.raises(anyio.WouldBlock):
                lock.acquire_nowait()
            lock.release()
            assert value_of(lock) == 1


async def test_zombie_has_ended(name: str) -> None:
    """Killed, and not yet reaped by its parent."""
    async with fresh(name) as lock:
        with python("import time; print(1, flush=True); time.sleep(60)") as holder:
            assert said(holder) == "1"
            record(name, proc(holder.pid))
            lock_taken(name)
            assert lock.holder() == holder.pid
            holder.send_signal(signal.SIGKILL)
            wait_ended(holder)
            assert not lock.locked()
            lock.acquire_nowait()


async def test_stopped_holder_holds_on(name: str) -> None:
    async with fresh(name) as lock:
        with python(HOLDERS, f"posix-sem:{name}?robust=1") as holders, anyio.fail_after(10):
            tell(holders, "one")
            pid = int(said(holders))
            os.kill(pid, signal.SIGSTOP)
            with anyio.move_on_after(0.05) as scope:
                await lock.acquire()
            assert scope.cancelled_caught
            assert lock.holder() == pid
            os.kill(pid, signal.SIGKILL)
            await lock.acquire()


def lock_taken(name: str) -> None:
    """Take it as one who keeps no record."""
    semaphore = posix.attach(name)
    semaphore.take()
    semaphore.close()


def record(name: str, process: Process) -> None:
    written = HolderRecord(posix.path_of(name))
    written.write(process)
    written.close()


def recorded(name: str) -> Process | None:
    read = HolderRecord(posix.path_of(name))
    try:
        return read.read()
    finally:
        read.close()


def proc(pid: int) -> Process:
    """As /proc has it, read in another way than the code under test does."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return Process(pid, int(fields[19]), os.stat(f"/proc/{pid}/ns/pid").st_ino)


async def test_record_is_three_numbers_behind_the_semaphore(name: str) -> None:
    """The bytes that the reference page promises to other programs."""
    async with fresh(name) as lock, lock:
        data = Path(posix.path_of(name)).read_bytes()
        assert struct.unpack_from("=QQQ", data, 64) == proc(os.getpid())
        assert this_process() == proc(os.getpid())


async def test_number_that_another_process_has_by_now(name: str) -> None:
    """A pid comes again; the time of the start tells."""
    async with fresh(name) as lock:
        me = this_process()
        lock_taken(name)
        record(name, me)
        assert lock.holder() == me.pid
        with pytest.raises(anyio.WouldBlock):
            lock.acquire_nowait()
        record(name, me._replace(start=me.start - 2))  # a start is exact to one tick, across time namespaces
        assert lock.holder() is None
        lock.acquire_nowait()


async def test_holder_in_another_pid_namespace(name: str) -> None:
    """Its number means nothing here: it may live, so nobody takes over."""
    async with fresh(name) as lock:
        lock_taken(name)
        record(name, this_process()._replace(start=1, namespace=1))
        assert lock.locked()
        assert lock.holder() is None
        with pytest.raises(anyio.WouldBlock):
            lock.acquire_nowait()


@pytest.mark.parametrize("value", [0, 1])
async def test_killed_between_its_steps(value: int, name: str) -> None:
    """Who has written itself down and is killed before it takes (1), or just after that (0), leaves it to the next, once."""
    async with fresh(name) as lock:
        if not value:
            lock_taken(name)
        record(name, this_process()._replace(start=1))
        async with aipc.open_lock(f"posix-sem:{name}", robust=True) as other:
            other.acquire_nowait()
            with pytest.raises(anyio.WouldBlock):
                lock.acquire_nowait()
            other.release()
            assert value_of(lock) == 1


async def test_taken_without_a_record(name: str) -> None:
    """Nobody can say who it was, so nobody takes over."""
    async with fresh(name) as lock:
        lock_taken(name)
        assert lock.locked()
        assert lock.holder() is None
        with pytest.raises(anyio.WouldBlock):
            lock.acquire_nowait()


async def test_somebody_without_a_record_is_quicker(name: str) -> None:
    """Who did not get it does not stand in the record."""
    async with fresh(name) as lock:
        with hammer(name), anyio.fail_after(30):
            for _ in range(2_000):
                try:
                    lock.acquire_nowait()
                except anyio.WouldBlock:
                    assert recorded(name) is None
                else:
                    lock.release()
                    record(name, Process(0, 0, 0))


async def test_guarded_by_another(name: str) -> None:
    """While another process is at the record, it would block; when that has gone, however, it does not."""
    async with fresh(name) as lock:
        guard = HolderRecord(posix.path_of(name))
        with guard.guarded(), pytest.raises(anyio.WouldBlock):
            lock.acquire_nowait()
        guard.close()
        lock.acquire_nowait()


async def test_only_for_a_lock(name: str) -> None:
    for options in ({"value": 2}, {"value": 0}, {"counter": True}):
        with pytest.raises(aipc.AddressError, match="robust"):
            await aipc.open_lock(f"posix-sem:{name}?robust=1", create=True, **options)
    async with aipc.open_lock(f"posix-sem:{name}", exclusive=True, unlink=True, value=2):
        with pytest.raises(aipc.WrongObject, match="robust"):
            await aipc.open_lock(f"posix-sem:{name}?robust=1", unlink=True)
        async with aipc.open_lock(f"posix-sem:{name}"):
            pass  # was not removed
    async with fresh(name) as lock:
        assert isinstance(lock, Semaphore)
        with pytest.raises(ValueError, match="n=2"):
            await lock.acquire(2)


def test_this_process_lives() -> None:
    assert not has_ended(this_process())
    assert has_ended(this_process()._replace(pid=(1 << 22) + 1))
