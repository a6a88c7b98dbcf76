"""Named POSIX semaphores (sem_overview(7)): posix_ipc's, with errno in place of its own errors."""

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
"""Bytes of the C library's sem_t. It also maps a shorter file; touching that is SIGBUS."""
_COUNTED = sys.maxsize > 1 << 32 and hasattr(libc, "gnu_get_libc_version")
"""Whether the C library counts sleepers at the place where `sleepers` reads."""


def path_of(name: str) -> str:
    """The C library's file of that semaphore (sem_overview(7))."""
    return f"/dev/shm/sem.{name[1:]}"  # noqa: S108 - the C library's place, not ours


def sleepers(path: str, shape: os.stat_result) -> int:
    """Return how many threads sleep in sem_wait(3) on the semaphore in that file, with status `shape`. OSError if unknown.

    glibc counts them in the upper half of the eight bytes with the value in the lower half (`struct new_sem`, on machines with
    64-bit atomics).
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
        """sem_post(3). ERANGE if the value is at its largest."""
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
        """sem_unlink(3): remove the name. Processes that have the semaphore open keep it."""
        try:
            self._semaphore.unlink()
        except posix_ipc.Error as error:
            raise failed(error) from None


def create(name: str, mode: int, value: int) -> NamedSemaphore:
    """Create a semaphore: it has its value as soon as it has its name. FileExistsError if there is one."""
    return _open(name, posix_ipc.O_CREX, mode=mode, initial_value=value)


def attach(name: str) -> NamedSemaphore:
    """Open an existing semaphore."""
    return _open(name, 0)


def _open(name: str, flags: int, **options: Any) -> NamedSemaphore:
    try:
        return NamedSemaphore(posix_ipc.Semaphore(name, flags, **options))
    except FAILURES as error:
        raise failed(error, errno.EEXIST if flags else errno.ENOENT) from None
