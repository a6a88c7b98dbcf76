"""Turns between processes and threads: a lock without starvation.

The turn is the flock(2) of a file. flock(2) alone favours a process that asks again at once: the waiters that it wakes run too late.
So a thread that wants the turn first locks the door, a byte of the same file (F_OFD_SETLK of fcntl(2)), and holds it until it has the
turn: the process that had the turn finds the door locked, and waits behind. Both locks end with their process.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from time import perf_counter

from aipc._sys import byte_locks
from aipc._sys.byte_locks import Range

_DOOR = Range(4096, 4097)
_PATIENCE = 500e-6
"""Seconds for which a plain call tries to get its turn: a few transactions of others."""


class Turn:
    """The turn of one open file, which it owns."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._mutex = Lock()  # the kernel's locks belong to the process

    @contextmanager
    def taken(self, *, waits: bool) -> Iterator[None]:
        """Have the turn for a block. `waits`: block this thread until then; otherwise BlockingIOError if it does not come soon."""
        if not self._mutex.acquire(blocking=waits):
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        try:
            self._take(waits)
            try:
                yield
            finally:
                fcntl.flock(self._fd, fcntl.LOCK_UN)
        finally:
            self._mutex.release()

    def _take(self, waits: bool) -> None:
        if waits:
            byte_locks.wait_for(self._fd, _DOOR)
        else:
            byte_locks.lock(self._fd, _DOOR, shared=False, process=False)
        try:
            if waits:
                fcntl.flock(self._fd, fcntl.LOCK_EX)
            else:
                self._take_soon()
        finally:
            byte_locks.unlock(self._fd, _DOOR, process=False)

    def _take_soon(self) -> None:
        deadline = perf_counter() + _PATIENCE
        while True:
            try:
                return fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if perf_counter() >= deadline:
                    raise
                os.sched_yield()

    def close(self) -> None:
        """Close the file. Also in a forked child, so that a turn ends with the parent."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
