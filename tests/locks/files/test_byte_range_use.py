"""Byte-range locks: who holds what, ranges from the file's end, and the locked file itself."""

from __future__ import annotations

import os
from pathlib import Path

import anyio
import pytest

import aipc

from ...peers import python, said, tell

pytestmark = pytest.mark.anyio

HOLDER = """
import fcntl, os, struct, sys
kind, start, length = sys.argv[2:]
file = open(sys.argv[1], "r+b")
fcntl.fcntl(file, fcntl.F_SETLK, struct.pack("hhqqi4x", getattr(fcntl, kind), 0, int(start), int(length), 0))
print("held", flush=True)
sys.stdin.readline()
"""


@pytest.fixture(params=["file", "process"])
def owner(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def path(place: Path) -> Path:
    (place / "db").write_bytes(b"0123456789" * 10)
    return place / "db"


@pytest.mark.parametrize(("kind", "start", "length"), [("F_RDLCK", 10, 5), ("F_WRLCK", 40, 0), ("F_WRLCK", 0, 100)])
async def test_who_holds_what(kind: str, start: int, length: int, owner: str, path: Path) -> None:
    """As F_GETLK tells of another program's classic lock: type, start, length and pid."""
    async with aipc.open_byte_range_lock(f"fcntl:{path}", owner=owner) as lock:
        assert lock.conflict() is None
        with python(HOLDER, str(path), kind, str(start), str(length)) as holder:
            assert said(holder) == "held"
            assert lock.conflict() == (holder.pid, kind == "F_RDLCK", start, length)
            assert lock.locked()
            with pytest.raises(anyio.WouldBlock):
                lock.acquire_nowait()
            tell(holder, "go")
            holder.wait()
        with anyio.fail_after(10):
            await lock.acquire()
        assert lock.conflict() is None
        assert lock.locked()


async def test_within_this_process(owner: str, path: Path) -> None:
    url = f"fcntl:{path}?owner={owner}"
    async with (
        aipc.open_byte_range_lock(url, start=10, length=10) as low,
        aipc.open_byte_range_lock(url, start=50, shared=True) as high,
        aipc.open_byte_range_lock(url) as whole,
        aipc.open_byte_range_lock(url, shared=True) as reader,
        low,
        high,
    ):
        assert whole.conflict() == (os.getpid(), False, 10, 10) == reader.conflict()
        low.release()
        assert whole.conflict() == (os.getpid(), True, 50, 0) == reader.conflict(shared=False)
        assert reader.conflict() is None
        low.acquire_nowait()


async def test_locked_is_about_those_who_exclude(owner: str, path: Path) -> None:
    url = f"fcntl:{path}?owner={owner}"
    async with (
        aipc.open_lock(url, shared=True) as one,
        aipc.open_lock(url, shared=True) as other,
        aipc.open_lock(url) as writer,
    ):
        async with one:
            assert (one.locked(), other.locked(), writer.locked()) == (True, False, True)
            assert other.holder() == os.getpid()
            other.acquire_nowait()
            other.release()
        async with writer:
            assert (one.locked(), other.locked()) == (True, True)


async def test_from_the_end(owner: str, path: Path) -> None:
    """SEEK_END: counted when it is locked, and the same bytes until the release, however long the file gets."""
    url = f"fcntl:{path}?owner={owner}"
    async with (
        aipc.open_byte_range_lock(url, whence="end", start=-10, length=10) as last,
        aipc.open_byte_range_lock(f"{url}&whence=end") as behind,
        aipc.open_byte_range_lock(url) as whole,
    ):
        for size in (100, 150):
            os.truncate(path, size)
            async with last:
                os.truncate(path, size + 20)
                assert whole.conflict() == (os.getpid(), False, size - 10, 10)
            assert whole.conflict() is None
            async with behind:
                assert whole.conflict() == (os.getpid(), False, size + 20, 0)
        os.truncate(path, 9)
        with pytest.raises(aipc.AddressError, match="end of 9 bytes"):
            await last.acquire()
        assert not whole.locked()
        os.truncate(path, 10)
        async with last:
            assert whole.conflict() == (os.getpid(), False, 0, 10)


async def test_reading_and_writing_the_locked_file(owner: str, path: Path) -> None:
    """A classic lock goes with any descriptor of the file that is closed: the lock's own is not."""
    async with aipc.open_byte_range_lock(f"fcntl:{path}", owner=owner) as lock:
        with pytest.raises(RuntimeError, match="acquire it"), lock.file():
            pass
        async with lock:
            for turn in range(2):
                with lock.file() as file:
                    assert file.read(4) == (b"0123", b"new!")[turn]
                    file.seek(0)
                    file.write(b"new!")
                assert path.stat().st_size == 100
                still_held(path)
        with python(HOLDER, str(path), "F_WRLCK", "0", "0") as holder:
            assert said(holder) == "held"
            tell(holder, "go")


def still_held(path: Path) -> None:
    code = """
import fcntl, sys
try:
    fcntl.lockf(open(sys.argv[1], "r+b"), fcntl.LOCK_EX | fcntl.LOCK_NB)
    print("free")
except BlockingIOError:
    print("held")
"""
    with python(code, str(path)) as other:
        assert said(other) == "held"


@pytest.mark.skipif(os.getuid() == 0, reason="root may write all files")
async def test_a_file_that_can_only_be_read(path: Path) -> None:
    path.chmod(0o400)
    async with aipc.open_byte_range_lock(f"fcntl:{path}", shared=True) as lock, lock:
        with lock.file() as file:
            assert file.read(4) == b"0123"
