"""Sending a child all its input, while all its output is received: one after the other, both sides may wait for ever."""

from __future__ import annotations

import anyio

from aipc.abc import Buffer, StreamChannel
from aipc.wire.framing import as_bytes

_PIECE = 1 << 20  # bytes


async def exchange(stdin: StreamChannel | None, data: Buffer, *outputs: StreamChannel | None) -> list[bytes | None]:
    """Send `data` and the end of input; return what came from each output until its end, None for one that is None.

    A child that stops reading early is no error. Cancelled: a part of `data` was sent, and the output so far is lost.
    """
    received: list[bytes | None] = [None] * len(outputs)

    async def drain(number: int, output: StreamChannel) -> None:
        received[number] = b"".join([chunk async for chunk in output])

    try:
        async with anyio.create_task_group() as tasks:
            if stdin is not None:
                tasks.start_soon(_feed, stdin, data)
            for number, output in enumerate(outputs):
                if output is not None:
                    tasks.start_soon(drain, number, output)
    except ExceptionGroup as group:
        raise group.exceptions[0] from None
    return received


async def _feed(stdin: StreamChannel, data: Buffer) -> None:
    view = memoryview(as_bytes(data))
    try:
        for start in range(0, len(view), _PIECE):
            await stdin.send(view[start : start + _PIECE])
        await stdin.send_eof()
    except anyio.BrokenResourceError:
        pass  # the child has stopped reading, as `head` does
