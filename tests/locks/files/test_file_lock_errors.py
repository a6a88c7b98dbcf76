"""What the kernel, or a file server behind it, refuses: the error names the lock, and nothing stays half taken."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import aipc
from aipc._io.loop import backend

from ...peers import python, said

LOOPS = pytest.mark.parametrize("loop", backend.NAMES)

START = """
import errno, fcntl, os, struct, sys, anyio, aipc
from aipc._io.loop import backend
from tests.peers.failing import fail
url, path = sys.argv[2], sys.argv[3]
async def attempt(call, *arguments):
    try:
        result = call(*arguments)
        return await result if hasattr(result, "__await__") else result
    except BaseException as error:
        return f"{type(error).__name__} {error}"
def start(main):
    backend.run(sys.argv[1], main)
"""


def lines(code: str, loop: str, url: str, path: Path, count: int) -> list[str]:
    """What a child that runs `code` prints."""
    with python(START + code, loop, url, str(path)) as child:
        return [said(child) for _ in range(count)]


UNLOCKING_FAILS = """
async def main():
    async with aipc.open_lock(url) as lock:
        await lock.acquire()
        if url.startswith("flock"):
            fail("flock", errno.ENOLCK, 1, fcntl.LOCK_UN)
        else:  # the lock table is full: to unlock a part of a lock takes an entry, too
            fail("fcntl", errno.ENOLCK, 1, fcntl.F_SETLK if "process" in url else fcntl.F_OFD_SETLK)
        print(await attempt(lock.release), flush=True)
        print(await attempt(lock.release), flush=True)
    print("closed", flush=True)
    sys.stdin.read()
start(main)
"""


@LOOPS
@pytest.mark.parametrize("scheme", ["flock:{}", "fcntl:{}", "fcntl:{}?owner=process"])
def test_a_release_that_fails(scheme: str, loop: str, place: Path) -> None:
    """It says so, the object does not hold the lock, and closing it frees the lock."""
    path = place / "lock"
    url = scheme.format(path)

    async def take() -> None:
        async with aipc.open_lock(url) as lock:
            lock.acquire_nowait()

    with python(START + UNLOCKING_FAILS, loop, url, str(path)) as child:
        first, second, last = said(child), said(child), said(child)
        assert first.startswith("OSError")
        assert f"{url}: No locks available" in first
        assert second.startswith("RuntimeError")
        assert last == "closed"
        backend.run(loop, take)


STALE = """
async def main():
    async with aipc.open_lock(url) as lock, aipc.open_lock(url) as other:
        fail("fstat", errno.ESTALE)
        fail("newfstatat", errno.ESTALE, 3, 0x1000)  # AT_EMPTY_PATH: fstat(3)
        print(await attempt(lock.acquire), flush=True)
        print(await attempt(lock.release), flush=True)
        fd = os.open(path, os.O_RDWR)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0))
        print("free", flush=True)
        os._exit(0)
start(main)
"""


@LOOPS
@pytest.mark.parametrize("scheme", ["flock:{}", "fcntl:{}"])
def test_a_file_that_is_gone_from_its_server(scheme: str, loop: str, place: Path) -> None:
    """The lock was had, and then nobody could say whether the file still has its name: it is given back."""
    path = place / "lock"
    first, second, free = lines(STALE, loop, scheme.format(path), path, 3)
    assert first.startswith("OSError")
    assert "Stale file handle" in first
    assert second.startswith("RuntimeError")
    assert free == "free"


NO_MODE = """
async def opened():
    return await aipc.open_lock(url)
async def main():
    fail("fchmod", errno.EPERM)
    before = os.listdir("/proc/self/fd")
    print(await attempt(opened), flush=True)
    print(os.path.exists(path), len(os.listdir("/proc/self/fd")) - len(before), flush=True)
start(main)
"""


@LOOPS
@pytest.mark.parametrize("scheme", ["flock:{}", "fcntl:{}"])
def test_a_file_system_without_modes(scheme: str, loop: str, place: Path) -> None:
    """Nothing is left open, nor a file with another mode than the one that was asked for."""
    path = place / "lock"
    error, left = lines(NO_MODE, loop, scheme.format(path), path, 2)
    assert error.startswith("AccessDenied")
    assert scheme.format(path) in error
    assert left == "False 0"


CONFLICT = """
async def main():
    async with aipc.open_lock(url) as lock:
        fail("fcntl", errno.EACCES, 1, fcntl.F_SETLK if "process" in url else fcntl.F_OFD_SETLK)
        print(await attempt(lock.acquire_nowait), flush=True)
        with anyio.move_on_after(0.01):
            await lock.acquire()
        print("waited", flush=True)
start(main)
"""


@LOOPS
@pytest.mark.parametrize("scheme", ["fcntl:{}", "fcntl:{}?owner=process"])
def test_both_ways_to_say_that_it_is_taken(scheme: str, loop: str, place: Path) -> None:
    """EAGAIN or EACCES (fcntl(2)); CIFS says EACCES."""
    path = place / "lock"
    at_once, waiting = lines(CONFLICT, loop, scheme.format(path), path, 2)
    assert at_once.startswith("WouldBlock")
    assert waiting == "waited"


UNLINK_FAILS = """
async def main():
    async with aipc.open_lock(f"fcntl:{path}?owner=process") as classic, classic:  # keeps descriptors of the file open
        fail("unlink", errno.EPERM)
        await (await aipc.open_lock(url, unlink=True)).aclose()
        print("closed", flush=True)
        sys.stdin.read()
start(main)
"""


@LOOPS
def test_a_file_that_may_not_be_removed(loop: str, place: Path) -> None:
    """Closing lets go of it all the same, also where its descriptor stays open for the sake of a classic lock."""
    path = place / "lock"
    with python(START + UNLINK_FAILS, loop, f"flock:{path}", str(path)) as child:
        assert said(child) == "closed"
        subprocess.run(["flock", "--nonblock", str(path), "true"], check=True, timeout=10)
