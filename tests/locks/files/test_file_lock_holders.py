"""Who holds a lock on a file, where /proc does not tell it plainly: odd mount points, namespaces, holders that have ended, no /proc."""

from __future__ import annotations

import fcntl
import os
import sys
from pathlib import Path

import pytest

from aipc._io.loop import backend

from ...peers import isolated, process, said

LOOPS = pytest.mark.parametrize("loop", backend.NAMES)
PID_NAMESPACE = ("--pid", "--fork", "--mount-proc")

ODD_MOUNT_POINT = """
import os, subprocess, tempfile, aipc
from aipc._io.loop import backend
place = os.fsencode(tempfile.mkdtemp())
for name in (b"/caf\\xe9", "/a\\u2028 b".encode()):
    os.mkdir(place + name)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", place + name], check=True)
async def main():
    async with aipc.open_lock(f"flock:{{os.fsdecode(place)}}/lock") as lock, aipc.open_lock(lock._handle.name) as other:
        print(other.locked(), other.holder())
        await lock.acquire()
        print(other.locked(), other.holder() == os.getpid())
backend.run({loop!r}, main)
for name in (b"/caf\\xe9", "/a\\u2028 b".encode()):
    subprocess.run(["umount", place + name], check=True)
    os.rmdir(place + name)
os.unlink(place + b"/lock")
os.rmdir(place)
"""


@LOOPS
def test_mount_points_in_any_encoding(loop: str) -> None:
    """A path is bytes: one that is no UTF-8, one with a line separator in it."""
    assert isolated(ODD_MOUNT_POINT.format(loop=loop)).splitlines() == ["False None", "True True"]


SURVIVOR = """
import fcntl, os, signal, sys, aipc
from aipc._io.loop import backend
def survivor():  # of a process that took the lock, forked, and ended
    reading, writing = os.pipe()
    parent = os.fork()
    if parent == 0:
        signal.alarm(60)
        fcntl.flock(os.open({path!r}, os.O_RDWR | os.O_CREAT, 0o600), fcntl.LOCK_EX)
        child = os.fork()
        if child == 0:
            signal.alarm(60)
            os.close(writing)
            signal.pause()
        os.write(writing, str(child).encode())
        os._exit(0)
    os.close(writing)
    os.waitpid(parent, 0)
    return int(os.read(reading, 20))
async def main():
    child = survivor()
    async with aipc.open_lock("flock:" + {path!r}) as lock:
        print(lock.locked(), lock.holder() == child)
        os.kill(child, signal.SIGKILL)
        await lock.acquire()
        print(lock.locked(), lock.holder() == os.getpid())
        lock.release()
        print(lock.locked(), lock.holder())
backend.run({loop!r}, main)
"""


@LOOPS
@pytest.mark.parametrize("namespace", [(), PID_NAMESPACE], ids=["same", "other"])
def test_a_survivor(namespace: tuple[str, ...], loop: str, place: Path) -> None:
    """Who took the lock has ended, and its child has the open file: the child holds it.

    /proc/locks names who took it; in a PID namespace other than the first it leaves out the lock of a process that has ended.
    """
    code = SURVIVOR.format(path=str(place / "lock"), loop=loop)
    assert isolated(code, *namespace).splitlines() == ["True True", "True True", "False None"]


OUTSIDE = """
import aipc
from aipc._io.loop import backend
async def main():
    async with aipc.open_lock("flock:" + {path!r}, shared={shared}) as lock:
        print(lock.locked(), lock.holder())
backend.run({loop!r}, main)
"""


@pytest.mark.costly
@LOOPS
@pytest.mark.parametrize("shared", [False, True])
def test_a_holder_outside_the_namespace(shared: bool, loop: str, place: Path) -> None:
    """As in a container that shares a directory with others: it is held, by somebody who can't be seen."""
    path = place / "lock"
    code = OUTSIDE.format(path=str(path), loop=loop, shared=shared)
    with path.open("w") as file:
        for kind, expected in ((fcntl.LOCK_EX, "True None"), (fcntl.LOCK_SH, "True None"), (fcntl.LOCK_UN, "False None")):
            fcntl.flock(file, kind)
            assert isolated(code, *PID_NAMESPACE).splitlines() == [expected]


ASKING = """
import sys, aipc
from aipc._io.loop import backend
async def main():
    async with aipc.open_lock("flock:" + {path!r}, shared=True) as lock:
        await lock.acquire()
        await lock.acquire()
        print(lock.locked(), lock.holder() == os.getpid(), flush=True)
        lock.release()
        print(lock.locked(), lock.holder() == os.getpid(), flush=True)
        sys.stdin.read()
import os
backend.run({loop!r}, main)
"""


@LOOPS
def test_asking_while_it_is_held_here(loop: str, place: Path) -> None:
    """To ask must not let go of it."""
    path = place / "lock"
    unshare = ("unshare", "--user", "--map-root-user", "--mount", *PID_NAMESPACE, "--kill-child")
    with process(*unshare, sys.executable, "-c", ASKING.format(path=str(path), loop=loop)) as holder:
        assert said(holder) == said(holder) == "True True"
        fd = os.open(path, os.O_RDWR)
        with pytest.raises(BlockingIOError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(fd)


NO_PROC = """
import subprocess, aipc
from aipc._io.loop import backend
async def main():
    async with aipc.open_lock({url!r}) as lock, aipc.open_lock({url!r}) as other:
        print(lock.locked(), lock.holder())
        await other.acquire()
        print(lock.locked(), lock.holder())
subprocess.run(["mount", "-t", "tmpfs", "none", "/proc"], check=True)
backend.run({loop!r}, main)
"""


@LOOPS
@pytest.mark.parametrize("scheme", ["flock", "fcntl"])
def test_without_proc(scheme: str, loop: str, place: Path) -> None:
    """As in a bare chroot: whether it is held can be told, by whom can't."""
    code = NO_PROC.format(url=f"{scheme}:{place}/lock", loop=loop)
    assert isolated(code).splitlines() == ["False None", "True None"]
