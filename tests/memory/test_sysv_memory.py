"""System V segments: what only they can do, and a C program at the other end."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest

import aipc

from ..peers import compile_peer, python, run, said


@pytest.fixture(scope="module")
def c_peer(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(compile_peer("segment", tmp_path_factory))


def listed(identifier: int) -> list[str]:
    """The segment's line of ipcs(1): key, identifier, owner, mode, bytes, attachments, status."""
    lines = [line.split() for line in run("ipcs", "-m").splitlines()]
    return next((line for line in lines if line[1:2] == [str(identifier)]), [])


def test_c_reads_and_writes(key: str, c_peer: str) -> None:
    with aipc.SysVSharedMemory.create(key, 1001, unlink=True) as segment:
        segment.buf[:6] = b"hello\0"
        assert run(c_peer, "sysv", "read", key) == "hello\n"
        run(c_peer, "sysv", "write", key, "good day")
        assert bytes(segment.buf[:9]) == b"good day\0"


def test_opens_what_c_made(key: str, c_peer: str) -> None:
    run(c_peer, "sysv", "create", key, "777")
    with aipc.SysVSharedMemory.open(key) as segment:
        assert segment.size == 777
        assert bytes(segment.buf[:10]) == b"made in C\0"
        segment.unlink()


def test_status(key: str) -> None:
    with aipc.SysVSharedMemory.create(key, 1001, mode=0o640, unlink=True) as segment:
        status = segment.status()
        assert (status.key, status.id, status.size, status.mode) == (int(key, 0), segment.id, 1001, 0o640)
        assert (status.uid, status.gid) == (os.getuid(), os.getgid())
        assert (status.attached, status.creator_pid, status.last_pid) == (1, os.getpid(), os.getpid())
        assert status.attach_time >= status.change_time > 0 == status.detach_time
        with aipc.SysVSharedMemory.open(key, True) as other:
            assert segment.status().attached == 2
            assert other.status() == segment.status()
        status = segment.status()
        assert status.attached == 1
        assert status.detach_time > 0
        key_column, id_column, _, mode, size, attached = listed(segment.id)[:6]
        assert (int(key_column, 0), int(id_column), mode, int(size), int(attached)) == (int(key, 0), segment.id, "640", 1001, 1)
    with pytest.raises(aipc.ObjectMissing):
        segment.status()


def test_pinned(key: str) -> None:
    with aipc.SysVSharedMemory.create(key, 1001, unlink=True) as segment:
        assert not segment.status().pinned
        segment.pin()
        assert segment.status().pinned
        assert "locked" in listed(segment.id)
        segment.unpin()
        assert not segment.status().pinned


def test_goes_when_the_last_detaches(key: str) -> None:
    with aipc.SysVSharedMemory.create(key, 100) as one, aipc.SysVSharedMemory.open(key) as other:
        one.unlink()
        assert other.status().removed
        assert other.status().mode == 0o600
        with pytest.raises(aipc.ObjectMissing):
            aipc.SysVSharedMemory.open(key)
        with pytest.raises(aipc.ObjectMissing):
            other.unlink()
        other.buf[0] = 8
        assert one.buf[0] == 8
        identifier = one.id
        one.close()
        assert listed(identifier)
    assert not listed(identifier)


def test_a_view_keeps_it_attached(key: str) -> None:
    """The kernel counts an attachment for as long as anything can look into the memory."""
    segment = aipc.SysVSharedMemory.create(key, 100, unlink=True)
    views: list[memoryview] = []

    def block() -> None:
        with segment:
            views.append(segment.buf[5:])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        block()
    assert segment.status().attached == 1
    views[0][0] = 1
    views.clear()
    with pytest.raises(aipc.ObjectMissing):
        segment.status()


def test_private_segment() -> None:
    with (
        aipc.SysVSharedMemory.create(None, 100, unlink=True) as one,
        aipc.SysVSharedMemory.create("private", 100, unlink=True) as another,
        aipc.SysVSharedMemory.attach(one.id) as same,
    ):
        one.buf[0], another.buf[0] = 1, 2
        assert same.buf[0] == 1
        assert one.status().key == 0
        with pytest.raises(aipc.AddressError, match="attach"):
            aipc.SysVSharedMemory.open(None)


def test_key_forms(key: str, place: Path) -> None:
    number = int(key, 0)
    with aipc.SysVSharedMemory.create(number, 100, unlink=True) as segment:
        for form in (number, key, str(number)):
            with aipc.SysVSharedMemory.open(form) as other:
                assert other.id == segment.id
    with (
        aipc.SysVSharedMemory.create(str(place), 100, project=66, unlink=True) as segment,
        aipc.SysVSharedMemory.open(str(place), project=66) as other,
    ):
        assert other.id == segment.id


@pytest.mark.parametrize("bad", [0, "0", 1 << 32, "name", "", "/no/project", True])
def test_bad_keys(bad: int | str) -> None:
    with pytest.raises((aipc.AddressError, TypeError)):
        aipc.SysVSharedMemory.create(bad, 100)


@pytest.mark.parametrize("identifier", [-1, 1 << 30, 1 << 40])
def test_no_such_number(identifier: int) -> None:
    with pytest.raises(aipc.ObjectMissing):
        aipc.SysVSharedMemory.attach(identifier)


def test_the_kernel_limit(key: str) -> None:
    limit = Path("/proc/sys/kernel/shmmax")
    before = limit.read_text()
    with contextlib.suppress(OSError):  # then it is larger than any machine's memory
        limit.write_text("100000")
    try:
        with pytest.raises(aipc.NoSpace, match="shmmax"):
            aipc.SysVSharedMemory.create(key, int(limit.read_text()) + 1)
    finally:
        if limit.read_text() != before:
            limit.write_text(before)


def test_dies_with_its_process(key: str, c_peer: str) -> None:
    """A killed process is detached by the kernel; the segment stays."""
    with aipc.SysVSharedMemory.create(key, 100, unlink=True) as segment:
        code = f"import aipc, time; segment = aipc.SysVSharedMemory.open({key!r}); print('open', flush=True); time.sleep(60)"
        with python(code) as other:
            assert said(other) == "open"
            assert segment.status().attached == 2
            assert segment.status().last_pid == other.pid
        assert segment.status().attached == 1
