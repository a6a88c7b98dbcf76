"""Who waits for which object, in memory that all processes of one user share: a byte for each object and each waiter.

`/dev/shm/aipc-bells-UID` has 512 rows of 64 bytes, a cache line each. Byte W of row R is 1 while waiter W waits for an object
whose name falls on row R. A waiter is an event loop. It owns its column by an open-file-description lock on byte W of the file,
which dies with its process, and is called through the FIFO `/dev/shm/aipc-bells-UID-W`: the object's tag and V, four bytes each,
native order. A tag is the CRC-32 of the object's name, and R is the tag modulo 512. A waiter that has no use for the call passes
it on to the next one of the row behind itself, up to waiter V; with V = W, to nobody. Other users can open neither (mode 0600). Bytes are stored one by one and never combined, so that no process's store undoes another's, and whatever is wrong
in there costs a pause at most. A 513th row has a 1 for each FIFO that there is, to be removed by the last process to leave.

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
from threading import RLock
from typing import NamedTuple
from zlib import crc32

from . import byte_locks, sigpipe
from .byte_locks import Range

DIRECTORY = "/dev/shm"  # noqa: S108 - what is opened there is checked to be this user's
ROWS, WAITERS = 512, 64
NOBODY = bytes(WAITERS)
_FIFOS = ROWS * WAITERS
"""Where the row begins that tells which FIFOs there are."""
_SIZE = _FIFOS + WAITERS
_PRESENT = Range(_SIZE, _SIZE + 1)
"""The byte that every process with the board has a shared lock on."""
_CALL = struct.Struct("=II")
_FLAGS = os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
_TRIES = 1_000


class Call(NamedTuple):
    """What is written into a waiter's FIFO: the object's tag, and the last waiter that the call may be passed on to."""

    tag: int
    until: int


def tag_of(name: str) -> int:
    """What an object is called by. Its row is the tag modulo ROWS."""
    return crc32(os.fsencode(name))


class Board:
    """The user's board, mapped. OSError if there can't be one."""

    __slots__ = ("_fd", "_path", "_ringing", "_rung", "memory")

    def __init__(self) -> None:
        self._path = f"{DIRECTORY}/aipc-bells-{os.geteuid()}"
        self._fd = self._enter()
        self._rung: dict[int, int] = {}  # the FIFOs of waiters, open
        self._ringing = RLock()  # a descriptor must not be closed, and its number given away, while another thread writes to it
        try:
            self.memory: mmap.mmap = mmap.mmap(self._fd, _SIZE)
        except BaseException:
            _leave(self._fd, self._path)
            raise
        sigpipe.look()

    def _enter(self) -> int:
        for _ in range(_TRIES):
            fd = _checked(os.open(self._path, os.O_RDWR | os.O_CREAT | _FLAGS, 0o600), stat.S_IFREG)
            try:
                byte_locks.lock(fd, _PRESENT, shared=True, process=False)
                if os.path.samestat(os.fstat(fd), os.lstat(self._path)):
                    os.posix_fallocate(fd, 0, _SIZE)  # to touch a page that there is no room for is SIGBUS
                    return fd
            except (BlockingIOError, FileNotFoundError):
                pass  # its last process is removing it
            except BaseException:
                _leave(fd, self._path)
                raise
            os.close(fd)
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    def claim(self) -> tuple[int, int, int]:
        """A column: its number, the descriptor whose lock makes it one's own, and the FIFO to be rung by. OSError: none is free."""
        lock = os.open(self._path, os.O_RDWR | _FLAGS)
        for waiter in range(WAITERS):
            with suppress(OSError):  # another's, or something that is no FIFO of ours has its name
                byte_locks.lock(lock, Range(waiter, waiter + 1), shared=False, process=False)
                self.clear(waiter)
                return waiter, lock, self._fifo(waiter)
        os.close(lock)
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    def _fifo(self, waiter: int) -> int:
        path = f"{self._path}-{waiter}"
        self.memory[_FIFOS + waiter] = 1  # first: it is removed even if this process is killed now
        with suppress(FileExistsError):
            os.mkfifo(path, 0o600)
        return _checked(os.open(path, os.O_RDWR | _FLAGS), stat.S_IFIFO)

    def give_back(self, waiter: int, lock: int, fifo: int) -> None:
        """Let go of a column."""
        self.clear(waiter)
        with suppress(OSError):
            os.unlink(f"{self._path}-{waiter}")
            self.memory[_FIFOS + waiter] = 0
        os.close(fifo)
        os.close(lock)

    def clear(self, waiter: int) -> None:
        """Nobody waits in that column."""
        self.memory[waiter:_FIFOS:WAITERS] = bytes(ROWS)

    def ring(self, tag: int, after: int, most: int, until: int | None = None) -> int:
        """Call up to `most` waiters of the tag's row, from the one behind `after` on, to `until`. The last one called."""
        row = tag % ROWS
        line = self.memory[row * WAITERS : (row + 1) * WAITERS]
        line = line[after + 1 :] + line[: after + 1]
        if until is None:
            until = after
        else:
            line = line[: (until - after) % WAITERS]
        last, everyone = after, most >= WAITERS
        at = line.find(1)
        while at >= 0 and most:
            waiter = (after + 1 + at) % WAITERS
            if self._ring(waiter, Call(tag, waiter if everyone else until)):
                last = waiter
                most -= 1
            at = line.find(1, at + 1)
        os.sched_yield()  # to who was woken: the kernel wakes it on this processor, and may let it wait for milliseconds
        return last

    def _ring(self, waiter: int, call: Call) -> bool:
        """Wake a waiter, which may pass the call on. False if it can't be reached."""
        data = _CALL.pack(*call)
        with self._ringing:
            while True:
                known = waiter in self._rung
                try:
                    if not known:
                        self._rung[waiter] = os.open(f"{self._path}-{waiter}", os.O_WRONLY | _FLAGS)
                    self._write(self._rung[waiter], data)
                except BlockingIOError:
                    return True  # full: it has been rung many times already
                except OSError as error:
                    self._forget_fifo(waiter)
                    if known:
                        continue  # that one is gone; there may be another in its place
                    if error.errno in (errno.ENXIO, errno.ENOENT):
                        self.memory[call.tag % ROWS * WAITERS + waiter] = 0
                    return False
                return True

    def _write(self, fifo: int, call: bytes) -> None:
        if sigpipe.deadly:
            sigpipe.guarded(os.write, fifo, call)
        else:
            os.write(fifo, call)

    def _forget_fifo(self, waiter: int) -> None:
        fifo = self._rung.pop(waiter, None)
        if fifo is not None:
            os.close(fifo)

    def leave(self) -> None:
        """Remove it if nobody else has it. The mapping stays, until `unmap`."""
        _leave(self._fd, self._path, self.memory)

    def unmap(self) -> None:
        """No more looks and rings: nobody in this process has a doorbell."""
        self.memory.close()
        for waiter in tuple(self._rung):
            self._forget_fifo(waiter)

    def forget(self) -> None:
        """In a forked child: its parent's locks are to end with its parent. The mapping has a descriptor of its own, a copy."""
        self.unmap()
        os.close(self._fd)


def calls(data: bytes) -> list[Call]:
    """What was written into a FIFO. Each call counts, also one that is there twice: two releases may have called for two tasks."""
    whole = len(data) - len(data) % _CALL.size
    return [Call(tag, until % WAITERS) for tag, until in _CALL.iter_unpack(data[:whole])]


def _checked(fd: int, kind: int) -> int:
    """`fd`, unless what it stands for is of another kind, or not this user's alone: PermissionError, and it is closed."""
    about = os.fstat(fd)
    if stat.S_IFMT(about.st_mode) == kind and about.st_uid == os.geteuid() and not about.st_mode & 0o077:
        return fd
    os.close(fd)
    raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))


def _leave(fd: int, path: str, memory: mmap.mmap | bytes = b"") -> None:
    """Close the board; if nobody else has it, remove it, and the FIFOs that killed processes left."""
    with suppress(OSError):
        byte_locks.unlock(fd, _PRESENT, process=False)  # first: of two who leave at once, the second one is alone then
        byte_locks.lock(fd, _PRESENT, shared=False, process=False)
        if os.path.samestat(os.fstat(fd), os.lstat(path)):
            for waiter, there in enumerate(memory[_FIFOS:]):
                if there:
                    _remove_fifo(f"{path}-{waiter}")
            os.unlink(path)
    os.close(fd)


def _remove_fifo(path: str) -> None:
    with suppress(OSError):
        about = os.lstat(path)
        if stat.S_ISFIFO(about.st_mode) and about.st_uid == os.geteuid():
            os.unlink(path)
