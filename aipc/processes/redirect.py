"""What a child's standard streams may be connected to: a file, /dev/null, or any channel with a descriptor."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
from collections.abc import Iterable
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


Passed = int | HasDescriptor | Channel
"""What else a child may inherit."""


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


def passed(pipes: ChildPipes, given: Iterable[Passed]) -> dict[int, int]:
    """The numbers that a child is to have beside its streams, each with the descriptor of this process that it gets there.

    These are the same, but for a non-blocking pipe, FIFO or terminal: the child gets a blocking one under that number.
    """
    return dict(_passed(pipes, one) for one in given)


def _passed(pipes: ChildPipes, one: Passed) -> tuple[int, int]:
    what = "pass_fds"
    if isinstance(one, TransportChannel):
        fd = _descriptor(what, one)
        return fd, pipes.lend(fd, one.close)
    fd = one if isinstance(one, int) else _fileno(what, one)
    if isinstance(one, bool) or fd < 0:
        raise AddressError(f"{what}: {one!r}: must be a descriptor, an open file or a channel with a descriptor")
    _check(what, fd)
    return fd, fd if os.get_blocking(fd) or stat.S_ISSOCK(os.fstat(fd).st_mode) else pipes.lend(fd, lambda: None)


def _descriptor(what: str, channel: Channel) -> int:
    fd: int = channel.extra(ChannelAttribute.descriptor, -1)
    if fd < 0 or not isinstance(channel, TransportChannel):
        raise UnsupportedOperation(f"{what}={channel!r}: it is closed, or has no descriptor that a child could use")
    return fd


def _lent(pipes: ChildPipes, what: str, channel: Channel) -> int:
    fd = _descriptor(what, channel)
    if access(fd) == (os.O_WRONLY if what == "stdin" else os.O_RDONLY):
        raise AddressError(f"{what}={channel!r}: its descriptor goes the other way")
    return pipes.lend(fd, channel.close)  # type: ignore[attr-defined]


def _fileno(what: str, file: Any) -> int:
    try:
        return int(file.fileno())
    except AttributeError:
        raise AddressError(f"{what}={file!r}: must be an open file, a descriptor, a channel or subprocess.DEVNULL") from None
