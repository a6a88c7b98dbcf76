"""Byte-range locks (fcntl(2), F_OFD_SETLK and F_SETLK): plain calls, of which only `wait_for` waits."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from typing import NamedTuple

TOP = 1 << 63
"""One past the last byte of any file. A range that ends here reaches to the end, however long the file becomes."""

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
    """Lock, or convert a lock. BlockingIOError while another lock conflicts; nothing changed then.

    EBADF unless `fd` is open for reading (shared) or writing (exclusive).
    """
    kind = fcntl.F_RDLCK if shared else fcntl.F_WRLCK
    try:
        fcntl.fcntl(fd, fcntl.F_SETLK if process else fcntl.F_OFD_SETLK, _packed(kind, where))
    except PermissionError:  # EACCES: fcntl(2) allows it instead of EAGAIN, and CIFS uses it
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from None


def wait_for(fd: int, where: Range) -> None:
    """Lock for the open file alone, and block this thread until that is possible."""
    fcntl.fcntl(fd, fcntl.F_OFD_SETLKW, _packed(fcntl.F_WRLCK, where))


def unlock(fd: int, where: Range, *, process: bool) -> None:
    """Unlock these bytes; the rest of a longer lock stays."""
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
