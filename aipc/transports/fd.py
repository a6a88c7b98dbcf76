"""Inherited descriptors: `fd:3` for one that reads and writes, `fd:3,4` for one to read and one to write.

The channel owns them from then on. Standard input is `fd:0`, whatever it is: a terminal, a pipe, or a file.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
from collections.abc import Callable, Mapping
from typing import Any

from aipc._address import Address
from aipc._io.errors import os_error
from aipc._io.handle import FileHandle, SocketHandle
from aipc._sys import pipes
from aipc.abc import ChannelAttribute
from aipc.exceptions import WrongObject
from aipc.wire.framing import MAX_MESSAGE_SIZE, Framing
from aipc.wire.framing import framing as framing_named

from .byte_stream import ByteStreamChannel
from .common_options import can_spin
from .unix.stream_channel import UnixChannel


class DescriptorChannel(ByteStreamChannel):
    """Messages over descriptors that another part of the program opened."""

    __slots__ = ()

    def __init__(self, reader: FileHandle | None, writer: FileHandle | None, framing: Framing) -> None:
        super().__init__(reader, writer, framing)

    async def send_eof(self) -> None:
        if self._reader is self._writer and not isinstance(self._writer, SocketHandle):
            self._no_eof()
        await super().send_eof()

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        return {
            ChannelAttribute.descriptor: lambda: next(iter(self._handles())).fd,
            ChannelAttribute.max_message_size: lambda: self._framing.limit,
        }


@can_spin
async def adopt(
    address: Address, *, framing: str = "u32", max_message_size: int = MAX_MESSAGE_SIZE, fds: bool = False
) -> DescriptorChannel | UnixChannel:
    """Take over inherited descriptors. ObjectMissing if one is not open, WrongObject for a directory or a datagram socket.

    A regular file is always ready: it is read and written by plain calls, which may wait for the disk, and the loop with them.

    A Unix socket becomes a channel of `unix:`, with its `fds`.
    """
    numbers = address.path.split(",")
    if not all(number.isascii() and number.isdecimal() for number in numbers) or len(numbers) > 2:
        raise address.error("needs one descriptor's number, as in fd:3, or two to read and to write, as in fd:3,4")
    chosen = framing_named(framing, max_message_size)
    descriptors = [int(number) for number in numbers]
    for fd in descriptors:
        _check(fd, address.url)
    if len(descriptors) == 2 and descriptors[0] != descriptors[1]:
        reader, writer = (_handle(fd, address.url) for fd in descriptors)
        return DescriptorChannel(reader, writer, chosen)
    handle = _handle(descriptors[0], address.url)
    if isinstance(handle, SocketHandle) and handle.socket().family == socket.AF_UNIX:
        return UnixChannel(handle, chosen, collects=fds)
    access = fcntl.fcntl(handle.fd, fcntl.F_GETFL) & os.O_ACCMODE
    return DescriptorChannel(None if access == os.O_WRONLY else handle, None if access == os.O_RDONLY else handle, chosen)


def _check(fd: int, name: str) -> None:
    try:
        mode = os.fstat(fd).st_mode
    except OSError:
        raise os_error(errno.ENOENT, name, f"descriptor {fd} is not open in this process") from None
    if not (stat.S_ISFIFO(mode) or _is_stream_socket(fd, mode) or stat.S_ISCHR(mode) or stat.S_ISREG(mode)):
        raise WrongObject(errno.EINVAL, f"{name}: descriptor {fd} is not a pipe, FIFO, terminal, stream socket or regular file")


def _is_stream_socket(fd: int, mode: int) -> bool:
    if not stat.S_ISSOCK(mode):
        return False
    with socket.socket(fileno=os.dup(fd)) as sock:
        return sock.type == socket.SOCK_STREAM


def _handle(fd: int, name: str) -> FileHandle:
    if stat.S_ISSOCK(os.fstat(fd).st_mode):
        return SocketHandle(socket.socket(fileno=fd), name)
    if os.get_blocking(fd) and _can_reopen(fd):
        _part(fd)
    return FileHandle(fd, name)


def _can_reopen(fd: int) -> bool:
    """Whether opening it again gives the same pipe, FIFO or terminal: /dev/ptmx (5:2) would give a new terminal."""
    status = os.fstat(fd)
    return stat.S_ISFIFO(status.st_mode) or (os.isatty(fd) and status.st_rdev != os.makedev(5, 2))


def _part(fd: int) -> None:
    """Give the number its own open file description: O_NONBLOCK would be set for all processes that share the old one."""
    try:
        own = pipes.reopen(fd)
    except OSError:  # without /proc, permission or a reader it stays shared
        return
    os.dup2(own, fd, inheritable=os.get_inheritable(fd))
    os.close(own)
