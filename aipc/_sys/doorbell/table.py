"""Who waits for which object, in memory that all processes of one user share: a byte for each object and each waiter.

The memory has 512 rows of 64 bytes, a cache line each. Byte W of row R is 1 while waiter W waits for an object whose name falls
on row R. A waiter is an event loop. The file `/dev/shm/aipc-bells-UID-NAMESPACE` names the memory (`memory`) and carries
the locks. A waiter owns its column by an open-file-description lock on byte W of the file, which dies with its process, and is
called through the FIFO `/dev/shm/aipc-bells-UID-NAMESPACE-W`: the object's tag and V, four bytes each, native order. A tag is the
CRC-32 of the object's name, and R is the tag modulo 512. A waiter that has no use for the call passes it on to the next one of
the row behind itself, up to waiter V; with V = W, to nobody. Other users can open none of these (mode 0600).

A byte is stored by the owner of its column alone; the column of a dead waiter is cleared under its lock. Bytes are stored one by
one and never combined, so that no process's store undoes another's, and whatever is wrong in there costs a pause at most. The
last row has a 1 for each FIFO that there is, to be removed by the last process to leave.

A waiter stores its byte, and then tries once more; who provides the object does that first, and then loads the bytes. Between
its two steps a waiter calls `membarrier.full`, which makes up for both sides: not every object is changed under a lock of the
kernel. A POSIX semaphore is a number in memory, and so is a snapshot.
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
from . import memory as doorbell_memory

DIRECTORY = "/dev/shm"  # noqa: S108 - what is opened there is checked to be this user's
ROWS, WAITERS = 512, 64
NOBODY = bytes(WAITERS)
Line = ctypes.c_char * WAITERS
"""One row's bytes, as they are now: `raw` is the quickest look."""
_FIRST = WAITERS
"""Where the first row begins, behind the memory's mark."""
_FIFOS = _FIRST + ROWS * WAITERS
"""Where the row begins that tells which FIFOs there are."""
SIZE = _FIFOS + WAITERS
_PRESENT = Range(WAITERS, WAITERS + 1)
"""The byte that every process with the board has a shared lock on."""
_ENTRANCE = Range(WAITERS + 1, WAITERS + 2)
"""The byte that a process has an exclusive lock on while it enters."""
_PATIENCE = 1.0
"""How long to try to enter, seconds: another process may be stopped while it enters or leaves, or wait for a busy processor."""
_CALL = struct.Struct("=II")
_FIFO_SIZE = 4096
"""Bytes of calls that a FIFO keeps: a loop that was busy for a second need not answer thousands."""
_FLAGS = os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC


class Call(NamedTuple):
    """What is written into a waiter's FIFO: the object's tag, and the last waiter that the call may be passed on to."""

    tag: int
    until: int


class Column(NamedTuple):
    """A waiter's place: the descriptor whose lock makes it one's own, and the FIFO to be called through."""

    waiter: int
    lock: int
    fifo: int


def tag_of(name: str) -> int:
    """What an object is called by. Its row is the tag modulo ROWS."""
    return crc32(os.fsencode(name))


def file_name() -> str:
    """The board's file of this user and this IPC namespace, in DIRECTORY."""
    return f"aipc-bells-{os.geteuid()}-{os.stat('/proc/self/ns/ipc').st_ino}"


class WaiterTable:
    """The user's board. OSError if there can't be one."""

    __slots__ = ("_bytes", "_called", "_calling", "_fd", "_memory", "_path")

    def __init__(self) -> None:
        self._path = f"{DIRECTORY}/{file_name()}"
        self._fd, self._memory = _enter(self._path)
        self._bytes = memoryview(self._memory).cast("B")
        self._called: dict[int, int] = {}  # the FIFOs of waiters, open
        self._calling = RLock()  # a descriptor must not be closed, and its number given away, while another thread writes to it
        sigpipe.look()
        membarrier.registered()  # now, so that the barriers of waiters reach this process

    def line(self, row: int) -> ctypes.Array[ctypes.c_char]:
        """The bytes of a row, as long as they are needed."""
        return Line.from_buffer(self._memory, _FIRST + row * WAITERS)

    def mark(self, row: int, waiter: int, waits: bool) -> None:
        """Store whether the owner of that column waits for an object of that row."""
        self._bytes[_FIRST + row * WAITERS + waiter] = waits

    def claim(self) -> Column:
        """A column of one's own. OSError: none is free, or it can't be made, and then nothing of it stays."""
        lock = os.open(self._path, os.O_RDWR | _FLAGS)
        try:
            if not os.path.samestat(os.fstat(lock), os.fstat(self._fd)):
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))  # removed by hand, and there is another one
            for waiter in range(WAITERS):
                with suppress(BlockingIOError, FileExistsError):  # another's; or something that is no FIFO of ours has its name
                    byte_locks.lock(lock, _column(waiter), shared=False, process=False)
                    self.clear(waiter)
                    return Column(waiter, lock, self._fifo(waiter))
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        except BaseException:
            os.close(lock)
            raise

    def _fifo(self, waiter: int) -> int:
        path = f"{self._path}-{waiter}"
        self._bytes[_FIFOS + waiter] = 1  # first: it is removed even if this process is killed now
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
        """Let go of a column, and pass on what it was called for: whoever called it before it was cleared relies on that."""
        self.clear(column.waiter)
        for call in calls(column):
            self.call(call.tag, column.waiter, 1, call.until)
        self._remove_fifo(column.waiter)
        os.close(column.fifo)
        os.close(column.lock)

    def clear(self, waiter: int) -> None:
        """Nobody waits in that column, which is the caller's."""
        self._bytes[_FIRST + waiter : _FIFOS : WAITERS] = bytes(ROWS)

    def call(self, tag: int, after: int, most: int, until: int | None = None) -> int:
        """Call up to `most` waiters of the tag's row, from the one behind `after` on, to `until`. The last one called."""
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
        last, everyone = after, most >= WAITERS
        while at >= 0 and most:
            waiter = (after + 1 + at) % WAITERS
            if self._call(waiter, _CALL.pack(tag, waiter if everyone else until)) and self._bytes[start + waiter]:
                last = waiter  # and still there after the call: it will read it, be it as the last thing that it does
                most -= 1
            at = line.find(1, at + 1)
        if last != after:  # else it would cost this process its time on a busy processor (sched(7)), for nobody
            os.sched_yield()  # to who was woken: the kernel wakes it on this processor, and may let it wait for milliseconds
        return last

    def _call(self, waiter: int, call: bytes) -> bool:
        """Wake a waiter, which may pass the call on. False if it can't be reached."""
        with self._calling:
            while True:
                known = waiter in self._called
                try:
                    if not known:
                        self._called[waiter] = os.open(f"{self._path}-{waiter}", os.O_WRONLY | _FLAGS)
                    self._write(self._called[waiter], call)
                except BlockingIOError:
                    return True  # full: it has been called many times already
                except OSError as error:
                    self._forget_fifo(waiter)
                    if known:
                        continue  # that one is gone; there may be another in its place
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
        """Clear the column of a waiter that is gone, unless it is another's by now, who has cleared it already."""
        with suppress(OSError, ValueError):  # ValueError: this process is ending, and has left
            byte_locks.lock(self._fd, _column(waiter), shared=False, process=False)
            self.clear(waiter)
            byte_locks.unlock(self._fd, _column(waiter), process=False)

    def _forget_fifo(self, waiter: int) -> None:
        fifo = self._called.pop(waiter, None)
        if fifo is not None:
            os.close(fifo)

    def leave(self) -> None:
        """Remove it if nobody else has it, and the FIFOs that killed processes left. Looks are still possible, and calls."""
        fd, self._fd = self._fd, -1
        _leave(fd, self._path, self._bytes[_FIFOS:])

    def forget_fifos(self) -> None:
        """No more calls: nobody in this process has a doorbell. The memory goes with the last line of it."""
        for waiter in tuple(self._called):
            self._forget_fifo(waiter)

    def forget(self) -> None:
        """In a forked child: its parent's locks are to end with its parent."""
        self.forget_fifos()
        os.close(self._fd)


def calls(column: Column) -> list[Call]:
    """What was written into a waiter's FIFO. Each call counts: two equal ones may be for two tasks."""
    try:
        data = os.read(column.fifo, 16 * _FIFO_SIZE)
    except BlockingIOError:
        return []
    whole = len(data) - len(data) % _CALL.size
    return [Call(tag, until % WAITERS) for tag, until in _CALL.iter_unpack(data[:whole])]


def _enter(path: str) -> tuple[int, Any]:
    """The board's file, open, with this process's lock on it; and its memory."""
    deadline = monotonic() + _PATIENCE
    while True:
        fd = _checked(os.open(path, os.O_RDWR | os.O_CREAT | _FLAGS, 0o600), stat.S_IFREG)
        try:
            return fd, _join(fd, path)
        except (BlockingIOError, FileNotFoundError):
            os.close(fd)  # somebody else enters, or leaves and removes it
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
        if os.fstat(fd).st_size:  # all who had it were killed
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
    """Close the board's file; if nobody else has it, remove it, and the FIFOs that killed processes left."""
    with suppress(OSError):
        byte_locks.unlock(fd, _PRESENT, process=False)  # first: of two who leave at once, the second one is alone then
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
    """Whether it is of that kind, and this user's alone."""
    return stat.S_IFMT(about.st_mode) == kind and about.st_uid == os.geteuid() and not about.st_mode & 0o077


def _checked(fd: int, kind: int) -> int:
    """`fd`, unless what it stands for is not `_own`: PermissionError, and it is closed."""
    if _own(os.fstat(fd), kind):
        return fd
    os.close(fd)
    raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))


def _column(waiter: int) -> Range:
    return Range(waiter, waiter + 1)
