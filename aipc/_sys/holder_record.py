"""The holder of a POSIX semaphore, written into the semaphore's own file behind the C library's bytes.

The file belongs to the semaphore, with its permissions, name and lifetime. `sem_open(3)` reads the first 32 bytes only.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from .processes import Process

_OFFSET = 64
_FIELDS = struct.Struct("=QQQ")
_PIDS = range(1, (1 << 22) + 1)
"""The largest pid (kernel.pid_max, proc(5))."""
_STARTS = range(1 << 40)
"""Ticks of a hundredth of a second, for as long as a machine may run."""


class HolderRecord:
    """The record in the semaphore's file at `path`. Errors are those of open(2)."""

    __slots__ = ("_fd",)

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Hold the record's flock(2), which a killed process gives back. BlockingIOError while another process holds it."""
        fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            yield
        finally:
            fcntl.flock(self._fd, fcntl.LOCK_UN)

    def read(self) -> Process | None:
        """Return the last holder; None if there was none, or if the bytes cannot be a process.

        Any process that may use the semaphore may write anything here.
        """
        data = os.pread(self._fd, _FIELDS.size, _OFFSET)
        if len(data) < _FIELDS.size:
            return None
        process = Process(*_FIELDS.unpack(data))
        return process if process.pid in _PIDS and process.start in _STARTS else None

    def write(self, process: Process) -> None:
        """Record `process` as the holder, by one pwrite(2), which a kill cannot tear."""
        os.pwrite(self._fd, _FIELDS.pack(*process), _OFFSET)

    def shape(self) -> os.stat_result:
        """fstat(2) of the file."""
        return os.fstat(self._fd)

    def close(self) -> None:
        """Close the file; the record stays."""
        fd, self._fd = self._fd, -1
        os.close(fd)
