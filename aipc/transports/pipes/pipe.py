"""Unnamed pipes (pipe(7))."""

from __future__ import annotations

import os
from typing import ClassVar

from aipc._io.errors import naming
from aipc.wire.framing import MAX_MESSAGE_SIZE
from aipc.wire.framing import framing as framing_named

from ..nameless import NamelessFile
from .pipe_end import PipeEnd, set_capacity


class PipeChannel(PipeEnd):
    """One end of a pipe: it receives or it sends."""

    _CALLS_PLAINLY: ClassVar[bool] = True

    __slots__ = ()


def pipe(
    framing: str = "u32", max_message_size: int = MAX_MESSAGE_SIZE, capacity: int | None = None
) -> tuple[PipeChannel, PipeChannel]:
    """Make a pipe: the receiving channel and the sending one.

    `send_eof`, or closing the sender, ends the stream. A sender whose receiver is gone gets BrokenResourceError. `capacity` is in
    bytes, which the kernel rounds up to a power of two; AccessDenied over /proc/sys/fs/pipe-max-size.
    """
    chosen = framing_named(framing, max_message_size)
    with naming("pipe"):
        reading, writing = os.pipe()
    try:
        if capacity is not None:
            set_capacity(writing, capacity, "pipe")
    except BaseException:
        os.close(reading)
        os.close(writing)
        raise
    receiver = PipeChannel(NamelessFile(reading, "pipe (receiving end)"), chosen, sends=False)
    sender = PipeChannel(NamelessFile(writing, "pipe (sending end)"), chosen, sends=True)
    return receiver, sender
