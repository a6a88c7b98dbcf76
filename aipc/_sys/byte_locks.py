"""Byte-range locks (fcntl(2), F_OFD_SETLK and F_SETLK): plain calls that do not wait."""

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


def unlock(fd: int, where: Range, *, process: bool) -> None:
    """Unlock these bytes; what of a longer lock is outside stays."""
    fcntl.fcntl(fd, fcntl.F_SETLK if process else fcntl.F_OFD_SETLK, _packed(fcntl.F_UNLCK, where))


class Conflict(NamedTuple):
    """A lock that keeps another one out.

    pid     of its holder; -1 for a lock of an open file, 0 where it isn't ours to see
    """

    pid: int
    shared: bool
    where: Range


def in_the_way(fd: int, where: Range, *, shared: bool, process: bool) -> Conflict | None:
    """The first lock that is in the way of such a one (F_GETLK); None if there is none."""
    kind = fcntl.F_RDLCK if shared else fcntl.F_WRLCK
    answer = fcntl.fcntl(fd, fcntl.F_GETLK if process else fcntl.F_OFD_GETLK, _packed(kind, where))
    found, _, start, length, pid = _FLOCK.unpack(answer)
    if found == fcntl.F_UNLCK:
        return None
    return Conflict(pid, found == fcntl.F_RDLCK, Range(start, start + length if length else TOP))
