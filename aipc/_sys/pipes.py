"""What a pipe or FIFO tells of itself, and sets (pipe(7), fcntl(2), poll(2))."""

from __future__ import annotations

import fcntl
import os
import select
import termios
from array import array
from pathlib import Path

LARGEST = Path("/proc/sys/fs/pipe-max-size")
"""Where the kernel shows the largest capacity that a process without privileges may set."""


def capacity(fd: int) -> int:
    """Bytes that it holds, if they are written by the page (F_GETPIPE_SZ)."""
    return fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ)


def set_capacity(fd: int, size: int) -> None:
    """Make it hold `size` bytes or more (F_SETPIPE_SZ). PermissionError beyond LARGEST, without CAP_SYS_RESOURCE."""
    fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, min(size, 0x7FFFFFFF))


def unread(fd: int) -> int:
    """Bytes that wait in it (FIONREAD)."""
    count = array("i", [0])
    fcntl.ioctl(fd, termios.FIONREAD, count)
    return count[0]


def events(fd: int) -> int:
    """What poll(2) says now: POLLIN, POLLHUP (all writers left), POLLERR (all readers left)."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    found = poll.poll(0)
    return found[0][1] if found else 0


def reopen(fd: int) -> int:
    """An open file description of its own for the same object, non-blocking and close-on-exec, with the same access."""
    flags = fcntl.fcntl(fd, fcntl.F_GETFL) & (os.O_ACCMODE | os.O_DIRECT | os.O_APPEND)
    return os.open(f"/proc/self/fd/{fd}", flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
