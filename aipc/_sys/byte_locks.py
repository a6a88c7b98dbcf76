"""Byte-range locks (fcntl(2), F_OFD_SETLK and F_SETLK): plain calls, of which only `wait_for` waits."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from typing import NamedTuple

TOP = 1 << 63
"""One past the last byte that a file can have; a range that ends there reaches to the end, however long the file gets."""

_FLOCK = struct.Struct("hhqqi4x")  # l_type, l_whence, l_start, l_len, l_pid


class Range(NamedTuple):
    """Bytes from `start` up to, not including, `end`."""

    start: int
    end: int

    def overlaps(self, other: Range) -> bool:
        """Whether a byte is in both."""
        return self.start < other.end and other.start < self.end


def _packed(kind: int, where: Range) -> bytes:
    return _FLOCK.pack(kind, os.SEEK_SET, where.start, 0 if where.end == TOP else where.end - where.start, 0)


def lock(fd: int, where: Range, *, shared: bool, process: bool) -> None:
    """Lock, or convert what is locked. BlockingIOError while somebody else's lock is in the way; then nothing changed.

    EBADF unless `fd` is open for reading (shared) or writing (exclusive).
    """
    kind = fcntl.F_RDLCK if shared else fcntl.F_WRLCK
    try:
        fcntl.fcntl(fd, fcntl.F_SETLK if process else fcntl.F_OFD_SETLK, _packed(kind, where))
    except PermissionError:  # EACCES: fcntl(2) allows it in place of EAGAIN, and CIFS says it
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from None


def wait_for(fd: int, where: Range) -> None:
    """Lock for the open file alone, and block this thread until that is possible."""
    fcntl.fcntl(fd, fcntl.F_OFD_SETLKW, _packed(fcntl.F_WRLCK, where))


def unlock(fd: int, where: Range, *, process: bool) -> None:
    """Unlock these bytes; what of a longer lock is outside stays."""
    fcntl.fcntl(fd, fcntl.F_SETLK if process else fcntl.F_OFD_SETLK, _packed(fcntl.F_UNLCK, where))


def in_the_way(fd: int, where: Range, *, shared: bool, process: bool) -> int | None:
    """The pid whose lock is in the way of such a one; -1 for a lock of an open file, 0 where the pid isn't ours to see."""
    kind = fcntl.F_RDLCK if shared else fcntl.F_WRLCK
    answer = fcntl.fcntl(fd, fcntl.F_GETLK if process else fcntl.F_OFD_GETLK, _packed(kind, where))
    found, _, _, _, pid = _FLOCK.unpack(answer)
    return None if found == fcntl.F_UNLCK else int(pid)
