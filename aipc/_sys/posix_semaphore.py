"""Named POSIX semaphores (sem_overview(7)): what posix_ipc has, with errno instead of its own errors."""

from __future__ import annotations

import errno
import os
from typing import Any

import posix_ipc

LARGEST_VALUE: int = posix_ipc.SEMAPHORE_VALUE_MAX
LONGEST_NAME = 251


def path_of(name: str) -> str:
    """Where the C library keeps it (sem_overview(7))."""
    return f"/dev/shm/sem.{name[1:]}"  # noqa: S108 - the C library's place, not ours


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
            raise _failed(error) from None


def create(name: str, mode: int, value: int) -> NamedSemaphore:
    """A new semaphore: it has its value from the moment that it has its name. FileExistsError if there is one."""
    return _open(name, posix_ipc.O_CREX, mode=mode, initial_value=value)


def attach(name: str) -> NamedSemaphore:
    """A semaphore that is there."""
    return _open(name, 0)


def _open(name: str, flags: int, **options: Any) -> NamedSemaphore:
    try:
        return NamedSemaphore(posix_ipc.Semaphore(name, flags, **options))
    except (posix_ipc.Error, ValueError, OSError, MemoryError) as error:
        raise _failed(error, errno.EEXIST if flags else errno.ENOENT) from None


def _failed(error: Exception, missing: int = errno.ENOENT) -> OSError:
    if isinstance(error, OSError):  # for want of descriptors it has a text instead of its errno
        code = error.errno or (errno.ENFILE if "system" in str(error) else errno.EMFILE)
    elif isinstance(error, MemoryError):
        code = errno.ENOMEM
    elif isinstance(error, posix_ipc.PermissionsError):
        code = errno.EACCES
    elif isinstance(error, posix_ipc.ExistentialError):
        code = missing
    else:
        code = errno.EINVAL
    return OSError(code, os.strerror(code))
