"""The properties of pipes and FIFOs (pipe(7), fcntl(2), poll(2))."""

from __future__ import annotations

import fcntl
import os
import select
import termios
from array import array
from pathlib import Path

LARGEST = Path("/proc/sys/fs/pipe-max-size")
"""The largest capacity that an unprivileged process may set."""


def capacity(fd: int) -> int:
    """The capacity in bytes, if they are written in whole pages (F_GETPIPE_SZ)."""
    return fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ)


def set_capacity(fd: int, size: int) -> None:
    """Set the capacity to `size` bytes or more (F_SETPIPE_SZ). PermissionError over LARGEST, without CAP_SYS_RESOURCE."""
    fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, min(size, 0x7FFFFFFF))


def unread(fd: int) -> int:
    """The bytes that wait to be read (FIONREAD)."""
    count = array("i", [0])
    fcntl.ioctl(fd, termios.FIONREAD, count)
    return count[0]


def events(fd: int) -> int:
    """The present events of poll(2): POLLIN, POLLHUP (all writers left), POLLERR (all readers left)."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    found = poll.poll(0)
    return found[0][1] if found else 0


def reopen(fd: int) -> int:
    """Open the same object with an open file description of its own: non-blocking, close-on-exec, with the same access."""
    flags = fcntl.fcntl(fd, fcntl.F_GETFL) & (os.O_ACCMODE | os.O_DIRECT | os.O_APPEND)
    return os.open(f"/proc/self/fd/{fd}", flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
