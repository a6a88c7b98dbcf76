"""The waiters' table: which event loop waits for which object, in memory that all processes of one user share.

The memory has 512 rows of 64 bytes, a cache line each. Byte W of row R is 1 while waiter W waits for an object whose name belongs to
row R. A waiter is an event loop. The file `/dev/shm/aipc-bells-UID-NAMESPACE` names the memory (`memory`) and carries the locks. A
waiter owns its column by an open-file-description lock on byte W of the file, which ends with its process. It is called through the
FIFO `/dev/shm/aipc-bells-UID-NAMESPACE-W` with the object's tag and V, four bytes each, in native order. A tag is the CRC-32 of the
object's name, and R is the tag modulo 512. A waiter that does not need the object passes the call on to the next waiter of the row
after itself, up to waiter V; if V = W, to none. Other users can open none of these files (mode 0600).

Only the owner of a column stores its bytes; the column of a dead waiter is cleared under its lock. Bytes are stored one by one and
never combined, so no process's store undoes another's, and a wrong byte costs at most a polling pause. The last row has a 1 for each
existing FIFO; the last process to leave removes them.

A waiter stores its byte, and then tries once more; a provider first provides the object, and then loads the bytes. Between its two
steps a waiter calls `membarrier.full`, which orders both sides: not every object changes under a lock of the kernel. A POSIX
semaphore is a number in memory, and so is a snapshot.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import stat
import struct
from contextlib import suppress
from itertools import compress
from threading import RLock
from time import monotonic
from typing import Any, NamedTuple
from zlib import crc32

from .. import byte_locks, membarrier
from ..byte_locks import Range
from ..signals import sigpipe
from ..yielding import YieldToPeer
from . import memory as doorbell_memory

DIRECTORY = "/dev/shm"  # noqa: S108 - what is opened there is checked to be this user's
ROWS, WAITERS = 512, 64
NOBODY = bytes(WAITERS)
Line = ctypes.c_char * WAITERS
"""One row's bytes, as they are now: `raw` is the fastest way to read them."""
_FIRST = WAITERS
"""Offset of the first row, after the memory's mark."""
_FIFOS = _FIRST + ROWS * WAITERS
"""Offset of the row that tells which FIFOs exist."""
SIZE = _FIFOS + WAITERS
_PRESENT = Range(WAITERS, WAITERS + 1)
"""Every process that has the table holds a shared lock on this byte."""
_ENTRANCE = Range(WAITERS + 1, WAITERS + 2)
"""A process holds an exclusive lock on this byte while it enters."""
_PATIENCE = 1.0
"""Seconds to try to enter: another process may be stopped while it enters or leaves, or wait for a busy processor."""
_CALL = struct.Struct("=II")
_FIFO_SIZE = 4096
"""Bytes of calls that a FIFO keeps: a loop that was busy for a second need not answer thousands."""
_FLAGS = os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC


class Call(NamedTuple):
    """The message in a waiter's FIFO: the object's tag, and the last waiter to which the call may be passed on."""

    tag: int
    until: int


class Column(NamedTuple):
    """A waiter's column: the descriptor whose lock owns it, and the FIFO for its calls."""

    waiter: int
    lock: int
    fifo: int


def tag_of(name: str) -> int:
    """An object's tag. Its row is the tag modulo ROWS."""
    return crc32(os.fsencode(name))


def file_name() -> str:
    """The table's file of this user and this IPC namespace, in DIRECTORY."""
    return f"aipc-bells-{os.geteuid()}-{os.stat('/proc/self/ns/ipc').st_ino}"


class WaiterTable:
    """The user's table. OSError if there cannot be one."""

    __slots__ = ("_bytes", "_called", "_calling", "_fd", "_memory", "_own", "_path", "_yield")

    def __init__(self) -> None:
        self._path = f"{DIRECTORY}/{file_name()}"
        self._fd, self._memory = _enter(self._path)
        self._bytes = memoryview(self._memory).cast("B")
        self._called: dict[int, int] = {}  # the FIFOs of waiters, open
        self._own: set[int] = set()  # the waiters of this process
        self._yield = YieldToPeer()
        self._calling = RLock()  # no descriptor may be closed and its number reused while a thread writes to it
        sigpipe.look()
        membarrier.registered()  # so that the barriers of waiters reach this process

    def line(self, row: int) -> ctypes.Array[ctypes.c_char]:
        """The bytes of a row, valid while they are referenced."""
        return Line.from_buffer(self._memory, _FIRST + row * WAITERS)

    def mark(self, row: int, waiter: int, waits: bool) -> None:
        """Store whether the owner of that column waits for an object of that row."""
        self._bytes[_FIRST + row * WAITERS + waiter] = waits

    def claim(self) -> Column:
        """Claim a free column. OSError: none is free, or it cannot be made; nothing of it is left then."""
        lock = os.open(self._path, os.O_RDWR | _FLAGS)
        try:
            if not os.path.samestat(os.fstat(lock), os.fstat(self._fd)):
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))  # removed from outside and replaced
            for waiter in range(WAITERS):
                with suppress(BlockingIOError, FileExistsError):  # another's; or the name is not our FIFO's
                    byte_locks.lock(lock, _column(waiter), shared=False, process=False)
                    self.clear(waiter)
                    column = Column(waiter, lock, self._fifo(waiter))
                    self._own.add(waiter)
                    return column
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        except BaseException:
            os.close(lock)
            raise

    def _fifo(self, waiter: int) -> int:
        path = f"{self._path}-{waiter}"
        self._bytes[_FIFOS + waiter] = 1  # first: so it is removed even if this process is killed
        try:
            os.mkfifo(path, 0o600)
        except FileExistsError:
            if not _is_own_fifo(path):
                raise
        try:
            fifo = _checked(os.open(path, os.O_RDWR | _FLAGS), stat.S_IFIFO)
        except BaseException:
            self._remove_fifo(waiter)
            raise
        with suppress(OSError):
            fcntl.fcntl(fifo, fcntl.F_SETPIPE_SZ, _FIFO_SIZE)
        return fifo

    def _remove_fifo(self, waiter: int) -> None:
        with suppress(OSError):
            os.unlink(f"{self._path}-{waiter}")
            self._bytes[_FIFOS + waiter] = 0

    def give_back(self, column: Column) -> None:
        """Give back a column, and pass on its pending calls: callers that saw it in use rely on that."""
        self.clear(column.waiter)
        for call in calls(column):
            self.call(call.tag, column.waiter, 1, call.until)
        self._own.discard(column.waiter)
        self._remove_fifo(column.waiter)
        os.close(column.fifo)
        os.close(column.lock)

    def clear(self, waiter: int) -> None:
        """Clear the caller's own column: it waits for nothing."""
        self._bytes[_FIRST + waiter : _FIFOS : WAITERS] = bytes(ROWS)

    def call(self, tag: int, after: int, most: int, until: int | None = None) -> int:
        """Call up to `most` waiters of the tag's row, from the one after `after` up to `until`; return the last one called."""
        start = _FIRST + tag % ROWS * WAITERS
        line = self._memory[start : start + WAITERS]
        line = line[after + 1 :] + line[: after + 1]
        if until is None:
            until = after
        else:
            line = line[: (until - after) % WAITERS]
        at = line.find(1)
        if at < 0:
            return after
        last, everyone, yields = after, most >= WAITERS, False
        while at >= 0 and most:
            waiter = (after + 1 + at) % WAITERS
            if self._call(waiter, _CALL.pack(tag, waiter if everyone else until)) and self._bytes[start + waiter]:
                last = waiter  # still there after the call: it will read it, even if it is leaving
                most -= 1
                yields |= waiter not in self._own
            at = line.find(1, at + 1)
        if yields:  # otherwise this would waste time on a busy processor (sched(7)), and another process would have it
            self._yield()
        return last

    def _call(self, waiter: int, call: bytes) -> bool:
        """Wake a waiter, which may pass the call on. False if it cannot be reached."""
        with self._calling:
            while True:
                known = waiter in self._called
                try:
                    if not known:
                        self._called[waiter] = os.open(f"{self._path}-{waiter}", os.O_WRONLY | _FLAGS)
                    self._write(self._called[waiter], call)
                except BlockingIOError:
                    return True  # full: it was called many times already
                except OSError as error:
                    self._forget_fifo(waiter)
                    if known:
                        continue  # that FIFO is gone; there may be a new one
                    if error.errno in (errno.ENXIO, errno.ENOENT):
                        self._clear_dead(waiter)
                    return False
                return True

    def _write(self, fifo: int, data: bytes) -> None:
        if sigpipe.deadly:
            sigpipe.guarded(os.write, fifo, data)
        else:
            os.write(fifo, data)

    def _clear_dead(self, waiter: int) -> None:
        """Clear the column of a dead waiter, unless a new waiter owns it, which has cleared it already."""
        with suppress(OSError, ValueError):  # ValueError: this process is ending and has left
            byte_locks.lock(self._fd, _column(waiter), shared=False, process=False)
            self.clear(waiter)
            byte_locks.unlock(self._fd, _column(waiter), process=False)

    def _forget_fifo(self, waiter: int) -> None:
        fifo = self._called.pop(waiter, None)
        if fifo is not None:
            os.close(fifo)

    def leave(self) -> None:
        """Remove the table if no other process has it, and the FIFOs of killed processes. Reading and calling still work."""
        fd, self._fd = self._fd, -1
        _leave(fd, self._path, self._bytes[_FIFOS:])

    def forget_fifos(self) -> None:
        """Make no more calls: no loop of this process has a doorbell. The memory is freed with its last line."""
        for waiter in tuple(self._called):
            self._forget_fifo(waiter)

    def forget(self) -> None:
        """Close the descriptors in a forked child: the parent's locks must end with the parent."""
        self.forget_fifos()
        os.close(self._fd)


def calls(column: Column) -> list[Call]:
    """Read the calls in a waiter's FIFO. Each call counts: two equal ones may be for two tasks."""
    try:
        data = os.read(column.fifo, 16 * _FIFO_SIZE)
    except BlockingIOError:
        return []
    whole = len(data) - len(data) % _CALL.size
    return [Call(tag, until % WAITERS) for tag, until in _CALL.iter_unpack(data[:whole])]


def _enter(path: str) -> tuple[int, Any]:
    """Return the table's file, open, with this process's lock on it, and its memory."""
    deadline = monotonic() + _PATIENCE
    while True:
        fd = _checked(os.open(path, os.O_RDWR | os.O_CREAT | _FLAGS, 0o600), stat.S_IFREG)
        try:
            return fd, _join(fd, path)
        except (BlockingIOError, FileNotFoundError):
            os.close(fd)  # another process enters, or leaves and removes it
            if monotonic() >= deadline:
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from None
        except BaseException:
            _leave(fd, path)
            raise
        os.sched_yield()


def _join(fd: int, path: str) -> Any:
    byte_locks.lock(fd, _ENTRANCE, shared=False, process=False)
    alone = _lock_present(fd)
    if not os.path.samestat(os.fstat(fd), os.lstat(path)):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    if alone:
        if os.fstat(fd).st_size:  # all its processes were killed
            _remove_fifos(path, bytes([1]) * WAITERS)
        memory = doorbell_memory.create(fd, SIZE)
        byte_locks.lock(fd, _PRESENT, shared=True, process=False)
    else:
        memory = doorbell_memory.attach(fd, SIZE)
    byte_locks.unlock(fd, _ENTRANCE, process=False)
    return memory


def _lock_present(fd: int) -> bool:
    """Whether this process is the only one."""
    try:
        byte_locks.lock(fd, _PRESENT, shared=False, process=False)
    except BlockingIOError:
        byte_locks.lock(fd, _PRESENT, shared=True, process=False)
        return False
    return True


def _leave(fd: int, path: str, fifos: bytes | memoryview = b"") -> None:
    """Close the table's file; if no other process has it, remove it, and the FIFOs of killed processes."""
    with suppress(OSError):
        byte_locks.unlock(fd, _PRESENT, process=False)  # first: of two that leave at once, the second is then alone
        byte_locks.lock(fd, _PRESENT, shared=False, process=False)
        if os.path.samestat(os.fstat(fd), os.lstat(path)):
            _remove_fifos(path, fifos)
            os.unlink(path)
    os.close(fd)


def _remove_fifos(path: str, there: bytes | memoryview) -> None:
    for waiter in compress(range(WAITERS), there):
        if _is_own_fifo(f"{path}-{waiter}"):
            os.unlink(f"{path}-{waiter}")


def _is_own_fifo(path: str) -> bool:
    try:
        return _own(os.lstat(path), stat.S_IFIFO)
    except FileNotFoundError:
        return False


def _own(about: os.stat_result, kind: int) -> bool:
    """Whether it is of that kind, and belongs to this user alone."""
    return stat.S_IFMT(about.st_mode) == kind and about.st_uid == os.geteuid() and not about.st_mode & 0o077


def _checked(fd: int, kind: int) -> int:
    """Return `fd` if its file passes `_own`; otherwise close it, and raise PermissionError."""
    if _own(os.fstat(fd), kind):
        return fd
    os.close(fd)
    raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))


def _column(waiter: int) -> Range:
    return Range(waiter, waiter + 1)
