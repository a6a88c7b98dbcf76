"""Unnamed pipes (pipe(7))."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from aipc._io.handle import FileHandle
from aipc.abc import ChannelAttribute
from aipc.wire.framing import MAX_MESSAGE_SIZE, Framing
from aipc.wire.framing import framing as framing_named

from .byte_stream import ByteStreamChannel


class PipeChannel(ByteStreamChannel):
    """One end of a pipe: it receives or it sends."""

    __slots__ = ("_handle",)

    def __init__(self, handle: FileHandle, framing: Framing, *, sends: bool) -> None:
        super().__init__(None if sends else handle, handle if sends else None, framing)
        self._handle = handle

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        return {
            ChannelAttribute.descriptor: lambda: self._handle.fd,
            ChannelAttribute.max_message_size: lambda: self._framing.limit,
        }


def pipe(framing: str = "u32", max_message_size: int = MAX_MESSAGE_SIZE) -> tuple[PipeChannel, PipeChannel]:
    """A new pipe: the receiving channel and the sending one.

    `send_eof`, or closing the sender, ends the stream. A sender whose receiver is gone gets BrokenResourceError.
    """
    chosen = framing_named(framing, max_message_size)
    reading, writing = os.pipe()
    receiver = PipeChannel(FileHandle(reading, "pipe (receiving end)"), chosen, sends=False)
    sender = PipeChannel(FileHandle(writing, "pipe (sending end)"), chosen, sends=True)
    return receiver, sender
