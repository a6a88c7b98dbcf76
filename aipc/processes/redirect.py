"""What a child's standard streams may be connected to: a file, /dev/null, or any channel with a descriptor."""

from __future__ import annotations

import errno
import os
import subprocess
from typing import Any, Protocol

from aipc._child.pipes import ChildPipes, access
from aipc._io.errors import os_error
from aipc.abc import Channel, ChannelAttribute
from aipc.exceptions import AddressError, UnsupportedOperation
from aipc.transports.base import TransportChannel


class HasDescriptor(Protocol):
    """A file, a socket, or another object with a descriptor."""

    def fileno(self) -> int:
        """Return the descriptor."""
        ...


Redirection = int | HasDescriptor | Channel | None
"""None: this process's own stream. A number: a descriptor, or subprocess's DEVNULL (for stderr also STDOUT)."""


def redirected(pipes: ChildPipes, what: str, to: Redirection) -> int | None:
    """Return the descriptor, or subprocess's number, for the child's `what`: "stdin", "stdout" or "stderr"."""
    if isinstance(to, Channel):
        return _lent(pipes, what, to)
    if to is None or not isinstance(to, int):
        return None if to is None else _fileno(what, to)
    if to < 0 and to != subprocess.DEVNULL and not (to == subprocess.STDOUT and what == "stderr"):
        raise AddressError(f"{what}={to}: must be a descriptor, a file, a channel or subprocess.DEVNULL (stderr: STDOUT, too)")
    if to >= 0:
        _check(what, to)
    return to


def _check(what: str, fd: int) -> None:
    try:
        os.fstat(fd)
    except OSError:
        raise os_error(errno.ENOENT, f"{what}={fd}", "that descriptor is not open in this process") from None


def _lent(pipes: ChildPipes, what: str, channel: Channel) -> int:
    fd: int = channel.extra(ChannelAttribute.descriptor, -1)
    if fd < 0 or not isinstance(channel, TransportChannel):
        raise UnsupportedOperation(f"{what}={channel!r}: it is closed, or has no descriptor that a child could use")
    if access(fd) == (os.O_WRONLY if what == "stdin" else os.O_RDONLY):
        raise AddressError(f"{what}={channel!r}: its descriptor goes the other way")
    return pipes.lend(fd, channel.close)


def _fileno(what: str, file: Any) -> int:
    try:
        return int(file.fileno())
    except AttributeError:
        raise AddressError(f"{what}={file!r}: must be an open file, a descriptor, a channel or subprocess.DEVNULL") from None
