"""Sealed memory that comes from a peer: what could be SIGBUS later is an error now."""

from __future__ import annotations

import array
import errno
import fcntl
import mmap
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

import aipc
from aipc._sys import memfd, rights

SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW


def made(size: int, seals: int) -> int:
    fd = os.memfd_create("hostile", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


def huge() -> int:
    fd = os.memfd_create("hostile", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING | os.MFD_HUGETLB)
    os.ftruncate(fd, 2 << 20)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
    return fd


HOSTILE: dict[str, Callable[[], int]] = {
    "no seals": lambda: made(4096, 0),
    "may not be sealed": lambda: os.memfd_create("hostile", os.MFD_CLOEXEC),
    "may shrink": lambda: made(4096, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL),
    "may grow": lambda: made(4096, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL),
    "may be sealed further": lambda: made(4096, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW),
    "empty": lambda: made(0, SEALS),
    "huge pages": huge,
    "a file": lambda: os.open("/etc/passwd", os.O_RDONLY | os.O_CLOEXEC),
    "a directory": lambda: os.open("/", os.O_RDONLY | os.O_CLOEXEC),
    "a nameless file": lambda: os.open("/dev/shm", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC),
    "a device": lambda: os.open("/dev/zero", os.O_RDWR | os.O_CLOEXEC),
    "a path": lambda: os.open("/etc/passwd", os.O_PATH | os.O_CLOEXEC),
    "a socket": lambda: socket.socket(socket.AF_UNIX).detach(),
    "a pidfd": lambda: os.pidfd_open(os.getpid()),
}


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE)
def test_refused(hostile: Callable[[], int]) -> None:
    """With an error that says why; the descriptor stays its owner's."""
    fd = hostile()
    try:
        with pytest.raises((aipc.WrongObject, aipc.ObjectMissing), match=f"descriptor {fd}: "):
            memfd.check(fd)
        with pytest.raises((aipc.WrongObject, aipc.ObjectMissing), match=f"descriptor {fd}: "):
            aipc.MemfdSegment.open(fd)
        os.fstat(fd)
    finally:
        os.close(fd)


@pytest.mark.parametrize("fd", [-1, 9999, 1 << 30])
def test_nothing_open_there(fd: int) -> None:
    with pytest.raises(aipc.ObjectMissing):
        aipc.MemfdSegment.open(fd)


@pytest.mark.parametrize("fd", ["3", None, True, 3.0])
def test_no_descriptor_at_all(fd: int) -> None:
    with pytest.raises(TypeError):
        aipc.MemfdSegment.open(fd)


def test_ours_cannot_be_resized() -> None:
    with aipc.MemfdSegment.create("table", 5000) as segment:
        assert memfd.check(segment.fd) == 5000
        for size in (0, 4999, 5001):
            with pytest.raises(PermissionError):
                os.ftruncate(segment.fd, size)
        assert not os.get_inheritable(segment.fd)
        assert "table" in os.readlink(f"/proc/self/fd/{segment.fd}")


def test_a_descriptor_that_only_reads() -> None:
    with aipc.MemfdSegment.create("table", 5000) as segment:
        segment.buf[0] = 5
        fd = os.open(f"/proc/self/fd/{segment.fd}", os.O_RDONLY | os.O_CLOEXEC)
        with pytest.raises(aipc.AccessDenied):
            aipc.MemfdSegment.open(fd)
        with aipc.MemfdSegment.open(fd, read_only=True) as reader:
            assert reader.buf[0] == 5
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        os.fstat(fd)


def test_sealed_against_writing() -> None:
    fd = os.memfd_create("constant", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(fd, b"constant")
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS | fcntl.F_SEAL_WRITE)
    with pytest.raises(aipc.AccessDenied):
        aipc.MemfdSegment.open(fd)
    with aipc.MemfdSegment.open(os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC), read_only=True) as reader:
        assert bytes(reader.buf) == b"constant"
    os.close(fd)


def test_over_a_socket() -> None:
    """By SCM_RIGHTS to another process, which writes into it; many times, and nothing piles up."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        if os.fork() == 0:
            status = 1
            try:
                ours.close()
                for number in range(200):
                    segment = aipc.MemfdSegment.open(*rights.receive(theirs, 1).fds)
                    with segment:
                        segment.buf[segment.size - 1] = number
                    theirs.send(b"x")
                status = 0 if len(os.listdir("/proc/self/fd")) == len(os.listdir("/proc/self/fd")) else 1
            finally:
                os._exit(status)
        for number in range(200):
            with aipc.MemfdSegment.create("table", 3 * mmap.PAGESIZE + 1) as segment:
                ours.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [segment.fd]))])
                assert ours.recv(1) == b"x"
                assert segment.buf[segment.size - 1] == number
        assert os.waitstatus_to_exitcode(os.wait()[1]) == 0


@pytest.mark.parametrize("name", ["x" * 250, "a\0b"])
def test_bad_names(name: str) -> None:
    with pytest.raises(aipc.AddressError):
        aipc.MemfdSegment.create(name, 10)


def test_not_in_any_directory() -> None:
    with aipc.MemfdSegment.create("table", 10) as segment:
        assert Path(f"/proc/self/fd/{segment.fd}").exists()
        assert not Path("/dev/shm/table").exists()
        segment.unlink()
        segment.buf[0] = 1
