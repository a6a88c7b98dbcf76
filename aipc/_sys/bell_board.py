"""Who waits for which object, in memory that all processes of one user share: a byte for each object and each waiter.

`/dev/shm/aipc-bells-UID` has 512 rows of 64 bytes, a cache line each. Byte W of row R is 1 while waiter W waits for an object
whose name falls on row R. A waiter is an event loop. It owns its column by an open-file-description lock on byte W of the file,
which dies with its process, and is rung through the FIFO `/dev/shm/aipc-bells-UID-W`: two bytes, the row, native order. Other
users can open neither (mode 0600). Bytes are stored one by one and never combined, so that no process's store undoes another's,
and whatever is wrong in there costs a pause at most. The last process to leave removes all of it.

No barrier is needed: a waiter stores its byte, and then asks the kernel for the object once more; who provides the object asks
the kernel first, and then loads the bytes. The kernel's own lock on the object orders the two.
"""

from __future__ import annotations

import errno
import mmap
import os
import stat
import struct
from contextlib import suppress
from zlib import crc32

from . import byte_locks
from .byte_locks import Range

DIRECTORY = "/dev/shm"  # noqa: S108 - what is opened there is checked to be this user's
ROWS, WAITERS = 512, 64
NOBODY = bytes(WAITERS)
_SIZE = ROWS * WAITERS
_PRESENT = Range(_SIZE, _SIZE + 1)
"""The byte that every process with the board has a shared lock on."""
_ROW = struct.Struct("=H")
_TRIES = 1_000


def row_of(name: str) -> int:
    """The row that an object's name falls on. Two that share one cost each other a vain look now and then."""
    return crc32(os.fsencode(name)) % ROWS


class Board:
    """The user's board, mapped. OSError if there can't be one."""

    __slots__ = ("_fd", "_path", "memory")

    def __init__(self) -> None:
        self._path = f"{DIRECTORY}/aipc-bells-{os.geteuid()}"
        self._fd = self._enter()
        self.memory: mmap.mmap = mmap.mmap(self._fd, _SIZE)

    def _enter(self) -> int:
        for _ in range(_TRIES):
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                byte_locks.lock(fd, _PRESENT, shared=True, process=False)
                _check(fd, stat.S_IFREG)
                os.ftruncate(fd, _SIZE)
                if os.path.samestat(os.fstat(fd), os.lstat(self._path)):
                    return fd
            except (BlockingIOError, FileNotFoundError):
                pass  # its last process is removing it
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    def claim(self) -> tuple[int, int, int]:
        """A column: its number, the descriptor whose lock makes it one's own, and the FIFO to be rung by. OSError: none is free."""
        lock = os.open(self._path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            for waiter in range(WAITERS):
                with suppress(BlockingIOError):
                    byte_locks.lock(lock, Range(waiter, waiter + 1), shared=False, process=False)
                    self.clear(waiter)
                    return waiter, lock, self._fifo(waiter)
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        except BaseException:
            os.close(lock)
            raise

    def _fifo(self, waiter: int) -> int:
        path = f"{self._path}-{waiter}"
        with suppress(FileExistsError):
            os.mkfifo(path, 0o600)
        fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            _check(fd, stat.S_IFIFO)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def give_back(self, waiter: int, lock: int, fifo: int) -> None:
        """Let go of a column."""
        self.clear(waiter)
        with suppress(OSError):
            os.unlink(f"{self._path}-{waiter}")
        os.close(fifo)
        os.close(lock)

    def clear(self, waiter: int) -> None:
        """Nobody waits in that column."""
        for at in range(waiter, _SIZE, WAITERS):
            if self.memory[at]:
                self.memory[at] = 0

    def ring(self, row: int, after: int, most: int) -> int:
        """Wake up to `most` who wait for that row, from the one behind `after` on. The last one woken."""
        waiting = self.memory[row * WAITERS : (row + 1) * WAITERS]
        last = after
        for step in range(1, WAITERS + 1):
            waiter = (after + step) % WAITERS
            if waiting[waiter] and self._ring(row, waiter):
                last = waiter
                most -= 1
                if not most:
                    break
        return last

    def _ring(self, row: int, waiter: int) -> bool:
        """Wake a waiter. False if it is gone; its byte is cleared then."""
        try:
            fd = os.open(f"{self._path}-{waiter}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            self.memory[row * WAITERS + waiter] = 0
            return False
        try:
            os.write(fd, _ROW.pack(row))
        except OSError:
            pass  # full: it has been rung many times already
        finally:
            os.close(fd)
        return True

    def leave(self) -> None:
        """Remove it if nobody else has it. The mapping stays, until `unmap`."""
        with suppress(OSError):
            byte_locks.lock(self._fd, _PRESENT, shared=False, process=False)
            if os.path.samestat(os.fstat(self._fd), os.lstat(self._path)):
                for waiter in range(WAITERS):
                    with suppress(FileNotFoundError):
                        os.unlink(f"{self._path}-{waiter}")  # of a process that was killed
                os.unlink(self._path)
        os.close(self._fd)

    def unmap(self) -> None:
        """No more looks: nobody in this process has a doorbell."""
        self.memory.close()

    def forget(self) -> None:
        """In a forked child: its parent's locks are to end with its parent."""
        os.close(self._fd)


def rows(data: bytes) -> set[int]:
    """What was written into a FIFO."""
    whole = len(data) - len(data) % _ROW.size
    return {row for (row,) in _ROW.iter_unpack(data[:whole]) if row < ROWS}


def _check(fd: int, kind: int) -> None:
    about = os.fstat(fd)
    if stat.S_IFMT(about.st_mode) != kind or about.st_uid != os.geteuid() or about.st_mode & 0o077:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
