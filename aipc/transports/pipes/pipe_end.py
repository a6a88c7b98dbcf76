"""The common base of the ends of pipes and FIFOs."""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from typing import Any

from aipc._io.errors import os_error, translate
from aipc._io.handle import FileHandle
from aipc._sys import pipes
from aipc.abc import ChannelAttribute
from aipc.wire.framing import Framing

from ..byte_stream import ByteStreamChannel


class PipeEnd(ByteStreamChannel):
    """One end of a pipe or a FIFO: it receives or it sends."""

    __slots__ = ("_handle",)

    def __init__(self, handle: FileHandle, framing: Framing, *, sends: bool) -> None:
        super().__init__(None if sends else handle, handle if sends else None, framing)
        self._handle = handle

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        return {
            ChannelAttribute.descriptor: lambda: self._handle.fd,
            ChannelAttribute.max_message_size: lambda: self._framing.limit,
            ChannelAttribute.capacity: lambda: self._handle.call(pipes.capacity, self._handle.fd),
            ChannelAttribute.unread: lambda: self._handle.call(pipes.unread, self._handle.fd),
        }


def set_capacity(fd: int, size: int, name: str) -> None:
    """Make the pipe called `name` hold `size` bytes or more; AccessDenied names the limit."""
    try:
        pipes.set_capacity(fd, size)
    except PermissionError as error:
        limit = f"{pipes.LARGEST} is {int(pipes.LARGEST.read_text()):,}, and fs.pipe-user-pages-soft limits all pipes of a user"
        raise os_error(errno.EPERM, name, f"capacity={size:,} is more than this process may have: {limit}") from error
    except OSError as error:
        raise translate(error, f"{name} (capacity={size:,})") from None
