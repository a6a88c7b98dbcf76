"""The record of a robust POSIX semaphore's holder: what may stand there, and which process is meant, in whatever namespace."""

from __future__ import annotations

import os
import resource
import signal
import struct
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import anyio
import pytest

import aipc
from aipc._sys.posix import semaphore as posix
from aipc._sys.processes import has_ended, this_process
from aipc.abc import Lock, Semaphore
from aipc.testing.expect import settle

from ...peers import process, run, said
from ...subjects import new_name

pytestmark = pytest.mark.anyio


@pytest.fixture
def name() -> str:
    return new_name()


def fresh(name: str) -> aipc.Opening[Lock]:
    """A new semaphore, which goes when it is closed."""
    return aipc.open_lock(f"posix-sem:{name}?robust=1", exclusive=True, unlink=True)


def write_record(name: str, *numbers: int) -> None:
    """As another program would that may use the semaphore."""
    with open(posix.path_of(name), "r+b") as file:
        file.seek(64)
        file.write(struct.pack("=QQQ", *numbers))


HERE = os.stat("/proc/self/ns/pid").st_ino
BAD = {
    "pid beyond C's int": (1 << 40, 1, HERE),
    "pid beyond long": ((1 << 64) - 1, 1, HERE),
    "pid beyond the kernel's": ((1 << 22) + 1, 1, HERE),
    "start beyond all machines": (os.getpid(), 1 << 62, HERE),
    "nobody": (0, 1, HERE),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
async def test_what_can_be_no_process_is_nobody(bad: tuple[int, int, int], name: str) -> None:
    """Nobody takes over, a waiting task waits on, and so does everything else on its loop."""
    with anyio.fail_after(20):
        async with fresh(name) as lock, aipc.open_lock(f"posix-sem:{name}?robust=1") as other:
            async with aipc.open_channel("sysv-mq:private") as queue, anyio.create_task_group() as tasks:
                await lock.acquire()
                write_record(name, *bad)
                assert other.locked()
                assert other.holder() is None
                with pytest.raises(anyio.WouldBlock):
                    other.acquire_nowait()
                tasks.start_soon(other.acquire)
                tasks.start_soon(queue.receive)
                await settle()
                await anyio.sleep(0.02)  # for a look of the timer that serves both
                await queue.send(b"the loop still waits for other things")
                assert isinstance(lock, Semaphore)
                assert lock.value == 0
                lock.release()
            assert other.holder() == os.getpid()


async def test_number_that_a_thread_has_by_now(name: str) -> None:
    """The holder has ended, and the kernel has given its pid to a thread of some other process."""
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    try:
        async with fresh(name) as lock:
            semaphore = posix.attach(name)
            semaphore.take()
            semaphore.close()
            write_record(name, thread.native_id or 0, 1, HERE)
            assert not lock.locked()
            lock.acquire_nowait()
            assert lock.holder() == os.getpid()
    finally:
        done.set()
        thread.join()


IN_ANOTHER_TIME = ("unshare", "--user", "--map-root-user", "--time", "--boottime")

ASK = """
import anyio, sys, aipc
async def main():
    async with aipc.open_lock(sys.argv[1]) as lock:
        print(lock.locked(), lock.holder())
        try:
            lock.acquire_nowait()
            print("taken")
        except anyio.WouldBlock:
            print("held")
anyio.run(main)
"""


@pytest.mark.parametrize("shift", ["forwards", "to the boot"])
async def test_holder_seen_from_another_time_namespace(shift: str, name: str) -> None:
    """There, all processes seem to have started at another time, or even before the machine did."""
    url = f"posix-sem:{name}?robust=1"
    seconds = "1000" if shift == "forwards" else str(-int(time.clock_gettime(time.CLOCK_BOOTTIME)))
    async with fresh(name) as lock, lock:
        answer = run(*IN_ANOTHER_TIME, seconds, sys.executable, "-c", ASK, url)
        assert answer.split() == ["True", str(os.getpid()), "held"]


HOLD = """
import anyio, os, signal, sys, aipc
async def main():
    signal.alarm(60)
    async with aipc.open_lock(sys.argv[1]) as lock:
        lock.acquire_nowait()
        print(os.getpid(), flush=True)
        await anyio.sleep_forever()
anyio.run(main)
"""


async def test_holder_in_another_time_namespace(name: str) -> None:
    """It holds on as long as it lives; the time of its start still tells it from a later process with its number."""
    with anyio.fail_after(30):
        async with fresh(name) as lock:
            with process(*IN_ANOTHER_TIME, "1000", sys.executable, "-c", HOLD, f"posix-sem:{name}?robust=1") as holder:
                pid = int(said(holder))
                assert lock.holder() == pid
                with pytest.raises(anyio.WouldBlock):
                    lock.acquire_nowait()
                with open(posix.path_of(name), "rb") as file:
                    file.seek(64)
                    written, start, _ = struct.unpack("=QQQ", file.read(24))
                shown = int(Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[19])
                assert written == pid
                assert abs(start - shown) <= 1
                os.kill(pid, signal.SIGKILL)
                await lock.acquire()


OUTSIDE_PROC = """
import anyio, os, sys, aipc
from aipc._sys.processes import Process, has_ended, this_process
pid = os.fork()
if not pid:
    os.read(0, 1)
    os._exit(0)
me = this_process()
shown = int(open("/proc/self/stat").read().rpartition(") ")[2].split()[19])
print(me.pid == os.getpid() != int(os.readlink("/proc/self")), me.start == shown, has_ended(me))
print(has_ended(me._replace(start=me.start - 2)), has_ended(Process(pid, 0, me.namespace)))
"""


def test_proc_of_another_pid_namespace() -> None:
    """Where /proc has other numbers, as in `unshare --pid --fork`: the start is that of the process, not of its namesake."""
    with process("unshare", "--user", "--map-root-user", "--pid", "--fork", sys.executable, "-c", OUTSIDE_PROC) as inside:
        assert said(inside).split() == ["True", "True", "False"]
        assert said(inside).split() == ["True", "False"]


def test_start_that_is_not_known() -> None:
    """It counts as whoever has the number now."""
    me = this_process()
    assert not has_ended(me._replace(start=0))
    assert not has_ended(me)
    assert has_ended(me._replace(start=me.start - 2))


async def test_for_want_of_descriptors(name: str) -> None:
    """The error says which, and nothing is left behind; one is enough."""
    async with fresh(name):
        pass  # imports what it takes
    url = f"posix-sem:{name}?robust=1"
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 10, before[1]))
        with suppress(OSError):
            while True:
                taken.append(os.dup(0))
        for options in ("", "?robust=1"):
            with pytest.raises(OSError, match=f"{name}.*Too many open files"):
                await aipc.open_lock(f"posix-sem:{name}{options}", create=True)
            assert not Path(posix.path_of(name)).exists()
        os.close(taken.pop())
        async with aipc.open_lock(url, exclusive=True, unlink=True) as lock:  # which keeps that one open
            lock.acquire_nowait()
            with pytest.raises(OSError, match=f"{name}.*Too many open files"):
                lock.holder()
        assert not Path(posix.path_of(name)).exists()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        for fd in taken:
            os.close(fd)
