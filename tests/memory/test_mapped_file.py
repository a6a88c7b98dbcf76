"""Mapped files: parts, private copies, files that are too short, flushing while closing."""

from __future__ import annotations

import mmap
import os
import re
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from anyio.abc import TaskStatus

import aipc

from ..peers import give_up, python, said

PAGE = mmap.PAGESIZE


def test_what_is_written_is_in_the_file(place: Path) -> None:
    path = place / "file"
    path.write_bytes(b"hello world")
    with aipc.MappedFile.open(path) as segment, aipc.MappedFile.open(str(path), True) as reader:
        assert bytes(segment.buf) == b"hello world"
        segment.buf[:5] = b"HELLO"
        assert path.read_bytes() == bytes(reader.buf) == b"HELLO world"
        with path.open("r+b") as file:
            file.write(b"write")
        assert bytes(segment.buf[:5]) == b"write"


def test_private(place: Path) -> None:
    path = place / "file"
    path.write_bytes(b"hello")
    path.chmod(0o400)
    with aipc.MappedFile.open(path, private=True) as segment:
        segment.buf[:2] = b"no"
        assert bytes(segment.buf) == b"nollo"
        assert path.read_bytes() == b"hello"
        with pytest.raises(aipc.UnsupportedOperation):
            segment.resize(10)
        with pytest.raises(aipc.UnsupportedOperation):
            anyio.run(segment.flush)


def test_a_part(place: Path) -> None:
    path = place / "file"
    path.write_bytes(b"a" * PAGE + b"b" * PAGE + b"c" * 10)
    with aipc.MappedFile.open(path, offset=PAGE, size=100) as segment:
        assert bytes(segment.buf) == b"b" * 100
    with aipc.MappedFile.open(path, offset=2 * PAGE) as segment:
        assert bytes(segment.buf) == b"c" * 10
        segment.resize(20)
        assert bytes(segment.buf) == b"c" * 10 + bytes(10)
        assert path.stat().st_size == 2 * PAGE + 20
        segment.resize(4)
        assert path.stat().st_size == 2 * PAGE + 4


@pytest.mark.parametrize(
    ("length", "asked"),
    [
        (100, {"size": 101}),
        (100, {"size": PAGE}),
        (100, {"size": 1 << 40}),
        (PAGE, {"offset": PAGE}),
        (PAGE, {"offset": PAGE, "size": 1}),
        (PAGE + 10, {"offset": PAGE, "size": 11}),
        (PAGE, {"offset": 100 * PAGE}),
        (0, {}),
        (0, {"size": 1}),
    ],
)
def test_a_file_shorter_than_asked(length: int, asked: dict[str, int], place: Path) -> None:
    path = place / "file"
    path.write_bytes(bytes(length))
    with pytest.raises(aipc.WrongObject, match=f"{length:,} bytes"):
        aipc.MappedFile.open(path, **asked)


@pytest.mark.parametrize("asked", [{"offset": 1}, {"offset": -PAGE}, {"size": 0}, {"size": -1}])
def test_what_cannot_be_asked(asked: dict[str, int], place: Path) -> None:
    path = place / "file"
    path.write_bytes(bytes(3 * PAGE))
    with pytest.raises(aipc.AddressError):
        aipc.MappedFile.open(path, **asked)


@pytest.mark.parametrize("path", ["", "a\0b"])
def test_no_path(path: str) -> None:
    with pytest.raises(aipc.AddressError):
        aipc.MappedFile.open(path)


@pytest.mark.parametrize("path", [None, 3, b"/etc/passwd"])
def test_paths_of_the_wrong_type(path: Any) -> None:
    with pytest.raises(TypeError):
        aipc.MappedFile.open(path)


def test_what_is_no_file(place: Path) -> None:
    os.mkfifo(place / "fifo")
    for path in (place, place / "fifo"):
        for read_only in (True, False):
            with pytest.raises(aipc.WrongObject):
                aipc.MappedFile.open(path, read_only)
    (place / "link").symlink_to(place / "nowhere")
    with pytest.raises(aipc.ObjectExists):
        aipc.MappedFile.create(place / "link", 10)
    with pytest.raises(aipc.ObjectMissing):
        aipc.MappedFile.create(place / "none" / "file", 10)


def test_devices() -> None:
    with pytest.raises(aipc.AddressError, match="size"):
        aipc.MappedFile.open("/dev/zero")
    with (
        aipc.MappedFile.open("/dev/zero", size=5000) as one,
        aipc.MappedFile.open("/dev/zero", size=5000, private=True) as other,
    ):
        assert bytes(one.buf) == bytes(5000)
        one.buf[0] = other.buf[1] = 1
        with pytest.raises(aipc.UnsupportedOperation):
            one.resize(10)
        assert one.buf[0] == 1


def test_anonymous_memory_is_shared_with_children() -> None:
    with aipc.MappedFile.anonymous(5000) as segment:
        assert len(segment.buf) == segment.size == 5000
        if os.fork() == 0:
            segment.buf[4999] = 6
            os._exit(0)
        os.wait()
        assert segment.buf[4999] == 6
        segment.unlink()
        with pytest.raises(aipc.UnsupportedOperation):
            segment.resize(10)


def test_reserved(place: Path) -> None:
    with aipc.MappedFile.create(place / "full", 1 << 20, unlink=True) as segment:
        assert os.fstat(segment.fd).st_blocks * 512 >= 1 << 20
    with aipc.MappedFile.create(place / "sparse", 1 << 40, reserve=False, unlink=True) as segment:
        assert os.fstat(segment.fd).st_blocks * 512 < 1 << 20
        segment.buf[-1] = 1


def changed_kilobytes(fd: int) -> int:
    """How much of the mapping of this file was changed and not yet written (proc_pid_smaps(5))."""
    maps = Path("/proc/self/smaps").read_text()
    (of_this_file,) = re.findall(rf"^[\da-f]+-(?:\S+ ){{4}}{os.fstat(fd).st_ino} .*?^VmFlags", maps, re.MULTILINE | re.DOTALL)
    return sum(map(int, re.findall(r"(?:Shared|Private)_Dirty: +(\d+) kB", of_this_file)))


@pytest.mark.anyio
@pytest.mark.parametrize("wait", [True, False])
async def test_a_flush_writes(wait: bool, place: Path) -> None:
    """What was changed is on its way to the disk when it returns."""
    with aipc.MappedFile.create(place / "file", 1 << 20, unlink=True) as segment:
        segment.buf[:] = os.urandom(1 << 20)
        os.fdatasync(segment.fd)
        if changed_kilobytes(segment.fd):
            give_up("temporary files have no disk under them here: nothing is ever written")
        segment.buf[:] = os.urandom(1 << 20)
        assert changed_kilobytes(segment.fd) == 1 << 10
        await segment.flush(wait)
        assert changed_kilobytes(segment.fd) == 0


@pytest.mark.anyio
@pytest.mark.parametrize("wait", [True, False])
async def test_closing_while_a_flush_runs(wait: bool, place: Path) -> None:
    """The flush ends, and its descriptor goes with it; no other file takes its number meanwhile."""

    async def flush(segment: aipc.MappedFile, *, task_status: TaskStatus[None]) -> None:
        task_status.started()
        await segment.flush(wait)

    for _ in range(20):
        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                with aipc.MappedFile.create(place / "file", 1 << 20, unlink=True) as segment:
                    segment.buf[:] = os.urandom(1 << 20)
                    for _ in range(3):
                        await tasks.start(flush, segment)


@pytest.mark.anyio
async def test_a_cancelled_flush(place: Path) -> None:
    with aipc.MappedFile.create(place / "file", 1 << 20, unlink=True) as segment:
        for _ in range(50):
            segment.buf[:] = os.urandom(1 << 20)
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(segment.flush)
                    await anyio.lowlevel.checkpoint()
                    scope.cancel()
        await segment.flush()


@pytest.mark.anyio
async def test_flushing_does_not_drop_the_locks_of_the_file(place: Path) -> None:
    """Classic fcntl locks go when their process closes any descriptor of the file (fcntl(2))."""
    code = """
import fcntl, sys
with open(sys.argv[1], "r+b") as file:
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        print("free")
    except BlockingIOError:
        print("held")
"""
    import fcntl

    with aipc.MappedFile.create(place / "file", 100, unlink=True) as segment:
        fcntl.lockf(segment.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        await segment.flush()
        await segment.flush(wait=False)
        with python(code, str(place / "file")) as other:
            assert await anyio.to_thread.run_sync(said, other) == "held"
            await anyio.to_thread.run_sync(other.wait)


def test_unlink_from_another_directory(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    segment = aipc.MappedFile.create("file", 100, unlink=True)
    monkeypatch.chdir("/")
    segment.close()
    assert not (place / "file").exists()
