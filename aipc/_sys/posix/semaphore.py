"""Named POSIX semaphores (sem_overview(7)): what posix_ipc has, with errno instead of its own errors."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from typing import Any

import posix_ipc

from ..libc import libc
from .failures import FAILURES, failed

LARGEST_VALUE: int = posix_ipc.SEMAPHORE_VALUE_MAX
LONGEST_NAME = 251
SIZE = 4 * ctypes.sizeof(ctypes.c_void_p)
"""Bytes of the C library's sem_t. It maps a file that is shorter, too; to touch it is SIGBUS."""
_COUNTED = sys.maxsize > 1 << 32 and hasattr(libc, "gnu_get_libc_version")
"""Whether the C library counts who sleeps where `sleepers` looks."""


def path_of(name: str) -> str:
    """Where the C library keeps it (sem_overview(7))."""
    return f"/dev/shm/sem.{name[1:]}"  # noqa: S108 - the C library's place, not ours


def sleepers(path: str, shape: os.stat_result) -> int:
    """How many threads sleep in sem_wait(3) on the semaphore in that file, which `shape` describes. OSError if it can't be told.

    glibc counts them in the upper half of the eight bytes that have the value in the lower half (`struct new_sem`, on machines
    with 64-bit atomics).
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        if not _COUNTED or not os.path.samestat(os.fstat(fd), shape):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return int.from_bytes(os.pread(fd, 8, 0), sys.byteorder) >> 32
    finally:
        os.close(fd)


class NamedSemaphore:
    """One semaphore, used without blocking. Every error is an OSError with the errno of the call."""

    __slots__ = ("_semaphore", "_try")

    def __init__(self, semaphore: Any) -> None:
        self._semaphore = semaphore
        self._try = semaphore.acquire

    def take(self) -> None:
        """sem_trywait(3)."""
        try:
            self._try(0)
        except posix_ipc.BusyError:
            raise BlockingIOError from None

    def give(self) -> None:
        """sem_post(3). ERANGE where the value is at its largest."""
        try:
            self._semaphore.release()
        except OSError as error:
            code = errno.ERANGE if error.errno == errno.EOVERFLOW else error.errno or errno.EINVAL
            raise OSError(code, os.strerror(code)) from None

    @property
    def value(self) -> int:
        """sem_getvalue(3)."""
        return int(self._semaphore.value)

    def close(self) -> None:
        """sem_close(3); the semaphore stays."""
        self._semaphore.close()

    def unlink(self) -> None:
        """sem_unlink(3): remove the name. Who has the semaphore open keeps it."""
        try:
            self._semaphore.unlink()
        except posix_ipc.Error as error:
            raise failed(error) from None


def create(name: str, mode: int, value: int) -> NamedSemaphore:
    """A new semaphore: it has its value from the moment that it has its name. FileExistsError if there is one."""
    return _open(name, posix_ipc.O_CREX, mode=mode, initial_value=value)


def attach(name: str) -> NamedSemaphore:
    """A semaphore that is there."""
    return _open(name, 0)


def _open(name: str, flags: int, **options: Any) -> NamedSemaphore:
    try:
        return NamedSemaphore(posix_ipc.Semaphore(name, flags, **options))
    except FAILURES as error:
        raise failed(error, errno.EEXIST if flags else errno.ENOENT) from None
