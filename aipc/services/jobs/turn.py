"""Turns between processes and threads: a lock without starvation.

The turn is the flock(2) of a file. flock(2) alone favours a process that asks again at once: the waiters that it wakes run too late.
So a thread that wants the turn first locks the door, a byte of the same file (F_OFD_SETLK of fcntl(2)), and holds it until it has the
turn: the process that had the turn finds the door locked, and waits behind. Both locks end with their process.

To hand the turn over costs several times as much as a transaction, because a process has to wake. So for a few milliseconds, its
burst, a process may take the turn again, before the one at the door, which sleeps until the burst is over. When it began stands in
memory that all processes share: the value is a hint, and a wrong one costs time only.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from time import monotonic_ns, perf_counter, sleep

from aipc._sys import byte_locks
from aipc._sys.byte_locks import Range

_DOOR = Range(4096, 4097)
_PATIENCE = 500e-6
"""Seconds for which a plain call tries to get its turn: a few transactions of others."""

_BURST = 3_000_000
"""Nanoseconds, from a turn that came through the door, in which this process may take the turn again."""


class Turn:
    """The turn of one open file, which it owns. `began[0]`: when the present burst began, in nanoseconds of the monotonic clock."""

    def __init__(self, fd: int, began: memoryview) -> None:
        self._fd = fd
        self._mutex = Lock()  # the kernel's locks belong to the process
        self._began = began
        self._since = 0  # when this process last came through the door

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
        if monotonic_ns() - self._since < _BURST and self._take_now():
            return
        if waits:
            byte_locks.wait_for(self._fd, _DOOR)
        else:
            byte_locks.lock(self._fd, _DOOR, shared=False, process=False)
        try:
            if waits:
                self._wait()
            else:
                self._take_soon()
            self._since = self._began[0] = monotonic_ns()
        finally:
            byte_locks.unlock(self._fd, _DOOR, process=False)

    def _take_now(self) -> bool:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _wait(self) -> None:
        if self._take_now():
            return
        left = self._began[0] + _BURST - monotonic_ns()
        if 0 < left <= _BURST:
            sleep(left * 1e-9)
        fcntl.flock(self._fd, fcntl.LOCK_EX)

    def _take_soon(self) -> None:
        deadline = perf_counter() + _PATIENCE
        while not self._take_now():
            if perf_counter() >= deadline:
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
            os.sched_yield()

    def close(self) -> None:
        """Close the file. Also in a forked child, so that a turn ends with the parent."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            self._began.release()
            os.close(fd)
